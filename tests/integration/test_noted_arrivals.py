"""Arrivals that a policy notes and a worker submits: what the policy does itself, and who dies in between."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.crashes import Died, Doomed, each_fate
from support.site import ALICE, BOB, COMPUTE, HOME, RODS, ZONE, TrialSite, until, wait_until

from compute_to_data.agent import policy
from compute_to_data.coordination.heartbeat import Heartbeat
from compute_to_data.coordination.lock import ResourceLock
from compute_to_data.coordination.wakeup import ARRIVAL
from compute_to_data.model import Access, Avu, Collection, Entity, EntityKind, ReplicaStatus, User
from compute_to_data.ports.zone import Catalog
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord
from compute_to_data.worker import arrivals as worker_arrivals
from compute_to_data.worker.arrivals import Arrivals
from compute_to_data.zones.embedded.agent import Callback, RuleExecutionInfo

INBOX, TEMPLATE, SHARED = f"{HOME}/in", f"{HOME}/template.json", f"/{ZONE}/home/shared"
TAG, CLAIM = "irods::compute_to_data::trigger", "irods::compute_to_data_task"
ARRIVED, REASON = "irods::compute_to_data::arrived", "irods::compute_to_data::arrival"


class Inbox:
    """alice's tagged collection, and what an agent and a worker do with what arrives there."""

    def __init__(self, folder: Path) -> None:
        tools = folder / "tools"
        tools.mkdir(parents=True)
        self.site = TrialSite(folder, {"name": "process", "images": {"tools": str(tools)}}, "tools")
        self.alice, self.bob = self.site.alice, self.site.bob
        self.alice.create_collection(INBOX)
        self.alice.write(TEMPLATE, self.template(INBOX))
        self.tag(INBOX, TEMPLATE)
        self.lock = ResourceLock(self.site.configuration, ZONE, COMPUTE)
        self.log: list[str] = []

    def template(self, collection: str, **changes: Any) -> bytes:
        document = {**self.site.request("true"), "inputs": [{"arriving_in": collection}], **changes}
        return json.dumps(document).encode()

    def tag(self, collection: str, template: str) -> None:
        self.alice.annotate(Entity(EntityKind.COLLECTION, collection), add=[Avu(TAG, template)])

    @contextlib.contextmanager
    def worker_lives(self) -> Iterator[None]:
        """As if one served the resource, but it submits nothing yet."""
        self.lock.acquire()
        try:
            yield
        finally:
            self.lock.release()

    def arrives(self, path: str, user: User = ALICE, content: bytes = b"data") -> str:
        session = self.site.zone.session(user)
        session.write(path, content)
        self.reported(path, user)
        return path

    def reported(self, path: str, user: User = ALICE) -> None:
        rei = RuleExecutionInfo(self.site.zone, user, self.site.configuration)
        policy.arrived(Callback(lambda where, text: self.log.append(text)), rei, path, written=False)

    def avus(self, path: str, attribute: str) -> list[Avu]:
        return list(self.site.storage.avus(Entity(EntityKind.DATA_OBJECT, path), attribute))

    def annotate(self, path: str, *avus: Avu, catalog: Catalog | None = None) -> None:
        (catalog or self.alice).annotate(Entity(EntityKind.DATA_OBJECT, path), add=avus)

    def note(self, path: str, catalog: Catalog | None = None, task_id: str = "") -> None:
        """Write a note by hand."""
        self.annotate(path, Avu(ARRIVED, COMPUTE, task_id or str(uuid.uuid4())), catalog=catalog)

    def worker_looks(self, storage: Any = None) -> int:
        """One look of the worker's; how many notes it took up."""
        return Arrivals(self.site.worker(storage=storage)._served).look()

    def tasks(self, collection: str = f"{HOME}/out") -> list[str]:
        return [one.logical_path for one in self.alice.children(collection) if isinstance(one, Collection)]

    def state(self, task: str) -> State | None:
        return TaskRecord(self.alice, self.site.configuration.attributes, task, COMPUTE).state()

    def reason(self, path: str) -> str:
        return " ".join(avu.value for avu in self.avus(path, REASON))


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path)


