"""Workloads from the request to the results, on real sandboxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.faults import Troubled
from support.reading import ENOUGH
from support.real_docker import ENGINE
from support.site import ALICE, BOB, COMPUTE, HOME, WAITS, TrialSite, serving, wait_until

from compute_to_data.errors import InvalidRequest, NotFound, Refused
from compute_to_data.model import Access, DataObject, Query, ReplicaStatus
from compute_to_data.pipeline.staging import workload_dataset
from compute_to_data.pipeline.vault import dataset_listings
from compute_to_data.records.state import State
from compute_to_data.records.workload import WorkloadRecord, WorkloadState
from compute_to_data.submission import submit, workloads
from compute_to_data.submission.submit import Submitted
from compute_to_data.submission.workloads import Started
from compute_to_data.worker import line, workload_slots

IMAGE = "compute-to-data/base:bookworm"


class Workloads:
    """alice's workload on a site, with short methods for the tests."""

    def __init__(self, site: TrialSite) -> None:
        self.site = site
        self.attributes = site.configuration.attributes

    def start(self, **more: Any) -> Started:
        given = {"image": IMAGE, "instances": 2, **more}
        return workloads.start(self.site.alice, self.site.configuration, HOME, **given)

    def task(self, workload: Started, *command: str, **more: Any) -> Submitted:
        return workloads.create_task(self.site.alice, self.site.configuration, workload.collection, command, **more)

    def shell(self, workload: Started, script: str, **more: Any) -> Submitted:
        return self.task(workload, "/bin/sh", "-c", script, **more)

    def said(self, submitted: Submitted) -> str:
        facts = self.site.ended(submitted)
        assert facts["state"] == "COMPLETED", facts
        return self.site.contents(submitted.collection).get("STDOUT.txt", b"").decode()

    def dataset(self, names: list[str]) -> str:
        for name in names:
            path = f"{HOME}/dataset/{name}"
            self.site.alice.create_collection(path.rpartition("/")[0], parents=True)
            self.site.alice.write(path, f"content of {name}".encode(), resource="demoResc")
        return f"{HOME}/dataset"

    def sandboxes(self) -> int:
        folder = self.site.folder / "state" / "sandboxes"
        return len(list(folder.iterdir())) if folder.exists() else 0


@pytest.fixture
def ours(docker_answers: None, tmp_path: Path) -> Workloads:
    return Workloads(TrialSite(tmp_path, {"name": ENGINE}, IMAGE))


def test_a_task_sees_dataset_variables_and_standard_input(ours: Workloads) -> None:
    names = ["one", "a/two", "a/b/three of é"]
    workload = ours.start(dataset=ours.dataset(names), environment={"WHO": "alice", "WHICH": "%(TASK_ID)s"})
    stdin = workloads.put_stdin(ours.site.alice, ours.attributes, workload.collection, b"from a pipe\n")
    look = "cd /input; find . -type f | sort; cat one; echo; echo $WHO $WHICH; cat; pwd"
    with ours.site.working():
        first = ours.shell(workload, look, stdin=stdin)
        said = ours.said(first)
        assert said.splitlines() == [
            "./a/b/three of é", "./a/two", "./one", "content of one", f"alice {first.task_id}", "from a pipe", "/input",
        ]  # fmt: skip
        ways = "for w in 'echo x >/input/new' 'rm /input/one' 'chmod 0 /input/one' 'echo x >>/input/one'; do "
        assert ours.said(ours.shell(workload, f'{ways} sh -c "$w" 2>/dev/null && echo $w; done; cat')) == ""
        assert ours.sandboxes() == 1
    staged = ours.site.alice.stat(f"{HOME}/dataset/a/two")
    assert isinstance(staged, DataObject)
    assert [replica.leaf for replica in staged.replicas] == ["demoResc", COMPUTE]


