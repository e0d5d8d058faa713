"""Guards that no other test needs: each test fails when its guard is removed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from support.faults import EngineWithTroubledJobs, Troubled
from support.jobs import held
from support.reading import ENOUGH
from support.site import BOB, COMPUTE, HOME, PATIENCE, WAITS, TrialSite, serving, wait_until

from compute_to_data.coordination import lock
from compute_to_data.documents import request
from compute_to_data.errors import InvalidRequest, Refused, ZoneError
from compute_to_data.inputs import claims, references
from compute_to_data.job import Exit, Job, JobKey
from compute_to_data.model import Access, Avu, Entity, EntityKind, Query
from compute_to_data.pipeline import journal
from compute_to_data.pipeline.checkpoint import Moment, required
from compute_to_data.pipeline.vault.outputs import inventory
from compute_to_data.records.state import State
from compute_to_data.submission import selection, submit

RESOURCE = Entity(EntityKind.RESOURCE, COMPUTE)


def scope(site: TrialSite) -> str:
    return lock.scope(site.configuration, "tempZone", COMPUTE)


def test_a_record_that_another_may_change_is_refused(site: TrialSite) -> None:
    submitted = site.submit(site.request("/bin/true"))
    site.alice.set_access(submitted.collection, BOB, Access.MODIFY_OBJECT)
    with site.working():
        facts = site.ended(submitted)
    assert facts["reason_code"] == "refused"
    assert "bob#tempZone" in facts["reason"]


def test_two_claims_at_the_same_instant_see_each_other(site: TrialSite) -> None:
    site.alice.create_collection(f"{HOME}/in")
    for name in "ab":
        site.alice.write(f"{HOME}/in/{name}", b"x")
    rival = Avu("claim", "rival", "elsewhere")
    contested = Entity(EntityKind.DATA_OBJECT, f"{HOME}/in/a")

    def claim_first(annotate, entity, *, add=(), remove=()):  # type: ignore[no-untyped-def]
        if entity == contested and add:
            site.alice.annotate(contested, add=[rival])
        annotate(entity, add=add, remove=remove)

    mine = Avu("claim", "mine", "here")
    won = claims.claim_next(Troubled(site.alice, annotate=claim_first), f"{HOME}/in", mine)  # type: ignore[arg-type]
    assert won.logical_path == f"{HOME}/in/b"
    assert site.alice.avus(contested) == (rival,)


def test_a_replica_that_is_a_link_is_refused(site: TrialSite) -> None:
    site.alice.write(f"{HOME}/a", b"x", resource=COMPUTE)
    site.make_a_link(f"{HOME}/a", "/etc/hostname")
    facts = site.run(site.request("/bin/cp", "/inputs/a", "/outputs/b", inputs=[f"{HOME}/a"]))
    assert facts["state"] == "FAILED"
    assert "not a regular file" in facts["reason"]
    assert set(site.contents(facts["collection"])) <= {"task.json", "STDERR.txt"}


def test_a_replicated_input_is_read_back(site: TrialSite) -> None:
    site.alice.write(f"{HOME}/a", b"x", resource="demoResc")
    verified = []

    def note(verify, data_object, number):  # type: ignore[no-untyped-def]
        verified.append(data_object)
        return verify(data_object, number)

    facts = site.run(site.request("/bin/true", inputs=[f"{HOME}/a"]), storage=Troubled(site.storage, verify=note))  # type: ignore[arg-type]
    assert facts["state"] == "COMPLETED"
    assert verified == [f"{HOME}/a"]


def test_two_tasks_stage_one_input_once(site: TrialSite) -> None:
    """On iRODS, the second task would otherwise find the data object locked, and fail."""
    site.alice.write(f"{HOME}/a", b"x", resource="demoResc")
    begun: list[str] = []

    def slowly(replicate, data_object, resource):  # type: ignore[no-untyped-def]
        begun.append(data_object)
        deadline = time.monotonic() + 1
        while len(begun) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        return replicate(data_object, resource)

    request = site.request("/bin/true", inputs=[f"{HOME}/a"])
    submitted = [site.submit(request) for _ in range(2)]
    with site.working(storage=Troubled(site.storage, replicate=slowly)):  # type: ignore[arg-type]
        assert [site.ended(one)["state"] for one in submitted] == ["COMPLETED", "COMPLETED"]
    assert begun == [f"{HOME}/a"]


def test_a_sign_of_life_goes_stale(site: TrialSite) -> None:
    configuration = site.configure(worker={"on_demand": False})
    attribute = "irods::compute_to_data::worker"
    assert not selection.has_worker(site.alice, configuration, COMPUTE)
    now = int(time.time())
    fresh, stale = (Avu(attribute, "host:1", str(when)) for when in (now, now - 3600))
    site.storage.catalog.annotate(RESOURCE, add=[stale])
    assert not selection.has_worker(site.alice, configuration, COMPUTE)
    with pytest.raises(Refused, match="no live worker"):
        submit.submit(site.alice, configuration, site.request("/bin/true"))
    site.storage.catalog.annotate(RESOURCE, add=[fresh])
    assert selection.has_worker(site.alice, configuration, COMPUTE)


def test_a_worker_shows_its_sign_of_life_and_takes_it_away(site: TrialSite) -> None:
    configuration = site.configure(worker={"on_demand": False})
    with site.working():
        wait_until(lambda: selection.has_worker(site.alice, configuration, COMPUTE), "a sign of life")
    assert not selection.has_worker(site.alice, configuration, COMPUTE)


def test_a_worker_on_demand_that_leaves_removes_nothing_of_the_next_worker(
    site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one may begin as soon as the lock is free, while the first is still leaving."""
    first, next_one = site.worker(), site.worker()
    release = first._lock.release

    def shown() -> tuple[int, int]:
        avus = [avu.attribute for avu in site.alice.avus(RESOURCE)]
        return tuple(avus.count(f"irods::compute_to_data::{name}") for name in ("worker", "offer"))  # type: ignore[return-value]

    with contextlib.ExitStack() as stack:

        def released() -> None:
            release()
            if not started:
                started.append(True)
                stack.enter_context(serving(next_one))
                wait_until(lambda: all(shown()), "the next one's sign of life and offers")

        started: list[bool] = []
        monkeypatch.setattr(first._lock, "release", released)
        first.serve(on_demand=True)
        assert started and all(shown()), shown()
    assert shown() == (0, 0)


