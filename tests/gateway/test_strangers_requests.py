"""Requests that no client of ours sends: each has an answer, and nothing of them is ignored without a word."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.gateways import PASSWORDS, RunningGateway, with_digest
from support.site import BOB, HOME, ZONE, TrialSite

from compute_to_data.model import Access

CONTENT = "/api/v1/catalog/content"
TES = "/ga4gh/tes/v1/tasks"


def put(client: httpx.Client, path: str, content: bytes = b"x", **options: Any) -> httpx.Response:
    return client.put(
        CONTENT, params={"path": path, **options.pop("params", {})}, content=with_digest(content), **options
    )


@pytest.fixture
def stored(alice: httpx.Client) -> str:
    """A data object of alice's, of one byte."""
    assert put(alice, f"{HOME}/one").status_code == 200
    return f"{HOME}/one"


def test_head_is_answered_as_get_without_content(
    alice: httpx.Client, anybody: httpx.Client, gateway: RunningGateway
) -> None:
    for client, path in (
        (anybody, "/healthz"), (anybody, "/sign-in"), (anybody, "/nowhere"), (anybody, "/api/v1/tasks"),
        (alice, "/api/v1/tasks"), (alice, "/api/v1/me"), (alice, "/api/v1/openapi.json"), (alice, TES),
        (alice, "/api/process_definition/"),
    ):  # fmt: skip
        expected, found = client.get(path), client.head(path)
        assert (found.status_code, found.content) == (expected.status_code, b""), path
        assert found.headers["content-type"] == expected.headers["content-type"]
        if path != "/sign-in":  # whose proof differs, not its length
            assert found.headers["content-length"] == expected.headers["content-length"]
    assert anybody.post("/healthz").headers["allow"] == "GET, HEAD"


def test_head_of_content_opens_no_data_object_for_longer(alice: httpx.Client, stored: str) -> None:
    opened = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        answer = alice.head(CONTENT, params={"path": stored})
        assert (answer.status_code, answer.headers["c2d-size"], answer.content) == (200, "1", b"")
    assert len(list(Path("/proc/self/fd").iterdir())) < opened + 20


def test_head_follows_no_log(alice: httpx.Client, site: TrialSite, no_worker: None, gateway: RunningGateway) -> None:
    task = alice.post("/api/v1/tasks", json={**site.request("/bin/true"), "output_collection": f"{HOME}/out"}).json()
    answer = alice.head(f"/api/v1/tasks/{task['task_id']}/logs/events")
    assert (answer.status_code, answer.content) == (200, b"")
    assert "c2d_gateway_log_followers 0.0" in gateway.gateway.metrics.text().decode()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": "TAG"}, 304),
        ({"If-None-Match": '"other", W/TAG'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-Match": "TAG"}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": '"other", TAG'}, 200),
        ({"If-Match": '"other"'}, 412),
        ({"If-Match": "W/TAG"}, 412),
    ],
)
def test_conditions_for_content(alice: httpx.Client, dataset: str, headers: dict[str, str], status: int) -> None:
    at = f"/api/v1/datasets/{dataset}/files/a.txt"
    tag = alice.get(at).headers["etag"]
    answer = alice.get(at, headers={name: value.replace("TAG", tag) for name, value in headers.items()})
    assert answer.status_code == status
    assert (answer.content == b"text") is (status == 200)


@pytest.fixture
def dataset(alice: httpx.Client) -> str:
    return str(alice.post("/api/v1/datasets", files={"files": ("a.txt", b"text")}).json()["dataset"])


@pytest.mark.parametrize(
    ("headers", "status", "says"),
    [
        ({"Content-Encoding": "gzip"}, 415, "Send it without Content-Encoding"),
        ({"Content-Encoding": "identity, br"}, 415, "Send it without Content-Encoding"),
        ({"Content-Encoding": "identity"}, 200, ""),
        ({"Content-Range": "bytes 0-0/10"}, 400, "Content-Range: a change takes no conditions"),
        ({"If-None-Match": "*"}, 400, "If-None-Match"),
        ({"If-Match": '"x"'}, 400, "If-Match"),
        ({"If-Unmodified-Since": "Mon, 30 Nov 2007 00:00:00 GMT"}, 400, "If-Unmodified-Since"),
    ],
)
def test_what_a_change_would_ignore_is_refused(
    alice: httpx.Client, site: TrialSite, stored: str, headers: dict[str, str], status: int, says: str
) -> None:
    """An overwrite "only if it is not there" must not overwrite, and packed bytes must not be stored as they are."""
    answer = put(alice, stored, b"new", headers=headers, params={"force": "true"})
    assert (answer.status_code, says in answer.text) == (status, True)
    assert alice.get(CONTENT, params={"path": stored}).content == (b"new" if status == 200 else b"x")


