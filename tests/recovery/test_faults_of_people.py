"""What people do to a task while it waits or runs, and what a host's clock does."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.faults import StorageWithTroubledSessions, Troubled
from support.reading import ENOUGH
from support.site import COMPUTE, HOME, PATIENCE, WAITS, ZONE, TrialSite, wait_until

from compute_to_data.coordination import heartbeat, lock, published_line
from compute_to_data.errors import EngineOutOfReach, ZoneOutOfReach
from compute_to_data.model import Access, Avu, Entity, EntityKind
from compute_to_data.ports.zone import Catalog
from compute_to_data.records.cancel import request_cancel
from compute_to_data.records.state import State
from compute_to_data.submission import selection, workloads
from compute_to_data.submission.submit import Submitted
from compute_to_data.worker import service
from compute_to_data.worker.service import Worker
from compute_to_data.zones.embedded.audit import audit

RESOURCE = Entity(EntityKind.RESOURCE, COMPUTE)
RUNS = f"{WAITS}; echo x > /outputs/x"


def _notes(site: TrialSite) -> list[str]:
    return [name for _, _, names in os.walk(site.folder / "state" / "tasks") for name in names]


def _nothing_left(site: TrialSite) -> None:
    """There is no job, no journal, no directory of a task, and no data object without its file."""
    assert site.engine.jobs(site.worker()._served.scope) == ()
    assert _notes(site) == []
    assert list((site.folder / "zone" / "vaults" / COMPUTE).rglob("started")) == []
    assert audit(str(site.folder / "zone")) == []


# The resource, and rights


@pytest.mark.parametrize(("end", "state", "left"), [("exit 0", "COMPLETED", "x"), ("exit 3", "FAILED", "failed/x")])
def test_a_resource_that_is_marked_down_while_a_task_runs_costs_no_outputs(
    site: TrialSite, end: str, state: str, left: str
) -> None:
    submitted = site.submit(site.request("/bin/sh", "-c", f"{RUNS}; {end}"))
    record = site.record(submitted)
    with site.working():
        site.outputs(submitted)
        site.zone.set_resource_status(COMPUTE, "down")
        site.let_go(submitted)
        wait_until(lambda: "is marked down" in record.facts("held_up").get("held_up", ""), "the task to wait")
        assert not (record.state() or State.QUEUED).is_final
    with site.working():  # another worker holds it as long
        wait_until(lambda: record.facts("held_up"), "the task to wait")
        site.zone.set_resource_status(COMPUTE, "up")
        facts = site.ended(submitted)
    assert facts["state"] == state, facts
    assert site.contents(submitted.collection)[left] == b"x\n"


def test_a_resource_that_the_catalog_does_not_list_costs_no_outputs(site: TrialSite) -> None:
    """Its next worker takes over the job that runs."""

    def resources(original: Any) -> Any:
        return tuple(one for one in original() if one.name != COMPUTE)

    submitted = site.submit(site.request("/bin/sh", "-c", RUNS))
    with site.working():
        site.outputs(submitted)
    with site.working(storage=StorageWithTroubledSessions(site.storage, resources=resources)):  # type: ignore[arg-type]
        site.let_go(submitted)
        assert site.ended(submitted)["state"] == "COMPLETED"
    assert site.contents(submitted.collection)["x"] == b"x\n"


def test_queued_tasks_wait_while_their_resource_is_marked_down(site: TrialSite) -> None:
    """As during maintenance: they begin when it is up, and can be cancelled meanwhile."""
    submitted = [site.submit(site.request("true")) for _ in range(3)]
    site.zone.set_resource_status(COMPUTE, "down")
    records = [site.record(one) for one in submitted]
    with site.working():
        attributes = site.configuration.attributes
        wait_until(
            lambda: (line := published_line.read(site.alice, attributes, COMPUTE)) and "is marked down" in line.held_up,
            "the worker to say why no task begins",
        )
        request_cancel(records[0], State.QUEUED, site.alice.user)
        assert site.ended(submitted[0])["state"] == "CANCELLED"
        assert not any((one.state() or State.FAILED).is_final for one in records[1:])
        site.zone.set_resource_status(COMPUTE, "up")
        assert [site.ended(one)["state"] for one in submitted[1:]] == ["COMPLETED"] * 2
        assert [one.facts("attempt")["attempt"] for one in records[1:]] == ["1"] * 2


def test_a_worker_that_starts_while_its_resource_is_down_lets_jobs_run_on(site: TrialSite) -> None:
    submitted = site.submit(site.request("/bin/sh", "-c", RUNS))
    with site.working():
        site.outputs(submitted)
    site.zone.set_resource_status(COMPUTE, "down")
    with site.working():
        site.let_go(submitted)
        wait_until(lambda: "down" in site.record(submitted).facts("held_up").get("held_up", ""), "the task to wait")
        site.zone.set_resource_status(COMPUTE, "up")
        assert site.ended(submitted)["state"] == "COMPLETED"
    assert site.contents(submitted.collection)["x"] == b"x\n"


@pytest.mark.parametrize("needed", ["input", "dataset", "request"])
def test_a_task_waits_for_what_only_a_resource_has_that_is_marked_down(site: TrialSite, needed: str) -> None:
    """For its inputs, its workload's dataset and the request itself. It can be cancelled meanwhile."""
    site.zone.add_resource("origin")
    site.alice.create_collection(f"{HOME}/in")
    site.alice.write(f"{HOME}/in/a", b"12345", resource="origin")
    origin = "demoResc" if needed == "request" else "origin"
    if needed == "dataset":
        how = {"image": site.image, "dataset": f"{HOME}/in", "resource": COMPUTE}
        workload = workloads.start(site.alice, site.configuration, f"{HOME}/out", **how).collection  # type: ignore[arg-type]
        command = ["sh", "-c", "cat /input/a > out"]
        both = [workloads.create_task(site.alice, site.configuration, workload, command) for _ in range(2)]
    else:
        both = [site.submit(site.request("sh", "-c", "cat /inputs/a > out", inputs=[f"{HOME}/in/a"])) for _ in "12"]
    site.zone.set_resource_status(origin, "down")
    records = [site.record(one) for one in both]
    with site.working():
        for one in records:
            wait_until(lambda one=one: "is marked down" in one.facts("held_up").get("held_up", ""), "it to wait")
        request_cancel(records[0], records[0].state(), site.alice.user)
        assert site.ended(both[0])["state"] == "CANCELLED"
        assert not (records[1].state() or State.FAILED).is_final
        site.zone.set_resource_status(origin, "up")
        ended = site.ended(both[1])
    assert ended["state"] == "COMPLETED", ended
    assert site.contents(both[1].collection)["out"] == b"12345"