def test_the_upload_leaves_one_note_and_the_worker_submits(inbox: Inbox) -> None:
    with inbox.worker_lives():
        path = inbox.arrives(f"{INBOX}/a")
    (note,) = inbox.avus(path, ARRIVED)
    assert note.value == COMPUTE
    assert inbox.tasks() == [] and inbox.avus(path, CLAIM) == []
    assert inbox.worker_looks() == 1
    (task,) = inbox.tasks()
    assert task == f"{HOME}/out/{note.units}" and inbox.state(task) is State.QUEUED
    assert [one.value for one in inbox.avus(path, CLAIM)] == [note.units]
    assert inbox.avus(path, ARRIVED) == []
    assert inbox.alice.stat(f"{task}/task.json").owner == ALICE
    assert inbox.log == []


def test_a_worker_runs_what_arrives_while_it_serves(inbox: Inbox) -> None:
    with inbox.site.working():
        paths = [inbox.arrives(f"{INBOX}/{number}") for number in range(10)]
        until(lambda: [inbox.state(one) for one in inbox.tasks()] == [State.COMPLETED] * 10, "ten tasks")
    assert [len(inbox.avus(path, CLAIM)) for path in paths] == [1] * 10


class Clock:
    """In place of ``time`` in a module."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_a_worker_lets_an_upload_go_on_until_it_pauses(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    looking = Arrivals(inbox.site.worker()._served)
    looking._next_look = clock.now + 15
    monkeypatch.setattr(worker_arrivals, "time", clock)
    assert looking.due_in() == 15.0
    for _ in range(20):
        looking.call()
        assert looking.due_in() == 1.0
        clock.now += 0.5
    clock.now += 0.5
    assert looking.due_in() == 0.0, "the upload has paused, or is over"


def test_a_worker_does_not_wait_for_a_long_upload(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    looking = Arrivals(inbox.site.worker()._served)
    monkeypatch.setattr(worker_arrivals, "time", clock)
    while looking._called is None or looking.due_in():
        looking.call()
        clock.now += 0.5
    assert clock.now == 1030.0


def test_an_upload_of_many_files_calls_the_worker_seldom(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = Clock(), []
    monkeypatch.setattr(policy, "time", clock)
    monkeypatch.setattr(policy, "_called", {})
    monkeypatch.setattr(policy.wakeup, "call_worker", lambda *arguments: calls.append(arguments[2:]))
    with inbox.worker_lives():
        for number in range(20):
            inbox.arrives(f"{INBOX}/{number}")
            clock.now += 0.1
    assert calls == [(COMPUTE, ARRIVAL)] * 7
    assert inbox.worker_looks() == 20


def test_a_note_left_while_no_worker_ran_is_found_at_the_next_start(inbox: Inbox) -> None:
    with inbox.worker_lives():
        inbox.arrives(f"{INBOX}/a")
    with inbox.site.working():
        until(lambda: [inbox.state(one) for one in inbox.tasks()] == [State.COMPLETED], "the task")


def test_an_on_demand_worker_does_not_leave_with_a_note(inbox: Inbox) -> None:
    with inbox.worker_lives():
        inbox.arrives(f"{INBOX}/a")
    inbox.site.worker().serve(on_demand=True)
    assert [inbox.state(one) for one in inbox.tasks()] == [State.COMPLETED]


def test_without_a_live_worker_the_policy_submits_itself(inbox: Inbox) -> None:
    path = inbox.arrives(f"{INBOX}/a")
    assert inbox.avus(path, ARRIVED) == [] and len(inbox.tasks()) == 1


def test_a_worker_elsewhere_gets_the_note(inbox: Inbox) -> None:
    site = inbox.site
    site.zone.add_resource("far_resc", host="far.example.org")
    Heartbeat(site.storage.catalog, site.configuration, "far_resc").renew()
    policy._live_workers.__init__()  # type: ignore[misc]  # a new agent
    path = inbox.arrives(f"{INBOX}/a")
    assert [one.value for one in inbox.avus(path, ARRIVED)] == ["far_resc"]
    assert inbox.worker_looks() == 0, "that of dsp_resc leaves it alone"


def test_overwriting_before_and_after_the_worker_looks_makes_one_task(inbox: Inbox) -> None:
    with inbox.worker_lives():
        path = inbox.arrives(f"{INBOX}/a")
        inbox.alice.write(path, b"again", force=True)
        inbox.reported(path)
        assert len(inbox.avus(path, ARRIVED)) == 2
        inbox.worker_looks()
        inbox.reported(path)
        inbox.worker_looks()
    assert len(inbox.tasks()) == 1 and inbox.avus(path, ARRIVED) == []


def test_two_agents_and_two_workers_make_one_task(inbox: Inbox) -> None:
    """One agent notes it, another one submits it: it saw no worker."""
    with inbox.worker_lives():
        path = inbox.arrives(f"{INBOX}/a")
    policy._live_workers.__init__()  # type: ignore[misc]
    inbox.reported(path)
    for _ in range(2):
        inbox.worker_looks()
    assert len(inbox.tasks()) == 1 and len(inbox.avus(path, CLAIM)) == 1


def test_a_refused_arrival_says_why_and_is_not_tried_again(inbox: Inbox) -> None:
    inbox.alice.write(TEMPLATE, inbox.template(INBOX, resource="no_such_resource"), force=True)
    with inbox.worker_lives():
        path = inbox.arrives(f"{INBOX}/a")
        assert (inbox.worker_looks(), inbox.worker_looks()) == (1, 0)
        assert "no_such_resource" in inbox.reason(path) and inbox.avus(path, CLAIM) == []
        inbox.alice.write(TEMPLATE, inbox.template(INBOX), force=True)
        inbox.reported(path)
        inbox.worker_looks()
    assert len(inbox.tasks()) == 1 and inbox.reason(path) == ""


def test_where_too_many_tasks_wait_the_notes_wait(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The site bounds how many tasks of a user wait. Other users' arrivals go on."""
    inbox.site.configuration = inbox.site.configure(worker={"per_user": {"waiting": 2}})
    monkeypatch.setattr(worker_arrivals, "_AGAIN_SECONDS", 0.1)
    inbox.bob.create_collection(f"/{ZONE}/home/bob/in")
    inbox.bob.write(
        f"/{ZONE}/home/bob/t", inbox.template(f"/{ZONE}/home/bob/in", output_collection=f"/{ZONE}/home/bob")
    )
    inbox.bob.annotate(Entity(EntityKind.COLLECTION, f"/{ZONE}/home/bob/in"), add=[Avu(TAG, f"/{ZONE}/home/bob/t")])
    with inbox.worker_lives():
        paths = [inbox.arrives(f"{INBOX}/{number}") for number in range(6)]
        arrivals = Arrivals(inbox.site.worker()._served)
        while arrivals.look():
            pass
        left = [path for path in paths if inbox.avus(path, ARRIVED)]
        assert len(inbox.tasks()) >= 2 and left
        assert any("submitted later: user alice" in inbox.reason(path) for path in left)
        of_bob = inbox.arrives(f"/{ZONE}/home/bob/in/one", BOB)
        arrivals.look()
        assert inbox.avus(of_bob, ARRIVED) == []
    with inbox.site.working():
        until(lambda: [inbox.state(one) for one in inbox.tasks()] == [State.COMPLETED] * 6, "six tasks")
    assert [inbox.reason(path) for path in paths] == [""] * 6


