"""Each address that names something of a user's is, for another user, that of something that is not there.

The addresses come from the OpenAPI document and from the pages' routers, so a new one is tried, too.
"""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import fields, replace

import httpx
import pytest
from fastapi.routing import APIRoute
from support.gateway_things import Things, make_things
from support.page_visitors import PageVisitor, proof
from support.site import TrialSite

from compute_to_data.gateway.pages import datasets, new_task, task_files, tasks, workloads

pytestmark = pytest.mark.usefixtures("working")
OF_NOBODY = (
    ("GET", "/api/v1/resources/{name}/queue"),
    ("POST", "/api/v1/catalog/{method}"),
    ("PUT", "/api/v1/secrets/{name}"),  # makes one of their own
)
BODIES = ({}, {"command": ["true"]}, {"definition": {"exec": "true", "args": []}})


@pytest.fixture
def things(alice: httpx.Client, site: TrialSite, working: None) -> Things:
    return make_things(alice, site)


def none_of(things: Things) -> Things:
    """Ids of the same form that nothing has."""
    made = random.Random(1)
    return replace(
        things,
        task=str(uuid.UUID(int=made.getrandbits(128), version=4)),
        tes_task=str(uuid.UUID(int=made.getrandbits(128), version=4)),
        dataset=f"d-{made.getrandbits(48):012x}",
        workload=f"w-{made.getrandbits(48):012x}",
        process=str(int(things.process) + 1_000_000),
        secret="SQ",
        opened=things.opened[:-4] + "AAAA",
    )


def without_ids(text: str, *known: Things) -> str:
    """What an answer says besides the ids."""
    for one in known:
        for field in fields(one):
            text = re.sub(rf"\b{re.escape(getattr(one, field.name))}\b", "ID", text)
    return re.sub(r'name="proof" value="[^"]+"', "", text)


def filled(method: str, path: str, things: Things) -> str:
    for name, value in things.parameters(path).items():
        path = re.sub(rf"{{{name}(:path)?}}", value, path)
    path = f"{path}?offset=0&size=1" if "/open/" in path and method == "GET" else path
    assert "{" not in path, f"{path}: support/gateway_things.py does not know what to put in"
    return path


def operations(client: httpx.Client) -> Iterator[tuple[str, str]]:
    document = client.get("/api/v1/openapi.json").json()
    for path, methods in document["paths"].items():
        found = ((method.upper(), path) for method in methods if "{" in path)
        yield from (one for one in found if one not in OF_NOBODY)


def test_of_the_api(alice: httpx.Client, bob: httpx.Client, site: TrialSite, things: Things) -> None:
    nothing, before = none_of(things), site.snapshot()
    tried = 0
    for method, path in operations(alice):
        for body in BODIES if method in ("POST", "PUT") else (None,):
            answers = [bob.request(method, filled(method, path, one), json=body) for one in (things, nothing)]
            said = [(one.status_code, without_ids(one.text, things, nothing)) for one in answers]
            assert said[0] == said[1], (method, path, body)
            assert said[0][0] in (400, 404), (method, path, body, said[0])
            tried += said[0][0] == 404
        if method not in ("POST", "PUT"):
            assert said[0][0] == 404, (method, path)
    assert tried > 25
    assert site.snapshot() == before
    for method, path in operations(alice):
        if method == "GET":
            assert alice.get(filled(method, path, things)).status_code == 200, f"{path}: bob's 404 would mean nothing"


def page_routes() -> Iterator[tuple[str, str]]:
    for part in (tasks, task_files, datasets, workloads, new_task):
        for route in part.router.routes:
            assert isinstance(route, APIRoute)
            if "{" in route.path:
                yield from ((method, route.path) for method in route.methods)


def test_of_the_pages(
    alice: httpx.Client, visit: Callable[[str], PageVisitor], site: TrialSite, things: Things
) -> None:
    nothing, before, bob = none_of(things), site.snapshot(), visit("bob")
    own = {"proof": proof(bob.http.get("/tasks").text)}
    tried = 0
    for method, path in page_routes():
        answers = []
        for one in (things, nothing):
            sent = {"data": own} if method == "POST" else {}
            answers.append(bob.http.request(method, filled(method, path, one), **sent))
        said = [(one.status_code, without_ids(one.text, things, nothing)) for one in answers]
        assert said[0] == said[1], (method, path)
        assert said[0][0] == 404, (method, path, said[0])
        tried += 1
    assert tried > 15
    assert site.snapshot() == before
    assert alice.get(f"/api/v1/tasks/{things.task}").json()["state"] == "COMPLETED"


def test_without_signing_in(alice: httpx.Client, anybody: httpx.Client, things: Things) -> None:
    """The answer does not say either whether there is such a thing. A token in the address is none."""
    token = alice.post("/authenticate").text
    for method, path in operations(alice):
        for query in ({}, {"token": token}, {"access_token": token}, {"Authorization": f"Bearer {token}"}):
            answer = anybody.request(method, filled(method, path, things), params=query, json={})
            assert answer.status_code in ((400, 401) if query else (401,)), (method, path, answer.text)
            assert things.task not in answer.text