def test_a_file_of_the_dataset_that_is_overwritten_meanwhile_is_named(ours: Workloads) -> None:
    """A task that began before it, and not one that began afterwards and read the new content."""
    workload = ours.start(dataset=ours.dataset(["one", "a/two"]), instances=3)
    site = ours.site
    with site.working():
        before = ours.shell(workload, "cat /input/a/two")
        during = [ours.shell(workload, f"{WAITS}; cat /input/a/two") for _ in range(2)]
        assert "inputs_changed" not in site.ended(before)
        for one in during:
            site.outputs(one)
        dataset = site.alice.stat(f"{HOME}/dataset/a/two")
        assert isinstance(dataset, DataObject)
        (replica,) = (one for one in dataset.replicas if one.leaf == COMPUTE)
        Path(replica.physical_path).write_bytes(b"other")  # as iRODS overwrites it: in place
        for one in during:
            site.let_go(one)
            facts = site.ended(one)
            assert (facts["state"], facts["inputs_changed"]) == ("COMPLETED", f"{HOME}/dataset/a/two")
            assert site.contents(one.collection)["STDOUT.txt"] == b"other"
        afterwards = ours.shell(workload, "cat /input/a/two")
        assert ours.said(afterwards) == "other"
        assert "inputs_changed" not in site.ended(afterwards)


def test_tasks_see_the_dataset_as_it_was_when_they_were_submitted_or_later(ours: Workloads) -> None:
    """The sandboxes and the directory with the earlier content go. What is being written is as it was, or not there."""
    site, alice = ours.site, ours.site.alice
    top = ours.dataset(["gone", "same", "a/changed", "old"])
    workload = ours.start(dataset=top, instances=1)
    show = "cd /input; grep -r . . | sort"
    with site.working() as worker:
        before = ours.said(ours.shell(workload, show)).splitlines()
        assert before == [f"./{one}:content of {one}" for one in ("a/changed", "gone", "old", "same")]
        running = ours.shell(workload, f"{WAITS}; cat /input/gone")
        site.outputs(running)
        alice.remove(f"{top}/gone")
        alice.rename(f"{top}/old", f"{top}/new")
        ours.dataset(["a/b/more"])
        alice.create_collection(f"{top}/empty")
        alice.write(f"{top}/a/changed", b"changed", force=True)
        for name, content in (("same", b"half"), ("uploading", b"half")):
            alice.write(f"{top}/{name}", content, force=True)
            site.zone.set_replica_status(f"{top}/{name}", 0, ReplicaStatus.INTERMEDIATE)
        site.let_go(running)
        assert ours.said(running) == "content of gone"
        after = ours.said(ours.shell(workload, f"{show}; echo *")).splitlines()
        changed = ["./a/b/more:content of a/b/more", "./a/changed:changed", "./new:content of old"]
        assert after == [*changed, "./same:content of same", "a empty new same"]
        for name in ("same", "uploading"):
            site.zone.set_replica_status(f"{top}/{name}", 0, ReplicaStatus.GOOD)
        assert "./uploading:half" in ours.said(ours.shell(workload, show)).splitlines()
        assert ours.sandboxes() == 1
        directories = worker._workload_slots.directories
        for users in directories._users.values():
            users.update(dict.fromkeys(users, 0.0))  # as if a minute ago
        worker._workload_slots.tend([])
        made = list((site.folder / "zone/vaults" / COMPUTE).rglob(f"{workload.workload_id}/*/dataset"))
        assert len(made) == 1 and (made[0] / "uploading").exists()
        assert ours.said(ours.shell(workload, "cat /input/uploading")) == "half"


