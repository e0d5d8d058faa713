"""Users who may cancel a task can do so in any state, and nothing of the task is left."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from support.faults import EngineWithTroubledJobs, StorageWithTroubledSessions, Troubled
from support.jobs import remains
from support.site import ALICE, BOB, COMPUTE, HOME, PATIENCE, RODS, TrialSite, wait_until

from compute_to_data.configuration import WorkerSettings
from compute_to_data.errors import AccessDenied, Refused, ZoneError
from compute_to_data.job import JobKey
from compute_to_data.model import Access, Avu, Entity, EntityKind, Query
from compute_to_data.records.cancel import request_cancel
from compute_to_data.records.state import State
from compute_to_data.submission.submit import Submitted

CANCEL = "irods::compute_to_data::cancel"
LONG = 'trap "" TERM; echo began; while :; do sleep 0.1; done'


def request(who: str = "alice#tempZone", units: str = COMPUTE) -> Avu:
    return Avu(CANCEL, who, units)


def cancel(site: TrialSite, submitted: Submitted, units: str = COMPUTE, catalog: Any = None) -> None:
    entity = Entity(EntityKind.COLLECTION, submitted.collection)
    (catalog or site.alice).annotate(entity, add=[request(units=units)])


def state(site: TrialSite, submitted: Submitted) -> str:
    return site.record(submitted).facts()["state"]


def check_cancelled(site: TrialSite, submitted: Submitted, facts: dict[str, str]) -> None:
    assert (facts["state"], facts["reason_code"], facts["error_code"]) == ("CANCELLED", "cancelled", "-344000")
    assert "cancelled by alice#tempZone" in facts["reason"]
    assert "cancel" not in facts, "the request is removed when it is done"
    contents = site.contents(submitted.collection)
    assert {name for name in contents if not name.startswith("failed/")} <= {"task.json", "STDOUT.txt", "LOG.times"}
    assert site.leftovers(submitted) == []
    assert not any(submitted.task_id in job.text for job in site.engine.jobs(site.worker()._served.scope))


def one_slot(site: TrialSite) -> None:
    site.configuration = site.configure(
        engine={"name": "process", "images": {"tools": str(site.folder / "tools")}}, worker={"slots": 1}
    )


def test_queued_tasks_end_while_every_slot_is_busy(site: TrialSite) -> None:
    one_slot(site)
    site.alice.write(f"{HOME}/a", b"a", resource="demoResc")
    busy = site.submit(site.request("/bin/sh", "-c", LONG))
    behind, later, last = (site.submit(site.request("/bin/true", inputs=[f"{HOME}/a"])) for _ in range(3))
    before = site.snapshot(without=f"{HOME}/out")
    with site.working():
        wait_until(lambda: state(site, busy) == "RUNNING", "the slot to be busy")
        for one in (last, behind):
            cancel(site, one)
        for one in (last, behind):
            facts = site.ended(one)
            check_cancelled(site, one, facts)
            assert not {"staging_in_at", "running_at", "attempt"} & set(facts), "the task never began"
        assert state(site, later) == "QUEUED", "other tasks stay queued"
        assert site.snapshot(without=f"{HOME}/out") == before, "nothing was staged"
        cancel(site, busy)
        check_cancelled(site, busy, site.ended(busy))
        assert site.ended(later)["state"] == "COMPLETED"


def test_many_queued_tasks_end(site: TrialSite) -> None:
    one_slot(site)
    busy = site.submit(site.request("/bin/sh", "-c", LONG))
    unwanted = [site.submit(site.request("/bin/true")) for _ in range(40)]
    for one in unwanted:
        cancel(site, one)
    with site.working():
        wait_until(lambda: state(site, busy) == "RUNNING", "the slot to be busy")
        assert {site.ended(one)["state"] for one in unwanted} == {"CANCELLED"}
        assert state(site, busy) == "RUNNING"
        cancel(site, busy)
        site.ended(busy)


def test_cancelling_before_a_worker_runs(site: TrialSite) -> None:
    submitted = site.submit(site.request("/bin/true"))
    cancel(site, submitted, units="")  # as earlier clients do: the worker reads it when it begins the task
    with site.working():
        facts = site.ended(submitted)
    check_cancelled(site, submitted, facts)
    assert "staging_in_at" not in facts


def test_a_job_that_ignores_sigterm_stops_within_two_seconds(site: TrialSite) -> None:
    site.configuration = site.configure(
        engine={"name": "process", "images": {"tools": str(site.folder / "tools")}}, worker={"stop_grace_seconds": 60}
    )
    submitted = site.submit(site.request("/bin/sh", "-c", LONG))
    seen: list[float] = []

    def noticed(avus: Any, entity: Entity, *attributes: str, **options: Any) -> Any:
        found = avus(entity, *attributes, **options)
        if any(avu.attribute == CANCEL for avu in found) and not seen:
            seen.append(time.monotonic())
        return found

    stopped: list[tuple[float, float]] = []

    def stop(original: Any, grace: float) -> None:
        stopped.append((time.monotonic(), grace))
        original(grace)

    storage = StorageWithTroubledSessions(site.storage, avus=noticed)
    with site.working(storage=storage, engine=EngineWithTroubledJobs(site.engine, stop=stop)):  # type: ignore[arg-type]
        vault = site.folder / "zone" / "vaults"
        wait_until(lambda: any(remains(str(log)).stdout for log in vault.rglob("LOG")), "the job to be deaf")
        cancel(site, submitted)
        facts = site.ended(submitted)
    check_cancelled(site, submitted, facts)
    assert site.contents(submitted.collection)["STDOUT.txt"] == b"began\n"
    when, grace = stopped[0]
    assert grace <= 1, "seconds; the engine may need the rest of the two"
    assert when - seen[0] < 10


def test_cancelling_between_two_inputs(site: TrialSite) -> None:
    for name in "ab":
        site.alice.write(f"{HOME}/{name}", b"x", resource="demoResc")
    submitted = site.submit(site.request("/bin/true", inputs=[f"{HOME}/a", f"{HOME}/b"]))
    before = site.snapshot(without=submitted.collection)
    replicated: list[str] = []

    def replicate(original: Any, data_object: str, resource: str) -> Any:
        replicated.append(data_object)
        cancel(site, submitted)
        return original(data_object, resource)

    with site.working(storage=Troubled(site.storage, replicate=replicate)):  # type: ignore[arg-type]
        facts = site.ended(submitted)
    check_cancelled(site, submitted, facts)
    assert replicated == [f"{HOME}/a"]
    assert "running_at" not in facts
    assert site.snapshot(without=submitted.collection) == before, "the replica was trimmed"


@pytest.mark.parametrize("operation", ["register", "annotate_all"])
def test_cancelling_while_results_are_registered(site: TrialSite, operation: str) -> None:
    site.alice.write(f"{HOME}/a", b"x", resource="demoResc")
    submitted = site.submit(site.request("/bin/sh", "-c", "echo 1 > /outputs/one", inputs=[f"{HOME}/a"]))
    before = site.snapshot(without=submitted.collection)

    def late(original: Any, *args: Any) -> Any:
        cancel(site, submitted)
        return original(*args)

    storage = StorageWithTroubledSessions(site.storage, **{operation: late})
    with site.working(storage=storage):  # type: ignore[arg-type]
        facts = site.ended(submitted)
    check_cancelled(site, submitted, facts)
    assert "staging_out_at" in facts
    assert site.snapshot(without=submitted.collection) == before
    assert site.contents(submitted.collection)["failed/one"] == b"1\n"


def test_cancelling_does_not_change_a_decided_end(site: TrialSite) -> None:
    submitted = site.submit(site.request("/bin/sh", "-c", "exit 3"))

    def undoing(original: Any, key: JobKey) -> None:
        original(key)
        cancel(site, submitted)

    with site.working(engine=Troubled(site.engine, remove=undoing)):  # type: ignore[arg-type]
        facts = site.ended(submitted)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "nonzero_exit")
    assert "cancel" not in facts


def test_a_late_request_has_no_effect(site: TrialSite) -> None:
    one_slot(site)
    over = site.submit(site.request("/bin/true"))
    with site.working():
        ended = site.ended(over)
        cancel(site, over)
        busy = site.submit(site.request("/bin/sh", "-c", LONG))  # an idle worker does not query requests
        wait_until(lambda: "cancel" not in site.record(over).facts(), "the request to go")
        assert {**site.record(over).facts(), "collection": over.collection} == ended
        cancel(site, busy)
        site.ended(busy)


def test_only_the_owner_and_administrators_may_cancel(site: TrialSite) -> None:
    site.alice.set_access(f"{HOME}/out", BOB, Access.OWN)
    site.alice.set_access(HOME, BOB, Access.READ_OBJECT)
    site.alice.set_inheritance(f"{HOME}/out", True)
    submitted = site.submit(site.request("/bin/sh", "-c", LONG))
    assert site.bob.access(submitted.collection) == Access.READ_OBJECT
    with site.working():
        wait_until(lambda: state(site, submitted) == "RUNNING", "the job to run")
        for attribute in (CANCEL, "irods::compute_to_data::follow"):
            with pytest.raises(AccessDenied):
                site.bob.annotate(
                    Entity(EntityKind.COLLECTION, submitted.collection), add=[Avu(attribute, "bob#tempZone", COMPUTE)]
                )
        assert state(site, submitted) == "RUNNING"
        site.alice.set_access(submitted.collection, RODS, Access.OWN)
        cancel(site, submitted, catalog=site.zone.session(RODS))
        assert site.ended(submitted)["state"] == "CANCELLED"


def test_an_idle_worker_asks_the_catalog_at_most_once_a_second(
    site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compute_to_data.worker.service.HEARTBEAT_SECONDS", 600.0)  # not its own queries, every 15 s
    assert WorkerSettings().poll_seconds == 2.0
    site.configuration = site.configure(
        engine={"name": "process", "images": {"tools": str(site.folder / "tools")}},
        worker={"poll_seconds": WorkerSettings().poll_seconds},
    )
    asked: list[tuple[str, float]] = []
    idle = threading.Event()

    def counted(original: Any, *args: Any, **more: Any) -> Any:
        is_of_the_queue = any(isinstance(one, Query) and "QUEUED" in (one.value or "") for one in args)
        asked.append(("queue" if is_of_the_queue else "", time.monotonic()))
        if [what for what, _ in asked].count("queue") == 7:  # the first ones come with the queries at the start
            idle.set()
        return original(*args, **more)

    storage = Troubled(site.storage, find=counted, query=counted, count_by_owner=counted)
    storage.catalog = Troubled(site.storage.catalog, avus=counted, annotate=counted, find=counted)  # type: ignore[attr-defined]
    with site.working(storage=storage):  # type: ignore[arg-type]
        assert idle.wait(PATIENCE)
        (_, first), _, (_, third) = last = asked[-3:]
    assert [what for what, _ in last] == ["queue"] * 3
    assert third - first > 2, "two polls of two seconds each"


def test_an_error_of_the_zone_cancels_nothing(site: TrialSite) -> None:
    submitted = site.submit(site.request("/bin/sleep", "1"))
    troubles: list[str] = []

    def trouble(original: Any, query: Query) -> Any:
        if query.attribute == CANCEL and len(troubles) < 2:
            troubles.append(query.attribute)
            raise ZoneError("the zone", "does not answer")
        return original(query)

    with site.working(storage=Troubled(site.storage, find=trouble)):  # type: ignore[arg-type]
        assert site.ended(submitted)["state"] == "COMPLETED"
    assert troubles


def test_request_cancel_returns_whether_the_request_is_recorded(site: TrialSite) -> None:
    record = site.record(site.submit(site.request("/bin/true")))
    entity = Entity(EntityKind.COLLECTION, record.collection)
    for _ in range(2):  # a second request changes nothing
        assert request_cancel(record, State.QUEUED, ALICE)
        assert [avu for avu in site.alice.avus(entity) if avu.attribute == CANCEL] == [request()]
    site.alice.remove(record.collection, recursive=True)
    assert not request_cancel(record, State.QUEUED, ALICE)


@pytest.mark.parametrize("ended", [state for state in State if state.is_final])
def test_an_ended_task_cannot_be_cancelled(site: TrialSite, ended: State) -> None:
    record = site.record(site.submit(site.request("/bin/true")))
    with pytest.raises(Refused, match=f"has ended already: it is {ended.value}"):
        request_cancel(record, ended, ALICE)
    assert "cancel" not in record.facts()


def test_a_user_who_may_only_read_a_task_cannot_cancel_it(site: TrialSite) -> None:
    submitted = site.submit(site.request("/bin/true"))
    site.alice.set_access(HOME, BOB, Access.READ_OBJECT)
    site.alice.set_access(f"{HOME}/out", BOB, Access.READ_OBJECT)
    site.alice.set_access(submitted.collection, BOB, Access.READ_OBJECT)
    with pytest.raises(AccessDenied):
        request_cancel(site.record(submitted, site.bob), State.QUEUED, BOB)
    assert "cancel" not in site.record(submitted).facts()
