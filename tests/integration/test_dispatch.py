"""``container_dispatch``, called from a rule file through core.py, as an agent does."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import threading
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from support.site import ALICE, BOB, COMPUTE, HOME, WAITS, TrialSite, wait_until

from compute_to_data.agent import dispatch
from compute_to_data.agent.boundary import Site
from compute_to_data.coordination.lock import ResourceLock
from compute_to_data.errors import InvalidRequest, ZoneOutOfReach
from compute_to_data.model import Access, Entity, EntityKind
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord
from compute_to_data.submission.submit import Submitted
from compute_to_data.zones.embedded.agent import Callback, RuleExecutionInfo, irule

CHECKOUT = Path(__file__).resolve().parents[2]
TRAINING_REQUEST = {
    "container": {
        "type": "docker",
        "image": "tools",
        "commands": [
            {"user": "jovyan", "command": ["/bin/sh", "-c", 'sed s/a/b/ "$INPUT_FILE_PATH" > "$OUTPUT"; exit 4']}
        ],
        "allowable_command_indices_for_nonzero_exit_code": [-1],
        "environment": {
            "INPUT_FILE_PATH": "/inputs/%(INPUT_FILE_BASENAME)s",
            "OUTPUT": "/outputs/seen_%(INPUT_FILE_BASENAME)s",
        },
    },
    "external": {"src_collection": f"{HOME}/in", "dst_collection": f"{HOME}/out"},
    "internal": {"src_directory": "/inputs", "dst_directory": "/outputs"},
}


@pytest.fixture
def core() -> ModuleType:
    specification = importlib.util.spec_from_file_location("core", CHECKOUT / "core.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


class Caller:
    """A user at a terminal, who calls the rule. It keeps the rule's output."""

    def __init__(self, site: TrialSite, core: ModuleType) -> None:
        self.site = site
        self.core = core
        self.output: list[str] = []
        self.logged: list[str] = []

    def call(self, *arguments: str, user: object = ALICE) -> int:
        rule_file = self.site.folder / "call.r"
        written = ", ".join(json.dumps(one) for one in arguments)
        rule_file.write_text(f"main {{\n  container_dispatch({written})\n}}\nINPUT null\nOUTPUT ruleExecOut\n")

        def write(where: str, text: str) -> None:
            (self.output if where == "stdout" else self.logged).append(text)

        return irule(self.core, rule_file, RuleExecutionInfo(self.site.zone, user, self.site.configuration), write)  # type: ignore[arg-type]

    @property
    def last(self) -> str:
        return self.output[-1]


@pytest.fixture
def caller(site: TrialSite, core: ModuleType) -> Caller:
    site.alice.create_collection(f"{HOME}/in")
    site.alice.write(f"{HOME}/in/x.txt", b"aaa\n")
    site.alice.write(f"{HOME}/task_config.json", json.dumps(TRAINING_REQUEST).encode())
    return Caller(site, core)


def test_the_training_modules_request_runs_unchanged(site: TrialSite, caller: Caller) -> None:
    code = caller.call("containers.run", f"{HOME}/task_config.json", COMPUTE, "", "the-task")
    assert code == 0, caller.output
    assert site.contents(f"{HOME}/out/the-task")["seen_x.txt"] == b"baa\n"
    assert "the-task COMPLETED" in caller.output[-2]
    assert "seen_x.txt" in caller.last
    assert not caller.logged
    # The task has claimed the only input.
    assert caller.call("containers.run", f"{HOME}/task_config.json", COMPUTE, "", "") == -808000
    assert "holds no unclaimed data object" in caller.last


def test_the_training_modules_request_runs_on_a_resource_of_two_roles(site: TrialSite, caller: Caller) -> None:
    site.give_role(COMPUTE, "SIGNAL_PROCESSING")
    assert caller.call("containers.run", f"{HOME}/task_config.json", COMPUTE, "", "the-task") == 0, caller.output
    assert site.contents(f"{HOME}/out/the-task")["seen_x.txt"] == b"baa\n"
    record = TaskRecord(site.alice, site.configuration.attributes, f"{HOME}/out/the-task", COMPUTE)
    assert record.facts()["role"] == "CONTAINER"
    assert "of its roles (CONTAINER, SIGNAL_PROCESSING), CONTAINER is the one for" in caller.output[0]


