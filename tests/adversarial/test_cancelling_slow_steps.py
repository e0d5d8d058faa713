"""Users who cancel a task whose worker is in the middle of something slow: the task ends, the slot is free, and nothing
half done is left. What is slow here goes on until the test has seen the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.faults import StorageWithTroubledSessions, Troubled
from support.reading import ENOUGH
from support.real_docker import ENGINE, IMAGE
from support.site import COMPUTE, HOME, PATIENCE, TrialSite, wait_until

from compute_to_data.coordination import wakeup
from compute_to_data.disk_usage import Usage
from compute_to_data.engines.process import ProcessEngine
from compute_to_data.errors import Cancelled
from compute_to_data.model import Avu, DataObject, Entity, EntityKind, Query
from compute_to_data.pipeline import left_behind, watch_job
from compute_to_data.pipeline.interruption import CancelRequests, Interruption
from compute_to_data.pipeline.replication.replicas import InUse
from compute_to_data.pipeline.replication.transfers import Transfers
from compute_to_data.pipeline.results import stage_out
from compute_to_data.pipeline.vault import removal, survey, workspace
from compute_to_data.records.state import State
from compute_to_data.submission.submit import Submitted
from compute_to_data.worker import requests
from compute_to_data.worker.watcher import HELPER_THREADS

CANCEL = "irods::compute_to_data::cancel"
LONG = "while :; do sleep 0.05; done"
HEARD = 2.0
SLACK = 13.0
"""Seconds that a busy machine may take besides."""
LTS = "lts_resc"


def cancel(site: TrialSite, submitted: Submitted) -> None:
    entity = Entity(EntityKind.COLLECTION, submitted.collection)
    site.alice.annotate(entity, add=[Avu(CANCEL, "alice#tempZone", COMPUTE)])


@dataclass
class Slow:
    """Operations of the zone that go on until :meth:`end`. ``begun``: how many have begun."""

    begun: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def __call__(self, original: Callable[..., Any], *args: Any, **more: Any) -> Any:
        self.begun += 1
        assert self.over.wait(PATIENCE), "the test has not ended"
        return original(*args, **more)

    def end(self) -> None:
        self.over.set()


@pytest.fixture
def slow() -> Iterator[Slow]:
    slow = Slow()
    yield slow
    slow.end()


def one_slot(site: TrialSite, **more: Any) -> None:
    engine = {"name": "process", "images": {"tools": str(site.folder / "tools")}}
    site.configuration = site.configure(engine=engine, worker={"slots": 1}, **more)


def replicas(site: TrialSite, logical_path: str) -> set[str]:
    found = site.alice.stat(logical_path)
    assert isinstance(found, DataObject)
    return {replica.root for replica in found.replicas}


def ends_soon(site: TrialSite, submitted: Submitted) -> dict[str, str]:
    """Cancel a task; its facts when it has ended in time."""
    began = time.monotonic()
    cancel(site, submitted)
    facts = site.ended(submitted)
    assert time.monotonic() - began < HEARD + SLACK
    assert (facts["state"], facts["reason_code"]) == ("CANCELLED", "cancelled"), facts
    return facts


@pytest.mark.parametrize("operation", ["replicate", "verify"])
def test_while_an_input_is_transferred(site: TrialSite, slow: Slow, operation: str) -> None:
    one_slot(site)
    site.alice.write(f"{HOME}/a", b"x", resource="demoResc")
    submitted = site.submit(site.request("/bin/true", inputs=[f"{HOME}/a"]))
    with site.working(storage=Troubled(site.storage, **{operation: slow})):  # type: ignore[arg-type]
        wait_until(lambda: slow.begun, "the transfer")
        ends_soon(site, submitted)
        other = site.submit(site.request("/bin/true"))
        assert site.ended(other)["state"] == "COMPLETED", "the slot is free while the transfer goes on"
        slow.end()
        wait_until(lambda: replicas(site, f"{HOME}/a") == {"demoResc"}, "the replica to be trimmed")
        wait_until(lambda: not list((site.folder / "state").rglob("*.transfers/*")), "the note to go")
    assert site.leftovers(submitted) == []


def test_a_task_behind_a_transfer_that_is_left_to_itself(site: TrialSite, slow: Slow) -> None:
    """The first task leaves its transfer, the second one waits for it in vain, the third one uses its replica."""
    site.alice.write(f"{HOME}/a", b"x", resource="demoResc")
    first, second, third = (site.submit(site.request("/bin/cat", "/inputs/a", inputs=[f"{HOME}/a"])) for _ in range(3))
    with site.working(storage=Troubled(site.storage, replicate=slow)):  # type: ignore[arg-type]
        states = [site.record(one).state for one in (first, second, third)]
        wait_until(lambda: slow.begun and any(state() is State.STAGING_IN for state in states), "the transfer")
        ends_soon(site, first)
        ends_soon(site, second)
        assert slow.begun == 1
        slow.end()
        assert site.ended(third)["state"] == "COMPLETED"


def test_a_worker_trims_what_a_killed_one_left_to_itself(site: TrialSite, slow: Slow) -> None:
    site.alice.write(f"{HOME}/a", b"x", resource="demoResc")
    folder = str(site.folder / "state" / "tasks" / "scope")
    killed = Transfers(Troubled(site.storage, replicate=slow), InUse(), folder, 1)  # type: ignore[arg-type]
    requests = CancelRequests()

    def confirm() -> None:
        raise Cancelled("task", "cancelled")

    task = Interruption(requests, "/z/task", confirm)
    left = threading.Thread(target=lambda: (wait_until(lambda: slow.begun, "it"), requests.answer(["/z/task"])))
    left.start()
    with pytest.raises(Cancelled), killed.alone(f"{HOME}/a", task):
        killed.transfer(f"{HOME}/a", COMPUTE, task)
    left.join()
    assert killed.trim_later(f"{HOME}/a", COMPUTE)
    site.storage.replicate(f"{HOME}/a", COMPUTE)  # the server finishes what the killed worker asked for
    Transfers(site.storage, InUse(), folder, 1).settle()
    assert replicas(site, f"{HOME}/a") == {"demoResc"}
    assert list((site.folder / "state").rglob("*.transfers/*")) == []


def answered(site: TrialSite) -> tuple[Any, Callable[[], None]]:
    """A storage that counts the worker's answers about requests to cancel, and a wait for the next one that begins
    from now."""
    answers: list[int] = []

    def find(original: Any, query: Query) -> Any:
        found = original(query)
        if query.attribute == CANCEL:
            answers.append(len(found))
        return found

    def wait() -> None:
        seen = len(answers)
        wait_until(lambda: len(answers) > seen + 3, "the worker to ask")

    return find, wait


@pytest.mark.parametrize("operation", ["register", "annotate_all", "create_collection"])
def test_while_many_results_are_registered(site: TrialSite, monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    monkeypatch.setattr(stage_out, "_AT_ONCE", 1)
    find, wait = answered(site)
    script = "for n in 1 2 3 4 5 6 7 8 9; do mkdir /outputs/d$n; echo $n >/outputs/d$n/f; done"
    submitted = site.submit(site.request("/bin/sh", "-c", script, on_failure="discard"))
    asked: list[Any] = []

    def first_is_slow(original: Any, *args: Any, **more: Any) -> Any:
        asked.append(args)
        result = original(*args, **more)
        if len(asked) == 1:
            cancel(site, submitted)
            wait()
        return result

    storage = StorageWithTroubledSessions(Troubled(site.storage, find=find), **{operation: first_is_slow})
    with site.working(storage=storage):  # type: ignore[arg-type]
        facts = site.ended(submitted)
    assert facts["state"] == "CANCELLED", facts
    names = [str(args) for args in asked]
    assert len([one for one in names if "/d" in one]) <= 2, "the worker stops after the piece it is in"
    assert set(site.contents(submitted.collection)) <= {"task.json", "STDOUT.txt", "STDERR.txt", "LOG.times"}
    assert site.leftovers(submitted) == []


def test_while_a_sparse_file_is_read(site: TrialSite) -> None:
    """A program that writes nothing may make a file that takes minutes to read."""
    limits = {"default": {"output_bytes": 200 << 30}, "maximum": {"output_bytes": 200 << 30}}
    one_slot(site, limits=limits)
    submitted = site.submit(site.request("/bin/sh", "-c", "truncate -s 100G /outputs/hole; echo 1 >/outputs/one"))
    with site.working():
        jobs = site.folder / "state" / "jobs"
        wait_until(lambda: list(jobs.rglob("exit.json")), "the job's end")
        ends_soon(site, submitted)
    assert site.alice.read(f"{submitted.collection}/failed/one", ENOUGH) == b"1\n"
    hole = site.alice.stat(f"{submitted.collection}/failed/hole")
    assert isinstance(hole, DataObject)
    assert (hole.replicas[0].size, hole.replicas[0].checksum) == (100 << 30, "")


def test_a_hole_beyond_the_limit_is_not_read(site: TrialSite) -> None:
    """A sparse file counts with its size, whatever it takes from the disk."""
    one_slot(site, limits={"default": {"output_bytes": 1 << 30}})
    began = time.monotonic()
    facts = site.run(site.request("/bin/sh", "-c", "truncate -s 1T /outputs/hole"))
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "output_limit"), facts
    assert time.monotonic() - began < 10


def test_while_all_helpers_of_the_watcher_look_at_large_trees(site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []

    def endless(engine: ProcessEngine, directory: str, bytes_: int, entries: int, stop: Callable[[], bool]) -> Usage:
        looks.append(directory)
        wait_until(stop, "the look to be ended")
        return Usage(0, 0, is_whole=False)

    monkeypatch.setattr(ProcessEngine, "measure", endless)
    engine = {"name": "process", "images": {"tools": str(site.folder / "tools")}}
    site.configuration = site.configure(engine=engine, worker={"slots": HELPER_THREADS + 2})
    tasks = [site.submit(site.request("/bin/sh", "-c", LONG)) for _ in range(HELPER_THREADS + 2)]
    with site.working():
        wait_until(lambda: len(looks) == HELPER_THREADS, "all helpers to be busy")
        for one in tasks:
            ends_soon(site, one)


def test_a_walltime_while_all_helpers_of_the_watcher_look_at_large_trees(
    site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(engine: ProcessEngine, directory: str, bytes_: int, entries: int, stop: Callable[[], bool]) -> Usage:
        wait_until(stop, "the look to be ended")
        return Usage(0, 0, is_whole=False)

    monkeypatch.setattr(ProcessEngine, "measure", endless)
    with site.working():
        submitted = site.submit(site.request("/bin/sh", "-c", LONG, limits={"walltime_seconds": 1}))
        began = time.monotonic()
        facts = site.ended(submitted)
    assert facts["reason_code"] == "walltime_exceeded"
    assert time.monotonic() - began < 1 + HEARD + SLACK


def test_tasks_that_wait_for_a_slot_of_a_slow_one(site: TrialSite, slow: Slow) -> None:
    """Also those that an earlier worker began."""
    one_slot(site)
    site.alice.write(f"{HOME}/a", b"x", resource="demoResc")
    request = site.request("/bin/true", inputs=[f"{HOME}/a"])
    begun = [site.submit(request) for _ in range(2)]
    for one in begun:
        site.record(one).move_to(State.STAGING_IN)
    queued = site.submit(request)
    with site.working(storage=Troubled(site.storage, replicate=slow)):  # type: ignore[arg-type]
        wait_until(lambda: slow.begun, "the transfer")
        (waits,) = [one for one in begun if not _is_staging(site, one)] or [begun[1]]
        for one in (queued, waits):
            ends_soon(site, one)
        slow.end()


def _is_staging(site: TrialSite, submitted: Submitted) -> bool:
    return "staged" in site.record(submitted).facts()


def test_many_at_once_while_every_slot_is_busy(site: TrialSite) -> None:
    one_slot(site)
    busy = site.submit(site.request("/bin/sh", "-c", LONG))
    unwanted = [site.submit(site.request("/bin/true")) for _ in range(60)]
    with site.working():
        wait_until(lambda: site.record(busy).state() is State.RUNNING, "the slot to be busy")
        began = time.monotonic()
        for one in unwanted:
            cancel(site, one)
        for one in unwanted:
            assert site.ended(one)["state"] == "CANCELLED"
        assert time.monotonic() - began < HEARD + 60 * 0.1
        ends_soon(site, busy)


@pytest.fixture
def moving(tmp_path: Path) -> TrialSite:
    (tmp_path / "tools").mkdir()
    engine = {"name": "process", "images": {"tools": str(tmp_path / "tools")}}
    roles = {"CONTAINER": {"results_to": "LONG_TERM_STORAGE"}}
    site = TrialSite(tmp_path, engine, "tools", roles=roles, worker={"slots": 1})
    site.zone.add_resource(LTS)
    site.give_role(LTS, "LONG_TERM_STORAGE")
    return site


def test_while_results_move_to_long_term_storage(moving: TrialSite, slow: Slow) -> None:
    """Undoing waits for the transfer, without a slot: until then, the zone keeps the results locked."""
    site = moving
    submitted = site.submit(site.request("/bin/sh", "-c", "echo 1 >/outputs/one"))
    with site.working(storage=Troubled(site.storage, replicate=slow)):  # type: ignore[arg-type]
        wait_until(lambda: slow.begun, "the transfer")
        began = time.monotonic()
        cancel(site, submitted)
        wait_until(lambda: site.record(submitted).facts().get("ending") == "CANCELLED", "the decision")
        assert time.monotonic() - began < HEARD + SLACK
        other = site.submit(site.request("/bin/sh", "-c", "exit 3"))
        assert site.ended(other)["state"] == "FAILED", "the slot is free"
        assert not (site.record(submitted).state() or State.QUEUED).is_final
        slow.end()
        assert site.ended(submitted)["state"] == "CANCELLED"
    assert site.contents(submitted.collection)["failed/one"] == b"1\n"
    assert replicas(site, f"{submitted.collection}/failed/one") == {COMPUTE}
    assert site.leftovers(submitted) == []
    assert not list((site.folder / "zone" / "vaults" / LTS).rglob("one"))


def test_an_answer_that_the_record_contradicts_is_asked_once(site: TrialSite) -> None:
    """A step of many pieces does not ask the zone for each of them."""
    requests = CancelRequests()
    confirmed: list[int] = []
    task = Interruption(requests, "/z/task", lambda: confirmed.append(1))
    requests.answer(["/z/task"])
    for _ in range(1000):
        task.check()
    assert len(confirmed) == 1
    requests.answer(["/z/task"])
    task.check()
    assert len(confirmed) == 2


MOVER = """
import os
os.chdir("/outputs")
for top in range(40):
    os.makedirs(f"t{top}/d")
    for n in range(150):
        open(f"t{top}/d/{n}", "w").close()
