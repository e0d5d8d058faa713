"""What a request asks for and the gateway would not do is refused: with a word, and before much has been sent."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from support.gateways import PASSWORDS, RunningGateway, with_digest
from support.page_visitors import PageVisitor, proof
from support.site import BOB, COMPUTE, HOME, PATIENCE, ZONE, TrialSite

from compute_to_data.model import Access

CONTENT = "/api/v1/catalog/content"
DATASETS = "/api/v1/datasets"
TES = "/ga4gh/tes/v1/tasks"
LARGE = 64 << 20


def head(user: str, method: str, target: str, *more: str) -> bytes:
    """A request's line and headers, with a body of 64 MiB."""
    name = base64.b64encode(f"{user}:{PASSWORDS[user]}".encode()).decode()
    lines = (f"{method} {target} HTTP/1.1", "Host: x", f"Authorization: Basic {name}", f"Content-Length: {LARGE}")
    return "".join(f"{line}\r\n" for line in (*lines, *more, "")).encode()


def answered(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """The status and the document of an answer, as soon as it is there."""
    found = b""
    while True:
        piece = connection.recv(65536)
        assert piece, found
        found += piece
        start, _, body = found.partition(b"\r\n\r\n")
        length = start.lower().partition(b"content-length: ")[2].split(b"\r")[0]
        if length and len(body) == int(length):
            return int(start.split()[1]), json.loads(body)


@pytest.fixture
def refused(site: TrialSite, alice: httpx.Client) -> dict[str, tuple[str, str, str, int]]:
    """Uploads that cannot succeed, whatever comes: the user, the method, the address, the status."""
    for path in ("readable", "shown"):
        site.alice.create_collection(f"{HOME}/{path}")
    site.alice.write(f"{HOME}/readable/one", b"x")
    for path in ("", "/readable", "/readable/one"):
        site.alice.set_access(f"{HOME}{path}", BOB, Access.READ_OBJECT)
    site.zone.add_resource("shut")
    site.zone.set_resource_status("shut", "down")
    mine, own = f"/{ZONE}/home/bob", f"{HOME}/readable/one&force=true"
    return {
        "over what may only be read": ("bob", "PUT", f"{CONTENT}?path={HOME}/readable/one&force=true", 403),
        "where one may only read": ("bob", "PUT", f"{CONTENT}?path={HOME}/readable/new", 403),
        "below a hidden collection": ("bob", "PUT", f"{CONTENT}?path={HOME}/shown/new", 404),
        "over something, without force": ("alice", "PUT", f"{CONTENT}?path={HOME}/readable/one", 409),
        "on a resource that is not there": ("bob", "PUT", f"{CONTENT}?path={mine}/x&resource=nowhere", 404),
        "on a resource that is down": ("bob", "PUT", f"{CONTENT}?path={mine}/x&resource=shut", 503),
        "over one's own, on a resource that is down": ("alice", "PUT", f"{CONTENT}?path={own}&resource=shut", 503),
        "over one's own, on one that is not there": ("alice", "PUT", f"{CONTENT}?path={own}&resource=nowhere", 404),
        "over one's own, where it has no replica": ("alice", "PUT", f"{CONTENT}?path={own}&resource={COMPUTE}", 503),
        "over a collection": ("alice", "PUT", f"{CONTENT}?path={HOME}/shown&force=true", 409),
        "below no collection": ("alice", "PUT", f"{CONTENT}?path={HOME}/missing/x", 404),
        "at a path that is none": ("bob", "PUT", f"{CONTENT}?path={mine}/../x", 400),
        "a dataset where one may only read": ("bob", "POST", f"{DATASETS}?project={HOME}/readable", 403),
        "a document that is too large": ("bob", "POST", "/api/v1/tasks", 413),
    }


def test_an_upload_that_cannot_succeed_is_refused_before_it_is_sent(
    gateway: RunningGateway, site: TrialSite, refused: dict[str, tuple[str, str, str, int]]
) -> None:
    """``Expect: 100-continue``, with which curl sends what is large, asks before it sends anything."""
    before = site.snapshot()
    for what, (user, method, target, status) in refused.items():
        kind = "multipart/form-data; boundary=b" if target.startswith(DATASETS) else "application/json"
        with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as connection:
            connection.sendall(head(user, method, target, f"Content-Type: {kind}", "Expect: 100-continue"))
            assert answered(connection)[0] == status, what
            assert connection.recv(1) == b"", what
    assert site.snapshot() == before


def test_the_answer_does_not_wait_for_the_rest(
    gateway: RunningGateway, refused: dict[str, tuple[str, str, str, int]]
) -> None:
    """And who does not look before all is sent still gets it."""
    for what, (user, method, target, status) in refused.items():
        if method != "PUT":
            continue
        with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as connection:
            connection.sendall(head(user, method, target))
            found, problem = answered(connection)
            assert (found, bool(problem["cause"])) == (status, True), what
            for _ in range(LARGE >> 20):
                connection.sendall(b"x" * (1 << 20))
            assert connection.recv(1) == b"", what


def test_a_body_where_none_is_read(alice: httpx.Client, site: TrialSite, no_worker: None) -> None:
    task = alice.post("/api/v1/tasks", json=site.request("/bin/true")).json()["task_id"]
    tes = alice.post(TES, json={"executors": [{"image": site.image, "command": ["true"]}]}).json()["id"]
    before = site.snapshot()
    at = f"/api/v1/tasks/{task}"
    for method, path in (
        ("POST", f"{at}/rerun"), ("POST", f"{at}/cancel"), ("DELETE", at), ("GET", at), ("POST", f"{TES}/{tes}:cancel"),
        ("GET", "/api/process_definition/"), ("POST", f"/api/v1/catalog/open?path={HOME}/x"), ("GET", f"{at}/logs"),
    ):  # fmt: skip
        for body in (b'{"parameters": {"threshold": 4}}', b"x" * 5000):
            answer = alice.request(method, path, content=body, headers={"Content-Type": "application/json"})
            assert (answer.status_code, answer.json()["subject"]) == (400, "the body"), (method, path)
            assert "takes none" in answer.json()["cause"]
    assert site.snapshot() == before
    for body in (b"{}", b" null\n", b""):
        assert alice.request("GET", at, content=body).status_code == 200
        assert alice.post(f"{TES}/{tes}:cancel", content=body).status_code == 200


def test_words_and_fractions_are_no_flags_and_numbers(alice: httpx.Client, site: TrialSite) -> None:
    """ "false" would count as true, and 0.9 as 0."""
    site.alice.create_collection(f"{HOME}/a/b", parents=True)
    site.alice.write(f"{HOME}/one", b"x")
    site.alice.replicate(f"{HOME}/one", "dsp_resc")
    before = site.snapshot()
    for method, given, said in (
        ("remove", {"logical_path": f"{HOME}/a", "recursive": "false"}, "recursive: found 'false'"),
        ("remove", {"logical_path": f"{HOME}/a", "recursive": 0}, "recursive: found '0'"),
        ("create_collection", {"collection": f"{HOME}/c/d", "parents": "no"}, "parents: found 'no'"),
        ("set_inheritance", {"collection": f"{HOME}/a", "inherits": "off"}, "inherits: found 'off'"),
        ("trim", {"data_object": f"{HOME}/one", "number": 0.9}, "number: found '0.9'"),
        ("trim", {"data_object": f"{HOME}/one", "number": True}, "number: found 'True'"),
        ("trim", {"data_object": f"{HOME}/one"}, "have no 'number'"),
    ):
        answer = alice.post(f"/api/v1/catalog/{method}", json=given)
        assert (answer.status_code, said in answer.json()["cause"]) == (400, True), answer.text
    assert site.snapshot() == before


def part(name: str, content: str, filename: str | None = None) -> str:
    more = "" if filename is None else f'; filename="{filename}"'
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{content}\r\n'


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (part("files", "1,2\n"), "form field 'files'"),  # as of curl -F 'files=<a.csv'
        (part("project", "/x"), "form field 'project'"),
        (part("name", "a") + part("name", "b"), "is there twice"),
        (part("files", "1,2\n", ""), "has content, and no name"),
        (part("name", "another"), "another one than in the address"),
        (part("name", "a\tb"), "the dataset's name"),
        (part("name", "x" * 256), "the dataset's name"),
    ],
)
def test_a_part_of_a_form_that_would_be_ignored(alice: httpx.Client, site: TrialSite, sent: str, said: str) -> None:
    before = site.snapshot()
    for first, second in ((sent, part("files", "x", "a")), (part("files", "x", "a"), sent)):
        answer = alice.post(
            f"{DATASETS}?name={'one' if said.startswith('another') else ''}",
            content=f"{first}{second}--b--\r\n".encode(),
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        )
        assert (answer.status_code, said in answer.json()["detail"]) == (400, True), answer.text
    assert site.snapshot() == before


