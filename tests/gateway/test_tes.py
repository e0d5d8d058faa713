"""The GA4GH Task Execution Service over HTTP. ``tests/template/test_tes.py`` runs such tasks in real sandboxes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.faults import Troubled
from support.gateways import RunningGateway
from support.site import BOB, HOME, TrialSite, wait_until

from compute_to_data.client.site_access import ConfiguredSite
from compute_to_data.client.workbench import Workbench
from compute_to_data.errors import NotFound
from compute_to_data.gateway.tes import listing
from compute_to_data.gateway.tes.views import View
from compute_to_data.model import Access
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord

TES = "/ga4gh/tes/v1"
TASKS = f"{TES}/tasks"


@pytest.fixture
def working(site: TrialSite) -> Iterator[None]:
    with site.working():
        yield


def shell(site: TrialSite, script: str, **more: Any) -> dict[str, Any]:
    return {"image": site.image, "command": ["/bin/sh", "-c", script], **more}


def document(site: TrialSite, *scripts: str, **more: Any) -> dict[str, Any]:
    return {"executors": [shell(site, script) for script in scripts], **more}


def submitted(client: httpx.Client, asked: dict[str, Any]) -> str:
    answer = client.post(TASKS, json=asked)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert list(found) == ["id"]
    return str(found["id"])


def shown(client: httpx.Client, task_id: str, view: str = "FULL") -> dict[str, Any]:
    answer = client.get(f"{TASKS}/{task_id}", params={"view": view})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ended(client: httpx.Client, task_id: str) -> dict[str, Any]:
    last = ("COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED")
    wait_until(lambda: shown(client, task_id, "MINIMAL")["state"] in last, "the end of the task")
    return shown(client, task_id)


@pytest.mark.usefixtures("working")
def test_a_task_from_its_document_to_its_log(alice: httpx.Client, site: TrialSite) -> None:
    asked = {
        "name": "two steps",
        "description": "writes a file",
        "inputs": [{"path": "/inputs/note", "content": "a note\n"}],
        "outputs": [{"path": "/outputs/d/x", "url": f"irods://{HOME}/made/here/x"}],
        "executors": [
            shell(site, "mkdir -p /outputs/d; echo one; echo first >&2; echo data > /outputs/d/x", env={"A": "b"}),
            shell(site, "echo two; exit 3", ignore_error=True),
            shell(site, "echo three"),
        ],
        "resources": {"cpu_cores": 1, "ram_gb": 0.5, "disk_gb": 0.1, "backend_parameters": {"Walltime_Seconds": "600"}},
        "tags": {"WORKFLOW": "w=1", "empty": ""},
    }
    task_id = submitted(alice, asked)
    found = ended(alice, task_id)
    assert found["state"] == "COMPLETE", found
    assert site.alice.read(f"{HOME}/made/here/x", 99) == b"data\n"
    for member in ("name", "description", "executors", "resources", "tags"):
        assert found[member] == asked[member]
    assert found["inputs"] == [{"type": "FILE", "path": "/inputs/note", "content": "a note\n"}]
    (log,) = found["logs"]
    assert [(one["exit_code"], one["stdout"], one["stderr"]) for one in log["logs"]] == [
        (0, "one\n", "first\n"), (3, "two\n", ""), (0, "three\n", ""),
    ]  # fmt: skip
    assert log["outputs"] == [{"url": f"irods://{HOME}/made/here/x", "path": "/outputs/d/x", "size_bytes": "5"}]
    times = [found["creation_time"], log["start_time"], log["logs"][0]["start_time"], log["end_time"]]
    assert times == sorted(times) and times[-1] >= log["logs"][2]["end_time"] >= log["logs"][2]["start_time"]
    basic = shown(alice, task_id, "BASIC")
    assert basic["inputs"] == [{"type": "FILE", "path": "/inputs/note"}]
    assert not {"stdout", "stderr"} & set(basic["logs"][0]["logs"][0])
    assert "system_logs" not in basic["logs"][0]
    assert shown(alice, task_id, "MINIMAL") == {"id": task_id, "state": "COMPLETE"}
    assert alice.get(f"{TASKS}/{task_id}").json() == {"id": task_id, "state": "COMPLETE"}
    status = alice.get(f"/api/v1/tasks/{task_id}").json()
    assert (status["name"], status["state"]) == ("two steps", "COMPLETED"), "it is a task like any other"


@pytest.mark.usefixtures("working")
def test_states_of_failures(alice: httpx.Client, site: TrialSite) -> None:
    found = ended(alice, submitted(alice, document(site, "echo why >&2; exit 7", "echo never")))
    assert found["state"] == "EXECUTOR_ERROR"
    (log,) = found["logs"]
    assert [(one["exit_code"], one["stderr"]) for one in log["logs"]] == [(7, "why\n")]
    assert "exited with status 7" in log["system_logs"][0]
    missing = document(site, "true", outputs=[{"path": "/outputs/x", "url": f"irods://{HOME}/x"}])
    assert ended(alice, submitted(alice, missing))["state"] == "EXECUTOR_ERROR"


@pytest.mark.usefixtures("no_worker")
def test_states_before_the_end(alice: httpx.Client, site: TrialSite) -> None:
    task_id = submitted(alice, document(site, "true"))
    assert (shown(alice, task_id)["state"], shown(alice, task_id)["logs"]) == ("QUEUED", [])
    (collection,) = site.alice.find(_by_id(site, task_id))
    record = TaskRecord(site.alice, site.configuration.attributes, collection, "dsp_resc")
    for state, name in ((State.STAGING_IN, "INITIALIZING"), (State.RUNNING, "RUNNING"), (State.STAGING_OUT, "RUNNING")):
        record.move_to(state)
        assert shown(alice, task_id)["state"] == name
        assert [one["id"] for one in alice.get(TASKS, params={"state": name}).json()["tasks"]] == [task_id]
    record.decide({"cancel": "alice#tempZone"})
    assert shown(alice, task_id)["state"] == "CANCELING"
    record.move_to(State.FAILED, {"reason_code": "system_error", "reason": "the worker fell over"})
    found = shown(alice, task_id)
    assert found["state"] == "SYSTEM_ERROR"
    assert "the worker fell over" in found["logs"][0]["system_logs"]


def _by_id(site: TrialSite, task_id: str) -> Any:
    from compute_to_data.model import EntityKind, Query

    return Query(EntityKind.COLLECTION, site.configuration.attributes.named("task_id"), task_id)


@pytest.mark.usefixtures("working")
def test_a_running_task_is_canceled(alice: httpx.Client, site: TrialSite) -> None:
    task_id = submitted(alice, document(site, "sleep 600", "echo never"))
    wait_until(lambda: shown(alice, task_id, "MINIMAL")["state"] == "RUNNING", "the task to run")
    for _ in range(2):
        answer = alice.post(f"{TASKS}/{task_id}:cancel")
        assert (answer.status_code, answer.json()) == (200, {})
    assert ended(alice, task_id)["state"] == "CANCELED"
    done = submitted(alice, document(site, "true"))
    ended(alice, done)
    assert alice.post(f"{TASKS}/{done}:cancel").status_code == 422


@pytest.mark.usefixtures("no_worker")
def test_lists(alice: httpx.Client, bob: httpx.Client, site: TrialSite) -> None:
    names = ["align-1", "align-2", "sort", "", "align-3"]
    tags: list[dict[str, str]] = [
        {"foo": "bar"},
        {"foo": "bar", "baz": "bat"},
        {"foo": ""},
        {},
        {"foo": "bat", "a=b": "c"},
    ]
    ids = [submitted(alice, document(site, "true", name=name, tags=tag)) for name, tag in zip(names, tags)]
    alice.post("/api/v1/tasks", json=site.request("/bin/true"))

    def listed(**wanted: Any) -> list[str]:
        answer = alice.get(TASKS, params=wanted)
        assert answer.status_code == 200, answer.text
        return [one["id"] for one in answer.json()["tasks"]]

    newest = ids[::-1]
    assert listed() == newest, "tasks that were not submitted by TES are not among them"
    assert listed(name_prefix="align") == [ids[4], ids[1], ids[0]]
    assert listed(state="QUEUED") == newest
    assert listed(state="PAUSED") == []
    for wanted, numbers in (
        ({"tag_key": "foo", "tag_value": "bar"}, [1, 0]),
        ({"tag_key": "foo"}, [4, 2, 1, 0]),
        ({"tag_key": ["foo", "baz"], "tag_value": ["bar", "bat"]}, [1]),
        ({"tag_key": "a=b", "tag_value": "c"}, [4]),
        ({"tag_key": "fo"}, []),
    ):
        assert listed(**wanted) == [ids[number] for number in numbers], wanted
    seen: list[str] = []
    token = ""
    while True:
        page = alice.get(TASKS, params={"page_size": 2, "page_token": token, "view": "BASIC"}).json()
        seen += [one["id"] for one in page["tasks"]]
        assert all(one["executors"] for one in page["tasks"])
        token = page.get("next_page_token", "")
        if not token:
            break
        submitted(alice, document(site, "true", name="later"))
    assert seen == newest, "newer tasks do not move the pages"
    assert bob.get(TASKS).json() == {"tasks": []}


def test_a_page_after_a_task_that_is_gone(
    alice: httpx.Client, site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_WINDOW", 2)
    ids = [submitted(alice, document(site, "true")) for _ in range(5)]
    page = alice.get(TASKS, params={"page_size": 2}).json()
    (collection,) = site.alice.find(_by_id(site, ids[3]))
    TaskRecord(site.alice, site.configuration.attributes, collection, "dsp_resc").move_to(State.CANCELLED)
    site.alice.remove(collection, recursive=True)
    rest = alice.get(TASKS, params={"page_token": page["next_page_token"]}).json()["tasks"]
    assert [one["id"] for one in rest] == ids[2::-1]


@pytest.mark.usefixtures("no_worker")
@pytest.mark.parametrize("wanted", [listing.Wanted(), listing.Wanted("a", "QUEUED", {"foo": ""})])
def test_a_list_asks_a_few_questions_however_many_tasks_there_are(
    alice: httpx.Client, site: TrialSite, wanted: listing.Wanted
) -> None:
    ids = [submitted(alice, document(site, "true", name="a", tags={"foo": "bar"})) for _ in range(8)]
    asked: list[str] = []

    def counted(original: Any, *words: Any) -> Any:
        asked.append(original.__name__)
        return original(*words)

    calls: dict[str, Any] = dict.fromkeys(("query", "avus", "find", "stat", "read"), counted)
    bench = Workbench(Troubled(site.alice, **calls), ConfiguredSite(site.configuration))  # type: ignore[arg-type]
    found = listing.page(bench, wanted, View.MINIMAL, 5, "")
    assert [one["id"] for one in found["tasks"]] == ids[:2:-1]
    assert len(asked) <= 6 and set(asked) == {"query"}


def test_other_methods(alice: httpx.Client) -> None:
    for path, methods in (
        ("/tasks", "GET, POST, HEAD"),
        ("/tasks/x", "GET, HEAD"),
        ("/tasks/x:cancel", "POST"),
        ("/service-info", "GET, HEAD"),
    ):
        answer = alice.request("PATCH", f"{TES}{path}")
        assert (answer.status_code, answer.headers["allow"]) == (405, methods), path


def test_service_info(alice: httpx.Client) -> None:
    found = alice.get(f"{TES}/service-info").json()
    assert found["type"] == {"group": "org.ga4gh", "artifact": "tes", "version": "1.1.0"}
    assert found["storage"] == [f"irods://{HOME}"]
    assert "walltime_seconds" in found["tesResources_backend_parameters"]


@pytest.mark.usefixtures("working")
def test_somebody_elses_task_is_not_found(alice: httpx.Client, bob: httpx.Client, site: TrialSite) -> None:
    task_id = submitted(alice, document(site, "echo secret", name="secret"))
    ended(alice, task_id)
    for method, path in (("GET", task_id), ("POST", f"{task_id}:cancel")):
        answer = bob.request(method, f"{TASKS}/{path}")
        assert answer.status_code == 404, answer.text
        assert "secret" not in answer.text
    missing = bob.get(f"{TASKS}/00000000-0000-0000-0000-000000000000").json()
    assert bob.get(f"{TASKS}/{task_id}").json()["cause"] == missing["cause"]
    site.alice.create_collection(f"{HOME}/private", parents=True)
    site.alice.write(f"{HOME}/private/x", b"secret")
    for wanted in (
        {"inputs": [{"path": "/inputs/x", "url": f"irods://{HOME}/private/x"}]},
        {"outputs": [{"path": "/outputs/x", "url": f"irods://{HOME}/private/y"}]},
    ):
        answer = bob.post(TASKS, json=document(site, "true", **wanted))
        assert answer.status_code in (403, 404), answer.text
    site.alice.set_access(HOME, BOB, Access.READ_OBJECT)
    assert bob.get(TASKS).json() == {"tasks": []}


def test_ids_that_are_none(alice: httpx.Client, site: TrialSite) -> None:
    task_id = submitted(alice, document(site, "true"))
    other = alice.post("/api/v1/tasks", json=site.request("/bin/true")).json()["task_id"]
    for name in (task_id[:8], other, "..", "%2FtempZone%2Fhome", "a%2Fb", "%00", "x" * 3000, "*", "%F1%88", ":cancel"):
        assert alice.get(f"{TASKS}/{name}").status_code in (400, 404, 405), name
    assert alice.post(f"{TASKS}/{task_id[:8]}:cancel").status_code == 404
    assert alice.post(f"{TASKS}/{task_id}:explode").status_code in (404, 405)


BAD = (
    (b"", "is empty"),
    (b"{", "is not JSON"),
    (b"[]", "expected a GA4GH TES task"),
    (b"7", "expected a GA4GH TES task"),
    (b"{}", "/executors"),
    (b'{"executors": []}', "/executors"),
    (b'{"executors": [{"image": "x"}]}', "/executors/0/command"),
    (b'{"executors": [{"image": "x", "command": "ls"}]}', "/executors/0/command"),
    (b'{"executors": [{"image": "x", "command": ["ls"], "colour": 1}]}', "colour"),
    (b'{"executors": [{"image": "x", "command": ["ls"]}], "nonsense": 1}', "nonsense"),
    (b'{"executors": [{"image": "x", "command": ["ls"]}], "state": "COMPLETE"}', "/state"),
    (b'{"executors": [{"image": "x", "command": ["ls"]}], "resources": {"ram_gb": NaN}}', "NaN"),
    (b'{"executors": [{"image": "x", "command": ["ls\xff"]}]}', "not UTF-8"),
    (b'{"executors": [{"image": "x", "command": ["ls\\u0000"]}]}', "/executors/0/command/0"),
    (b'{"executors": ' + b"[" * 50_000, "levels deep"),
    (b'{"executors": [{"image": "x", "command": ["ls"]}], "inputs": [{"path": "/a"}]}', '"url" or a "content"'),
    (b'{"executors": [{"image": "x", "command": ["ls"]}], "tags": {"a": 1}}', "/tags/a"),
)


def test_bad_documents_are_told_what_is_wrong(alice: httpx.Client) -> None:
    for body, said in BAD:
        answer = alice.post(TASKS, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, (body[:60], answer.text)
        assert said in answer.json()["detail"], (body[:60], answer.text)
        assert "/tes/" not in answer.json()["detail"], "places are those of the client's document"
    large = json.dumps({"executors": [], "description": "a" * (2 << 20)}).encode()
    assert alice.post(TASKS, content=large, headers={"Content-Type": "application/json"}).status_code == 413
    assert alice.post(TASKS, content=b"a=b", headers={"Content-Type": "text/plain"}).status_code == 415
    for name, value in (
        ("page_size", "-1"), ("page_size", "0"), ("page_size", "2048"), ("page_size", "x"), ("page_token", "x"),
        ("page_token", "bnVsbA=="), ("state", "DANCING"), ("view", "TINY"), ("tag_value", "alone"), ("nam_prefix", "x"),
    ):  # fmt: skip
        assert alice.get(TASKS, params={name: value}).status_code == 400, (name, value)
    assert alice.get(TASKS).json() == {"tasks": []}


def test_what_a_task_may_not_name(alice: httpx.Client, site: TrialSite) -> None:
    site.alice.write(f"{HOME}/there", b"old")
    for wanted, status, said in (
        ({"inputs": [{"path": "/inputs/x", "url": "file:///etc/passwd"}]}, 400, "nothing else is read or written"),
        ({"inputs": [{"path": "/inputs/x", "url": "gs://bucket/x"}]}, 400, "nothing else is read or written"),
        ({"inputs": [{"path": "/inputs/x", "url": "ftp://h/x"}]}, 400, "nothing else is read or written"),
        ({"inputs": [{"path": "/inputs/x", "url": "https://user:pw@h/x"}]}, 400, "no user name"),
        ({"inputs": [{"path": "/inputs/x", "url": "https://h.example/x"}]}, 422, "h.example"),
        ({"outputs": [{"path": "/outputs/x", "url": "s3://bucket/x"}]}, 422, "bucket"),
        ({"inputs": [{"path": "/inputs/x", "url": f"irods://other:1247{HOME}/there"}]}, 400, "not this zone's server"),
        ({"inputs": [{"path": "/inputs/x", "url": "irods:///otherZone/home/x"}]}, 400, "not below /tempZone"),
        ({"inputs": [{"path": "/inputs/x", "url": f"irods://{HOME}/missing"}]}, 404, "missing"),
        ({"outputs": [{"path": "/outputs/x", "url": f"irods://{HOME}/new/../x"}]}, 400, "'..'"),
        ({"outputs": [{"path": "/outputs/x", "url": f"irods://{HOME}/there"}]}, 422, "exists already"),
        ({"outputs": [{"path": "/outputs/x", "url": f"irods://{HOME}/there/x"}]}, 409, "there"),
        ({"resources": {"cpu_cores": 100000}}, 422, "cpus"),
        ({"resources": {"zones": ["nowhere"]}}, 404, "nowhere"),
        ({"resources": {"backend_parameters": {"priority": "11"}}}, 400, "priority"),
        ({"resources": {"backend_parameters": {"VmSize": "x"}, "backend_parameters_strict": True}}, 400, "VmSize"),
        ({"executors": [{"image": "unknown:1", "command": ["ls"]}]}, 422, "unknown:1"),
    ):  # fmt: skip
        answer = alice.post(TASKS, json={**document(site, "true"), **wanted})
        assert answer.status_code == status, (wanted, answer.text)
        assert said in answer.json()["detail"], (wanted, answer.text)
    assert alice.get(TASKS).json() == {"tasks": []}


def test_a_refused_task_leaves_no_collection(alice: httpx.Client, site: TrialSite) -> None:
    wanted = {"outputs": [{"path": "/outputs/x", "url": f"irods://{HOME}/new/deep/x"}]}
    answer = alice.post(TASKS, json={**document(site, "true"), **wanted, "resources": {"cpu_cores": 100000}})
    assert answer.status_code == 422
    with pytest.raises(NotFound):
        site.alice.stat(f"{HOME}/new")


def test_what_has_no_effect_is_said(alice: httpx.Client, site: TrialSite) -> None:
    resources = {"preemptible": True, "backend_parameters": {"VmSize": "large", "Priority": "3"}}
    task_id = submitted(alice, document(site, "true", resources=resources))
    found = shown(alice, task_id)
    assert found["resources"] == {"preemptible": True, "backend_parameters": {"Priority": "3"}}
    (collection,) = site.alice.find(_by_id(site, task_id))
    TaskRecord(site.alice, site.configuration.attributes, collection, "dsp_resc").move_to(State.CANCELLED)
    said = " ".join(shown(alice, task_id)["logs"][0]["system_logs"])
    assert "VmSize is not known here" in said and "preemptible has no effect" in said


def test_null_members_count_as_left_out(alice: httpx.Client, site: TrialSite) -> None:
    asked = {**document(site, "true"), "id": None, "logs": None, "name": None, "volumes": None}
    asked["executors"][0]["workdir"] = None
    found = shown(alice, submitted(alice, asked))
    assert "workdir" not in found["executors"][0]


def test_nobody_gets_anything(anybody: httpx.Client, gateway: RunningGateway) -> None:
    for method, path in (("GET", "service-info"), ("GET", "tasks"), ("POST", "tasks"), ("GET", "tasks/x"),
                         ("POST", "tasks/x:cancel")):  # fmt: skip
        answer = anybody.request(method, f"{TES}/{path}", json={})
        assert answer.status_code == 401, (method, path, answer.text)
