"""Documents, names and passwords that are meant to hurt, at each place where they can be given."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from html import unescape
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import pytest
from support.gateway_things import Things, make_things
from support.gateways import PASSWORDS, RunningGateway
from support.page_visitors import PageVisitor
from support.site import HOME, TrialSite, wait_until

from compute_to_data.model import Access

BODIES: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "nothing": (b"", (400,)),
    "cut off": (b'{"a": ', (400,)),
    "two documents": (b"{}{}", (400,)),
    "a list": (b"[]", (400,)),
    "a number": (b"1", (400,)),
    "null": (b"null", (400,)),
    "not a number": (b'{"a": NaN}', (400,)),
    "infinite": (b'{"a": -Infinity}', (400,)),
    "a huge number": (b'{"a": 1e999}', (400,)),
    "a long number": (b'{"a": ' + b"9" * 20_000 + b"}", (400,)),
    "a name twice": (b'{"a": 1, "a": 2}', (400,)),
    "deep": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", (400,)),
    "deep objects": (b'{"a": ' * 50_000 + b"1" + b"}" * 50_000, (400,)),
    "too many values": (b"[" + b"1," * 400_000 + b"1]", (400,)),
    "not UTF-8": (b'{"a": "\xff\xfe"}', (400,)),
    "an overlong slash": (b'{"a": "\xc0\xaf"}', (400,)),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), (400,)),
    "half a character": (b'{"a": "\\ud800"}', (400,)),
    "a null character": (b'{"a\\u0000": "\\u0000"}', (400, 422)),
    "a prototype": (b'{"__proto__": {"admin": true}, "constructor": {}}', (400, 422)),
    "too large": (b'{"a": "' + b"a" * (2 << 20) + b'"}', (413,)),
}


def with_documents(client: httpx.Client) -> Iterator[tuple[str, str]]:
    """The operations that take a JSON document."""
    for path, operations in client.get("/api/v1/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            if "application/json" in operation.get("requestBody", {}).get("content", {}):
                yield method.upper(), path


@pytest.mark.usefixtures("working")
def test_no_document_hurts_any_address(alice: httpx.Client, site: TrialSite) -> None:
    """Each is refused, at each address that takes one, and nothing has changed."""
    things = make_things(alice, site)
    places = [(method, path) for method, path in with_documents(alice) if not path.endswith("/catalog/{method}")]
    assert len(places) > 5, places
    before = site.snapshot()
    for method, path in places:
        for name, value in things.parameters(path).items():
            path = path.replace(f"{{{name}}}", value)
        for name, (body, expected) in BODIES.items():
            answer = alice.request(method, path, content=body, headers={"Content-Type": "application/json"})
            allowed = (*expected, 201) if name == "nothing" and path.endswith("/rerun") else expected
            assert answer.status_code in allowed, (method, path, name, answer.text[:300])
            assert answer.headers["content-type"] == "application/problem+json"
            assert len(answer.content) < 4000, (method, path, name)
    assert site.snapshot() == before


@pytest.mark.parametrize(
    "kind", ["text/html", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain"]
)
def test_a_form_of_another_site_is_no_document(alice: httpx.Client, kind: str) -> None:
    """A browser sends these kinds for any page, without asking the gateway first."""
    for method, path in with_documents(alice):
        if "{" not in path:
            answer = alice.request(method, path, content=b"{}", headers={"Content-Type": kind})
            assert answer.status_code == 415, (method, path, answer.text)


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"&lt;"


@pytest.fixture
def hostile(alice: httpx.Client, site: TrialSite, working: None) -> Things:
    """Things whose names, parameters, logs and values are HTML and JavaScript."""
    things = make_things(alice, site)
    name = HOSTILE.replace("/", "!")
    script = (
        'mkdir "/outputs/$1"; for end in csv txt html svg ipynb; do echo "$1" > "/outputs/$1/$1.$end"; done; echo "$1"'
    )
    request = {
        **site.request("/bin/sh", "-c", script, "sh", name),
        "name": HOSTILE,
        "on_failure": "keep",
        "metadata": [{"attribute": HOSTILE, "value": HOSTILE, "units": HOSTILE}],
    }
    for more in ({}, {"process": site.process("/bin/sh", "-c", f'{script}; echo "$1" >&2; exit 3', "sh", name)}):
        answer = alice.post("/api/v1/tasks", json={**request, **more})
        assert answer.status_code == 201, answer.text
        at = f"/api/v1/tasks/{answer.json()['task_id']}"
        wait_until(lambda at=at: alice.get(at).json()["state"] in ("COMPLETED", "FAILED"), "its end")
    assert (
        alice.post("/api/v1/datasets", files=[("files", (f"{name}/{name}.txt", HOSTILE.encode()))]).status_code == 201
    )
    workload = {"image": site.image, "name": HOSTILE, "metadata": [{"attribute": HOSTILE, "value": HOSTILE}]}
    made = alice.post("/api/v1/workloads", json=workload)
    assert made.status_code in (201, 400), made.text
    schema = {
        "type": "object",
        "title": HOSTILE,
        "properties": {HOSTILE: {"type": "string", "description": HOSTILE, "default": HOSTILE, "enum": [HOSTILE]}},
    }
    definition = {"exec": HOSTILE, "args": [HOSTILE], "application": HOSTILE, "parameters": schema, "name": HOSTILE}
    for one in (definition, {**definition, "parameters": {}}, {"exec": HOSTILE, "args": [HOSTILE]}):
        alice.post("/api/process_definition/", json={"definition": one, "name": HOSTILE})
    site.alice.create_collection(f"{HOME}/{name}")
    return things


def linked(page: str, at: str) -> Iterator[str]:
    for found in re.findall(r'(?:href|src|action)="([^"]*)"', page):
        address = httpx.URL(at).join(unescape(found))
        if address.path.startswith("/") and not str(found).startswith(("#", "data:")):
            yield address.raw_path.decode()


def test_no_page_takes_a_strangers_text_for_its_own(visit: Callable[[str], PageVisitor], hostile: Things) -> None:
    """Each page that leads from the first one, and each that those lead to."""
    alice, seen, waiting = (
        visit("alice"),
        set[str](),
        ["/tasks", "/new", "/datasets", "/workloads", "/resources", "/projects"],
    )
    with_text = 0
    while waiting:
        at = waiting.pop()
        if at in seen or "/static/" in at or at.startswith("/sign-out"):
            continue
        seen.add(at)
        answer = alice.http.get(at)
        assert answer.status_code < 500, (at, answer.text)
        if not answer.headers.get("content-type", "").startswith("text/html") or "/show/" in at:
            policy = answer.headers["content-security-policy"]
            assert "script" not in policy or "script-src 'self'" in policy
            continue
        page = answer.text
        for forbidden in ("<script>alert", "<img src=x", "onerror=alert(2)>", "javascript:", HOSTILE):
            assert forbidden not in page, (at, forbidden)
        with_text += "&lt;script&gt;alert(1)" in page
        if len(urlsplit(at).query) < 2000:
            waiting += [one for one in linked(page, at) if "/zip" not in one]
    assert with_text >= 6, seen
    assert len(seen) > 20


def test_names_in_an_archive_lead_nowhere_else(site: TrialSite, visit: Callable[[str], PageVisitor]) -> None:
    """On Windows, a backslash separates folders, and a colon names a drive."""
    names = ["..\\..\\evil.txt", "C:\\evil.txt", "\\\\server\\share\\evil", "d\\..\\..\\evil", "a:b"]
    task = site.run(site.request("/bin/sh", "-c", 'for name; do echo x > "/outputs/$name"; done', "sh", *names))
    assert task["state"] == "COMPLETED", task["reason"]
    content = visit("alice").http.get(f"/tasks/{task['task_id']}/zip").content
    entries = zipfile.ZipFile(io.BytesIO(content)).infolist()
    assert len(entries) >= len(names)
    for entry in entries:
        assert "\\" not in entry.filename
        assert ".." not in entry.filename.replace("\\", "/").split("/")
        assert entry.filename.startswith(f"{task['task_id']}") or "/" in entry.filename
    read = {unquote(one.filename.partition("/")[2]) for one in entries}
    assert set(names) <= read, "none is lost, and each can be told from the others"


def test_a_password_costs_the_same_whoever_it_is_for(
    gateway: RunningGateway, anybody: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the time does not say whether there is such a user, or whether they have a password."""
    costs: list[Any] = []
    original = hashlib.scrypt

    def counted(password: bytes, **cost: Any) -> bytes:
        costs.append({name: cost[name] for name in ("n", "r", "p", "dklen")})
        return original(password, **cost)

    monkeypatch.setattr(hashlib, "scrypt", counted)
    spent = {}
    for name in ("alice", "nobody", "rods", "alice#tempZone", "public", "a" * 60, "ü"):
        costs.clear()
        assert anybody.post("/authenticate", auth=(name.encode(), b"wrong password")).status_code == 401
        spent[name] = list(costs)
    assert len(spent["alice"]) == 1
    assert all(one == spent["alice"] for one in spent.values()), spent


def test_a_shared_things_reader_gets_no_more(alice: httpx.Client, bob: httpx.Client, site: TrialSite) -> None:
    """Who may read a definition can neither change nor remove it, nor see who else may."""
    made = alice.post("/api/process_definition/", json={"definition": {"exec": "true", "args": []}}).json()
    at = made["resource_uri"]
    path = site.alice.object_with_id(int(made["id"])) if hasattr(site.alice, "object_with_id") else ""
    assert path, "the definition's data object"
    site.alice.set_access(path, site.bob.user, Access.READ_OBJECT)
    for answer in (bob.put(at, json={"definition": {"exec": "false", "args": []}}), bob.delete(at)):
        assert answer.status_code in (403, 404), answer.text
        assert PASSWORDS["alice"] not in answer.text
    assert alice.get(at).json()["definition"] == {"exec": "true", "args": []}
    assert json.loads(alice.get(at).text)["id"] == made["id"]