def test_tasks_that_were_submitted_together_look_at_the_dataset_once(
    ours: Workloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    look = workload_dataset._look
    monkeypatch.setattr(workload_dataset, "_look", lambda *given: (looks.append("once"), look(*given))[1])
    monkeypatch.setattr(dataset_listings, "_CLOCK_SECONDS", 0.0)
    workload = ours.start(dataset=ours.dataset(["one"]))
    submitted = [ours.shell(workload, "cat /input/one") for _ in range(6)]
    with ours.site.working():
        assert {ours.said(one) for one in submitted} == {"content of one"}
    assert looks == ["once"]


def test_outputs_are_results_when_the_task_succeeds(ours: Workloads) -> None:
    workload = ours.start()
    with ours.site.working():
        well = ours.shell(workload, "ls -A /output /outputs; echo kept >/output/result; echo too >/outputs/other")
        badly = ours.shell(workload, "echo half >/output/result; echo why >&2; exit 3")
        here = ours.shell(workload, "echo x > relative; pwd")
        again = ours.shell(workload, "ls -A /output; ls -A /tmp")
        facts = ours.site.ended(badly)
        assert ours.said(well) == "/output:\n\n/outputs:\n"
        assert ours.said(again) == ""
        assert ours.said(here) == "/outputs\n"
        assert ours.site.contents(here.collection)["relative"] == b"x\n"
    assert (facts["state"], facts["reason_code"], facts["exit_status"]) == ("FAILED", "nonzero_exit", "3")
    contents = ours.site.contents(well.collection)
    assert (contents["result"], contents["other"]) == (b"kept\n", b"too\n")
    left = ours.site.contents(badly.collection)
    assert set(left) == {"task.json", "STDERR.txt", "failed/result"}
    assert left["failed/result"] == b"half\n"
    assert ours.site.leftovers(well) == ours.site.leftovers(badly) == []
    owner = ours.site.alice.stat(f"{well.collection}/result")
    assert owner.owner == ALICE


def test_a_workload_shows_its_state_and_can_be_stopped(ours: Workloads) -> None:
    site = ours.site
    workload = ours.start(name="grains")
    with site.working():
        ours.said(ours.task(workload, "true"))
        running = ours.shell(workload, "echo here >/output/here; sleep 60")
        wait_until(lambda: site.record(running).state() is State.RUNNING, "the task to run")
        described = workloads.describe(site.alice, ours.attributes, workload.collection)
        assert (described.state, described.tasks) == ("STARTED", {"COMPLETED": 1, "RUNNING": 1})
        assert (described.workload.image, described.workload.instances, described.workload.name) == (IMAGE, 2, "grains")
        assert workloads.listed(site.alice, ours.attributes, HOME) == (workload.collection,)
        assert len(workloads.states(site.alice, ours.attributes, workload.collection)) == 2
        assert workloads.stop(site.alice, ours.attributes, workload.collection) == (running.collection,)
        facts = site.ended(running)
        assert facts["state"] == "CANCELLED"
        assert "alice#tempZone" in facts["reason"]
        with pytest.raises(Refused, match="was stopped"):
            ours.task(workload, "true")
    assert workloads.describe(site.alice, ours.attributes, workload.collection).state == "STOPPED"
    assert ours.sandboxes() == 0
    assert not list((site.folder / "zone" / "vaults" / COMPUTE).rglob("sandboxes"))


def test_a_stopped_workloads_queued_task_does_not_run(ours: Workloads) -> None:
    workload = ours.start()
    queued = ours.shell(workload, "echo ran >/output/ran")
    workloads.stop(ours.site.alice, ours.attributes, workload.collection)
    with ours.site.working():
        facts = ours.site.ended(queued)
    assert facts["state"] == "CANCELLED"
    assert set(ours.site.contents(queued.collection)) == {"task.json"}


def test_a_task_that_begins_while_its_workload_is_being_stopped_is_cancelled(ours: Workloads) -> None:
    """Stopping first marks the workload as stopped, then cancels each task. A worker may begin a task in between."""
    workload = ours.start()
    queued = ours.shell(workload, "echo ran >/output/ran")
    record = WorkloadRecord(ours.site.alice, ours.attributes, workload.collection, workload.resource)
    record.declare(WorkloadState.STOPPED)
    with ours.site.working():
        facts = ours.site.ended(queued)
    assert (facts["state"], facts["reason_code"]) == ("CANCELLED", "cancelled")
    assert f"its workload {workload.workload_id} was stopped" in facts["reason"]
    assert set(ours.site.contents(queued.collection)) == {"task.json"}


def test_stopping_goes_on_past_a_task_that_somebody_removes(ours: Workloads) -> None:
    """The task is removed after the client has found it, and before the client cancels it."""
    workload = ours.start()
    first, last = ours.task(workload, "true"), ours.task(workload, "true")

    def found(query: Any, *args: Any, **more: Any) -> Any:
        tasks = query(*args, **more)
        if record.workload_state() is WorkloadState.STOPPED:
            ours.site.alice.remove(first.collection, recursive=True)
        return tasks

    record = WorkloadRecord(ours.site.alice, ours.attributes, workload.collection, workload.resource)
    catalog = Troubled(ours.site.alice, query=found)
    assert workloads.stop(catalog, ours.attributes, workload.collection) == (last.collection,)  # type: ignore[arg-type]
    assert "cancel" in ours.site.record(last).facts()


def test_stop_also_returns_tasks_that_end_meanwhile(ours: Workloads) -> None:
    """Its worker saw that the workload was stopped before the client cancelled the task. Earlier ends do not count."""
    workload = ours.start()
    earlier, begun, waiting = (ours.task(workload, "true") for _ in range(3))
    ours.site.record(earlier).move_to(State.CANCELLED)

    def annotated(annotate: Any, entity: Any, **more: Any) -> None:
        annotate(entity, **more)
        if entity.name == workload.collection:
            ours.site.record(begun).move_to(State.CANCELLED)

    catalog = Troubled(ours.site.alice, annotate=annotated)
    stopped = workloads.stop(catalog, ours.attributes, workload.collection)  # type: ignore[arg-type]
    assert stopped == (begun.collection, waiting.collection)
    assert ["cancel" in ours.site.record(one).facts() for one in (earlier, begun, waiting)] == [False, False, True]


def test_idle_sandboxes_are_removed(ours: Workloads, monkeypatch: pytest.MonkeyPatch) -> None:
    workload = ours.start()
    with ours.site.working() as worker:
        ours.said(ours.task(workload, "true"))
        assert ours.sandboxes() == 1
        monkeypatch.setattr(workload_slots, "IDLE_SECONDS", 0.0)
        worker._next_heartbeat = 0.0
        wait_until(lambda: ours.sandboxes() == 0, "the sandbox to go")
        ours.said(ours.task(workload, "true"))


def test_no_more_tasks_run_at_a_time_than_instances(docker_answers: None, tmp_path: Path) -> None:
    ours = Workloads(TrialSite(tmp_path, {"name": ENGINE}, IMAGE, worker={"slots": 4}))
    workload, other = ours.start(instances=1), ours.start(instances=1)
    with ours.site.working():
        script = "date +%s.%N >/output/from; sleep 0.1; {}; date +%s.%N >/output/to"
        submitted = [ours.shell(workload, script.format(how)) for how in (WAITS, "true", "true", "true")]
        quick = ours.task(other, "true")
        ours.said(quick)
        assert not any((ours.site.record(one).state() or State.QUEUED).is_final for one in submitted)
        vault = ours.site.folder / "zone" / "vaults" / COMPUTE
        wait_until(lambda: list(vault.rglob("outputs/started")), "the first one to run")
        (next(vault.rglob("outputs/started")).parent / "go").touch()
        times = []
        for one in submitted:
            ours.said(one)
            found = ours.site.contents(one.collection)
            times.append((float(found["from"]), float(found["to"])))
    times.sort()
    assert all(end <= begin for (_, end), (begin, _) in zip(times, times[1:]))


def test_a_workload_without_room_is_not_read_to_its_end(docker_answers: None, tmp_path: Path) -> None:
    """However long its queue is, other tasks get past it, and reading the queue costs the same."""
    slots = 2
    ours = Workloads(TrialSite(tmp_path, {"name": ENGINE}, IMAGE, worker={"slots": slots}))
    full = ours.start(instances=1)
    ours.shell(full, "sleep 60")
    for _ in range(2 * line._PAGE):
        ours.task(full, "true")
    behind = ours.task(ours.start(instances=1), "echo", "past")
    answers: list[int] = []

    class Counted:
        def __getattr__(self, name: str) -> Any:
            return getattr(ours.site.storage, name)

        def find(self, query: Query) -> tuple[str, ...]:
            found: tuple[str, ...] = ours.site.storage.find(query)
            if query.value == "QUEUED" and query.owner:  # of one user's queue; others ask about all users at once
                answers.append(len(found))
            return found

    with serving(ours.site.worker(storage=Counted())):  # type: ignore[arg-type]
        assert ours.said(behind) == "past\n"
        workloads.stop(ours.site.alice, ours.attributes, full.collection)
    assert answers
    assert max(answers) <= line._PAGE + 2 * slots  # one page, and as many as may be in flight


def test_walltime_ends_a_task_and_its_sandbox_alone(ours: Workloads) -> None:
    workload = ours.start()
    with ours.site.working():
        quick = ours.shell(workload, "for i in 1 2 3 4 5; do sleep 0.3; done; echo unharmed")
        long = ours.task(workload, "sleep", "60", walltime_seconds=0.5)
        assert ours.site.ended(long)["reason_code"] == "walltime_exceeded"
        assert ours.said(quick) == "unharmed\n"
        assert ours.said(ours.task(workload, "echo", "on")) == "on\n"


def test_too_much_output_fails_the_task(ours: Workloads) -> None:
    workload = ours.start(limits={"output_bytes": 1 << 20})
    with ours.site.working():
        flood = ours.shell(workload, "for i in 1 2 3 4; do head -c 1000000 /dev/zero >/output/$i; done; sleep 30")
        link = ours.shell(workload, "ln -s /etc/passwd /output/link")
        assert ours.site.ended(flood)["reason_code"] == "output_limit"
        assert ours.site.ended(link)["reason_code"] == "output_refused"
        assert ours.said(ours.shell(workload, "ls -A /output")) == ""


# The owner of a workload


def test_other_users_cannot_submit_tasks_to_a_workload(ours: Workloads) -> None:
    site = ours.site
    workload = ours.start()
    with pytest.raises(NotFound):
        workloads.create_task(site.bob, site.configuration, workload.collection, ["true"])
    for path in (HOME, f"{HOME}/workloads", workload.collection, f"{workload.collection}/workload.json"):
        site.alice.set_access(path, BOB, Access.READ_OBJECT)
    with pytest.raises(Refused, match="alice#tempZone"):
        workloads.create_task(site.bob, site.configuration, workload.collection, ["true"])


def test_a_workload_that_another_user_could_have_changed_is_refused(ours: Workloads) -> None:
    workload = ours.start()
    queued = ours.task(workload, "true")
    ours.site.alice.set_access(f"{workload.collection}/workload.json", BOB, Access.MODIFY_OBJECT)
    with pytest.raises(Refused, match="bob#tempZone"):
        ours.task(workload, "true")
    with ours.site.working():
        facts = ours.site.ended(queued)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "refused")


