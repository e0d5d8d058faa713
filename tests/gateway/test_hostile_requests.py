"""What a user who has signed in may send to hurt the gateway or its other users: nothing of it does."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.gateways import RunningGateway, gateway_settings, give_passwords, running
from support.site import HOME, WAITS, TrialSite, wait_until

from compute_to_data import bounds
from compute_to_data.gateway import following
from compute_to_data.gateway.catalog.methods import METHODS
from compute_to_data.gateway.problems import HttpError
from compute_to_data.model import Avu, Entity, EntityKind

CATALOG = "/api/v1/catalog"
QUERY: dict[str, Any] = {
    "kind": "collection",
    "attribute": "a",
    "value": None,
    "units": None,
    "beginning": "",
    "owner": None,
    "within": "",
    "excluding": [],
    "among": None,
    "newest_first": False,
    "limit": None,
    "offset": 0,
}
ENTITY = {"kind": "collection", "name": HOME}
STRANGE = [None, True, -1, 1 << 70, 1.5, "\0", "\ud800", [], {"a": 1}, ["\0"]]
GIVEN: dict[str, dict[str, Any]] = {
    "stat": {"logical_path": HOME},
    "children": {"collection": HOME, "most": 5},
    "access": {"logical_path": HOME},
    "permissions": {"logical_path": HOME, "most": 5},
    "create_collection": {"collection": f"{HOME}/new", "parents": False},
    "remove": {"logical_path": f"{HOME}/none", "recursive": False},
    "rename": {"source": f"{HOME}/none", "destination": f"{HOME}/none2"},
    "annotate": {"entity": ENTITY, "add": [{"attribute": "a", "value": "b", "units": ""}], "remove": []},
    "annotate_all": {"data_objects": [f"{HOME}/none"], "add": [{"attribute": "a", "value": "b", "units": ""}]},
    "set_avu": {"collection": HOME, "avu": {"attribute": "a", "value": "b", "units": ""}},
    "avus": {"entity": ENTITY, "attributes": ["a"], "most": 5},
    "avus_of": {"collections": [HOME], "attributes": ["a"]},
    "find": {"query": QUERY},
    "object_id": {"data_object": f"{HOME}/none"},
    "object_with_id": {"object_id": 1},
    "query": {"query": QUERY},
    "count_by_owner": {"query": {**QUERY, "value": "x", "units": "y"}, "most": 1},
    "resources": {},
    "avus_of_resources": {"attributes": ["a"]},
    "set_access": {"logical_path": f"{HOME}/none", "user": "bob#tempZone", "access": 1050, "recursive": False},
    "set_inheritance": {"collection": f"{HOME}/none", "inherits": True},
    "replicate": {"data_object": f"{HOME}/none", "resource": "demoResc"},
    "trim": {"data_object": f"{HOME}/none", "number": 0},
    "checksum": {"data_object": f"{HOME}/none"},
    "register": {"files": []},
    "unregister": {"data_objects": [f"{HOME}/none"]},
}


def strange(given: Any) -> Iterator[Any]:
    """The arguments with each value, at each depth, in the place of which something strange stands."""
    if isinstance(given, dict):
        for name, value in given.items():
            yield from ({**given, name: other} for other in (*STRANGE, *strange(value)))
            yield {other: value for other, value in given.items() if other != name}
    elif isinstance(given, list) and given:
        yield from ([other, *given[1:]] for other in strange(given[0]))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_no_argument_of_the_catalog_breaks_it(alice: httpx.Client, method: str) -> None:
    """Each is refused with its reason, or harmless."""
    for arguments in strange(GIVEN[method]):
        answer = alice.post(f"{CATALOG}/{method}", content=json.dumps(arguments))
        assert answer.status_code < 500, (arguments, answer.text)


@pytest.mark.parametrize("method", ["children", "permissions", "avus"])
def test_a_negative_bound_is_none(alice: httpx.Client, method: str) -> None:
    """A database would read all rows for it."""
    answer = alice.post(f"{CATALOG}/{method}", json={**GIVEN[method], "most": -3})
    assert answer.status_code == 400, answer.text
    assert "most" in answer.text


def test_few_collections_are_read_at_once(alice: httpx.Client) -> None:
    answer = alice.post(f"{CATALOG}/avus_of", json={"collections": ["/x"] * 501, "attributes": ["a"]})
    assert answer.status_code == 400, answer.text
    assert "at most 500" in answer.text


@pytest.mark.parametrize("limit", [None, 1 << 40])
def test_a_question_has_a_bound(
    alice: httpx.Client, site: TrialSite, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    """Whatever limit the client asks for: the gateway's memory is everybody's."""
    monkeypatch.setattr(bounds, "MOST_FOUND", 3)
    monkeypatch.setattr("compute_to_data.gateway.catalog.methods.MOST_FOUND", 3)
    for number in range(4):
        site.alice.create_collection(f"{HOME}/c{number}")
        site.alice.annotate(Entity(EntityKind.COLLECTION, f"{HOME}/c{number}"), add=[Avu("flood", "x")])
    query = {**QUERY, "attribute": "flood"}
    for method in ("find", "query"):
        answer = alice.post(f"{CATALOG}/{method}", json={"query": {**query, "limit": limit}})
        assert answer.status_code == 413, answer.text
        assert len(alice.post(f"{CATALOG}/{method}", json={"query": {**query, "limit": 3}}).json()["result"]) == 3


@pytest.fixture
def narrow(site: TrialSite) -> Iterator[RunningGateway]:
    """A gateway with few connections: a quarter of them are two."""
    give_passwords(site)
    with running(gateway_settings(site, listen={"connections": 11})) as started:
        yield started


def test_a_user_who_holds_requests_open_leaves_connections_to_others(narrow: RunningGateway, site: TrialSite) -> None:
    """Following a log is a request that does not end."""
    with site.working(), narrow.client("alice") as alice, narrow.client("bob") as bob, contextlib.ExitStack() as held:
        task = str(alice.post("/api/v1/tasks", json=site.request("/bin/sh", "-c", WAITS)).json()["task_id"])
        streams = [held.enter_context(alice.stream("GET", f"/api/v1/tasks/{task}/logs/events")) for _ in range(2)]
        assert [one.status_code for one in streams] == [200, 200]
        refused = alice.get("/api/v1/me")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5"), refused.text
        assert "2 requests under way" in refused.text
        assert bob.get("/api/v1/me").status_code == 200
        held.close()
        wait_until(lambda: alice.get("/api/v1/me").status_code == 200, "the places to be free again")
        assert narrow.gateway.shares.most == 2
        alice.post(f"/api/v1/tasks/{task}/cancel")


def test_answers_free_their_places(narrow: RunningGateway) -> None:
    """Also refused requests, those of an unknown user, and those that fail."""
    with narrow.client("alice") as alice:
        for _ in range(5):
            assert alice.get("/api/v1/tasks/none").status_code == 404
            assert alice.post(f"{CATALOG}/stat", content=b"[").status_code == 400
            assert alice.get("/api/v1/me", auth=None).status_code in (200, 401)
            assert alice.get("/api/v1/me").status_code == 200
    wait_until(lambda: not narrow.gateway.shares._under_way, "the last place to be free")


def test_a_followed_log_leaves_room_on_the_gateways_host(
    alice: httpx.Client, site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program writes as much as the site keeps of it, and a user follows many programs."""

    def full(descriptor: int, count: int) -> None:
        raise HttpError(507, "the content", "the gateway's host has no room for it now")

    monkeypatch.setattr(following, "need_room", full)
    with site.working():
        answer = alice.post("/api/v1/tasks", json=site.request("/bin/echo", "hello"))
        task = answer.json()["task_id"]
        with alice.stream("GET", f"/api/v1/tasks/{task}/logs/events") as stream:
            said = "".join(stream.iter_text())
    assert "event: problem" in said and "has no room" in said
    assert "hello" not in said
