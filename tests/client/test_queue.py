"""``c2d queue``, ``session.queue`` and what ``c2d status`` says about a task's place and why it waits."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.faults import Troubled
from support.reference import documented
from support.site import BOB, COMPUTE, WAITS, ZONE, TrialSite, wait_until
from support.typed import Type

import compute_to_data as c2d
from compute_to_data.client import logs, several
from compute_to_data.client.task_status import queue
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.coordination import published_line
from compute_to_data.errors import EngineNotReady, InvalidRequest, NotFound
from compute_to_data.model import Avu, Entity, EntityKind, Query
from compute_to_data.records.state import State, queue_units

BOBS = f"/{ZONE}/home/bob/out"


Note = Callable[[str], None]


@pytest.fixture
def bobs(site: TrialSite, bobs: c2d.Session) -> c2d.Session:
    """bob's session, with a collection for his results."""
    site.bob.create_collection(BOBS)
    return bobs


@pytest.fixture
def one_slot(site: TrialSite) -> TrialSite:
    engine = {"name": "process", **site.configuration.engine.settings}
    site.configuration = site.configure(engine=engine, worker={"on_demand": False, "slots": 1})
    return site


@contextlib.contextmanager
def working(site: TrialSite, session: c2d.Session) -> Iterator[None]:
    """A worker serves, and shows that it is alive."""
    with site.working():
        wait_until(lambda: session.queue(COMPUTE).has_worker, "the worker's first heartbeat")
        yield


def waiting(site: TrialSite, session: c2d.Session, script: str = "true", **more: Any) -> TaskHandle:
    document = site.request("/bin/sh", "-c", script)
    document["output_collection"] = BOBS if session.user == BOB else document["output_collection"]
    return session.submit(document, **more)


def test_others_who_only_run_tasks_are_others(one_slot: TrialSite, bobs: c2d.Session, typed: Type) -> None:
    """They were "0 others": a worker publishes how many users wait."""
    with working(one_slot, bobs):
        running = waiting(one_slot, bobs, WAITS)

        def published() -> bool:
            line = published_line.read(bobs.catalog, bobs.attributes, COMPUTE)
            return line is not None and line.running == 1

        wait_until(published, "the worker to publish its line")
        said = typed("queue").out.splitlines()
        assert said[-1].split() == [COMPUTE, "others", "0", "1"]
        one_slot.let_go(running)
        running.wait(60)


def test_the_line_shows_ones_own_tasks_and_counts_others(
    one_slot: TrialSite, session: c2d.Session, bobs: c2d.Session
) -> None:
    with working(one_slot, session):
        running = waiting(one_slot, session, WAITS)
        wait_until(lambda: running.state is State.RUNNING, "the first task to run")
        tasks = [waiting(one_slot, session) for _ in range(2)]
        secret = [waiting(one_slot, bobs) for _ in range(3)]

        def published() -> bool:
            line = published_line.read(session.catalog, session.attributes, COMPUTE)
            return line is not None and (line.waiting, line.running) == (5, 1)

        wait_until(published, "the worker to publish its line")
        line = session.queue(COMPUTE)
        assert (line.waiting, line.running, line.capacity, line.has_worker) == (5, 1, 1, True)
        own, others = line.users
        assert (own.user, own.waiting, own.running) == (str(session.user), 2, 1)
        assert (others.user, others.waiting, others.running, others.users) == ("", 3, 0, 1)
        assert line.next == tuple(one.id for one in tasks)
        assert line.turns_before == 1
        assert "bob" not in json.dumps(line.document())
        assert bobs.queue(COMPUTE).turns_before == 0
        status = tasks[1].status().waiting_for
        assert status == f"the slot of {COMPUTE} is busy; 1 task and 1 other user before it on {COMPUTE}"
        one_slot.let_go(running)
        for task in (*tasks, *secret):
            task.wait(60)
    assert session.queue(COMPUTE).users == ()