def test_a_task_whose_owner_may_not_write_in_its_collection_any_more_ends(site: TrialSite) -> None:
    """As when the collection of a project is made read-only while its tasks run."""
    submitted = site.submit(site.request("/bin/sh", "-c", RUNS))
    with site.working():
        site.outputs(submitted)
        site.alice.set_access(submitted.collection, site.alice.user, Access.READ_OBJECT)
        site.let_go(submitted)
        facts = site.ended(submitted)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "refused"), facts
    assert "alice#tempZone has read_object" in facts["reason"]
    assert facts["not_kept"] == "what it wrote could not be registered"
    _nothing_left(site)


# The record


@pytest.mark.parametrize("is_recorded", [True, False], ids=["its run is recorded", "at once"])
def test_a_task_whose_collection_is_deleted_is_ended_and_cleared_away(
    site: TrialSite, is_recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its job ran on to its end once its run was recorded: nothing made the worker look."""
    monkeypatch.setattr(service, "HEARTBEAT_SECONDS", 0.5)
    site.alice.create_collection(f"{HOME}/in")
    site.alice.write(f"{HOME}/in/a", b"x", resource="demoResc")
    submitted = site.submit(site.request("/bin/sh", "-c", RUNS, inputs=[{"next_of": f"{HOME}/in"}]))
    other = site.submit(site.request("/bin/sh", "-c", RUNS))
    with site.working():
        outputs = site.outputs(submitted)
        if is_recorded:
            wait_until(lambda: site.record(submitted).state() is State.RUNNING, "its run to be recorded")
        site.alice.remove(submitted.collection, recursive=True)
        wait_until(lambda: not outputs.exists(), "its directory to go")
        wait_until(lambda: len(site.engine.jobs(site.worker()._served.scope)) == 1, "its job to go")
        site.let_go(other)
        assert site.ended(other)["state"] == "COMPLETED", "the other task is not affected"
    assert site.alice.avus(Entity(EntityKind.DATA_OBJECT, f"{HOME}/in/a")) == (), "its claim is free"
    with site.working():  # the next worker removes what is left of its journal
        wait_until(
            lambda: not any(names for _, _, names in os.walk(site.folder / "state" / "tasks")), "its notes to go"
        )
    _nothing_left(site)


@pytest.mark.parametrize("is_recorded", [True, False], ids=["its run is recorded", "at once"])
def test_a_task_whose_collection_is_moved_begins_again_there(
    site: TrialSite, is_recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "HEARTBEAT_SECONDS", 0.5)
    submitted = site.submit(site.request("/bin/sh", "-c", RUNS))
    with site.working():
        site.outputs(submitted)
        if is_recorded:
            wait_until(lambda: site.record(submitted).state() is State.RUNNING, "its run to be recorded")
        site.alice.rename(submitted.collection, f"{HOME}/elsewhere")
        moved = replace(submitted, collection=f"{HOME}/elsewhere")
        site.let_go(moved)
        facts = site.ended(moved)
    assert facts["state"] == "COMPLETED", facts
    assert site.contents(moved.collection)["x"] == b"x\n"
    _nothing_left(site)


def test_a_task_that_is_moved_before_it_is_tried_again_begins_again_there(site: TrialSite) -> None:
    """The worker ignored the old place, and never looked for the new one."""
    submitted = site.submit(site.request("/bin/sh", "-c", "echo x > /outputs/x"))
    moved = replace(submitted, collection=f"{HOME}/elsewhere")

    def register(original: Callable[..., Any], *given: Any, **more: Any) -> Any:
        if not moved_yet:
            site.alice.rename(submitted.collection, moved.collection)
            moved_yet.append(True)
            raise ZoneOutOfReach("the zone", "is away for a moment")
        return original(*given, **more)

    moved_yet: list[bool] = []
    storage: Any = StorageWithTroubledSessions(site.storage, register=register)
    with site.working(storage=storage):
        wait_until(lambda: bool(moved_yet), "the results to be registered")
        facts = site.ended(moved)
    assert facts["state"] == "COMPLETED", facts
    assert site.contents(moved.collection)["x"] == b"x\n"
    _nothing_left(site)


ALTERED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "an image that is not allowed": (lambda task: task["process"].update(image="evil:1"), "evil:1"),
    "more than the site's maximum": (lambda task: task.update(limits={"walltime_seconds": 1e9}), "maximum"),
    "an input of another": (lambda task: task.update(inputs=[{"object": f"/{ZONE}/home/bob/secret"}]), "secret"),
    "not a task": (lambda task: task.clear(), "version 1"),
}


@pytest.mark.parametrize("name", ALTERED)
def test_a_request_that_its_owner_alters_is_held_to_the_same_rules(site: TrialSite, name: str) -> None:
    change, words = ALTERED[name]
    site.bob.write(f"/{ZONE}/home/bob/secret", b"secret")
    submitted = site.submit(site.request("/bin/true"))
    path = f"{submitted.collection}/task.json"
    task = json.loads(site.alice.read(path, ENOUGH))
    change(task)
    site.alice.write(path, json.dumps(task).encode(), force=True)
    with site.working():
        facts = site.ended(submitted)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "refused"), facts
    assert words in facts["reason"]


# The image


@pytest.mark.parametrize("retagged", [True, False], ids=["given to other content", "removed"])
def test_an_image_that_changes_before_the_start(site: TrialSite, retagged: bool) -> None:
    digest = site.engine.identify("tools").digest
    site.configuration = site.configure(images=[{"name": "tools", "digest": digest}], engine={
        "name": "process", "images": {"tools": str(site.folder / "tools")}
    })  # fmt: skip
    submitted = site.submit(site.request("/bin/true"))
    if retagged:
        (site.folder / "tools" / "true").write_text("#!/bin/sh\n")
    else:
        (site.folder / "tools").rmdir()
    with site.working():
        facts = site.ended(submitted)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "refused"), facts
    assert ("given to other content" if retagged else "is missing") in facts["reason"]


# The owner


@pytest.fixture
def carol(site: TrialSite) -> Catalog:
    """A user who does not use her home, and owns a collection elsewhere."""
    user = site.zone.add_user("carol")
    rods = site.zone.session(site.zone.admin)
    rods.create_collection(f"/{ZONE}/home/rods/projects")
    for collection in (f"/{ZONE}/home/rods", f"/{ZONE}/home/rods/projects"):
        rods.set_access(collection, user, Access.OWN)
    return site.zone.session(user)


def _carols(site: TrialSite, carol: Catalog, script: str) -> Submitted:
    document = site.request("/bin/sh", "-c", script, output_collection=f"/{ZONE}/home/rods/projects")
    return site.submit(document, catalog=carol)


def _facts(site: TrialSite, submitted: Submitted) -> dict[str, str]:
    """As an administrator sees them."""
    avus = site.storage.avus(Entity(EntityKind.COLLECTION, submitted.collection))
    return {avu.attribute.rpartition("::")[2]: avu.value for avu in avus}


@pytest.mark.parametrize("when", ["it waits", "it runs", "it runs and no worker does"])
def test_a_task_of_a_removed_owner_fails_and_says_so(site: TrialSite, carol: Catalog, when: str) -> None:
    submitted = _carols(site, carol, RUNS)
    if when == "it waits":
        site.zone.remove_user(carol.user)
    elif when == "it runs and no worker does":
        with site.working():
            site.outputs(submitted)
        site.zone.remove_user(carol.user)
    with site.working():
        if when == "it runs":
            site.outputs(submitted)
            site.zone.remove_user(carol.user)
        wait_until(lambda: _facts(site, submitted)["state"] == "FAILED", "its end")
        wait_until(lambda: not site.engine.jobs(site.worker()._served.scope), "its job to go")
        assert site.ended(site.submit(site.request("/bin/true")))["state"] == "COMPLETED"
    facts = _facts(site, submitted)
    assert facts["reason_code"] == "refused"
    assert facts["error_code"] == "-827000"
    assert "carol#tempZone: the account of the task's owner was removed" in facts["reason"]
    assert "failed_at" in facts
    _nothing_left(site)


# The clock


@pytest.mark.parametrize("jump", [3600.0, -3600.0], ids=["forwards", "backwards"])
@pytest.mark.parametrize("meanwhile", ["a worker watches", "no worker does"])
def test_a_clock_that_jumps_changes_no_walltime(
    site: TrialSite, monkeypatch: pytest.MonkeyPatch, jump: float, meanwhile: str
) -> None:
    long = site.submit(site.request("/bin/sh", "-c", RUNS, limits={"walltime_seconds": 600}))
    short = site.submit(site.request("/bin/sh", "-c", WAITS, limits={"walltime_seconds": 2}))
    real = time.time

    def leap() -> None:
        for one in (long, short):
            site.outputs(one)
        monkeypatch.setattr(time, "time", lambda: real() + jump)

    if meanwhile == "no worker does":
        with site.working():
            leap()
    began = time.monotonic()
    with site.working():
        if meanwhile == "a worker watches":
            leap()
        site.let_go(long)
        facts = site.ended(long)
        assert facts["state"] == "COMPLETED", facts
        assert float(facts["processing_seconds"]) >= 0
        facts = site.ended(short)
    assert facts["reason_code"] == "walltime_exceeded", facts
    assert time.monotonic() - began < 2 * PATIENCE, "setting the clock back an hour does not add an hour"


# Two workers for one resource


def _elsewhere(site: TrialSite, storage: Any = None) -> Worker:
    """A worker on another host, which shares the zone but not the state directory."""
    settings = replace(site.configuration.worker, state_directory=str(site.folder / "elsewhere"))
    return Worker(replace(site.configuration, worker=settings), COMPUTE, storage or site.storage, site.engine)


def test_a_second_worker_on_another_host_leaves(site: TrialSite) -> None:
    put = []

    def note(annotate, entity, *, add=(), remove=()):  # type: ignore[no-untyped-def]
        put.extend(add)
        annotate(entity, add=add, remove=remove)

    watched = _WithCatalog(site.storage, Troubled(site.storage.catalog, annotate=note))
    with site.working():
        wait_until(lambda: heartbeat.heartbeats(site.alice, site.configuration, COMPUTE), "the first one's sign")
        with pytest.raises(lock.AlreadyServed, match=r"is served by another worker .* start again in 60 s"):
            _elsewhere(site, watched).serve()
        assert put == [], "not even for an instant, because the first worker would leave then"
    _elsewhere(site).serve(on_demand=True)  # the first worker has withdrawn its heartbeat


def test_two_workers_that_start_at_the_same_instant_see_each_other(site: TrialSite) -> None:
    submitted = site.submit(site.request("/bin/true"))
    rival = Avu(site.configuration.attributes.named("worker"), "rival@1:1", str(int(time.time())))

    def put_first(annotate, entity, *, add=(), remove=()):  # type: ignore[no-untyped-def]
        if add:
            site.storage.catalog.annotate(RESOURCE, add=[rival])
        annotate(entity, add=add, remove=remove)

    catalog = Troubled(site.storage.catalog, annotate=put_first)
    with pytest.raises(lock.AlreadyServed, match="rival"):
        _elsewhere(site, _WithCatalog(site.storage, catalog)).serve()
    assert site.record(submitted).state() is State.QUEUED
    assert heartbeat.heartbeats(site.alice, site.configuration, COMPUTE) == [rival]


class _WithCatalog(Troubled):
    def __init__(self, inner: Any, catalog: Any) -> None:
        super().__init__(inner)
        self.catalog = catalog


def test_a_dead_workers_resource_can_be_taken_over(site: TrialSite) -> None:
    attribute = site.configuration.attributes.named("worker")
    site.storage.catalog.annotate(RESOURCE, add=[Avu(attribute, "gone@1:1", str(int(time.time()) - 61))])
    submitted = site.submit(site.request("/bin/true"))
    with site.working():
        assert site.ended(submitted)["state"] == "COMPLETED"
    assert heartbeat.heartbeats(site.alice, site.configuration, COMPUTE) == []


def test_a_worker_that_was_taken_over_leaves_its_tasks_alone(site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compute_to_data.worker.service.HEARTBEAT_SECONDS", 0.2)
    submitted = site.submit(site.request("/bin/sh", "-c", RUNS))
    other = Avu(site.configuration.attributes.named("worker"), "other@1:1", str(int(time.time())))
    with pytest.raises(lock.AlreadyServed, match="other@1:1"):
        _be_taken_over(site, submitted, other)
    assert site.record(submitted).state() is State.RUNNING
    assert len(site.engine.jobs(site.worker()._served.scope)) == 1
    site.storage.catalog.annotate(RESOURCE, remove=[other])
    with site.working():
        site.let_go(submitted)
        assert site.ended(submitted)["attempt"] == "1"


def _be_taken_over(site: TrialSite, submitted: Submitted, other: Avu) -> None:
    with site.working():
        site.outputs(submitted)
        site.storage.catalog.annotate(RESOURCE, add=[other])
        wait_until(lambda: not lock.ResourceLock(site.configuration, ZONE, COMPUTE).is_held(), "it to leave")


@pytest.mark.parametrize("when", ["while its job runs", "while its results are registered"])
def test_a_worker_whose_host_hung_changes_no_task_that_another_one_has_ended(
    site: TrialSite, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    submitted = site.submit(site.request("/bin/sh", "-c", RUNS))
    ended: list[dict[str, str]] = []

    def hang() -> None:
        """What is true after some minutes: another worker has taken the resource over, and has ended the task."""
        worker._presence._sign._renewed = 0.0
        other = Avu(site.configuration.attributes.named("worker"), "other@1:1", str(int(time.time())))
        site.storage.catalog.annotate(RESOURCE, add=[other])
        site.record(submitted).move_to(State.COMPLETED, {"attempt": "2"})
        ended.append(site.record(submitted).facts())

    def register(original, *words, **names):  # type: ignore[no-untyped-def]
        done = original(*words, **names)
        if not ended:
            hang()
        return done

    troubles = {"register": register} if "registered" in when else {}
    with site.working(storage=StorageWithTroubledSessions(site.storage, **troubles)) as worker:  # type: ignore[arg-type]
        site.outputs(submitted)
        if not troubles:
            hang()
        site.let_go(submitted)
        wait_until(lambda: "is served by another worker (other@1:1" in caplog.text, "the worker to find out")
        wait_until(lambda: not worker._in_flight.collections(), "it to let go of the task")
    assert site.record(submitted).state() is State.COMPLETED
    after = site.record(submitted).facts()
    assert {k: (after.get(k), ended[0].get(k)) for k in {*after, *ended[0]} if after.get(k) != ended[0].get(k)} == {}


def test_a_worker_without_an_engine_shows_no_sign_of_life(site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compute_to_data.worker.service.HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(heartbeat, "_ALIVE_SECONDS", 1.5)
    configuration = site.configure(worker={"on_demand": False})
    sick: list[bool] = []

    def check(original: Callable[[], None]) -> None:
        if sick:
            raise EngineOutOfReach("the engine", "is away on purpose")
        original()

    def alive() -> bool:
        return selection.has_worker(site.alice, configuration, COMPUTE)

    with site.working(engine=Troubled(site.engine, check=check)):  # type: ignore[arg-type]
        wait_until(alive, "a sign of life")
        sick.append(True)
        wait_until(lambda: not alive(), "the sign to go stale")
        sick.clear()
        wait_until(alive, "a sign of life again")