@pytest.mark.parametrize("address", [f"{CONTENT}?path={HOME}/%ff", "/api/v1/tasks?name=%c3", "/api/v1/tasks/%80"])
def test_an_address_that_is_not_utf_8(alice: httpx.Client, site: TrialSite, address: str) -> None:
    """Another letter would stand for the bytes, in the name of what is stored."""
    before = site.snapshot()
    method = "PUT" if "path=" in address else "GET"
    answer = alice.request(method, httpx.URL(f"{alice.base_url}").join(address), content=with_digest(b"x"))
    assert (answer.status_code, answer.json()["cause"]) == (400, "is not UTF-8")
    assert site.snapshot() == before


def test_a_parameter_that_is_there_twice(alice: httpx.Client, site: TrialSite) -> None:
    before = site.snapshot()
    for method, address in (
        ("PUT", f"{CONTENT}?path={HOME}/a&path={HOME}/b"),
        ("GET", "/api/v1/tasks?limit=1&limit=2"),
        ("GET", f"{TES}?view=FULL&view=MINIMAL"),
        ("GET", "/api/process_definition/?limit=1&limit=1"),
    ):
        answer = alice.request(method, address, content=with_digest(b"x") if method == "PUT" else None)
        assert (answer.status_code, answer.json()["cause"]) == (400, "is there 2 times"), address
    assert alice.get("/api/v1/tasks?state=QUEUED&state=RUNNING").status_code == 200
    assert alice.get(f"{TES}?tag_key=a&tag_key=b").status_code == 200
    assert site.snapshot() == before


@pytest.mark.parametrize("project", [f"/{ZONE}/home/bob", "nowhere", "/otherZone/home"])
def test_a_project_that_is_not_there_or_not_yours(alice: httpx.Client, project: str) -> None:
    for address in ("/api/v1/tasks", "/api/v1/datasets", "/api/v1/workloads", "/api/process_definition/", TES):
        answer = alice.get(address, params={"project": project})
        assert (answer.status_code, answer.json()["cause"]) == (404, "does not exist, or you may not read it"), address


def test_a_request_that_names_the_whole_url(gateway: RunningGateway) -> None:
    """As through a proxy. Its host stands above the header, also for what another site's page may ask for."""
    secret = base64.b64encode(f"alice:{PASSWORDS['alice']}".encode()).decode()
    signed = f"Host: elsewhere\r\nAuthorization: Basic {secret}\r\nConnection: close\r\n"

    def answer(method: str, target: str, headers: str = "") -> tuple[bytes, bytes]:
        head, _, body = gateway.raw(f"{method} {target} HTTP/1.1\r\n{signed}{headers}\r\n".encode()).partition(
            b"\r\n\r\n"
        )
        return head.split()[1], body

    assert answer("GET", "http://site.example/api/v1/tasks?limit=1")[0] == b"200"
    assert b'"Did you mean limit?"' in answer("GET", "HTTPS://site.example:8427/api/v1/tasks?limits=1")[1]
    assert answer("GET", "http://site.example")[0] == answer("GET", "/")[0]
    from_elsewhere = "Origin: http://elsewhere\r\nContent-Length: 2\r\n"
    assert answer("POST", "http://site.example/api/v1/tasks", f"{from_elsewhere}\r\n{{}}")[0] == b"403"
    assert answer("GET", "ftp://site.example/api/v1/tasks")[0] == b"404"


def test_no_http_has_a_problem_document(gateway: RunningGateway) -> None:
    for sent in (
        b"GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"a" * 40 + b"\r\n\r\n",
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ):
        head, _, body = gateway.raw(sent).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 "), sent
        assert b"content-type: application/problem+json" in head
        assert json.loads(body)["cause"].startswith("is not HTTP/1.1: "), sent


def test_remedies_that_ask_end_with_the_question(alice: httpx.Client) -> None:
    assert alice.get("/api/v1/tasks?limits=5").json()["detail"].endswith("Did you mean limit?")


def test_a_resource_that_is_not_there_is_not_found(alice: httpx.Client) -> None:
    assert alice.get("/api/v1/resources/nowhere/queue").status_code == 404