def test_the_command(site: TrialSite, one_slot: TrialSite, session: c2d.Session, typed: Type) -> None:
    empty = typed("queue", "--output", "pretty")
    assert "No task waits or runs." in empty.out + empty.err
    with working(one_slot, session):
        running = waiting(one_slot, session, WAITS)
        wait_until(lambda: running.state is State.RUNNING, "the first task to run")
        last, first = waiting(one_slot, session), waiting(one_slot, session, priority=3)
        shown = typed("queue", COMPUTE, "--output", "pretty")
        assert shown.out.splitlines()[0].split() == ["RESOURCE", "USER", "WAITING", "RUNNING", "OLDEST"]
        assert shown.out.splitlines()[1].split()[:4] == [COMPUTE, str(session.user), "2", "1"]
        assert first.id in shown.err + shown.out
        (line,) = typed("queue", "--output", "json").json["queues"]
        assert line["next"] == [first.id, last.id]
        assert line.keys() == documented("`c2d queue`")
        one_slot.let_go(running)
        last.wait(60)
    assert typed("queue", "no-such").code != 0


def test_an_unknown_resource(session: c2d.Session) -> None:
    with pytest.raises(NotFound, match="not in this zone"):
        session.queue("no-such")


def test_the_order_of_ones_own_is_asked_only_for_priorities_that_they_have(
    site: TrialSite, session: c2d.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, first = waiting(site, session), waiting(site, session, priority=3)
    asked: list[Query] = []
    catalog: Any = Troubled(session.catalog, find=lambda find, query: asked.append(query) or find(query))
    monkeypatch.setattr(session, "catalog", catalog)
    assert queue.own_tasks(session, COMPUTE) == [first.collection, last.collection]
    assert len(asked) == 2
    asked.clear()
    status = last.status(reasons=False)
    assert (status.state, status.waiting_for, asked) == (State.QUEUED, "", [])
    assert last.status().waiting_for


def test_a_bound_per_user_is_a_reason(one_slot: TrialSite, session: c2d.Session) -> None:
    engine = {"name": "process", **one_slot.configuration.engine.settings}
    one_slot.configuration = one_slot.configure(
        engine=engine, worker={"on_demand": False, "slots": 2, "per_user": {"running": 1}}
    )
    with working(one_slot, session):
        running = waiting(one_slot, session, WAITS)
        wait_until(lambda: running.state is State.RUNNING, "the first task to run")
        task = waiting(one_slot, session)

        def says_why() -> bool:
            return "each user may have 1" in task.status().waiting_for

        wait_until(says_why, "the reason")
        assert "slots" not in task.status().waiting_for
        one_slot.let_go(running)
        task.wait(60)


class TestPriorities:
    def test_the_highest_of_ones_own_begins_first(self, one_slot: TrialSite, session: c2d.Session) -> None:
        with working(one_slot, session):
            running = waiting(one_slot, session, WAITS)
            wait_until(lambda: running.state is State.RUNNING, "the first task to run")
            tasks = [waiting(one_slot, session, priority=number) for number in (0, -10, 10)]
            assert {one.resource for one in session.tasks(resource=COMPUTE, states=(State.QUEUED,))} == {COMPUTE}
            wait_until(lambda: session.queue(COMPUTE).waiting == 3, "the worker to know them all")
            one_slot.let_go(running)
            begun = {one.wait(60).times["STAGING_IN"]: number for number, one in zip((0, -10, 10), tasks)}
        assert [begun[moment] for moment in sorted(begun)] == [10, 0, -10]

    def test_a_queued_task_with_one_is_listed_with_its_resource(
        self, one_slot: TrialSite, session: c2d.Session
    ) -> None:
        task_collection = f"{session.home}/out/x"
        session.catalog.create_collection(task_collection)
        avu = Avu(session.attributes.state, "QUEUED", queue_units(COMPUTE, 7))
        session.catalog.annotate(Entity(EntityKind.COLLECTION, task_collection), add=[avu])
        (listed,) = session.tasks(resource=COMPUTE)
        assert listed.resource == COMPUTE

    @pytest.mark.parametrize("priority", [11, -11, 10**9])
    def test_beyond_the_range(self, site: TrialSite, session: c2d.Session, priority: int) -> None:
        with pytest.raises(InvalidRequest, match="priority"):
            session.submit(site.request("true"), priority=priority)
        with pytest.raises(InvalidRequest, match="priority"):
            session.submit({**site.request("true"), "priority": priority})
        assert session.tasks() == []

    def test_the_option(self, site: TrialSite, typed: Type) -> None:
        assert typed("run", "--priority", "11", "tools", "true").code == 2


def test_what_keeps_all_tasks_from_running_is_said(site: TrialSite, session: c2d.Session) -> None:
    def refuse(_: object) -> None:
        raise EngineNotReady("the project quotas of jobs", "their helper does not answer", "Start it")

    engine: Any = Troubled(site.engine, need_ready=refuse)
    with site.working(engine=engine):
        task = waiting(site, session)
        cause = f"{COMPUTE} can run no job until an administrator mends this: the project quotas of jobs: their helper"
        wait_until(lambda: cause in task.status().waiting_for, "the status to say why")
        assert task.state is State.QUEUED
        wait_until(lambda: cause in str(session.queue(COMPUTE)), "the queue to say it, too")
        task.cancel()
        wait_until(lambda: task.state is State.CANCELLED, "it to be cancelled all the same")


def test_what_keeps_a_task_that_has_begun_is_said(site: TrialSite, session: c2d.Session) -> None:
    """Its engine went away."""
    away = threading.Event()

    def need_ready(_: object) -> None:
        if away.is_set():
            raise EngineNotReady("the Docker daemon", "does not answer", "Start it")

    engine: Any = Troubled(site.engine, need_ready=need_ready)
    task = waiting(site, session, WAITS)
    with site.working(engine=engine):
        wait_until(lambda: task.state is State.RUNNING, "the job to run")
        assert task.status().waiting_for == ""
        away.set()
        cause = f"{COMPUTE} can run no job until an administrator mends this: the Docker daemon: does not answer"
        wait_until(lambda: task.status().waiting_for == cause, "the status to say why")
        assert cause in str(task.status())
        away.clear()
        wait_until(lambda: not task.status().waiting_for, "the status to say no more")
        task.cancel()
        wait_until(lambda: task.state is State.CANCELLED, "its end")


class TestWhoWaits:
    """A worker on demand that finds no Docker ends at once."""

    def wait(task: TaskHandle, note: Note) -> None:
        task.wait(on_note=note)

    def wait_for_several(task: TaskHandle, note: Note) -> None:
        several.wait(task.workbench, [task.collection], on_note=note)

    def follow(task: TaskHandle, note: Note) -> None:
        logs.follow(task, lambda *_: None, lambda _: note(task.status().waiting_for))

    @pytest.mark.parametrize("waits", [wait, wait_for_several, follow])
    def test_is_told_that_the_worker_does_not_start(
        self, site: TrialSite, session: c2d.Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, waits: Any
    ) -> None:
        for name in ("tasks._CALL_AGAIN_SECONDS", "several._CALL_AGAIN_SECONDS", "logs._CALL_AGAIN"):
            monkeypatch.setattr(f"compute_to_data.client.{name}", 0.2)
        works = {"name": "process", **site.configuration.engine.settings}
        site.configure(engine={"name": "docker", "socket": str(tmp_path / "nowhere")})
        task, told = waiting(site, session), list[str]()

        def mend(why: str) -> None:
            if "can run no job" in why:
                told.append(why)
                site.configure(engine=works)

        waits(task, mend)
        assert f"{COMPUTE} can run no job until an administrator mends this: the Docker engine: the Docker" in told[0]
        assert task.state is State.COMPLETED
        assert not session.queue(COMPUTE).held_up