def test_a_worker_on_demand_stays_while_it_cannot_see_what_waits(site: TrialSite) -> None:
    """The worker has released the lock, and the zone does not answer whether a new task waits."""
    asked: list[str] = []
    submitted = []

    def find(original: Any, query: Query, **more: Any) -> Any:
        if not lock.ResourceLock(site.configuration, "tempZone", COMPUTE).is_held() and not asked:
            asked.append(str(query.value))
            submitted.append(site.submit(site.request("/bin/true")))
            raise ZoneError("the zone", "does not answer")
        return original(query, **more)

    site.worker(storage=Troubled(site.storage, find=find, count_by_owner=find)).serve(on_demand=True)  # type: ignore[arg-type]
    assert asked == ["QUEUED"]
    assert site.record(submitted[0]).state() is State.COMPLETED


def test_jobs_without_a_task_are_removed_at_the_start(site: TrialSite, tmp_path: Path) -> None:
    outputs = tmp_path / "foreign"
    site.engine.prepare(str(outputs))
    image = site.engine.identify("tools")
    job = Job(
        JobKey("nobodys.1"),
        site.alice.user,
        scope(site),
        image,
        ("/bin/sleep", "60"),
        site.configuration.default_limits,
        str(outputs),
        str(tmp_path / "log"),
    )
    site.engine.submit(job)
    with site.working():
        wait_until(lambda: not site.engine.jobs(scope(site)), "the foreign job to go")


def test_journals_without_a_task_are_removed_at_the_start(site: TrialSite) -> None:
    folder = journal.folder_of(site.configuration.worker.state_directory, scope(site))
    foreign = journal.Journal(folder, JobKey("nobodys.1"), 1.0)
    foreign.save(foreign.checkpoint)
    waiting = site.submit(site.request("/bin/true"))
    with site.working():
        assert site.ended(waiting)["state"] == "COMPLETED"
    assert os.listdir(folder) == []


def test_the_journal_of_an_earlier_task_of_that_name_is_ignored(tmp_path: Path) -> None:
    first = journal.Journal(str(tmp_path), JobKey("id.1"), made=1.0)
    first.save(dataclasses.replace(first.checkpoint, exit=Exit(0, False, 1.0, 2.0)))
    assert journal.Journal(str(tmp_path), JobKey("id.1"), made=1.0).found is not None
    second = journal.Journal(str(tmp_path), JobKey("id.1"), made=2.0)
    assert second.found is None
    assert second.checkpoint.exit is None
    assert second.checkpoint.token != first.checkpoint.token


def test_a_job_that_keeps_getting_lost_fails_in_the_end(site: TrialSite) -> None:
    submitted = site.submit(site.request("/bin/sleep", "60"))
    for _ in range(site.configuration.worker.attempts):
        with site.working():
            wait_until(lambda: site.engine.jobs(scope(site)), "a job")
            wait_until(lambda: site.record(submitted).state() is State.RUNNING, "the task to run")
        for job in site.engine.jobs(scope(site)):
            site.engine.remove(job)
    with site.working():
        facts = site.ended(submitted)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "system_error")
    assert "lost 3 times" in facts["reason"]