@pytest.mark.parametrize(
    "change",
    [
        {"workload": f"{HOME}/workloads/w-000000000000"},
        {"output_collection": f"{HOME}/out"},
        {"limits": {"memory_bytes": 8 << 20}},
        {"process": {"image": "debian:bookworm", "exec": "true"}},
    ],
)
def test_a_task_that_differs_from_its_workload_is_refused(ours: Workloads, change: dict[str, Any]) -> None:
    """Refused at submission, and again by the worker, in case a client skips the check."""
    site = ours.site
    workload = ours.start()
    submitted = ours.task(workload, "true")
    path = f"{submitted.collection}/task.json"
    document = json.loads(site.alice.read(path, ENOUGH))
    del document["version"]
    document.update(change)
    with pytest.raises((Refused, NotFound)):
        submit.submit(site.alice, site.configuration, document)
    if "output_collection" in change:
        return  # for the worker, only the place of the record matters
    site.alice.write(path, json.dumps({"version": 1, **document}).encode(), force=True)
    with site.working():
        facts = site.ended(submitted)
    assert facts["state"] == "FAILED"
    assert facts["reason_code"] in ("refused", "system_error")


def test_access_to_the_dataset_is_asked_for_each_task(ours: Workloads) -> None:
    site = ours.site
    site.bob.write("/tempZone/home/bob/data", b"bob's")
    site.bob.set_access("/tempZone/home/bob", ALICE, Access.READ_OBJECT)
    hidden, workload = ours.start(dataset="/tempZone/home/bob"), ours.start(dataset="/tempZone/home/bob")
    with site.working():
        assert ours.said(ours.task(hidden, "ls", "-A", "/input")) == "", "the sandbox has only what she may read"
        site.bob.set_access("/tempZone/home/bob/data", ALICE, Access.READ_OBJECT)
        assert ours.said(ours.task(workload, "cat", "/input/data")) == "bob's"
        site.bob.set_access("/tempZone/home/bob", ALICE, Access.NULL)
        facts = site.ended(ours.task(workload, "cat", "/input/data"))
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "refused")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"image": "not/allowed:1"}, "allowed images"),
        ({"instances": 0}, "instances"),
        ({"dataset": f"{HOME}/nothing"}, "nothing"),
        ({"environment": {"A B": "x"}}, "environment"),
        ({"limits": {"walltime": 5}}, "walltime"),
        ({"limits": {"pids": 1 << 40}}, "pids"),
        ({"resource": "no_such_resc"}, "no_such_resc"),
        ({"role": "NO_SUCH_ROLE"}, "NO_SUCH_ROLE"),
    ],
)
def test_an_invalid_workload_is_refused(ours: Workloads, change: dict[str, Any], expected: str) -> None:
    with pytest.raises((InvalidRequest, Refused, NotFound), match=expected):
        ours.start(**change)
    assert workloads.listed(ours.site.alice, ours.attributes, HOME) == ()