def making(path: str, image: str) -> Iterator[tuple[str, Callable[[httpx.Client], httpx.Response]]]:
    """The requests that make something at a path."""

    def method(name: str, **arguments: Any) -> Callable[[httpx.Client], httpx.Response]:
        return lambda client: client.post(f"/api/v1/catalog/{name}", json=arguments)

    def output(client: httpx.Client) -> httpx.Response:
        wanted = {"url": f"irods://{path}", "path": "/out/x"}
        return client.post(TES, json={"executors": [{"image": image, "command": ["true"]}], "outputs": [wanted]})

    yield "put", lambda client: put(client, path)
    yield "put over it", lambda client: put(client, path, params={"force": "true"})
    yield "put much", lambda client: put(client, path, b"x" * (3 << 20))
    yield "put much over it", lambda client: put(client, path, b"x" * (3 << 20), params={"force": "true"})
    yield "collection", method("create_collection", collection=path, parents=False)
    yield "collections", method("create_collection", collection=path, parents=True)
    yield "rename", method("rename", source=f"/{ZONE}/home/bob/own", destination=path)
    yield "rename nothing", method("rename", source=f"/{ZONE}/home/bob/nothing", destination=path)
    yield "output", output


@pytest.mark.parametrize("is_seen", [False, True], ids=["in a hidden collection", "hidden in one that bob may read"])
def test_making_something_does_not_say_what_is_there(
    alice: httpx.Client, bob: httpx.Client, site: TrialSite, is_seen: bool
) -> None:
    """bob asks for what alice has, and for what nobody has, and cannot tell them apart."""
    assert put(bob, f"/{ZONE}/home/bob/own").status_code == 200
    for path in ("there", "there/deep"):
        site.alice.create_collection(f"{HOME}/{path}")
    put(alice, f"{HOME}/there/object")
    for name in ("a", "ab") if is_seen else ():
        site.alice.create_collection(f"{HOME}/there/{name}")
    if is_seen:
        for path in (HOME, f"{HOME}/there"):
            site.alice.set_access(path, BOB, Access.READ_OBJECT)
    before = site.snapshot()
    pairs = [("there/object", "there/nothin"), ("there/deep", "there/none")]
    pairs += [] if is_seen else [("there", "nones"), ("there/object", "nones/object"), ("there/new", "nones/new")]
    for names in pairs:
        for (what, ask), (_, ask_for_nothing) in zip(*(making(f"{HOME}/{name}", site.image) for name in names)):
            said = []
            for answer, name in ((ask(bob), names[0]), (ask_for_nothing(bob), names[1])):
                text = answer.text.replace(f"{HOME}/{name}", "PATH").replace(
                    f"{HOME}/{name.partition('/')[0]}", "ABOVE"
                )
                said.append((answer.status_code, text))
            assert said[0] == said[1], (what, names)
            assert said[0][0] in ((403, 404) if is_seen else (404,)), (what, said[0])
    assert site.snapshot() == before


def test_two_tes_inputs_at_one_path(alice: httpx.Client, site: TrialSite) -> None:
    before = site.snapshot()
    inputs = [{"path": "/data/a", "content": "x"}, {"path": "/data/a", "content": "y"}]
    task = {"executors": [{"image": site.image, "command": ["true"]}], "inputs": inputs}
    answer = alice.post(TES, json=task)
    assert (answer.status_code, answer.json()["subject"]) == (400, "/inputs/1/path")
    assert "a path that no other input has" in answer.json()["cause"]
    assert site.snapshot() == before


@pytest.mark.parametrize("url", ["irods://alice:pass-word@other/x", "irods://alice:pass-word@/tempZone/../x"])
def test_no_password_of_a_url_comes_back(alice: httpx.Client, site: TrialSite, url: str) -> None:
    for side in ("inputs", "outputs"):
        task = {"executors": [{"image": site.image, "command": ["true"]}], side: [{"url": url, "path": "/data/a"}]}
        answer = alice.post(TES, json=task)
        assert answer.status_code == 400
        assert "pass-word" not in answer.text


def test_a_bound_that_a_value_breaks_is_named(alice: httpx.Client, site: TrialSite) -> None:
    """1e308 is above 0, so that must not be all that is expected."""
    task = {"executors": [{"image": site.image, "command": ["true"]}], "resources": {"ram_gb": 1e308}}
    assert alice.post(TES, json=task).json()["cause"].endswith("expected a number above 0 (of at most 1000000)")


def test_a_record_that_cannot_be_read_hides_no_other_task(
    alice: httpx.Client, site: TrialSite, no_worker: None
) -> None:
    task = {"executors": [{"image": site.image, "command": ["true"]}]}
    first, second = (alice.post(TES, json=task).json()["id"] for _ in range(2))
    collection = alice.get(f"/api/v1/tasks/{first}").json()["collection"]
    site.alice.write(f"{collection}/task.json", b"{", force=True)
    shown = {one["id"]: one for one in alice.get(TES, params={"view": "FULL"}).json()["tasks"]}
    assert set(shown) == {first, second}
    assert "is not JSON" in shown[first]["logs"][0]["system_logs"][0]
    assert shown[second]["executors"]