def test_an_ambiguous_role_is_refused_with_a_remedy_for_the_format(site: TrialSite, caller: Caller) -> None:
    site.take_role(COMPUTE, "CONTAINER")
    for role in ("SIGNAL_PROCESSING", "IMAGE_PROCESSING"):
        site.give_role(COMPUTE, role)
    before = site.snapshot()
    assert caller.call("containers.run", f"{HOME}/task_config.json", COMPUTE, "", "") == -130000
    assert "(IMAGE_PROCESSING, SIGNAL_PROCESSING)" in caller.last
    assert "Name a resource that bears only one of them" in caller.last
    assert site.snapshot() == before


def test_the_output_locator_overrides_the_request(site: TrialSite, caller: Caller) -> None:
    site.alice.create_collection(f"{HOME}/elsewhere")
    assert caller.call("containers.run", f"{HOME}/task_config.json", COMPUTE, f"{HOME}/elsewhere", "t") == 0
    assert "seen_x.txt" in site.contents(f"{HOME}/elsewhere/t")


def test_a_worker_on_demand_that_is_killed_is_replaced(site: TrialSite, caller: Caller) -> None:
    request = site.request("/bin/sh", "-c", f"echo x >> /outputs/log; {WAITS}")
    site.alice.write(f"{HOME}/task.json", json.dumps(request).encode())
    codes: list[int] = []
    thread = threading.Thread(
        target=lambda: codes.append(caller.call("containers.run", f"{HOME}/task.json", "", "", "t"))
    )
    thread.start()
    lock = ResourceLock(site.configuration, "tempZone", COMPUTE)
    wait_until(lambda: any("RUNNING" in line for line in caller.output), "the task to run")
    task = Submitted("t", f"{HOME}/out/t", COMPUTE, "")
    site.outputs(task)
    assert lock.is_held()
    os.kill(json.loads(Path(lock._path).read_text())["pid"], signal.SIGKILL)
    site.let_go(task)
    thread.join(60)
    assert codes == [0], caller.output
    assert site.contents(f"{HOME}/out/t")["log"] == b"x\n"


class AnotherServer:
    """A server of the zone that is not the host of the compute resource. What it has run there, the caller runs."""

    def __init__(self, site: TrialSite, caller: Caller) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.codes: list[int] = []
        self.logged: list[str] = []
        self._caller = caller
        self.site = Site(site.alice, site.configuration, print, lambda name, value: None, self.logged.append,
                         hosts=frozenset({"another.example.org"}), run_there=self._run_there)  # fmt: skip

    def _run_there(self, host: str, text: str) -> None:
        called = re.fullmatch(r'container_dispatch\("containers\.call", "(.*)", "", "", ""\);', text)
        assert called, text
        collection = re.sub(r"\\(.)", r"\1", called[1])  # as the rule language reads a string
        self.asked.append((host, collection))
        self.codes.append(self._caller.call("containers.call", collection, "", "", ""))


def test_a_worker_on_demand_is_started_by_the_server_of_its_resource(site: TrialSite, caller: Caller) -> None:
    collection = f'{HOME}/"a*b$c`d\\e'
    site.alice.create_collection(collection)
    submitted = site.submit(site.request("/bin/sh", "-c", "echo x > /outputs/x", output_collection=collection))
    record = TaskRecord(site.alice, site.configuration.attributes, submitted.collection, COMPUTE)
    another = AnotherServer(site, caller)
    assert not dispatch.call_worker(another.site, record), another.logged
    assert (another.asked, another.codes) == ([("localhost", submitted.collection)], [0]), caller.output
    assert site.ended(submitted)["state"] == "COMPLETED"


