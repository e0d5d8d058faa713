"""Tasks in Python: submit, look, wait, cancel, run again, find, list, and read results."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support.faults import Troubled
from support.people import settings_of
from support.site import ALICE, BOB, COMPUTE, HOME, PATIENCE, WAITS, TrialSite, wait_until

import compute_to_data as c2d
from compute_to_data.cli.task_printer import state_text
from compute_to_data.client import logs
from compute_to_data.client.task_status import sentence
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.errors import (
    AccessDenied,
    InvalidRequest,
    NotFound,
    ReasonCode,
    Refused,
    TaskFailed,
    ZoneOutOfReach,
)
from compute_to_data.model import Access, Avu, Entity, EntityKind
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord
from compute_to_data.task import LIVE_LOG_NAME


@pytest.fixture
def idle(site: TrialSite) -> TrialSite:
    """A site where a submission does not start a worker."""
    engine = {"name": "process", **site.configuration.engine.settings}
    site.configuration = site.configure(engine=engine, worker={"on_demand": False})
    return site


def sh(site: TrialSite, script: str, **more: Any) -> Any:
    return site.request("/bin/sh", "-c", script, **more)


class TestAfter:
    def test_status_says_what_a_waiting_task_waits_for(self, site: TrialSite, session: c2d.Session) -> None:
        first = session.submit(sh(site, WAITS))
        others = [session.submit(sh(site, "true"), after=[first]) for _ in range(4)]
        last = session.submit(sh(site, "true"), after=[*others, first.id[:13]])
        wait_until(lambda: first.state is State.RUNNING, "the first task to run")
        status = last.status()
        assert status.state is State.WAITING
        assert set(status.after) == {one.collection for one in (*others, first)}
        states = {f"{one.id} (WAITING)" for one in others} | {f"{first.id} (RUNNING)"}
        shown = status.waiting_for.removeprefix("the success of ").partition(" and ")[0].split(", ")
        assert len(shown) == 3 and set(shown) <= states
        assert status.waiting_for.endswith(" and perhaps 2 more")
        assert f"the success of {first.id} (RUNNING)" == others[0].status().waiting_for
        assert [one.task_id for one in session.tasks(states=(State.WAITING,))] == [
            one.id for one in (last, *reversed(others))
        ]
        site.let_go(first)
        assert last.wait().state is State.COMPLETED
        assert "waiting" in last.status().seconds
        assert last.request()["inputs"] == [] and "after" not in last.request(), "a rerun need not wait again"

    def test_cancelling_a_waiting_task_cancels_what_waits_for_it(self, site: TrialSite, session: c2d.Session) -> None:
        first = session.submit(sh(site, WAITS))
        second = session.submit(sh(site, "true"), after=[first])
        third = session.submit(sh(site, "true"), after=[second.id])
        second.cancel()
        assert second.wait().reason_code == "cancelled"
        assert f"it waited for task {second.id}, which CANCELLED" in third.wait().reason
        site.let_go(first)
        assert first.wait().state is State.COMPLETED


class TestOneTask:
    def test_submit_wait_and_read_the_result(self, site: TrialSite, session: c2d.Session) -> None:
        site.alice.write(f"{HOME}/a.txt", b"axbxc\nd\n")
        states = []
        with site.working():
            task = session.submit(sh(site, "tr -d x < /inputs/a.txt > /outputs/b.txt", inputs=[f"{HOME}/a.txt"]))
            status = task.wait(on_change=lambda one: states.append(one.state))
        assert (status.state, status.exit_status, status.reason_code) == (State.COMPLETED, 0, "completed")
        assert states[-1] is State.COMPLETED
        results = task.results()
        assert list(results) == ["b.txt"]
        result = results["b.txt"]
        assert (result.bytes(), result.text(), result.lines()) == (b"abc\nd\n", "abc\nd\n", ["abc", "d"])
        assert (result.path, result.size) == (f"{task.collection}/b.txt", 6)
        assert result.checksum.startswith("sha2:")

    def test_status_has_every_recorded_fact(self, site: TrialSite, session: c2d.Session) -> None:
        site.alice.write(f"{HOME}/a.txt", b"a")
        with site.working():
            task = session.submit(
                sh(site, "exit 0", inputs=[f"{HOME}/a.txt"], name="first", process={"environment": {"K": "v"}})
            )
            status = task.wait()
        avus = site.alice.avus(Entity(EntityKind.COLLECTION, task.collection))
        assert (status.name, status.role, status.resource, status.owner) == ("first", "CONTAINER", COMPUTE, str(ALICE))
        assert status.parameters == {"K": "v"}
        assert status.commands == ("/bin/sh -c 'exit 0'",)
        (checksum,) = (avu.units for avu in avus if avu.attribute.endswith("::input"))
        assert status.inputs == {f"{HOME}/a.txt": checksum}
        assert set(status.seconds) == {"queued", "stage_in", "processing", "stage_out"}
        shown = json.dumps(status.document())
        for avu in avus:
            if not avu.attribute.endswith(("_seconds", "::started_at")):
                assert avu.value in shown or avu.value in json.loads(shown).values(), avu

    def test_why_it_waits(self, idle: TrialSite, session: c2d.Session) -> None:
        entity = Entity(EntityKind.RESOURCE, COMPUTE)
        sign = Avu("irods::compute_to_data::worker", "test", str(int(time.time())))
        idle.storage.catalog.annotate(entity, add=[sign])
        first, second = session.submit(sh(idle, "true")), session.submit(sh(idle, "true"))
        assert first.status().waiting_for == f"it is next on {COMPUTE}"
        assert second.status().waiting_for == f"1 task before it on {COMPUTE}"
        idle.storage.catalog.annotate(entity, remove=[sign])
        assert second.status().waiting_for == f"{COMPUTE} has no live worker; 1 task before it on {COMPUTE}"

    @pytest.mark.parametrize("state", [State.STAGING_IN, State.RUNNING, State.STAGING_OUT])
    def test_why_it_does_not_go_on(self, idle: TrialSite, session: c2d.Session, state: State) -> None:
        """Its worker, or the whole host, is gone after it began."""
        entity = Entity(EntityKind.RESOURCE, COMPUTE)
        sign = Avu("irods::compute_to_data::worker", "test", str(int(time.time())))
        idle.storage.catalog.annotate(entity, add=[sign])
        task = session.submit(sh(idle, "true"))
        TaskRecord(session.catalog, session.attributes, task.collection, COMPUTE).move_to(state)
        assert task.status().waiting_for == ""
        idle.storage.catalog.annotate(entity, remove=[sign])
        why = f"{COMPUTE} has no live worker; it goes on when a worker runs there again"
        assert task.status().waiting_for == why
        assert sentence.of(task.status()).endswith(f"on {COMPUTE}: {why}")
        assert state_text(task.status()) == f"{state.value}: {why}"

    def test_what_it_waits_for_at_a_server_that_hangs(self, idle: TrialSite, session: c2d.Session) -> None:
        """The worker tries again, and says why until it goes on."""
        session.catalog.write(f"{HOME}/far", b"x", resource="demoResc")
        answers, asked = threading.Event(), threading.Event()

        def hang(replicate: Any, *rest: Any) -> Any:
            if asked.is_set() and not answers.is_set():
                raise ZoneOutOfReach("far.example.org", "another server of the zone does not answer", "Wait")
            if not answers.is_set():
                asked.set()
                answers.wait(PATIENCE)
                answers.clear()
                raise ZoneOutOfReach("far.example.org", "another server of the zone does not answer", "Wait")
            return replicate(*rest)

        entity = Entity(EntityKind.RESOURCE, COMPUTE)
        sign = Avu("irods::compute_to_data::worker", "test", str(int(time.time())))
        idle.storage.catalog.annotate(entity, add=[sign])
        task = session.submit(sh(idle, "true", inputs=[f"{HOME}/far"]))
        idle.storage.catalog.annotate(entity, remove=[sign])
        with idle.working(storage=Troubled(idle.storage, replicate=hang)):  # type: ignore[arg-type]
            assert asked.wait(PATIENCE)
            assert task.status().waiting_for == f"{COMPUTE} receives its inputs: {HOME}/far"
            answers.set()
            why = "far.example.org: another server of the zone does not answer. Wait. The worker tries again"
            wait_until(lambda: task.status().waiting_for == why, "the reason in the status")
            answers.set()
            status = task.wait(PATIENCE)
        assert (status.state, status.waiting_for) == (State.COMPLETED, "")
        avus = session.catalog.avus(Entity(EntityKind.COLLECTION, task.collection))
        assert not [avu for avu in avus if avu.attribute.endswith("::held_up")]

    def test_without_a_worker_a_task_is_refused_and_leaves_nothing(self, idle: TrialSite, session: c2d.Session) -> None:
        with pytest.raises(Refused, match=f"resource {COMPUTE}: has no live worker"):
            session.submit(sh(idle, "true"))
        assert session.tasks() == []

    def test_a_failure_is_raised_with_its_reason(self, site: TrialSite, session: c2d.Session) -> None:
        with site.working():
            task = session.submit(sh(site, f"{WAITS}; echo why >&2; exit 7"))
            with pytest.raises(Refused, match="has not ended yet"):
                task.results()
            site.let_go(task)
            status = task.wait()
        assert (status.state, status.exit_status, status.reason_code) == (State.FAILED, 7, "nonzero_exit")
        with pytest.raises(TaskFailed, match="exited with status 7") as caught:
            task.results()
        assert caught.value.reason is ReasonCode.NONZERO_EXIT
        assert logs.read(task).stderr == b"why\n"

    def test_waiting_can_time_out(self, site: TrialSite, session: c2d.Session) -> None:
        with site.working():
            task = session.submit(sh(site, "sleep 60"))
            with pytest.raises(TimeoutError, match="continues"):
                task.wait(timeout=0.1)
            task.cancel()
            assert task.wait().state is State.CANCELLED

    def test_the_default_output_collection_is_the_projects(self, site: TrialSite, session: c2d.Session) -> None:
        document = sh(site, "true")
        del document["output_collection"]
        assert session.submit(document).collection.startswith(f"{HOME}/c2d_results/")
        site.alice.create_collection(f"{HOME}/p")
        session.use_project("p")
        assert session.submit(document).collection.startswith(f"{HOME}/p/results/")
        assert session.submit(document, output_collection=f"{HOME}/out").collection.startswith(f"{HOME}/out/")

    def test_a_malformed_request_says_where(self, session: c2d.Session) -> None:
        with pytest.raises(InvalidRequest, match="/inputs"):
            session.submit({"role": "CONTAINER", "inputs": 3})


class TestRunningAgain:
    def test_the_same_request_gives_the_same_checksums(self, site: TrialSite, session: c2d.Session) -> None:
        site.alice.create_collection(f"{HOME}/in")
        for name in "ab":
            site.alice.write(f"{HOME}/in/{name}", name.encode())
        with site.working():
            first = session.submit(sh(site, "cat /inputs/* > /outputs/x", inputs=[{"next_of": f"{HOME}/in"}]))
            first.wait()
            again = first.rerun()
            assert again.wait().state is State.COMPLETED
        assert again.id != first.id
        assert list(again.status().inputs) == [f"{HOME}/in/a"]  # not the next one
        assert again.results()["x"].checksum == first.results()["x"].checksum

    def test_an_identical_task_is_reused_only_on_request(self, site: TrialSite, session: c2d.Session) -> None:
        site.alice.write(f"{HOME}/a.txt", b"1")
        document = sh(site, "cat /inputs/a.txt > /outputs/b", inputs=[f"{HOME}/a.txt"])
        with site.working():
            first = session.submit(document)
            first.wait()
            same = session.submit(document, reuse=True)
            assert (same.id, same.is_reused) == (first.id, True)
            assert session.submit({**document, "name": "else"}, reuse=True).is_reused
            assert not session.submit(document).is_reused

    @pytest.mark.parametrize("difference", ["input", "parameter", "gone", "failed"])
    def test_a_different_request_is_computed(self, site: TrialSite, session: c2d.Session, difference: str) -> None:
        site.alice.write(f"{HOME}/a.txt", b"1")
        script = "cat /inputs/a.txt > /outputs/b; " + ("exit 1" if difference == "failed" else "true")
        document = sh(site, script, inputs=[f"{HOME}/a.txt"])
        with site.working():
            first = session.submit(document)
            first.wait()
            if difference == "input":
                site.alice.write(f"{HOME}/a.txt", b"2", force=True)
            elif difference == "parameter":
                document["process"]["environment"] = {"K": "v"}
            elif difference == "gone":
                site.alice.remove(f"{first.collection}/b")
            assert not session.submit(document, reuse=True).is_reused

    def test_another_users_task_is_never_reused(self, site: TrialSite, session: c2d.Session, bobs: c2d.Session) -> None:
        with site.working():
            first = session.submit(sh(site, "true"))
            first.wait()
            site.alice.set_access(HOME, BOB, Access.READ_OBJECT, recursive=True)
            site.bob.create_collection("/tempZone/home/bob/out")
            document = {**sh(site, "true"), "output_collection": "/tempZone/home/bob/out"}
            assert not bobs.submit(document, reuse=True).is_reused


class TestCancelling:
    def test_only_the_owner_and_an_administrator_can_cancel(
        self, site: TrialSite, session: c2d.Session, bobs: c2d.Session, own_files: Path
    ) -> None:
        from compute_to_data.client.session import find_as_administrator

        with site.working():
            task = session.submit(sh(site, "sleep 60"))
            site.alice.set_access(HOME, BOB, Access.READ_OBJECT)
            site.alice.set_access(f"{HOME}/out", BOB, Access.READ_OBJECT)
            site.alice.set_access(task.collection, BOB, Access.READ_OBJECT)
            theirs = bobs.task(task.id)
            with pytest.raises(AccessDenied, match=r"bob#tempZone has read_object and needs own.*c2d cancel --admin"):
                theirs.cancel()
            with pytest.raises(AccessDenied, match="only a rodsadmin"):
                find_as_administrator(bobs, task.id)
            path = own_files.parent / "rods.json"
            path.write_text(json.dumps(settings_of(site, "rods")))
            with c2d.connect(str(path)) as administrator:
                with pytest.raises(NotFound):
                    administrator.task(task.id)
                find_as_administrator(administrator, task.id).cancel()
            status = task.wait()
        assert status.state is State.CANCELLED
        assert "rods#tempZone" in status.reason

    def test_an_ended_task_cannot_be_cancelled(self, site: TrialSite, session: c2d.Session) -> None:
        with site.working():
            task = session.submit(sh(site, "true"))
            task.wait()
        with pytest.raises(Refused, match="has ended already: it is COMPLETED"):
            task.cancel()


class TestFinding:
    def submit(self, session: c2d.Session, site: TrialSite, task_id: str, **more: Any) -> TaskHandle:
        """Submit a task that stays queued, because no worker is called."""
        return TaskHandle(session, site.submit(sh(site, "true", **more), task_id=task_id).collection)

    def test_a_unique_beginning_of_an_id_is_enough(self, site: TrialSite, session: c2d.Session) -> None:
        for name in ("abc1", "abc2", "ab", "x_1"):
            self.submit(session, site, name)
        assert session.task("abc1").id == "abc1"
        assert session.task("ab").id == "ab"  # whole ids come first
        assert session.task("x").id == "x_1"
        assert session.task(f"{HOME}/out/abc2").id == "abc2"
        with pytest.raises(InvalidRequest, match=r"several tasks match: abc2, abc1\. Give more"):
            session.task("abc")
        for unknown in ("abcd", "y", f"{HOME}/out/nothing", f"{HOME}/out", "%", "a" * 65, ""):
            with pytest.raises((NotFound, InvalidRequest)):
                session.task(unknown)

    def test_a_task_whose_collection_was_renamed_is_found_by_its_path(
        self, site: TrialSite, session: c2d.Session
    ) -> None:
        """``c2d list`` shows the new name."""
        self.submit(session, site, "first")
        site.alice.rename(f"{HOME}/out/first", f"{HOME}/renamed")
        for given in ("first", "fir", "renamed"):
            with pytest.raises(NotFound, match=f"was renamed: give the logical path {HOME}/renamed"):
                session.task(given)
        assert session.task(f"{HOME}/renamed").state is State.QUEUED

    def test_the_same_id_in_two_places(self, site: TrialSite, session: c2d.Session) -> None:
        site.alice.create_collection(f"{HOME}/other")
        self.submit(session, site, "same")
        self.submit(session, site, "same", output_collection=f"{HOME}/other")
        with pytest.raises(InvalidRequest, match=f"{HOME}/other/same, {HOME}/out/same. Give the logical path"):
            session.task("same")

    def test_another_user_cannot_claim_an_id(self, site: TrialSite, session: c2d.Session, bobs: c2d.Session) -> None:
        """bob writes the id of alice's task on his own collections, which she may read."""
        task = self.submit(session, site, "mine")
        forged = "/tempZone/home/bob/mine"
        site.bob.create_collection(forged)
        facts = [Avu("irods::compute_to_data::task_id", "mine"), Avu("irods::compute_to_data::state", "COMPLETED", "r")]
        site.bob.annotate(Entity(EntityKind.COLLECTION, forged), add=facts)
        for path in ("/tempZone/home/bob", forged):
            site.bob.set_access(path, ALICE, Access.READ_OBJECT)
        assert session.task("mine").collection == task.collection
        assert [one.collection for one in session.tasks()] == [task.collection]
        assert len(session.tasks(everybodys=True)) == 2

    def test_others_readable_tasks_are_found(self, site: TrialSite, session: c2d.Session, bobs: c2d.Session) -> None:
        task = self.submit(session, site, "shared")
        with pytest.raises(NotFound):
            bobs.task("shared")
        for path in (HOME, f"{HOME}/out", task.collection):
            site.alice.set_access(path, BOB, Access.READ_OBJECT)
        assert bobs.task("sha").status().owner == str(ALICE)


