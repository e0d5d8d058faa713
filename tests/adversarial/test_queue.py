"""One user floods the queue, with tasks or with records that are none. The others' tasks must not wait for it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.counting import Counting
from support.crowds import queue_for
from support.faults import Troubled
from support.reading import ENOUGH
from support.site import ALICE, BOB, COMPUTE, HOME, PATIENCE, WAITS, ZONE, TrialSite, until, wait_until

from compute_to_data.coordination import capabilities, held_images, published_line, wakeup
from compute_to_data.coordination.heartbeat import Heartbeat
from compute_to_data.coordination.published_line import PublishedLine
from compute_to_data.documents import request, task_json
from compute_to_data.errors import OutOfReach, Refused
from compute_to_data.model import Access, Avu, Entity, EntityKind, Query, User
from compute_to_data.records.state import State, queue_units
from compute_to_data.submission import selection
from compute_to_data.submission.submit import Submitted
from compute_to_data.task import HIGHEST_PRIORITY, LOWEST_PRIORITY, InputKind
from compute_to_data.worker.passed_over import PassedOver

STATE = "irods::compute_to_data::state"
BOBS = f"/{ZONE}/home/bob"
LONGEST = 5.0
"""Seconds that a neighbour's ``true`` may take under a flood, or three times as long as alone on a busy machine."""


@pytest.fixture
def site(tmp_path: Path) -> TrialSite:
    tools = tmp_path / "tools"
    tools.mkdir()
    made = TrialSite(tmp_path, {"name": "process", "images": {"tools": str(tools)}}, "tools")
    made.bob.create_collection(f"{BOBS}/out")
    return made


def of_bob(site: TrialSite, *argv: str) -> Submitted:
    return site.submit({**site.request(*(argv or ["true"])), "output_collection": f"{BOBS}/out"}, catalog=site.bob)


def seconds_of_bobs(site: TrialSite) -> float:
    """How long a task of bob's takes from its submission to its end."""
    began = time.monotonic()
    submitted = of_bob(site)
    assert site.ended(submitted, site.bob)["state"] == "COMPLETED"
    return time.monotonic() - began


def by_hand(site: TrialSite, collection: str, units: str = COMPUTE, state: str = "QUEUED") -> None:
    """Alice makes a collection that looks like a queued task."""
    site.alice.create_collection(collection)
    site.alice.annotate(Entity(EntityKind.COLLECTION, collection), add=[Avu(STATE, state, units)])


def test_a_task_of_another_user_begins_before_a_thousand_that_were_there_first(site: TrialSite) -> None:
    with site.working():
        alone = seconds_of_bobs(site)
    queue_for(site, 1, 1000)
    for _ in range(20):
        site.submit(site.request("sleep", "0.5"))
    with site.working():
        assert seconds_of_bobs(site) < max(LONGEST, 3 * alone)


def test_who_has_nothing_running_gets_the_next_free_slot(site: TrialSite) -> None:
    for _ in range(6):
        site.submit(site.request("sleep", "1"))
    bobs = of_bob(site)
    with site.working():
        assert site.ended(bobs, site.bob)["state"] == "COMPLETED"
        left = site.storage.find(Query(EntityKind.COLLECTION, STATE, "QUEUED", COMPUTE))
        assert len(left) >= 3


def test_junk_takes_no_slot_and_no_time_of_another_user(site: TrialSite) -> None:
    for number in range(60):
        by_hand(site, f"{HOME}/out/junk{number:02}")
    for number in range(60):
        by_hand(site, f"{HOME}/out/-not a name {number:02}")
    with site.working() as worker:
        assert seconds_of_bobs(site) < LONGEST
        until(lambda: sum(f"{HOME}/out/junk{n:02}" in worker._passed_over for n in range(60)) == 60, "all the junk")
        assert f"{HOME}/out/-not a name 00" not in worker._passed_over, "its name needed no look"


def test_junk_of_every_priority_does_not_use_up_all_questions(site: TrialSite) -> None:
    with site.working():
        alone = seconds_of_bobs(site)
    for priority in range(LOWEST_PRIORITY, HIGHEST_PRIORITY + 1):
        by_hand(site, f"{HOME}/out/-no task {priority}", units=queue_units(COMPUTE, priority))
    engine = {"name": "process", "images": {"tools": str(site.folder / "tools")}}
    site.configuration = site.configure(engine=engine, worker={"poll_seconds": 30})
    with site.working() as worker:
        for _ in range(3):
            submitted = of_bob(site)
            wakeup.call_worker(site.configuration, ZONE, COMPUTE)
            began = time.monotonic()
            assert site.ended(submitted, site.bob)["state"] == "COMPLETED"
            took = time.monotonic() - began
            assert took < max(LONGEST, 3 * alone), "it does not wait for the next look at the queue"
        wait_until(lambda: not worker._line.is_cut_short, "the worker to rest")


