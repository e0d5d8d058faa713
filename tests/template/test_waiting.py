"""A task that waits for others begins when all of them have completed, and is cancelled when it would wait in vain."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from support.faults import StorageWithTroubledSessions
from support.reading import ENOUGH
from support.site import COMPUTE, HOME, PATIENCE, WAITS, ZONE, TrialSite, serving, wait_until

from compute_to_data.coordination.lock import ResourceLock
from compute_to_data.documents import request, task_json
from compute_to_data.engines import open_engine
from compute_to_data.errors import InvalidRequest, NotFound, Refused, ZoneOutOfReach
from compute_to_data.model import Access, Avu, Entity, EntityKind, Query, User
from compute_to_data.records.cancel import request_cancel
from compute_to_data.records.state import State, furthest
from compute_to_data.submission import rerun
from compute_to_data.submission.submit import Submitted
from compute_to_data.worker.service import Worker

PREFIX = "irods::compute_to_data::"


def state(site: TrialSite, one: Submitted) -> State:
    found = site.record(one).state()
    assert found is not None
    return found


def after(site: TrialSite, *others: Submitted, argv: tuple[str, ...] = ("/bin/true",), **more: Any) -> Submitted:
    return site.submit(site.request(*argv, after=[one.task_id for one in others], **more))


def waiting(site: TrialSite) -> Submitted:
    """A task that runs until ``let_go``."""
    return site.submit(site.request("/bin/sh", "-c", WAITS))


def failing(site: TrialSite) -> Submitted:
    return site.submit(site.request("/bin/sh", "-c", "echo no such sensor >&2; exit 3"))


def handwritten(site: TrialSite, name: str, awaits: list[str], resource: str = COMPUTE, *, facts: bool = True) -> str:
    """A collection that looks like a waiting task, as only a person can write it; returns its path."""
    collection = f"{HOME}/out/{name}"
    site.alice.create_collection(collection)
    document = task_json.recorded_document(request.parse(site.request("/bin/true", after=awaits)))
    site.alice.write(f"{collection}/task.json", json.dumps(document).encode())
    avus = [Avu(f"{PREFIX}role", "CONTAINER"), Avu(f"{PREFIX}state", "WAITING", resource)]
    avus += [Avu(f"{PREFIX}after", one) for one in awaits] if facts else []
    site.alice.annotate(Entity(EntityKind.COLLECTION, collection), add=avus)
    return collection


@pytest.fixture
def worked(site: TrialSite) -> Iterator[TrialSite]:
    """The site, while a worker serves it."""
    with site.working():
        yield site


def test_it_begins_when_the_other_has_completed(worked: TrialSite) -> None:
    first = waiting(worked)
    second = after(worked, first)
    worked.outputs(first)
    facts = worked.record(second).facts()
    assert (facts["state"], facts["after"]) == ("WAITING", first.collection)
    worked.let_go(first)
    ended = worked.ended(second)
    assert ended["state"] == "COMPLETED"
    assert ended["waiting_at"] < worked.record(first).facts()["completed_at"] <= ended["queued_at"]
    document = json.loads(worked.alice.read(f"{second.collection}/task.json", ENOUGH))
    assert document["after"] == [first.collection], "ids are resolved when the task is submitted"


def test_a_diamond_and_a_chain(worked: TrialSite) -> None:
    top = waiting(worked)
    left, right = after(worked, top), after(worked, top)
    bottom = after(worked, left, right)
    chain = [bottom]
    for _ in range(5):
        chain.append(after(worked, chain[-1]))
    worked.let_go(top)
    assert worked.ended(chain[-1])["state"] == "COMPLETED"
    times = [worked.record(one).facts() for one in (top, left, bottom, *chain[1:])]
    assert all(a["completed_at"] <= b["queued_at"] for a, b in zip(times, times[1:]))
    assert worked.record(right).facts()["completed_at"] <= worked.record(bottom).facts()["queued_at"]


def test_it_is_cancelled_with_all_that_wait_for_it_when_the_other_fails(site: TrialSite) -> None:
    first = failing(site)
    second = after(site, first)
    third = after(site, second)
    with site.working():
        reasons = [site.ended(one) for one in (second, third)]
    assert [one["state"] for one in reasons] == ["CANCELLED"] * 2
    assert [one["reason_code"] for one in reasons] == ["cancelled"] * 2
    assert f"it waited for task {first.task_id}, which FAILED" in reasons[0]["reason"]
    assert "no such sensor" in reasons[0]["reason"]
    assert f"it waited for task {second.task_id}, which CANCELLED" in reasons[1]["reason"]
    assert not {"staging_in_at", "attempt"} & set(reasons[0])


def test_it_is_cancelled_when_the_other_is_cancelled_or_removed(site: TrialSite) -> None:
    cancelled, removed = site.submit(site.request("/bin/true")), site.submit(site.request("/bin/true"))
    waits = [after(site, one) for one in (cancelled, removed)]
    request_cancel(site.record(cancelled), State.QUEUED, site.alice.user)
    site.alice.remove(removed.collection, recursive=True)
    with site.working():
        reasons = [site.ended(one)["reason"] for one in waits]
    assert f"{cancelled.task_id}, which CANCELLED: " in reasons[0]
    assert f"{removed.task_id}, which was removed" in reasons[1]


def test_one_failure_ends_it_although_others_still_run(worked: TrialSite) -> None:
    running = waiting(worked)
    worked.outputs(running)
    last = after(worked, running, failing(worked))
    assert worked.ended(last)["state"] == "CANCELLED"
    assert state(worked, running) is State.RUNNING
    worked.let_go(running)
    worked.ended(running)


def test_a_waiting_task_is_cancelled_at_once(worked: TrialSite) -> None:
    running = waiting(worked)
    second = after(worked, running)
    third = after(worked, second)
    worked.outputs(running)
    request_cancel(worked.record(second), State.WAITING, worked.alice.user)
    facts = worked.ended(second)
    assert (facts["state"], facts["reason"]) == ("CANCELLED", "task: cancelled by alice#tempZone.")
    assert worked.ended(third)["state"] == "CANCELLED"
    assert state(worked, running) is State.RUNNING
    worked.let_go(running)
    worked.ended(running)


def test_waiting_tasks_take_no_slot(site: TrialSite) -> None:
    site.configuration = site.configure(worker={"slots": 1})
    running = waiting(site)
    last = [after(site, running) for _ in range(40)]
    with site.working():
        site.outputs(running)
        behind = site.submit(site.request("/bin/true"))
        site.let_go(running)
        assert site.ended(behind)["state"] == "COMPLETED"
        assert {site.ended(one)["state"] for one in last} == {"COMPLETED"}


def test_it_is_queued_at_once_when_the_others_have_completed(site: TrialSite) -> None:
    first = site.submit(site.request("/bin/true"))
    with site.working():
        site.ended(first)
        second = after(site, first)
        assert site.ended(second)["state"] == "COMPLETED"
    assert "waiting_at" not in site.record(second).facts()


def test_what_cannot_be_waited_for_is_refused_at_submission(site: TrialSite) -> None:
    failed = failing(site)
    with site.working():
        site.ended(failed)
    bobs = site.submit(_of_bob(site), catalog=site.bob)
    before = site.snapshot()
    for given, cause in (
        ([failed.task_id], "which FAILED"),
        ([bobs.task_id], "does not exist, or you may not read it"),
        ([bobs.collection], "was removed, or its owner no longer lets you read it"),
        (["0000"], "does not exist"),
        ([f"{HOME}/out"], "was removed"),
    ):
        with pytest.raises((Refused, NotFound), match=cause):
            site.submit(site.request("/bin/true", after=given))
    with pytest.raises(InvalidRequest, match="/after/0"):
        site.submit(site.request("/bin/true", after=["../x"]))
    assert site.snapshot() == before


def _of_bob(site: TrialSite, *argv: str) -> dict[str, Any]:
    site.bob.create_collection("/tempZone/home/bob/out", parents=True)
    return {**site.request(*(argv or ("/bin/true",))), "output_collection": "/tempZone/home/bob/out"}


def test_ids_may_be_abbreviated_and_must_be_unambiguous(site: TrialSite) -> None:
    one = site.submit(site.request("/bin/true"), task_id="run-1a")
    site.submit(site.request("/bin/true"), task_id="run-1b")
    for given in ("run-1a", one.collection):
        submitted = site.submit(site.request("/bin/true", after=[given]))
        assert site.record(submitted).facts()["after"] == one.collection
    with pytest.raises(InvalidRequest, match=r"several tasks match: .*run-1"):
        site.submit(site.request("/bin/true", after=["run-1"]))
    # An id that bob forges on a collection of his own does not hide alice's task.
    site.bob.create_collection("/tempZone/home/bob/run-1a")
    entity = Entity(EntityKind.COLLECTION, "/tempZone/home/bob/run-1a")
    site.bob.annotate(entity, add=[Avu(f"{PREFIX}task_id", "run-1a")])
    again = site.submit(site.request("/bin/true", after=["run-1a"]))
    assert site.record(again).facts()["after"] == one.collection


def test_the_task_of_another_user_must_stay_readable(site: TrialSite) -> None:
    bobs = [site.submit(_of_bob(site), catalog=site.bob) for _ in range(2)]
    for one in bobs:
        site.bob.set_access(one.collection, site.alice.user, Access.READ_OBJECT, recursive=True)
    kept, lost = (site.submit(site.request("/bin/true", after=[one.collection])) for one in bobs)
    for path in (f"{bobs[1].collection}/task.json", bobs[1].collection):
        site.bob.set_access(path, site.alice.user, Access.NULL)
    with site.working():
        assert site.ended(kept)["state"] == "COMPLETED"
        assert "no longer lets you read it" in site.ended(lost)["reason"]


def test_a_record_that_others_could_change_is_not_trusted(site: TrialSite) -> None:
    bobs = site.submit(_of_bob(site, "/bin/false"), catalog=site.bob)
    site.bob.set_access(bobs.collection, site.alice.user, Access.READ_OBJECT, recursive=True)
    site.zone.add_user("carol")
    carol = User("carol", ZONE)
    mine = site.submit(site.request("/bin/true", after=[bobs.collection]))
    site.bob.set_access(bobs.collection, carol, Access.MODIFY_OBJECT)
    entity = Entity(EntityKind.COLLECTION, bobs.collection)
    old = [avu for avu in site.bob.avus(entity) if avu.attribute == f"{PREFIX}state"]
    site.zone.session(carol).annotate(entity, remove=old, add=[Avu(f"{PREFIX}state", "COMPLETED", COMPUTE)])
    with site.working():
        facts = site.ended(mine)
    assert facts["state"] == "CANCELLED"
    assert "cannot be trusted" in facts["reason"] and "carol" in facts["reason"]


@pytest.mark.parametrize("facts", [True, False], ids=["with AVUs", "only in task.json"])
def test_handwritten_circles_are_refused_and_harm_no_others(site: TrialSite, facts: bool) -> None:
    itself = handwritten(site, "self", [f"{HOME}/out/self"], facts=facts)
    circle = [handwritten(site, name, [f"{HOME}/out/{other}"], facts=facts) for name, other in ("ab", "bc", "ca")]
    outside = handwritten(site, "outside", [circle[0]], facts=facts)
    submitted = after(site, site.submit(site.request("/bin/true")))
    with site.working():
        assert site.ended(submitted)["state"] == "COMPLETED"
        found = {one: _ended(site, one) for one in (itself, *circle, outside)}
    assert found[itself]["state"] == "FAILED" and "waits for itself" in found[itself]["reason"]
    ends = Counter(found[one]["state"] for one in circle)
    assert ends["FAILED"] >= 1 and ends["FAILED"] + ends["CANCELLED"] == 3, found
    assert any(
        "a waits for b waits for c waits for a" in found[one]["reason"] or "waits for itself" in found[one]["reason"]
        for one in circle
    )
    assert found[outside]["state"] == "CANCELLED"


def _ended(site: TrialSite, collection: str) -> dict[str, str]:
    return site.ended(Submitted("", collection, COMPUTE, ""))


def other_worker(site: TrialSite, resource: str) -> Worker:
    """A worker of another resource of the site, with jobs of its own."""
    site.zone.add_resource(resource)
    site.give_role(resource, "CONTAINER")
    engine = open_engine(site.configuration.engine, site.configuration.worker.state_directory)
    return Worker(site.configuration, resource, site.storage, engine)


def test_the_other_task_may_be_on_another_resource(site: TrialSite) -> None:
    worker = other_worker(site, "far_resc")
    far = site.submit({**site.request("/bin/sh", "-c", "sleep 0.3"), "resource": "far_resc"})
    lost = site.submit({**site.request("/bin/false"), "resource": "far_resc"})
    near, in_vain = after(site, far), after(site, lost)
    with site.working(), serving(worker):
        assert site.ended(near)["state"] == "COMPLETED"
        assert site.ended(in_vain)["state"] == "CANCELLED"


def test_circles_through_other_resources_are_refused(site: TrialSite) -> None:
    other_worker(site, "far_resc")
    site.zone.add_resource("third_resc")
    near = handwritten(site, "near", [f"{HOME}/out/far"])
    handwritten(site, "far", [f"{HOME}/out/third"], "far_resc")
    handwritten(site, "third", [near], "third_resc")
    with site.working():  # nobody serves the others
        facts = _ended(site, near)
    assert facts["state"] == "FAILED"
    assert "near waits for far waits for third waits for near" in facts["reason"]


def test_a_new_worker_and_a_zone_that_did_not_answer_find_what_waits(site: TrialSite) -> None:
    first = waiting(site)
    second = after(site, first)
    third = after(site, second, failing(site))
    with site.working():
        site.outputs(first)
    assert state(site, second) is State.WAITING

    class OutOfReachAtTimes:
        """Each query has no answer at first."""

        def __init__(self) -> None:
            self.refused: set[str] = set()

        def __getattr__(self, name: str) -> Any:
            return getattr(site.storage, name)

        def query(self, query: Query) -> Any:
            if query.attribute not in self.refused:
                self.refused.add(query.attribute)
                raise ZoneOutOfReach("the zone", "does not answer")
            return site.storage.query(query)

    storage = OutOfReachAtTimes()
    with site.working(storage=storage):  # type: ignore[arg-type]
        site.let_go(first)
        assert site.ended(second)["state"] == "COMPLETED"
        assert site.ended(third)["state"] == "CANCELLED"
    assert len(storage.refused) == 2


def test_the_owners_session_may_be_out_of_reach_for_a_while(site: TrialSite) -> None:
    first = site.submit(site.request("/bin/true"))
    second = after(site, first)
    refusals: list[str] = []

    def refuse_twice(permissions: Any, path: str, *most: int) -> Any:
        if path == f"{first.collection}/task.json" and len(refusals) < 2:
            refusals.append(path)
            raise ZoneOutOfReach("the zone", "does not answer")
        return permissions(path, *most)

    storage = StorageWithTroubledSessions(site.storage, permissions=refuse_twice)
    with site.working(storage=storage):  # type: ignore[arg-type]
        assert site.ended(second)["state"] == "COMPLETED"


def test_a_worker_on_demand_stays_while_tasks_wait(site: TrialSite) -> None:
    far = site.submit(site.request("/bin/true"))
    site.alice.annotate(Entity(EntityKind.COLLECTION, far.collection), add=[], remove=_states(site, far))
    entity = Entity(EntityKind.COLLECTION, far.collection)
    site.alice.annotate(entity, add=[Avu(f"{PREFIX}state", "RUNNING", "elsewhere")])
    site.configuration = site.configure(worker={"idle_seconds": 0.01})
    worker = site.worker()
    near = handwritten(site, "near", [far.collection])

    def serve() -> None:
        worker.serve(on_demand=True)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        wait_until(worker._waiting_tasks.any, "the worker to see what waits")
        look = worker._waiting_tasks._next_look
        wait_until(lambda: worker._waiting_tasks._next_look > look + 1, "two further looks")
        assert ResourceLock(site.configuration, ZONE, COMPUTE).is_held(), "it is there still"
        site.alice.annotate(entity, remove=_states(site, far), add=[Avu(f"{PREFIX}state", "COMPLETED", "elsewhere")])
        assert _ended(site, near)["state"] == "COMPLETED"
        thread.join(PATIENCE)
        assert not thread.is_alive(), "without tasks it leaves"
    finally:
        worker.stop()
        thread.join()


def _states(site: TrialSite, one: Submitted) -> list[Avu]:
    avus = site.alice.avus(Entity(EntityKind.COLLECTION, one.collection))
    return [avu for avu in avus if avu.attribute == f"{PREFIX}state"]


def test_many_waiting_tasks_cost_few_questions(site: TrialSite) -> None:
    """What the worker asks in a second does not depend on how many tasks wait."""
    far = site.submit(site.request("/bin/true"))
    entity = Entity(EntityKind.COLLECTION, far.collection)
    site.alice.annotate(entity, remove=_states(site, far), add=[Avu(f"{PREFIX}state", "RUNNING", "elsewhere")])
    for number in range(700):
        handwritten(site, f"{number:03}", [far.collection])

    asked: Counter[str] = Counter()

    class Counting:
        def __getattr__(self, name: str) -> Any:
            method = getattr(site.storage, name)
            if not callable(method):
                return method

            def counted(*args: Any) -> Any:
                asked[name] += 1
                return method(*args)

            return counted

    worker = site.worker(storage=Counting())  # type: ignore[arg-type]
    waiting_tasks = worker._waiting_tasks
    for _ in range(3):  # the first looks read what each of them waits for
        waiting_tasks.look()
    asked.clear()
    assert waiting_tasks.look() == []
    assert asked == {"find": 1, "query": 1}
    began = time.monotonic()
    assert not waiting_tasks.due()
    wait_until(waiting_tasks.due, "the next look")
    assert time.monotonic() - began > 0.9
    site.alice.annotate(entity, remove=_states(site, far), add=[Avu(f"{PREFIX}state", "COMPLETED", "elsewhere")])
    assert len(waiting_tasks.look()) == 700


MAKES = "mkdir /outputs/sub; echo first > /outputs/x.csv; echo second > /outputs/sub/y.csv"


def of(one: Submitted, path: str = "", **more: Any) -> dict[str, Any]:
    return {"task": one.task_id, **({"path": path} if path else {}), **more}


class TestResultsAsInputs:
    """``{"task": ID, "path": "x.csv"}`` of a task that has not ended yet."""

    def test_one_result_under_another_name(self, site: TrialSite) -> None:
        first = site.submit(site.request("/bin/sh", "-c", MAKES))
        copying = ("/bin/sh", "-c", "cat /inputs/in.csv /inputs/y.csv > /outputs/both")
        second = site.submit(site.request(*copying, inputs=[of(first, "x.csv", name="in.csv"), of(first, "sub/y.csv")]))
        assert state(site, second) is State.WAITING
        with site.working():
            facts = site.ended(second)
        assert facts["state"] == "COMPLETED", facts
        assert site.alice.read(f"{second.collection}/both", ENOUGH) == b"first\nsecond\n"
        avus = site.alice.avus(Entity(EntityKind.COLLECTION, second.collection))
        used = {avu.value for avu in avus if avu.attribute == f"{PREFIX}input"}
        assert used == {f"{first.collection}/x.csv", f"{first.collection}/sub/y.csv"}
        assert (
            json.loads(site.alice.read(f"{second.collection}/task.json", ENOUGH))["inputs"][0]["task"]
            == first.collection
        )

    def test_all_results_without_our_own_files(self, site: TrialSite) -> None:
        one, other = (site.submit(site.request("/bin/sh", "-c", MAKES)) for _ in range(2))
        reading = ("/bin/sh", "-c", "cat /inputs/a/x.csv /inputs/b/sub/y.csv > /outputs/read")
        both = site.submit(site.request(*reading, inputs=[of(one, name="a"), of(other, name="b")]))
        with site.working():
            facts = site.ended(both)
        assert facts["state"] == "COMPLETED", facts
        assert site.alice.read(f"{both.collection}/read", ENOUGH) == b"first\nsecond\n"
        avus = site.alice.avus(Entity(EntityKind.COLLECTION, both.collection))
        used = {avu.value for avu in avus if avu.attribute == f"{PREFIX}input"}
        assert used == {f"{each.collection}/{name}" for each in (one, other) for name in ("x.csv", "sub/y.csv")}

    def test_a_result_that_was_not_made_is_named_with_those_that_were(self, site: TrialSite) -> None:
        first = site.submit(site.request("/bin/sh", "-c", MAKES))
        second = site.submit(site.request("/bin/true", inputs=[of(first, "z.csv")]))
        with site.working():
            facts = site.ended(second)
        assert (facts["state"], facts["reason_code"]) == ("FAILED", "refused")
        assert f"task {first.task_id}: has no result z.csv" in facts["reason"] and "x.csv" in facts["reason"]

    def test_when_the_other_fails_there_is_nothing_to_read(self, site: TrialSite) -> None:
        first = failing(site)
        second = site.submit(site.request("/bin/true", inputs=[of(first, "x.csv")]))
        with site.working():
            assert f"it waited for task {first.task_id}, which FAILED" in site.ended(second)["reason"]
        with pytest.raises(Refused, match=r"it would wait for task .*, which FAILED"):
            site.submit(site.request("/bin/true", inputs=[of(first, "x.csv")]))

    def test_it_goes_where_the_results_will_be(self, site: TrialSite) -> None:
        worker = other_worker(site, "a_resc")
        first = site.submit({**site.request("/bin/sh", "-c", MAKES), "resource": COMPUTE})
        document = site.request("/bin/sh", "-c", "cat /inputs/x.csv", inputs=[of(first, "x.csv")], role="CONTAINER")
        del document["resource"]
        second = site.submit(document)
        assert second.resource == COMPUTE, "and not a_resc, the first by name"
        assert "runs 1 of 1 tasks that make inputs" in second.choice
        apart = site.submit({**document, "resource": "a_resc"})
        with site.working(), serving(worker):
            assert site.ended(second)["state"] == site.ended(apart)["state"] == "COMPLETED"
        replicas = site.alice.stat(f"{first.collection}/x.csv").replicas  # type: ignore[union-attr]
        assert {one.leaf for one in replicas} == {COMPUTE, "a_resc"}, "the other one brought it there"

    def test_the_task_is_repeated_on_the_same_results(self, site: TrialSite) -> None:
        first = site.submit(site.request("/bin/sh", "-c", MAKES))
        second = site.submit(site.request("/bin/true", inputs=[of(first, "x.csv")], after=[first.task_id]))
        with site.working():
            site.ended(second)
        again = rerun.again(site.alice, site.configuration.attributes, second.collection)
        assert again["inputs"] == [{"object": f"{first.collection}/x.csv"}] and "after" not in again

    def test_a_record_queued_by_hand_does_not_read_results_of_a_running_task(self, site: TrialSite) -> None:
        first = waiting(site)
        second = site.submit(site.request("/bin/true", inputs=[of(first)]))
        entity = Entity(EntityKind.COLLECTION, second.collection)
        site.alice.annotate(entity, remove=_states(site, second), add=[Avu(f"{PREFIX}state", "QUEUED", COMPUTE)])
        with site.working():
            facts = site.ended(second)
            site.let_go(first)
            site.ended(first)
        assert facts["state"] == "FAILED" and f"before task {first.task_id} has ended" in facts["reason"]


def test_a_task_that_a_killed_worker_left_in_two_states_is_queued_once(site: TrialSite) -> None:
    """On iRODS, a worker may be killed between adding the new state and removing the old one."""
    first = site.submit(site.request("/bin/true"))
    with site.working():
        site.ended(first)
    second = after(site, first)
    entity = Entity(EntityKind.COLLECTION, second.collection)
    site.alice.annotate(entity, add=[Avu(f"{PREFIX}state", "WAITING", COMPUTE)])
    site.worker()._queue_waiting()
    assert [avu.value for avu in _states(site, second)] == ["QUEUED"], "and it has not begun outside of a slot"
    with site.working():
        assert site.ended(second)["state"] == "COMPLETED"


def test_states_that_no_worker_writes_together() -> None:
    assert furthest(["WAITING", "QUEUED"]) is State.QUEUED
    assert furthest(["WAITING", "CANCELLED"]) is State.CANCELLED
    assert furthest(["WAITING", "RUNNING"]) is None
    assert furthest(["WAITING", "COMPLETED"]) is None


def test_a_zone_that_refuses_connections_is_not_asked_without_rest(
    site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was due before the error stays due."""
    worker = site.worker()
    monkeypatch.setattr(worker._arrivals, "due_in", lambda: 0.0)
    worker._interrupted = False
    assert worker._pause(waits=False) == 0.0
    worker._interrupted = True
    assert worker._pause(waits=False) == min(1.0, site.configuration.worker.poll_seconds) > 0