def test_the_name_of_a_dataset_may_be_a_field(alice: httpx.Client) -> None:
    for sent in ({"name": "run 7"}, {}):
        answer = alice.post(DATASETS, files={"files": ("a\nb", b"x")}, data=sent)
        assert (answer.status_code, answer.json()["name"]) == (201, sent.get("name", "a\nb")), answer.text
        held = alice.get(f"{DATASETS}/{answer.json()['dataset']}/files").json()
        assert [one["name"] for one in held] == ["a\nb"]


def test_what_an_upload_leaves_out_is_said(visit: Callable[[str], PageVisitor]) -> None:
    alice = visit("alice")
    form = {"proof": proof(alice.http.get("/datasets").text), "name": ""}
    sent = [("files", (name, b"*.tmp\n")) for name in ("m/.c2dignore", "m/a.tmp", "m/b")]
    answer = alice.http.post("/datasets", data=form, files=sent)
    assert "left 2 files and folders out" in alice.http.get(answer.headers["location"]).text


def test_parameters_without_effect(alice: httpx.Client, site: TrialSite) -> None:
    before = site.snapshot()
    for name in ("resource", "image", "output_collection"):
        answer = alice.post("/api/v1/tasks", json=site.request("/bin/true"), params={name: ""})
        assert (answer.status_code, answer.json()["subject"]) == (400, f"query parameter {name}")
    for name in ("input_dataset", "name", "resource", "role"):
        answer = alice.post("/api/v1/workloads", json={"image": site.image, name: ""})
        assert (answer.status_code, answer.json()["subject"]) == (400, f"/{name}")
    twice = alice.get(f"{TES}?tag_key=a&tag_value=1&tag_key=a&tag_value=2")
    assert (twice.status_code, "names a key twice" in twice.text) == (400, True)
    for member, value in (("id", 5), ("resource_uri", "/x")):
        document = {"definition": {"exec": "true", "args": []}, member: value}
        answer = alice.post("/api/process_definition/", json=document)
        assert (answer.status_code, answer.json()["subject"]) == (400, f"/{member}")
    assert site.snapshot() == before


def test_a_page_of_definitions_stays_in_its_project(alice: httpx.Client) -> None:
    for name in ("a", "b"):
        alice.post("/api/process_definition/", json={"definition": {"exec": "true", "args": []}, "name": name})
    meta = alice.get("/api/process_definition/", params={"limit": 1, "project": HOME}).json()["meta"]
    assert meta["next"] == f"/api/process_definition/?limit=1&offset=1&project={HOME.replace('/', '%2F')}"


def test_storing_at_a_collection_of_ones_own_names_it(alice: httpx.Client) -> None:
    """Not its parent, which the person may not see."""
    answer = alice.put(CONTENT, params={"path": HOME}, content=with_digest(b"x"))
    assert (answer.status_code, answer.json()["subject"]) == (409, HOME)


def test_a_name_longer_than_a_file_system_has(alice: httpx.Client, site: TrialSite) -> None:
    """The zone may have it, up to 1,000 bytes: its file gets a shorter one."""
    for content in (b"small", b"x" * (3 << 20)):
        path = f"{HOME}/{'n' * 400}{len(content)}"
        answer = alice.put(CONTENT, params={"path": path}, content=with_digest(content))
        assert answer.status_code == 200, answer.text
        assert alice.get(CONTENT, params={"path": path}).content == content