@pytest.mark.parametrize("down", [COMPUTE, "demoResc"], ids=["its compute resource", "the template's resource"])
def test_what_arrives_while_a_resource_is_marked_down_is_not_refused(inbox: Inbox, down: str) -> None:
    """As during maintenance. The template's only replica is on demoResc."""
    with inbox.worker_lives():
        path = inbox.arrives(f"{INBOX}/a")
        inbox.site.zone.set_resource_status(down, "down")
        inbox.worker_looks()
    inbox.site.zone.set_resource_status(down, "up")
    with inbox.site.working():
        until(lambda: [inbox.state(one) for one in inbox.tasks()] == [State.COMPLETED], "its task")
    assert inbox.reason(path) == ""


def test_a_note_waits_while_its_data_object_is_being_written(inbox: Inbox) -> None:
    with inbox.worker_lives():
        path = inbox.arrives(f"{INBOX}/a")
    inbox.site.zone.set_replica_status(path, 0, ReplicaStatus.INTERMEDIATE)
    arrivals = Arrivals(inbox.site.worker()._served)
    assert (arrivals.look(), arrivals.look()) == (1, 0), "it is put off"
    assert inbox.tasks() == [] and len(inbox.avus(path, ARRIVED)) == 1
    inbox.site.zone.set_replica_status(path, 0, ReplicaStatus.GOOD)
    arrivals._postponed.clear()
    arrivals.look()
    assert len(inbox.tasks()) == 1


