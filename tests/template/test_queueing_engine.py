"""Tasks whose jobs wait in the engine's own queue: their states and walltimes, and the cost of many of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.faults import StorageWithTroubledSessions, Troubled
from support.queueing import QueueingEngine
from support.site import COMPUTE, TrialSite, wait_until

from compute_to_data.job import JobKey, JobState
from compute_to_data.model import Avu, Entity, EntityKind, Query
from compute_to_data.ports.engine import Engine
from compute_to_data.records.state import State
from compute_to_data.submission.submit import Submitted
from compute_to_data.worker.watcher import HELPER_THREADS

CANCEL, FOLLOW = "irods::compute_to_data::cancel", "irods::compute_to_data::follow"
MANY = 50
SLOTS = 2


@pytest.fixture
def engine() -> QueueingEngine:
    return QueueingEngine(MANY)


@contextmanager
def working(site: TrialSite, engine: Engine, storage: Any = None) -> Iterator[None]:
    with site.working(engine=engine, storage=storage):
        yield


def pending(engine: QueueingEngine, count: int = 1) -> list[JobKey]:
    wait_until(lambda: len(engine.keys(JobState.PENDING)) == count, f"{count} jobs in the queue")
    return engine.keys(JobState.PENDING)


def state(site: TrialSite, submitted: Submitted) -> State | None:
    return site.record(submitted).state()


def test_the_queueing_engine_implements_the_port(engine: QueueingEngine) -> None:
    held: Engine = engine
    assert held.capacity == MANY


def test_a_job_in_the_queue_does_not_run_yet(site: TrialSite, engine: QueueingEngine) -> None:
    """Its task is not RUNNING, and its walltime has not begun."""
    submitted = site.submit(site.request("/bin/true", limits={"walltime_seconds": 1}))
    with working(site, engine):
        (key,) = pending(engine)
        queued = time.monotonic()
        wait_until(lambda: time.monotonic() - queued > 2.5, "the walltime to be long over")
        assert state(site, submitted) is State.STAGING_IN
        assert "running_at" not in site.record(submitted).facts()
        assert engine.keys(JobState.PENDING) == [key]
        engine.begin(key)
        wait_until(lambda: state(site, submitted) is State.RUNNING, "it to run")
        assert site.record(submitted).facts()["attempt"] == "1"
        facts = site.ended(submitted)
    assert facts["reason_code"] == "walltime_exceeded"
    assert [engine.keys(state) for state in JobState] == [[]] * len(JobState)


def test_a_job_in_the_queue_can_be_cancelled(site: TrialSite, engine: QueueingEngine) -> None:
    submitted = site.submit(site.request("/bin/true"))
    with working(site, engine):
        pending(engine)
        entity = Entity(EntityKind.COLLECTION, submitted.collection)
        site.alice.annotate(entity, add=[Avu(CANCEL, "alice#tempZone", COMPUTE)])
        facts = site.ended(submitted)
    assert facts["state"] == "CANCELLED"
    assert "running_at" not in facts
    assert [engine.keys(state) for state in JobState] == [[]] * len(JobState)


def test_a_job_that_ends_soon_has_run(site: TrialSite, engine: QueueingEngine) -> None:
    """The engine may report the end of a job without having reported that it runs."""
    submitted = site.submit(site.request("/bin/true"))
    with working(site, engine):
        engine.end(*pending(engine))
        facts = site.ended(submitted)
    assert facts["state"] == "COMPLETED"
    assert facts["running_at"] <= facts["staging_out_at"] <= facts["completed_at"]


@pytest.mark.parametrize("meanwhile", ["nothing", "it began", "it ended"])
def test_the_next_worker_finds_a_job_in_the_queue(site: TrialSite, engine: QueueingEngine, meanwhile: str) -> None:
    submitted = site.submit(site.request("/bin/true", limits={"walltime_seconds": 600}))
    with working(site, engine):
        (key,) = pending(engine)
    assert engine.keys(JobState.PENDING) == [key], "a stopped worker leaves the job in the queue"
    if meanwhile != "nothing":
        engine.begin(key)
    if meanwhile == "it ended":
        engine.end(key)
    with working(site, engine):
        if meanwhile == "nothing":
            engine.begin(key)
        if meanwhile != "it ended":
            wait_until(lambda: state(site, submitted) is State.RUNNING, "it to run")
            engine.end(key)
        facts = site.ended(submitted)
    assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1")
    assert facts["running_at"]


def test_a_walltime_that_ran_out_while_no_worker_watched(site: TrialSite, engine: QueueingEngine) -> None:
    submitted = site.submit(site.request("/bin/true", limits={"walltime_seconds": 600}))
    with working(site, engine):
        (key,) = pending(engine)
    engine.begin(key, ago=700)
    with working(site, engine):
        facts = site.ended(submitted)
    assert facts["reason_code"] == "walltime_exceeded"


def test_a_job_that_the_queue_lost_is_submitted_again(site: TrialSite, engine: QueueingEngine) -> None:
    submitted = site.submit(site.request("/bin/true"))
    with working(site, engine):
        engine.lose(*pending(engine))
        engine.end(*pending(engine))
        facts = site.ended(submitted)
    assert (facts["state"], facts["attempt"]) == ("COMPLETED", "2")


def test_the_engine_says_how_many_jobs_it_takes(site: TrialSite) -> None:
    engine = QueueingEngine(3)
    submitted = [site.submit(site.request("/bin/true")) for _ in range(8)]
    with working(site, engine):
        wait_until(lambda: len(engine.keys(JobState.PENDING)) == 3, "as many jobs as the engine takes")
        for _ in submitted:
            wait_until(lambda: engine.keys(JobState.PENDING), "a job")
            engine.end(engine.keys(JobState.PENDING)[0])
        assert {site.ended(one)["state"] for one in submitted} == {"COMPLETED"}
    assert engine.most == 3


def test_an_error_with_one_job_does_not_affect_other_tasks(site: TrialSite, engine: QueueingEngine) -> None:
    """The engine raises an unexpected error whenever the worker asks about one of the jobs."""
    submitted = {one.task_id: one for one in (site.submit(site.request("/bin/true")) for _ in range(2))}
    troubled: list[JobKey] = []

    def statuses(original: Any, keys: Any) -> Any:
        if set(troubled) & set(keys):
            raise ValueError("nonsense")
        return original(keys)

    with working(site, Troubled(engine, statuses=statuses)):  # type: ignore[arg-type]
        bad, good = pending(engine, 2)
        troubled.append(bad)
        for key in (bad, good):
            engine.begin(key)
        engine.end(good)
        assert site.ended(submitted[good.task_id])["state"] == "COMPLETED"
        facts = site.ended(submitted[bad.task_id])
    assert facts["reason_code"] == "system_error"
    assert engine.keys(JobState.RUNNING) == []


def test_many_jobs_need_few_threads_and_few_queries(site: TrialSite, engine: QueueingEngine) -> None:
    """Fifty tasks run. The worker queries the catalog once a second for all of them, and reads no record."""
    questions: list[float] = []
    read: list[Entity] = []
    everybody = threading.Event()

    def question(find: Any, query: Query) -> Any:
        if query.attribute == FOLLOW and everybody.is_set():
            questions.append(time.monotonic())
        return find(query)

    def reading(avus: Any, entity: Entity, *attributes: str, **options: Any) -> Any:
        if everybody.is_set():
            read.append(entity)
        return avus(entity, *attributes, **options)

    storage = StorageWithTroubledSessions(Troubled(site.storage, find=question), avus=reading)
    submitted = [site.submit(site.request("/bin/true")) for _ in range(MANY)]
    before = threading.active_count()
    with working(site, engine, storage):
        for key in pending(engine, MANY):
            engine.begin(key)
        wait_until(lambda: all(state(site, one) is State.RUNNING for one in submitted), "all to run")
        everybody.set()
        wait_until(lambda: len(questions) >= 3, "three questions")
        assert threading.active_count() - before <= SLOTS + HELPER_THREADS + 4, (
            "the worker's main thread, the watcher, and those of requests and unused replicas"
        )
        assert read == []
        everybody.clear()
        for key in engine.keys(JobState.RUNNING):
            engine.end(key)
        assert {site.ended(one)["state"] for one in submitted} == {"COMPLETED"}
    assert all(later - earlier > 0.5 for earlier, later in zip(questions, questions[1:])), questions
    assert engine.most == MANY