print("ready", flush=True)
turn = 0
while True:
    for top in range(40):
        os.rename(f"t{top}/d", f"t{top}/e")
        os.rename(f"t{top}/e", f"t{(top + 1) % 40}/e{turn}")
        os.rename(f"t{(top + 1) % 40}/e{turn}", f"t{top}/d")
        turn += 1
"""


@pytest.mark.docker
def test_while_directories_move_ahead_of_the_worker(docker_answers: None, tmp_path: Path) -> None:
    """More of them than the watcher has helpers."""
    limits = {"default": {"output_files": 10_000, "memory_bytes": 64 << 20}}
    site = TrialSite(tmp_path, {"name": ENGINE}, IMAGE, limits=limits, worker={"slots": HELPER_THREADS + 1})
    tasks = [site.submit(site.request("python3", "-c", MOVER)) for _ in range(HELPER_THREADS + 1)]
    with site.working():
        out = site.folder / "zone" / "vaults" / COMPUTE / "home" / "alice" / "out"
        wait_until(
            lambda: sum(b"ready" in log.read_bytes() for log in out.glob("*/*/LOG")) == len(tasks), "all to be ready"
        )
        ends_soon(site, tasks[0])
        for one in tasks[1:]:
            cancel(site, one)
        assert {site.ended(one)["state"] for one in tasks} == {"CANCELLED"}


MANY = f"mkdir /outputs/d; cd /outputs/d; touch 1 2 3 4 5 6 7 8 9; touch /outputs/ready; {LONG}"


def _left_many(site: TrialSite) -> Submitted:
    """A running task that has left many files."""
    submitted = site.submit(site.request("/bin/sh", "-c", MANY, on_failure="discard"))
    wait_until(lambda: list((site.folder / "zone" / "vaults").rglob("ready")), "the files")
    return submitted


def test_many_files_are_removed_after_the_end(site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Removing a hundred thousand took two minutes, for which the user waited."""
    seen, original = threading.Event(), workspace.discard_all_but

    def slow(directory: str, kept: Any) -> None:
        assert seen.wait(PATIENCE), "the test has not ended"
        original(directory, kept)

    monkeypatch.setattr(removal, "_FEW", 3)
    monkeypatch.setattr(workspace, "discard_all_but", slow)
    with site.working():
        submitted = _left_many(site)
        cancel(site, submitted)
        assert site.ended(submitted)["state"] == "CANCELLED"
        assert site.leftovers(submitted) != []
        seen.set()
        wait_until(lambda: site.leftovers(submitted) == [], "the files to go")
        wait_until(lambda: not list((site.folder / "state").rglob("*.removals/*")), "the note to go")