def test_what_was_removed_or_renamed_meanwhile(inbox: Inbox) -> None:
    with inbox.worker_lives():
        gone, moved = inbox.arrives(f"{INBOX}/gone"), inbox.arrives(f"{INBOX}/moved")
    inbox.alice.remove(gone)
    inbox.alice.rename(moved, f"{HOME}/moved")
    inbox.worker_looks()
    assert inbox.tasks() == [] and inbox.avus(f"{HOME}/moved", ARRIVED) == [], "its collection has no tag"


@pytest.mark.parametrize("after", [False, True], ids=["before it takes effect", "after it took effect"])
def test_a_worker_that_dies_at_any_call_loses_and_doubles_nothing(tmp_path: Path, after: bool) -> None:
    places = []
    for fate in each_fate(after):
        inbox = Inbox(tmp_path / f"{fate.at}")
        with inbox.worker_lives():
            path = inbox.arrives(f"{INBOX}/a")
        with contextlib.suppress(Died):
            inbox.worker_looks(Doomed(inbox.site.storage, fate))
        inbox.worker_looks()
        (task,) = inbox.tasks()
        where = f"{fate.at}"
        assert inbox.state(task) is State.QUEUED, where
        assert TaskRecord(inbox.alice, inbox.site.configuration.attributes, task, COMPUTE).sealed_owner() == ALICE
        assert [one.value for one in inbox.avus(path, CLAIM)] == [task.rpartition("/")[2]], where
        assert inbox.avus(path, ARRIVED) == [] and inbox.reason(path) == "", where
        assert inbox.worker_looks() == 0
        places.append(fate.where)
    assert {"create_collection", "write", "annotate"} <= {*places}


def test_an_account_that_is_gone(inbox: Inbox) -> None:
    """carol stores in alice's collection, and then her account is removed."""
    carol = User("carol", ZONE)
    inbox.site.zone.add_user("carol")
    inbox.alice.set_access(INBOX, carol, Access.OWN)
    with inbox.worker_lives():
        path = inbox.arrives(f"{INBOX}/a", carol)
    assert len(inbox.avus(path, ARRIVED)) == 1
    inbox.site.zone.remove_user(carol)
    assert (inbox.worker_looks(), inbox.worker_looks()) == (1, 0)
    assert inbox.avus(path, ARRIVED) == [] and inbox.tasks() == []


def test_a_worker_that_is_about_to_leave_looks_for_notes_once_more(inbox: Inbox) -> None:
    worker = inbox.site.worker()
    with inbox.worker_lives():
        inbox.arrives(f"{INBOX}/a")
    worker._lock.acquire()
    assert not worker._may_leave()
    inbox.worker_looks()
    inbox.alice.remove(*inbox.tasks(), recursive=True)
    assert worker._may_leave()