def test_a_job_that_exceeded_its_walltime_without_a_worker_fails(site: TrialSite) -> None:
    submitted = site.submit(site.request("/bin/sh", "-c", WAITS, limits={"walltime_seconds": 600}))
    with site.working():
        site.outputs(submitted)
    (job,) = site.engine.jobs(scope(site))
    site.let_go(submitted)
    assert held(site.engine, job).wait(PATIENCE) is not None
    noted = journal.Journal(journal.folder_of(site.configuration.worker.state_directory, scope(site)), job, None)
    boot, seconds = required(noted.checkpoint.began, "began")
    an_hour_ago = Moment(boot, seconds - 3600)  # as if an hour had passed, on both clocks
    noted.save(dataclasses.replace(noted.checkpoint, began=an_hour_ago))

    def overdue(original: Any) -> Any:
        status = original()
        ended = status.exit and dataclasses.replace(status.exit, finished=status.exit.started + 3600)
        return dataclasses.replace(status, exit=ended)

    with site.working(engine=EngineWithTroubledJobs(site.engine, status=overdue)):  # type: ignore[arg-type]
        facts = site.ended(submitted)
    assert facts["reason_code"] == "walltime_exceeded"


def test_the_resource_that_holds_the_input_is_preferred(site: TrialSite) -> None:
    for name in ("a_resc", "z_resc"):
        site.zone.add_resource(name)
        site.give_role(name, "CONTAINER")
    site.alice.write(f"{HOME}/a", b"x" * 100, resource="z_resc")
    document = site.request("/bin/true", inputs=[f"{HOME}/a"], role="CONTAINER")
    del document["resource"]
    submitted = site.submit(document)
    assert submitted.resource == "z_resc"
    assert "100 of 100" in submitted.choice
    site.alice.write(f"{HOME}/b", b"x", resource="demoResc")
    assert site.submit({**document, "inputs": [f"{HOME}/b"]}).resource == "a_resc", (
        "otherwise the first of those with the fewest tasks"
    )


def test_a_request_changed_while_it_is_sealed_is_noticed(site: TrialSite) -> None:
    def change(read, path, most_bytes):  # type: ignore[no-untyped-def]
        return read(path, most_bytes).replace(b"/bin/true", b"/bin/evil")

    before = site.snapshot()
    with pytest.raises(Refused, match="changed by another user"):
        site.submit(site.request("/bin/true"), catalog=Troubled(site.alice, read=change))  # type: ignore[arg-type]
    assert site.snapshot() == before


def test_users_cannot_set_attributes_of_the_system(site: TrialSite) -> None:
    configuration = site.configure(attributes={"prefix": "c2d", "claim": "claimed"})
    for attribute in ("c2d::state", "claimed"):
        document = site.request("/bin/true", metadata=[{"attribute": attribute, "value": "x"}])
        with pytest.raises(InvalidRequest, match=attribute):
            submit.submit(site.alice, configuration, document)


def test_a_collection_of_too_many_inputs_is_refused(site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "MOST_INPUTS", 3)
    site.alice.create_collection(f"{HOME}/in")
    for name in "abcd":
        site.alice.write(f"{HOME}/in/{name}", b"x")
    with pytest.raises(InvalidRequest, match="found 4 inputs, expected at most 3"):
        site.submit(site.request("/bin/true", inputs=[{"collection": f"{HOME}/in"}]))


def test_with_many_inputs_only_the_collection_names_them(site: TrialSite) -> None:
    site.alice.create_collection(f"{HOME}/in")
    for number in range(40):
        site.alice.write(f"{HOME}/in/{number}", b"x", resource=COMPUTE)
    facts = site.run(site.request("/bin/sh", "-c", "echo > /outputs/o", inputs=[{"collection": f"{HOME}/in"}]))
    assert facts["state"] == "COMPLETED", facts
    named = [
        sum(avu.attribute.endswith("::input") for avu in site.alice.avus(Entity(kind, name)))
        for kind, name in (
            (EntityKind.COLLECTION, facts["collection"]),
            (EntityKind.DATA_OBJECT, f"{facts['collection']}/o"),
        )
    ]
    assert named == [40, 0]


def test_set_user_id_bits_do_not_stay_in_a_vault(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"x")
    program.chmod(0o6755)
    inventory(str(tmp_path), "/z/out", size_limit=10, file_limit=10, reserved=frozenset())
    assert program.stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(("sizes", "files"), [((6, 6), 10), ((1, 1, 1), 2)], ids=["bytes", "files"])
def test_outputs_past_a_limit_at_the_end_are_refused(tmp_path: Path, sizes: tuple[int, ...], files: int) -> None:
    for number, size in enumerate(sizes):
        (tmp_path / str(number)).write_bytes(b"x" * size)
    with pytest.raises(Exception, match="more than"):
        inventory(str(tmp_path), "/z/out", size_limit=10, file_limit=files, reserved=frozenset())


def test_the_recorded_request_is_the_one_that_was_made(site: TrialSite) -> None:
    document = site.request("/bin/true", name="n", metadata=[{"attribute": "a", "value": "b"}])
    submitted = site.submit(document)
    recorded = json.loads(site.alice.read(f"{submitted.collection}/task.json", ENOUGH))
    assert recorded.pop("version") == 1
    assert request.parse(recorded) == request.parse(document)
