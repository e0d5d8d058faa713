"""Tasks over HTTP, from the request to the results."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.gateways import RunningGateway
from support.site import ALICE, BOB, HOME, WAITS, TrialSite, wait_until

from compute_to_data.gateway.api import content
from compute_to_data.model import Access, DataObject, ReplicaStatus

TASKS = "/api/v1/tasks"


def submitted(client: httpx.Client, site: TrialSite, script: str, **more: Any) -> dict[str, Any]:
    answer = client.post(TASKS, json=site.request("/bin/sh", "-c", script, **more))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"{TASKS}/{found['task_id']}"
    return found


def ended(client: httpx.Client, task: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def has_ended() -> bool:
        found.update(client.get(f"{TASKS}/{task['task_id']}").json())
        return found["state"] in ("COMPLETED", "FAILED", "CANCELLED")

    wait_until(has_ended, "the end of the task")
    return found


@pytest.mark.usefixtures("working")
def test_a_task_from_the_request_to_its_results(alice: httpx.Client, site: TrialSite) -> None:
    task = submitted(alice, site, "mkdir /outputs/d; echo hello | tee '/outputs/d/ü b.txt'; echo oh >&2", name="first")
    found = ended(alice, task)
    assert (found["state"], found["exit_status"], found["name"]) == ("COMPLETED", 0, "first")
    at = f"{TASKS}/{task['task_id'][:8]}"
    assert alice.get(f"{at}/logs").text == "hello\n"
    assert alice.get(f"{at}/logs", params={"stream": "stderr"}).text == "oh\n"
    names = {one["name"]: one for one in alice.get(f"{at}/results").json()}
    assert names["d/ü b.txt"]["size"] == 6
    assert "task.json" in names
    answer = alice.get(f"{at}/results/d/ü b.txt")
    assert answer.content == b"hello\n"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%BC%20b.txt"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert alice.get(f"{at}/request").json()["name"] == "first"
    again = alice.post(f"{at}/rerun")
    assert again.status_code == 201
    assert ended(alice, again.json())["state"] == "COMPLETED"
    removed = alice.delete(f"{TASKS}/{task['task_id']}")
    assert (removed.status_code, removed.json()["id"]) == (200, task["task_id"])
    assert alice.get(f"{TASKS}/{task['task_id']}").status_code == 404


@pytest.mark.usefixtures("working")
def test_other_formats_and_options(alice: httpx.Client, site: TrialSite) -> None:
    site.alice.create_collection(f"{HOME}/elsewhere")
    kotta = {"jobname": "", "executable": "echo", "args": ["hi"], "script": "", "inputs": [], "outputs": ""}
    kotta.update({"queue": "CONTAINER", "walltime": "0.5", "output_file_stdout": ""})
    answer = alice.post(TASKS, json=kotta, params={"output_collection": "elsewhere", "image": site.image})
    assert answer.status_code == 201, answer.text
    assert ended(alice, answer.json())["state"] == "COMPLETED"
    assert alice.get(f"{TASKS}/{answer.json()['task_id']}/logs").text == "hi\n"
    own = site.request("/bin/sh", "-c", "echo hi > /outputs/x")
    del own["output_collection"], own["resource"]
    own["role"] = "CONTAINER"
    answer = alice.post(TASKS, json=own, params={"output_collection": "elsewhere", "priority": 3, "image": site.image})
    task = answer.json()
    assert task["collection"].startswith(f"{HOME}/elsewhere/")
    later = alice.post(TASKS, json={**own, "name": "later"}, params={"after": task["task_id"]}).json()
    assert later["after"] == [task["collection"]]
    assert ended(alice, later)["state"] == "COMPLETED"
    reused = alice.post(TASKS, json=own, params={"reuse": True, "output_collection": "elsewhere", "priority": 3})
    assert (reused.status_code, reused.json()["task_id"]) == (200, task["task_id"])


@pytest.mark.usefixtures("working")
def test_a_running_task_is_cancelled(alice: httpx.Client, site: TrialSite) -> None:
    task = submitted(alice, site, "echo begun; sleep 600")
    wait_until(lambda: alice.get(f"{TASKS}/{task['task_id']}/logs").text == "begun\n", "its first line")
    assert alice.post(f"{TASKS}/{task['task_id']}/cancel").status_code == 202
    assert ended(alice, task)["state"] == "CANCELLED"
    again = alice.post(f"{TASKS}/{task['task_id']}/cancel")
    assert again.status_code == 422
    assert again.json()["error"] == "Refused"


BAD = (
    (b"", "is empty"),
    (b"{", "is not JSON"),
    (b"[]", "document"),
    (b'{"role": NaN}', "NaN"),
    (b'{"role": 1e999}', "larger than"),
    (b'{"role": "\xff"}', "not UTF-8"),
    (b'{"role": "\\ud800"}', "half a character"),
    (b'{"a": 1, "a": 2}', "twice"),
    (b"[" * 100_000, "levels deep"),
    (b'{"inputs": [], "nonsense": 1, "process": {"image": "x", "exec": "y"}}', "nonsense"),
)


def test_bad_requests_are_told_what_is_wrong(alice: httpx.Client) -> None:
    for body, said in BAD:
        answer = alice.post(TASKS, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, (body[:50], answer.text)
        assert said in answer.json()["detail"], body[:50]
    assert alice.get(TASKS).json() == {"tasks": [], "next": None}


def test_a_document_is_bounded(alice: httpx.Client, gateway: RunningGateway) -> None:
    large = json.dumps({"x": "a" * (2 << 20)}).encode()
    kind = {"Content-Type": "application/json"}
    assert alice.post(TASKS, content=large, headers=kind).status_code == 413
    pieces = (large[start : start + 10_000] for start in range(0, len(large), 10_000))
    with contextlib.suppress(httpx.WriteError, httpx.ReadError):  # it may hang up while we are sending
        assert alice.post(TASKS, content=pieces, headers=kind).status_code == 413
    assert alice.post(TASKS, content=b"a=b", headers={"Content-Type": "text/plain"}).status_code == 415


def test_nothing_is_decompressed(alice: httpx.Client) -> None:
    """A bomb of 10 KB that would be 10 MB stays one of 10 KB."""
    bomb = gzip.compress(b" " * 10_000_000)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = alice.post(TASKS, content=bomb, headers=headers)
    assert answer.status_code == 415
    assert "without Content-Encoding" in answer.json()["remedy"]


def test_bad_parameters(alice: httpx.Client) -> None:
    for name, value in (
        ("limit", "-1"), ("limit", "0"), ("limit", "1001"), ("limit", "x"), ("cursor", "x"), ("cursor", "bnVsbA=="),
        ("cursor", base64.urlsafe_b64encode(b'[-1,"",""]').decode()), ("state", "DANCING"), ("since", "yesterday"),
        ("until", "9" * 400), ("limits", "5"),
    ):  # fmt: skip
        answer = alice.get(TASKS, params={name: value})
        assert answer.status_code == 400, (name, value, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    assert "Did you mean limit?" in alice.get(TASKS, params={"limits": "5"}).json()["detail"]


def test_ids_that_are_none(alice: httpx.Client) -> None:
    for name in (
        "nonsense",
        "00000000",
        "%2Fotherzone%2Fhome",
        "a%2Fb",
        "..",
        "%00",
        "x" * 3000,
        "%0d%0aX: y",
        "*",
        "%",
    ):
        answer = alice.get(f"{TASKS}/{name}/logs")
        assert answer.status_code in (400, 404), (name, answer.text)
        assert "traceback" not in answer.text.lower()


@pytest.mark.usefixtures("working")
def test_somebody_elses_task_is_not_found(alice: httpx.Client, bob: httpx.Client, site: TrialSite) -> None:
    task = submitted(alice, site, "echo secret > /outputs/x; echo secret")
    ended(alice, task)
    at = f"{TASKS}/{task['task_id']}"
    asked = [("GET", path) for path in ("", "/logs", "/request", "/results", "/results/x", "/logs/events")]
    asked += [("HEAD", "/results/x"), ("POST", "/cancel"), ("POST", "/rerun"), ("DELETE", "")]
    for method, path in asked:
        answer = bob.request(method, at + path)
        assert answer.status_code == 404, (method, path, answer.text)
        assert "secret" not in answer.text
    missing = bob.get(f"{TASKS}/{'0' * 8}-0000-0000-0000-000000000000").json()
    assert bob.get(at).json()["title"] == missing["title"]
    assert bob.get(TASKS, params={"everybodys": True}).json()["tasks"] == []
    assert alice.get(at).status_code == 200


@pytest.mark.usefixtures("working")
def test_a_reader_may_look_and_not_touch(alice: httpx.Client, bob: httpx.Client, site: TrialSite) -> None:
    task = submitted(alice, site, "echo shared > /outputs/x")
    ended(alice, task)
    for path in (HOME, f"{HOME}/out"):
        site.alice.set_access(path, BOB, Access.READ_OBJECT)
    site.alice.set_access(task["collection"], BOB, Access.READ_OBJECT, recursive=True)
    at = f"{TASKS}/{task['task_id']}"
    assert bob.get(f"{at}/results/x").content == b"shared\n"
    answer = bob.delete(at)
    assert answer.status_code == 403, answer.text


def test_nobody_gets_anything(anybody: httpx.Client) -> None:
    document = anybody.get("/api/v1/openapi.json").json()
    checked = 0
    for path, operations in document["paths"].items():
        for method in operations if path.startswith("/api/v1") else ():
            answer = anybody.request(
                method, path.replace("{method}", "stat").replace("{", "").replace("}", ""), json={}
            )
            assert answer.status_code == 401, (method, path, answer.text)
            checked += 1
    assert checked > 25


@pytest.mark.usefixtures("working")
def test_a_part_of_a_result(alice: httpx.Client, site: TrialSite) -> None:
    task = submitted(alice, site, "printf 0123456789 > /outputs/x; : > /outputs/empty")
    ended(alice, task)
    at = f"{TASKS}/{task['task_id']}/results/x"
    tag = alice.get(at).headers["etag"]
    for header, part, told in (
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
        ("bytes=8-999999999999999999", b"89", "bytes 8-9/10"),
    ):
        answer = alice.get(at, headers={"Range": header})
        assert (answer.status_code, answer.content, answer.headers["content-range"]) == (206, part, told)
    for header in ("bytes=10-", "bytes=99-100", "bytes=5-4", "bytes=-0"):
        answer = alice.get(at, headers={"Range": header})
        assert answer.status_code == 416, header
        assert answer.headers["content-range"] == "bytes */10"
    for header in ("bytes=a-b", "bytes=0-1,3-4", "lines=1-2", "bytes=-", "bytes=" + "9" * 30 + "-"):
        assert alice.get(at, headers={"Range": header}).content == b"0123456789", header
    assert alice.get(at, headers={"Range": "bytes=0-0", "If-Range": tag}).content == b"0"
    assert alice.get(at, headers={"Range": "bytes=0-0", "If-Range": '"other"'}).status_code == 200
    assert alice.get(at, headers={"If-None-Match": tag}).status_code == 304
    head = alice.head(at)
    assert (head.headers["content-length"], head.content) == ("10", b"")
    assert alice.get(f"{TASKS}/{task['task_id']}/results/empty").content == b""


@pytest.mark.usefixtures("working")
def test_results_lead_nowhere_else(alice: httpx.Client, gateway: RunningGateway, site: TrialSite) -> None:
    site.alice.write(f"{HOME}/other.txt", b"other")
    task = submitted(alice, site, "echo x > /outputs/x")
    ended(alice, task)
    at = f"{TASKS}/{task['task_id']}/results"
    for path in ("../../other.txt", "%2e%2e/%2e%2e/other.txt", "..%2f..%2fother.txt", "/etc/passwd", "x/../x", "x//x",
                 "./x", "%2fetc%2fpasswd", "x%00", "..", "."):  # fmt: skip
        name = base64.b64encode(b"alice:correct horse")
        sent = f"GET {at}/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic ".encode() + name
        answer = gateway.raw(sent + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 404 "), (path, answer)
    assert alice.get(f"{at}/x/y").status_code == 404
    assert alice.get(f"{TASKS}/{task['task_id']}/results/").status_code == 404


@pytest.mark.usefixtures("working")
def test_a_download_that_fails_in_the_middle_is_not_taken_for_whole(
    alice: httpx.Client, site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = submitted(alice, site, "head -c 3000000 /dev/zero > /outputs/x")
    ended(alice, task)
    monkeypatch.setattr(content, "_BLOCK", 1 << 20)
    found = site.alice.stat(f"{task['collection']}/x")
    assert isinstance(found, DataObject)
    with alice.stream("GET", f"{TASKS}/{task['task_id']}/results/x") as answer:
        assert answer.headers["content-length"] == "3000000"
        pieces = answer.iter_raw(1 << 10)
        next(pieces)
    Path(found.replicas[0].physical_path).write_bytes(b"cut")
    with pytest.raises(httpx.RemoteProtocolError):
        alice.get(f"{TASKS}/{task['task_id']}/results/x")
    assert found.replicas[0].status is ReplicaStatus.GOOD


def test_pages_of_the_list(alice: httpx.Client, site: TrialSite) -> None:
    names = [submitted(alice, site, "true", name=f"task{number}")["name"] for number in range(7)][::-1]
    seen, cursor, new = [], "", 0
    while cursor is not None:
        page = alice.get(TASKS, params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [one["name"] for one in page["tasks"]]
        cursor = page["next"]
        submitted(alice, site, "true", name=f"new{new}")  # moves all others one place further
        new += 1
    assert seen == names


def test_a_page_after_its_last_task_is_gone(alice: httpx.Client, site: TrialSite) -> None:
    tasks = [submitted(alice, site, "true", name=f"task{number}") for number in range(5)]
    first = alice.get(TASKS, params={"limit": 2}).json()
    site.alice.remove(tasks[3]["collection"], recursive=True)
    rest = alice.get(TASKS, params={"limit": 9, "cursor": first["next"]}).json()
    assert [one["name"] for one in rest["tasks"]] == ["task2", "task1", "task0"]
    assert rest["next"] is None


@pytest.mark.usefixtures("no_worker")
def test_filters(alice: httpx.Client, site: TrialSite) -> None:
    task = submitted(alice, site, "true", name="filter me")
    submitted(alice, site, "true", name="other")

    def names(**parameters: Any) -> list[str]:
        return [one["name"] for one in alice.get(TASKS, params=parameters).json()["tasks"]]

    assert names(name="filter*") == ["filter me"]
    assert names(state=["QUEUED", "RUNNING"]) == ["other", "filter me"]
    assert names(state="FAILED") == []
    assert names(resource="dsp_resc", role="CONTAINER") == ["other", "filter me"]
    assert names(since="2020-01-01", until="2020-01-02T00:00:00Z") == []
    assert names(since="2020-01-01T00:00:00Z") == ["other", "filter me"]
    assert task["state"] == "QUEUED"


def test_four_clients_at_once(gateway: RunningGateway, site: TrialSite) -> None:
    def submit_some(number: int) -> set[str]:
        with gateway.client("alice") as client:
            return {submitted(client, site, "true")["task_id"] for _ in range(5)}

    with ThreadPoolExecutor(4) as pool:
        ids = set().union(*pool.map(submit_some, range(4)))
    assert len(ids) == 20


def test_slow_readers_of_results_hold_no_thread(alice: httpx.Client, gateway: RunningGateway, site: TrialSite) -> None:
    with site.working():
        task = submitted(alice, site, "head -c 20000000 /dev/zero > /outputs/x")
        ended(alice, task)
    readers = []
    for _ in range(40):  # more than there are threads
        client = gateway.client("alice")
        stream = client.stream("GET", f"{TASKS}/{task['task_id']}/results/x")
        readers.append((client, stream, stream.__enter__()))
    assert alice.get("/readyz").status_code == 200
    assert threading.active_count() < 60
    for client, stream, _ in readers:
        stream.__exit__(None, None, None)
        client.close()


def test_who_am_i(alice: httpx.Client) -> None:
    found = alice.get("/api/v1/me").json()
    assert found.pop("attributes")["role"] == "COMPUTE_RESOURCE_ROLE"
    assert found == {
        "user": str(ALICE),
        "zone": "tempZone",
        "home": HOME,
        "project": HOME,
        "results": f"{HOME}/c2d_results",
    }
    assert alice.get("/api/v1/me", params={"project": "no such"}).status_code == 404


def test_a_task_that_waits_is_shown_with_its_reason(alice: httpx.Client, site: TrialSite) -> None:
    task = submitted(alice, site, WAITS)
    assert alice.get(f"{TASKS}/{task['task_id']}").json()["waiting_for"]