class TestWhoseRights:
    """A note proves nothing where a user other than the data object's owner may write it."""

    @pytest.fixture
    def shared(self, inbox: Inbox) -> Inbox:
        rods = inbox.site.storage.catalog
        rods.create_collection(SHARED, parents=True)
        for user in (ALICE, BOB):
            rods.set_access(SHARED, user, Access.OWN)
        inbox.alice.write(f"{HOME}/shared.json", inbox.template(SHARED))
        inbox.tag(SHARED, f"{HOME}/shared.json")
        return inbox

    def test_where_others_may_annotate_it_the_policy_submits_itself(self, shared: Inbox) -> None:
        shared.site.storage.catalog.set_inheritance(SHARED, True)
        with shared.worker_lives():
            path = shared.arrives(f"{SHARED}/a")
        assert shared.avus(path, ARRIVED) == [] and len(shared.tasks()) == 1

    def test_one_who_replaces_anothers_data_object_does_not_use_the_owners_rights(self, shared: Inbox) -> None:
        """bob overwrites alice's data object. It is his arrival, and he has no template."""
        with shared.worker_lives():
            path = shared.arrives(f"{SHARED}/a")
            shared.worker_looks()
            (claim,) = shared.avus(path, CLAIM)
            shared.alice.annotate(Entity(EntityKind.DATA_OBJECT, path), remove=[claim])
            shared.alice.set_access(path, BOB, Access.OWN)
            shared.bob.write(path, b"bob's", force=True)
            shared.reported(path, BOB)
            shared.worker_looks()
        assert len(shared.tasks()) == 1, "only alice's own"
        assert "bob#tempZone may not read it" in shared.reason(path)

    def test_one_who_overwrites_anothers_data_object_has_a_task_of_their_own(self, inbox: Inbox) -> None:
        """alice once stored it in bob's collection, which passes only his access on. It stays hers in the catalog."""
        bobs = f"/{ZONE}/home/bob/in"
        inbox.bob.create_collection(bobs)
        inbox.bob.set_access(bobs, ALICE, Access.MODIFY_OBJECT)
        inbox.bob.set_inheritance(bobs, True)
        inbox.alice.write(f"{bobs}/a", b"data")
        inbox.bob.set_access(f"{bobs}/a", ALICE, Access.READ_OBJECT)
        inbox.bob.write(f"{bobs}.json", inbox.template(bobs, output_collection=f"/{ZONE}/home/bob"))
        inbox.bob.annotate(Entity(EntityKind.COLLECTION, bobs), add=[Avu(TAG, f"{bobs}.json")])
        with inbox.worker_lives():
            inbox.bob.write(f"{bobs}/a", b"new", force=True)
            inbox.reported(f"{bobs}/a", BOB)
        assert inbox.avus(f"{bobs}/a", ARRIVED) == []
        assert len(inbox.avus(f"{bobs}/a", CLAIM)) == 1

    @pytest.mark.parametrize("level", [Access.CREATE_METADATA, Access.MODIFY_OBJECT, Access.OWN])
    def test_a_note_that_another_user_may_have_written_is_refused(self, shared: Inbox, level: Access) -> None:
        shared.alice.write(f"{SHARED}/a", b"data")
        shared.alice.set_access(f"{SHARED}/a", BOB, Access.OWN)
        shared.note(f"{SHARED}/a", shared.bob)
        shared.alice.set_access(f"{SHARED}/a", BOB, level)
        assert (shared.worker_looks(), shared.worker_looks()) == (1, 0)
        assert shared.tasks() == [] and "bob#tempZone has" in shared.reason(f"{SHARED}/a")

    def test_a_note_of_ones_own_gives_no_right(self, shared: Inbox) -> None:
        """alice notes data objects that no policy saw: her template reads what she may read, once."""
        shared.bob.write(f"{SHARED}/bobs", b"data")
        with pytest.raises(Exception, match="no such"):
            shared.note(f"{SHARED}/bobs", shared.alice)
        shared.alice.write(f"{HOME}/elsewhere", b"data")
        shared.note(f"{HOME}/elsewhere")
        shared.worker_looks()
        assert shared.tasks() == []

    def test_an_administrators_upload_is_theirs(self, shared: Inbox) -> None:
        """alice tags a collection into which rods stores: her template does not count for rods."""
        shared.site.storage.catalog.set_access(SHARED, RODS, Access.OWN)
        with shared.worker_lives():
            path = shared.arrives(f"{SHARED}/of-rods", RODS)
            shared.worker_looks()
        assert shared.tasks() == []
        assert "rods#tempZone may not read it" in shared.reason(path)