def test_the_worker_rests_when_there_is_only_junk(site: TrialSite) -> None:
    """Also with a user who may have no further task, and whose turn therefore never comes."""
    engine = {"name": "process", "images": {"tools": str(site.folder / "tools")}}
    site.configuration = site.configure(engine=engine, worker={"per_user": {"running": 1}})
    for priority in range(LOWEST_PRIORITY, HIGHEST_PRIORITY + 1):
        by_hand(site, f"{HOME}/out/-no task {priority}", units=queue_units(COMPUTE, priority))
    running, queued = (of_bob(site, "/bin/sh", "-c", WAITS) for _ in range(2))
    with site.working() as worker:
        wait_until(lambda: site.record(running, site.bob).state() is State.RUNNING, "the task to run")
        wait_until(lambda: not worker._line.is_cut_short, "the worker to rest")
        choices: list[int] = []
        real = worker._line.choose
        worker._line.choose = lambda *args: choices.append(1) or real(*args)  # type: ignore[method-assign, func-returns-value]
        time.sleep(1)
        assert len(choices) < 20
        for one in (running, queued):
            site.bob.annotate(
                Entity(EntityKind.COLLECTION, one.collection), add=[Avu(f"{STATE[:-5]}cancel", str(BOB), COMPUTE)]
            )
            site.ended(one, site.bob)


def test_a_task_begins_while_the_worker_looks_at_junk(site: TrialSite) -> None:
    """On a busy zone, each look takes long. Alice's junk is older, so the worker looks once before it is bob's turn."""
    for number in range(20):
        by_hand(site, f"{HOME}/out/junk{number:02}")
    bobs = of_bob(site)
    over = threading.Event()
    looks: list[str] = []

    def owner(original: Callable[[str], User], data_object: str) -> User:
        if data_object.startswith(HOME):
            looks.append(data_object)
        if len(looks) > 1 and data_object.startswith(HOME):
            assert over.wait(PATIENCE), "the test has not ended"
        return original(data_object)

    with site.working(storage=Troubled(site.storage, owner=owner)):  # type: ignore[arg-type]
        try:
            assert site.ended(bobs, site.bob)["state"] == "COMPLETED"
        finally:
            over.set()


def test_alices_own_task_comes_after_her_junk(site: TrialSite) -> None:
    for number in range(100):
        by_hand(site, f"{HOME}/out/junk{number:02}")
    assert site.run(site.request("true"))["state"] == "COMPLETED"


def test_an_avu_that_names_another_user_moves_no_task_into_their_line(site: TrialSite) -> None:
    for number in range(10):
        name = f"{HOME}/out/junk{number}"
        by_hand(site, name)
        claims = [Avu(f"irods::compute_to_data::{one}", str(BOB)) for one in ("owner", "user", "line")]
        site.alice.annotate(Entity(EntityKind.COLLECTION, name), add=claims)
    worker = site.worker()
    worker._next_tasks.choose(1)
    assert [one.owner for one in worker._line.listed(())] == [ALICE]


def test_a_priority_by_hand_moves_no_task_before_another_users(site: TrialSite) -> None:
    mine = site.submit(site.request("true"), priority=10)
    bobs = [of_bob(site) for _ in range(2)]
    worker = site.worker()
    assert worker._next_tasks.choose(3) == [mine.collection, bobs[0].collection, bobs[1].collection]
    by_hand(site, f"{HOME}/out/beyond", units=f"{COMPUTE};priority=99999999")
    for number in range(50):
        by_hand(site, f"{HOME}/out/level{number}", units=f"{COMPUTE};priority={number + 11}")
    worker = site.worker()
    assert worker._next_tasks.choose(60) == [mine.collection, bobs[0].collection, bobs[1].collection]


def test_a_request_of_another_user_is_ended_outside_the_slots(site: TrialSite) -> None:
    """Alice's collection passes its access on. Bob puts a request there: it may not be his."""
    collection = f"{HOME}/out/inbox"
    site.alice.create_collection(collection)
    site.alice.set_access(collection, BOB, Access.OWN)
    site.alice.set_inheritance(collection, True)
    own = of_bob(site)
    content = site.bob.read(f"{own.collection}/task.json", ENOUGH)
    site.bob.write(f"{collection}/task.json", content)
    site.bob.annotate(Entity(EntityKind.COLLECTION, collection), add=[Avu(STATE, "QUEUED", COMPUTE)])
    with site.working():
        assert site.ended(own, site.bob)["state"] == "COMPLETED"
        facts = site.ended(Submitted("inbox", collection, COMPUTE, ""), site.bob)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "refused")