def test_a_live_worker_on_another_server_is_not_called(site: TrialSite, caller: Caller) -> None:
    submitted = site.submit(site.request("/bin/true"))
    record = TaskRecord(site.alice, site.configuration.attributes, submitted.collection, COMPUTE)
    another = AnotherServer(site, caller)
    with site.working():
        assert site.ended(submitted)["state"] == "COMPLETED"
        assert dispatch.call_worker(another.site, record)
    assert not another.asked


def test_a_server_that_cannot_be_asked_is_named_in_the_log(site: TrialSite, caller: Caller) -> None:
    def out_of_reach(host: str, text: str) -> None:
        raise ZoneOutOfReach(host, "does not answer")

    submitted = site.submit(site.request("/bin/true"))
    record = TaskRecord(site.alice, site.configuration.attributes, submitted.collection, COMPUTE)
    another = AnotherServer(site, caller)
    assert dispatch.call_worker(replace(another.site, run_there=out_of_reach), record)
    assert f"the worker of {COMPUTE} cannot be called: localhost: does not answer" in another.logged[0]


REFUSALS = {
    "a call for no task": (("containers.call", f"{HOME}/in", "", "", ""), -130000, "is no task"),
    "another docker command": (("images.pull", f"{HOME}/task_config.json", COMPUTE, "", ""), -130000, "containers.run"),
    "no such request": (("containers.run", f"{HOME}/none.json", COMPUTE, "", ""), -358000, "none.json"),
    "a collection as request": (("containers.run", f"{HOME}/in", COMPUTE, "", ""), None, "/in"),
    "unknown resource": (("containers.run", f"{HOME}/task_config.json", "nowhere", "", ""), -78000, "nowhere"),
    "no compute resource": (("containers.run", f"{HOME}/task_config.json", "demoResc", "", ""), -130000, "role"),
    "a path as task id": (("containers.run", f"{HOME}/task_config.json", COMPUTE, "", "../x"), -130000, "task id"),
    "not JSON": (("containers.run", f"{HOME}/in/x.txt", COMPUTE, "", ""), -130000, "x.txt"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_mistakes_are_reported_with_their_code(site: TrialSite, caller: Caller, name: str) -> None:
    arguments, code, words = REFUSALS[name]
    before = site.snapshot()
    returned = caller.call(*arguments)
    assert returned < 0
    assert code is None or returned == code, caller.output
    assert words in caller.last
    assert site.snapshot() == before


def test_another_user_cannot_use_the_owners_objects(site: TrialSite, caller: Caller) -> None:
    assert caller.call("containers.run", f"{HOME}/task_config.json", COMPUTE, "", "", user=BOB) == -358000
    site.alice.set_access(HOME, BOB, Access.READ_OBJECT)
    site.alice.set_access(f"{HOME}/task_config.json", BOB, Access.READ_OBJECT)
    assert caller.call("containers.run", f"{HOME}/task_config.json", COMPUTE, "", "", user=BOB) < 0
    assert f"{HOME}/in" in caller.last
    site.alice.set_access(f"{HOME}/in", BOB, Access.READ_OBJECT, recursive=True)
    assert caller.call("containers.run", f"{HOME}/task_config.json", COMPUTE, "", "", user=BOB) == -818000
    assert "modify_object to claim" in caller.last
    site.alice.set_access(f"{HOME}/in", BOB, Access.MODIFY_OBJECT, recursive=True)
    assert caller.call("containers.run", f"{HOME}/task_config.json", COMPUTE, "", "", user=BOB) < 0
    assert f"{HOME}/out" in caller.last


def test_a_failed_task_returns_its_code_and_reason(site: TrialSite, caller: Caller) -> None:
    request = site.request("/bin/sh", "-c", "echo that is why >&2; exit 9")
    site.alice.write(f"{HOME}/task.json", json.dumps(request).encode())
    assert caller.call("containers.run", f"{HOME}/task.json", "", "", "") == -344000
    assert "exited with status 9: that is why" in caller.last


def test_root_in_a_request_is_refused_with_a_remedy(site: TrialSite, caller: Caller) -> None:
    request = json.loads(json.dumps(TRAINING_REQUEST))
    request["container"]["commands"].insert(0, {"user": "root", "command": ["chmod", "a+rwx", "/outputs"]})
    site.alice.write(f"{HOME}/task_config.json", json.dumps(request).encode(), force=True)
    assert caller.call("containers.run", f"{HOME}/task_config.json", COMPUTE, "", "") == -130000
    assert "/container/commands/0" in caller.last
    assert "delete" in caller.last.lower()


def test_a_rule_file_that_calls_something_else_is_refused(site: TrialSite, core: ModuleType, tmp_path: Path) -> None:
    rei = RuleExecutionInfo(site.zone, ALICE, site.configuration)
    for text in ("main { msiExecCmd('x') }", 'main { writeLine("stdout", "x") }', ""):
        rule_file = tmp_path / "x.r"
        rule_file.write_text(text)
        with pytest.raises(InvalidRequest):
            irule(core, rule_file, rei)


def test_submitting_returns_the_id_and_does_not_wait(site: TrialSite, caller: Caller) -> None:
    rei = RuleExecutionInfo(site.zone, ALICE, site.configuration)
    output: list[str] = []
    arguments = ["containers.run", f"{HOME}/task_config.json", COMPUTE, "", ""]
    with site.working():
        assert caller.core.container_submit(arguments, Callback(lambda _, text: output.append(text)), rei) == 0
        task_id = arguments[-1]
        queued, note = output
        assert queued.split()[:3] == ["task", task_id, "queued"]
        assert note.startswith("note: user jovyan: the sandbox runs every command as its own user")
        record = TaskRecord(site.alice, site.configuration.attributes, f"{HOME}/out/{task_id}", COMPUTE)
        wait_until(lambda: record.state() is State.COMPLETED, "the end of the task")


def test_a_delayed_rule_does_not_wait(site: TrialSite, caller: Caller) -> None:
    output: list[str] = []
    delayed = Site(site.alice, site.configuration, output.append, lambda *_: None, output.append, delayed=True)
    with site.working():
        assert dispatch.run(delayed, "containers.run", f"{HOME}/task_config.json", COMPUTE, "", "later") == 0
        assert [line.split(" ")[0] for line in output] == ["task", "note:"]
        record = TaskRecord(site.alice, site.configuration.attributes, f"{HOME}/out/later", COMPUTE)
        wait_until(lambda: record.state() is State.COMPLETED, "the end of the task")


def test_the_rule_stops_waiting_when_its_client_disconnects(site: TrialSite, caller: Caller) -> None:
    logged: list[str] = []
    left = Site(site.alice, site.configuration, print, lambda *_: None, logged.append, abandoned=lambda: True)
    assert dispatch.run(left, "containers.run", f"{HOME}/task_config.json", COMPUTE, "", "left") == 0
    assert logged == [f"the client that waited for {HOME}/out/left has disconnected; the task continues"]
    assert site.alice.avus(Entity(EntityKind.COLLECTION, f"{HOME}/out/left"))


def test_a_worker_that_does_not_start_is_reported(
    site: TrialSite, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_CALL_AGAIN_SECONDS", 0.01)
    site.configuration = site.configure(worker={"command": ["/bin/false"]})
    code = caller.call("containers.run", f"{HOME}/task_config.json", COMPUTE, "", "waits")
    assert code == -154000
    assert "its worker does not start, and task waits stays queued" in caller.last
    assert site.alice.avus(Entity(EntityKind.COLLECTION, f"{HOME}/out/waits"))


def test_a_worker_of_another_server_is_not_called(site: TrialSite, caller: Caller) -> None:
    output: list[str] = []
    elsewhere = Site(
        site.alice, site.configuration, output.append, lambda *_: None, output.append, hosts=frozenset({"another"})
    )
    assert dispatch.submit(elsewhere, "containers.run", f"{HOME}/task_config.json", COMPUTE, "", "there") == 0
    assert not (site.folder / "state").exists(), "nothing of a worker was touched"