class TestListing:
    @pytest.fixture
    def many(self, site: TrialSite, session: c2d.Session) -> list[str]:
        """The ids of seven tasks, newest first. Two have ended."""
        site.give_role(COMPUTE, "SIGNAL_PROCESSING")
        made = []
        with site.working():
            for number in range(2):
                made.append(session.submit(sh(site, f"exit {number}", role="CONTAINER"), task_id=f"t{number}"))
            for task in made:
                task.wait()
        for number in range(2, 7):
            role = "CONTAINER" if number % 2 else "SIGNAL_PROCESSING"
            waits = site.submit(sh(site, "true", role=role, name=f"n{number}"), task_id=f"t{number}")  # calls no worker
            made.append(TaskHandle(session, waits.collection))
        return [task.id for task in reversed(made)]

    def test_pages_and_filters(self, session: c2d.Session, many: list[str]) -> None:
        def ids(**chosen: Any) -> list[str]:
            return [one.task_id for one in session.tasks(**chosen)]

        assert ids() == many
        assert ids(limit=3) == many[:3]
        assert ids(limit=3, offset=5) == many[5:]
        assert ids(states=(State.COMPLETED,)) == ["t0"]
        assert ids(states=(State.COMPLETED, State.FAILED)) == ["t1", "t0"]
        assert ids(role="SIGNAL_PROCESSING") == ["t6", "t4", "t2"]
        assert ids(role="SIGNAL_PROCESSING", limit=1, offset=1) == ["t4"]
        assert ids(resource=COMPUTE) == many
        assert ids(resource="other") == []
        (oldest,) = session.tasks(offset=6)
        assert (oldest.state, oldest.role, oldest.name, oldest.owner) == ("COMPLETED", "CONTAINER", "", str(ALICE))

    def test_by_age(self, site: TrialSite, session: c2d.Session, many: list[str]) -> None:
        created = {name: site.alice.stat(f"{HOME}/out/{name}").created for name in many}
        middle = created["t3"]
        assert [one.task_id for one in session.tasks(since=middle)] == ["t6", "t5", "t4", "t3"]
        assert [one.task_id for one in session.tasks(until=middle)] == ["t3", "t2", "t1", "t0"]

    def test_facts_of_many_are_the_same_as_of_few(
        self, session: c2d.Session, many: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from compute_to_data.client import finding

        few = session.tasks()
        monkeypatch.setattr(finding, "_FEW", 2)
        assert session.tasks() == few


def test_following_passes_on_output_once_while_the_task_runs(site: TrialSite, session: c2d.Session) -> None:
    """The program continues only after its first output was read, so that output came while it ran."""
    heard: list[tuple[str, bytes]] = []

    def on_output(stream: str, said: bytes) -> None:
        heard.append((stream, said))
        if said == b"one\n":
            site.let_go(task)

    script = f"echo one; {WAITS}; echo two; echo bad >&2"
    with site.working():
        task = session.submit(sh(site, script))
        states: list[State] = []
        thread = threading.Thread(target=logs.follow, args=(task, on_output, states.append))
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
    assert b"".join(said for stream, said in heard if stream == "stdout") == b"one\ntwo\n"
    assert b"".join(said for stream, said in heard if stream == "stderr") == b"bad\n"
    assert states[-1] is State.COMPLETED
    assert "follow" not in task.status().other


def test_following_removes_its_mark_from_a_task_that_has_just_ended(site: TrialSite, session: c2d.Session) -> None:
    """It ends after we read its state and before we set the mark ``follow``."""
    task = session.submit(sh(site, "echo one"))

    def late(annotate: Any, entity: Entity, **changes: Any) -> None:
        task.wait()
        annotate(entity, **changes)

    heard: list[bytes] = []
    following = TaskHandle(session, task.collection, Troubled(session.catalog, annotate=late))  # type: ignore[arg-type]
    assert logs.follow(following, lambda _, said: heard.append(said)) is State.COMPLETED
    assert b"".join(heard) == b"one\n"
    assert "follow" not in task.status().other


def test_a_task_that_ends_while_its_logs_are_read_shows_them(site: TrialSite, session: c2d.Session) -> None:
    """It ends after we read its state and before we open its log."""
    task = session.submit(sh(site, f"{WAITS}; echo one"))
    site.outputs(task)

    def late(open_to_read: Any, path: str) -> Any:
        if path.endswith(LIVE_LOG_NAME):
            site.let_go(task)
            task.wait()
        return open_to_read(path)

    reading = TaskHandle(session, task.collection, Troubled(session.catalog, open_to_read=late))  # type: ignore[arg-type]
    assert logs.read(reading).stdout == b"one\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"argv": ["250".zfill(250)] * 4096}, "holds more than 1048576 bytes"),
        (
            {"argv": ["${n}"], "parameters": {"properties": {"n": {"default": 10**18}}}},
            "an integer of more than 18 digits",
        ),
        (
            {"argv": ["${n}"], "parameters": {"properties": {"n": {"default": float("inf")}}}},
            "request, as it would be recorded",
        ),
    ],
    ids=["size", "digits", "infinity"],
)
def test_a_request_that_nobody_could_read_again_is_refused(
    site: TrialSite, session: c2d.Session, change: dict[str, Any], said: str
) -> None:
    document = site.request("echo")
    document["process"] |= change
    with pytest.raises(InvalidRequest, match=said):
        session.submit(document)
    assert site.alice.children(f"{HOME}/out") == ()