def test_what_is_tried_again_waits_outside_the_slots(site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of alice's tasks meets an error that no task should meet. Bob's task does not wait for their pauses."""
    real = task_json.recorded_task

    def fails(content: bytes, subject: str) -> object:
        if subject.startswith(HOME):
            raise RuntimeError("a fault that alice can cause")
        return real(content, subject)

    monkeypatch.setattr(task_json, "recorded_task", fails)
    for _ in range(30):
        site.submit(site.request("true"))
    with site.working():
        assert seconds_of_bobs(site) < LONGEST
        for _ in range(3):
            assert seconds_of_bobs(site) < LONGEST


def test_what_is_out_of_reach_waits_outside_the_slots(site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    real = task_json.recorded_task

    def out_of_reach(content: bytes, subject: str) -> object:
        if subject.startswith(HOME):
            raise OutOfReach(subject, "waits for alice")
        return real(content, subject)

    monkeypatch.setattr(task_json, "recorded_task", out_of_reach)
    alices = [site.submit(site.request("true")) for _ in range(30)]
    with site.working():
        for _ in range(3):
            assert seconds_of_bobs(site) < LONGEST
        monkeypatch.setattr(task_json, "recorded_task", real)
        for one in alices[:3]:
            assert site.ended(one)["state"] == "COMPLETED"


def test_what_is_passed_over_does_not_grow_without_bound() -> None:
    passed_over = PassedOver(most=3)
    for number in range(10):
        passed_over.add(str(number))
    assert list(passed_over) == ["7", "8", "9"]


class TestBoundsPerUser:
    def test_more_waiting_tasks_than_a_user_may_have_are_refused(self, site: TrialSite) -> None:
        site.configuration = site.configure(
            engine={"name": "process", "images": {"tools": str(site.folder / "tools")}},
            worker={"per_user": {"waiting": 2}},
        )
        for _ in range(2):
            site.submit(site.request("true"))
        with pytest.raises(Refused, match=r"alice.*has 2 waiting tasks on dsp_resc"):
            site.submit(site.request("true"))
        of_bob(site)

    def test_the_worker_refuses_what_a_client_did_not(self, site: TrialSite) -> None:
        submitted = [site.submit(site.request("sleep", "1")) for _ in range(12)]
        site.configuration = site.configure(
            engine={"name": "process", "images": {"tools": str(site.folder / "tools")}},
            worker={"per_user": {"waiting": 3}},
        )
        with site.working():
            facts = [site.ended(one) for one in submitted]
        refused = [one for one in facts if one["state"] == "FAILED"]
        assert refused
        assert facts[0]["state"] == "COMPLETED"
        assert all("no user may have more there" in one["reason"] for one in refused)
        assert refused == facts[-len(refused) :], "the newest ones"

    def test_a_user_has_no_more_running_tasks_than_the_site_allows(self, site: TrialSite) -> None:
        site.configuration = site.configure(
            engine={"name": "process", "images": {"tools": str(site.folder / "tools")}},
            worker={"slots": 3, "per_user": {"running": 1}},
        )
        submitted = [site.submit(site.request("sleep", "0.2")) for _ in range(4)]
        with site.working():
            facts = [site.ended(one) for one in submitted]
        assert {one["state"] for one in facts} == {"COMPLETED"}
        ordered = sorted(facts, key=lambda one: one["staging_in_at"])
        for before, after in zip(ordered, ordered[1:]):
            assert after["staging_in_at"] >= before["completed_at"]

    def test_staged_bytes(self, site: TrialSite) -> None:
        site.configuration = site.configure(
            engine={"name": "process", "images": {"tools": str(site.folder / "tools")}},
            worker={"per_user": {"staged_bytes": 100}},
        )
        for name, size in (("a", 60), ("b", 70), ("c", 101)):
            site.alice.write(f"{HOME}/{name}", b"x" * size, resource="demoResc")
        two = [site.submit(site.request("sleep", "0.3", inputs=[f"{HOME}/{one}"])) for one in "ab"]
        large = site.submit(site.request("true", inputs=[f"{HOME}/c"]))
        with site.working():
            first, second = sorted((site.ended(one) for one in two), key=lambda one: one["running_at"])
            facts = site.ended(large)
        assert {first["state"], second["state"]} == {"COMPLETED"}
        assert second["running_at"] >= first["completed_at"]
        assert facts["state"] == "FAILED"
        assert "at least 101 bytes" in facts["reason"]


def test_a_submission_asks_no_more_with_many_resources(site: TrialSite) -> None:
    """The questions of a request that names only a role, with a few compute resources and with many."""
    site.configuration = site.configure(worker={"on_demand": False})
    site.alice.write(f"{HOME}/data", b"x", resource="demoResc")
    document = _of_any_resource(site, inputs=[f"{HOME}/data"])
    questions = []
    for last in (6, 24):
        for number in range(len(site.alice.resources()), last):
            name = f"resc{number}"
            site.zone.add_resource(name)
            site.give_role(name, "CONTAINER")
            Heartbeat(site.storage.catalog, site.configuration, name).renew()
            capabilities.publish(site.storage.catalog, site.configuration, name)
            held_images.publish(site.storage.catalog, site.configuration, name, (site.image,))
        calls: Counter[str] = Counter()
        submitted = site.submit(document, catalog=Counting(site.alice, calls))  # type: ignore[arg-type]
        assert submitted.resource.startswith("resc")
        questions.append(calls.total())
    assert questions[0] == questions[1]


def _of_any_resource(site: TrialSite, **given: Any) -> dict[str, Any]:
    document = {**site.request("true", **given), "role": "CONTAINER"}
    del document["resource"]
    return document


def _publish_line(site: TrialSite, resource: str, waiting: int) -> None:
    line = PublishedLine(capacity=1, running=1, waiting=waiting, users=1, first=())
    published_line.publish(site.storage.catalog, site.configuration.attributes, resource, line)


def test_tasks_of_others_count_for_the_load_of_a_resource(site: TrialSite) -> None:
    """Users do not see the tasks of others, but the numbers that workers publish."""
    site.zone.add_resource("a_resc")
    site.give_role("a_resc", "CONTAINER")
    document = _of_any_resource(site)
    assert site.submit(document).resource == "a_resc"
    _publish_line(site, "a_resc", 7)
    submitted = site.submit(document)
    assert submitted.resource == COMPUTE
    _publish_line(site, COMPUTE, 20)
    chosen = site.submit(document)
    assert chosen.resource == "a_resc"
    assert "has 8 unfinished tasks" in chosen.choice


def test_submissions_of_one_moment_are_spread_over_many_resources(site: TrialSite) -> None:
    for number in range(20):
        site.zone.add_resource(f"far{number}")
        site.give_role(f"far{number}", "CONTAINER")
    document = _of_any_resource(site)
    counts = Counter(site.submit(document).resource for _ in range(42))
    assert max(counts.values()) <= 8, "two tasks for each resource; three resources alone would have got 14 each"


def test_a_submission_reads_a_bounded_part_of_each_queue(site: TrialSite) -> None:
    """However long the queues are, and only of the resources that hold as much of the inputs as any other."""
    site.zone.add_resource("other_resc")
    site.give_role("other_resc", "CONTAINER")
    queue_for(site, 1, 1500)
    found: list[int] = []

    def find(original: Any, query: Query) -> Any:
        answer = original(query)
        if query.attribute == STATE:
            found.append(len(answer))
        return answer

    document = _of_any_resource(site)
    catalog: Any = Troubled(site.zone.session(User("user0000", ZONE)), find=find)
    chosen = selection.choose(catalog, site.configuration, request.parse(document, plain=InputKind.PATH), ())
    assert chosen.resource.name == "other_resc" and "has 0 unfinished tasks" in chosen.reason
    assert max(found) == 1000
    found.clear()
    site.alice.write(f"{HOME}/out/x", b"data", resource=COMPUTE)
    here = site.submit({**document, "inputs": [f"{HOME}/out/x"]}, catalog=Troubled(site.alice, find=find))  # type: ignore[arg-type]
    assert here.resource == COMPUTE and found == [], "one resource holds the input, so nothing is counted"


def test_requests_that_are_wrong_leave_the_worker_time_for_others(site: TrialSite) -> None:
    """Each could be as large as a request may be. The worker does not read one right after the other."""
    wrong = site.folder / "wrong"
    wrong.write_bytes(b'{"version": 1}')
    for number in range(6):
        by_hand(site, f"{HOME}/out/wrong{number}")
        site.alice.put(str(wrong), f"{HOME}/out/wrong{number}/task.json")
    engine = {"name": "process", "images": {"tools": str(site.folder / "tools")}}
    site.configuration = site.configure(engine=engine, worker={"slots": 1})
    read: dict[str, float] = {}
    with site.working() as worker:
        real = worker._pace.spent

        def spent(collection: str, owner: User, seconds: float) -> None:
            if owner == ALICE:
                read.setdefault(collection, time.monotonic())
                seconds = 0.3  # as if it were a large one on a busy machine
            real(collection, owner, seconds)

        worker._pace.spent = spent  # type: ignore[method-assign]
        assert seconds_of_bobs(site) < LONGEST
        until(lambda: not site.storage.find(Query(EntityKind.COLLECTION, STATE, "QUEUED", COMPUTE)), "the last of them")
    assert len(read) >= 4, "the worker may have read one or two before this looked"
    assert max(read.values()) - min(read.values()) > 1.5, "0.9 seconds for each of the first four"