def test_two_tasks_at_once_make_one_dataset(ours: Workloads) -> None:
    workload = ours.start(dataset=ours.dataset([f"{number}" for number in range(50)]))
    submitted = [ours.shell(workload, "ls /input | wc -l") for _ in range(2)]
    with ours.site.working():
        assert {ours.said(one) for one in submitted} == {"50\n"}
        vault = ours.site.folder / "zone" / "vaults" / COMPUTE
        assert len(list(Path(vault).rglob(f"{workload.workload_id}/*/dataset"))) == 1


def test_a_shell_is_not_needed(docker_answers: None, tmp_path: Path) -> None:
    """Without a shell, each task has its own container, which is slower."""
    import io
    import uuid

    import docker

    name = f"compute-to-data/test-no-shell:{uuid.uuid4().hex[:12]}"
    client = docker.APIClient()
    build = f"FROM {IMAGE}\nRUN mv /bin/sh /bin/shell"
    try:
        said = list(client.build(fileobj=io.BytesIO(build.encode()), tag=name, rm=True, decode=True))
        assert client.images(name), said
        ours = Workloads(TrialSite(tmp_path, {"name": ENGINE}, name))
        workload = ours.start(image=name, dataset=ours.dataset(["one"]))
        script = "print(open('/input/one').read()); open('/output/got', 'w').write('x')"
        with ours.site.working():
            for _ in range(2):
                submitted = ours.task(workload, "python3", "-c", script)
                assert ours.said(submitted) == "content of one\n"
                assert ours.site.contents(submitted.collection)["got"] == b"x"
        assert ours.sandboxes() == 0
    finally:
        client.remove_image(name, force=True)
        client.close()