def test_a_worker_removes_what_a_killed_one_has_not(site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "_FEW", 3)
    with monkeypatch.context() as killed:
        killed.setattr(removal, "remove", lambda *_: None)
        with site.working():
            submitted = _left_many(site)
            cancel(site, submitted)
            assert site.ended(submitted)["state"] == "CANCELLED"
    assert site.leftovers(submitted) != []
    with site.working():
        wait_until(lambda: site.leftovers(submitted) == [], "the files to go")
        wait_until(lambda: not list((site.folder / "state").rglob("*.removals/*")), "the note to go")


def test_what_is_kept_stays_when_the_rest_is_removed_later(site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "_FEW", 3)
    monkeypatch.setattr(left_behind, "_MOST_OF_CANCELLED", 4)
    with site.working():
        submitted = site.submit(site.request("/bin/sh", "-c", MANY))
        wait_until(lambda: list((site.folder / "zone" / "vaults").rglob("ready")), "the files")
        cancel(site, submitted)
        facts = site.ended(submitted)
        wait_until(lambda: site.leftovers(submitted) == [], "the others to go")
    kept = [name for name in site.contents(submitted.collection) if name.startswith("failed/")]
    assert (facts["state"], len(kept)) == ("CANCELLED", 4), facts


def test_a_call_of_the_worker_lets_it_ask_at_once(site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    for where, name in ((watch_job, "QUESTION_EVERY"), (requests, "_LONGEST_PAUSE")):
        monkeypatch.setattr(where, name, 10 * PATIENCE)
    submitted = site.submit(site.request("/bin/sh", "-c", LONG))
    with site.working():
        wait_until(lambda: site.record(submitted).state() is State.RUNNING, "the job to run")
        cancel(site, submitted)
        wakeup.call_worker(site.configuration, site.storage.zone, COMPUTE)
        assert site.ended(submitted)["state"] == "CANCELLED"


def test_a_task_that_will_be_tried_again_is_not_also_claimed_as_one_that_has_not_begun(site: TrialSite) -> None:
    """The main thread did not take up a claimed task, and forgot it: it never ended."""
    worker = site.worker()
    worker._retries.put("/z/tried", has_job=False)
    ended: list[str] = []
    worker._requests._end = ended.append
    worker._requests._end_queued(["/z/tried", "/z/queued"])
    worker._requests._enders.shutdown()
    assert ended == ["/z/queued"]


def test_a_user_who_cancels_many_queued_tasks_does_not_delay_another(site: TrialSite) -> None:
    worker = site.worker()
    ended: list[str] = []
    worker._requests._end = ended.append
    go = threading.Event()
    for _ in range(requests._ENDING_THREADS):
        worker._requests._enders.submit(go.wait, PATIENCE)
    alices = [f"/z/home/alice/out{number}/task" for number in range(200)]
    worker._requests._end_queued([*alices, "/z/home/bob/out/task"])
    go.set()
    worker._requests._enders.shutdown()
    assert sorted(ended) == sorted([*alices, "/z/home/bob/out/task"])
    assert ended.index("/z/home/bob/out/task") <= 2 * requests._ENDING_THREADS


def test_calls_without_end_do_not_make_the_worker_ask_without_end() -> None:
    assert requests._pause(requests._SHORTEST_PAUSE, 0.0) == requests._SHORTEST_PAUSE
    assert requests._pause(requests._SHORTEST_PAUSE, 0.02) == pytest.approx(0.4)
    assert requests._pause(requests._SHORTEST_PAUSE, 60.0) == requests._LONGEST_PAUSE


def test_a_survey_of_a_large_tree_is_left(tmp_path: Path) -> None:
    """Of as many entries as a task may write, it takes seconds."""
    for number in range(2 * survey._BETWEEN):
        (tmp_path / str(number)).touch()

    def confirm() -> None:
        raise Cancelled("task", "cancelled")

    with pytest.raises(Cancelled):
        survey.survey(str(tmp_path), "/z/task", most=10_000, between=confirm)
    found = survey.survey(str(tmp_path), "/z/task", most=10_000, between=lambda: True)
    assert (len(found.files), found.is_whole) == (survey._BETWEEN - 1, False)


def test_parts_to_register_get_smaller_where_the_zone_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(left_behind, "time", SimpleNamespace(monotonic=lambda: now[0]))
    sizes = []
    for part in left_behind._in_time(range(1000), lambda: now[0] > 3.0):
        sizes.append(len(part))
        now[0] += 0.01 * len(part)
    assert sizes[:2] == [left_behind._AT_ONCE, 10]
    assert sum(sizes) < 400