class TestFloods:
    MALFORMED = ("", "x", "../../up", "a" * 250, "\x1b[2J", str(uuid.uuid4()).upper(), f" {uuid.uuid4()}")

    @pytest.mark.parametrize("units", MALFORMED, ids=range(len(MALFORMED)))
    def test_a_note_that_no_policy_wrote_is_refused_once(self, inbox: Inbox, units: str) -> None:
        inbox.alice.write(f"{INBOX}/a", b"data")
        inbox.annotate(f"{INBOX}/a", Avu(ARRIVED, COMPUTE, units))
        assert (inbox.worker_looks(), inbox.worker_looks()) == (1, 0)
        assert inbox.tasks() == [] and "no policy wrote" in inbox.reason(f"{INBOX}/a")

    def test_a_note_does_not_name_a_task_that_is_there(self, inbox: Inbox) -> None:
        """The collection of that name has other content: it stays, and nothing is queued in it."""
        name = str(uuid.uuid4())
        inbox.alice.create_collection(f"{HOME}/out/{name}")
        inbox.alice.write(f"{HOME}/out/{name}/precious", b"data")
        inbox.alice.write(f"{INBOX}/a", b"data")
        inbox.note(f"{INBOX}/a", task_id=name)
        inbox.annotate(f"{INBOX}/a", Avu(CLAIM, name, "place"))
        assert (inbox.worker_looks(), inbox.worker_looks()) == (1, 0)
        assert inbox.alice.read(f"{HOME}/out/{name}/precious", 10) == b"data"
        assert inbox.state(f"{HOME}/out/{name}") is None and inbox.reason(f"{INBOX}/a")

    def test_thousands_of_notes_on_one_data_object(self, inbox: Inbox) -> None:
        inbox.alice.write(f"{INBOX}/a", b"data")
        for _ in range(9):
            inbox.annotate(f"{INBOX}/a", *(Avu(ARRIVED, COMPUTE, str(uuid.uuid4())) for _ in range(1000)))
        wait_until(lambda: not inbox.worker_looks(), "an end of the notes")
        assert len(inbox.tasks()) == 1

    def test_another_users_arrival_does_not_wait_for_a_flood(self, inbox: Inbox) -> None:
        for number in range(300):
            inbox.alice.write(f"{INBOX}/{number:03}", b"data")
            inbox.note(f"{INBOX}/{number:03}")
        bobs = f"/{ZONE}/home/bob/in"
        inbox.bob.create_collection(bobs)
        inbox.bob.write(f"{bobs}.json", inbox.template(bobs, output_collection=f"/{ZONE}/home/bob"))
        inbox.bob.annotate(Entity(EntityKind.COLLECTION, bobs), add=[Avu(TAG, f"{bobs}.json")])
        with inbox.worker_lives():
            path = inbox.arrives(f"{bobs}/a", BOB)
        inbox.worker_looks()
        assert len(inbox.avus(path, CLAIM)) == 1, "the first look took it up"
        assert 0 < len(inbox.tasks()) < 40