def test_the_next_task_starts_at_once(ours: Workloads) -> None:
    """Measured from the end of one program to the start of the next, in one sandbox."""
    workload = ours.start(instances=1)
    stamped = "date +%s.%N >/output/at"
    submitted = [ours.shell(workload, stamped) for _ in range(11)]
    with ours.site.working():
        for one in submitted:
            ours.said(one)
    at = sorted(float(ours.site.contents(one.collection)["at"]) for one in submitted)
    gaps = sorted(after - before for before, after in zip(at, at[1:]))
    assert gaps[len(gaps) // 2] < 0.2, "the engine does not poll"


def test_limits_are_recognised_in_a_warm_sandbox(ours: Workloads) -> None:
    workload = ours.start(limits={"output_bytes": 1 << 20})
    with ours.site.working():
        large = ours.shell(workload, "echo 1 > small; head -c 3000000 /dev/zero > big; exit 0")
        facts = ours.site.ended(large)
        again = ours.shell(workload, "ls -A /outputs /tmp")
        assert ours.said(again) == "/outputs:\n\n/tmp:\n"
    assert facts["reason_code"] == "output_limit", facts
    assert "limits.output_bytes" in facts["reason"]
    contents = ours.site.contents(large.collection)
    assert {name for name in contents if "/" in name} == {"failed/small"}


def test_a_checkpoint_in_a_warm_sandbox_is_kept(ours: Workloads) -> None:
    workload = ours.start(limits={"walltime_seconds": 2})
    with ours.site.working():
        assert ours.said(ours.shell(workload, "echo first")) == "first\n"
        submitted = ours.shell(workload, "echo 7 > checkpoint; exec sleep 60")
        facts = ours.site.ended(submitted)
    assert facts["reason_code"] == "walltime_exceeded", facts
    assert ours.site.contents(submitted.collection)["failed/checkpoint"] == b"7\n"
    assert ours.site.leftovers(submitted) == []
