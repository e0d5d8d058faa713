"""``c2d archive``: the records of ended tasks move out of the way, and nothing else changes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.crashes import Died, Doomed, each_fate
from support.reading import ENOUGH
from support.site import BOB, COMPUTE, HOME, RODS, ZONE, TrialSite
from support.typed import Type

import compute_to_data as c2d
from compute_to_data.cli.exits import ExitCode
from compute_to_data.client import archiving
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.errors import InvalidRequest, Refused
from compute_to_data.model import Access, Avu, Entity, EntityKind, Query
from compute_to_data.records import archive
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord

PREFIX = "irods::compute_to_data"
SCRIPT = "echo x > /outputs/x; echo said"
FAR = 4e9
"""A time when all tasks of a test are old, in Unix seconds."""


@pytest.fixture
def session(site: TrialSite, own_files: Path) -> Iterator[c2d.Session]:
    with c2d.connect() as opened:
        yield opened


@pytest.fixture
def run(site: TrialSite, session: c2d.Session) -> Callable[..., TaskHandle]:
    def ended(script: str = SCRIPT, **more: Any) -> TaskHandle:
        submitted = site.submit(site.request("/bin/sh", "-c", script, **more))
        with site.working():
            site.ended(submitted)
        return session.task(submitted.task_id)

    return ended


def record_of(site: TrialSite, task: TaskHandle, catalog: Any = None) -> TaskRecord:
    return TaskRecord(catalog or site.alice, site.configuration.attributes, task.collection, COMPUTE)


def avus(site: TrialSite, collection: str) -> set[Avu]:
    return set(site.alice.avus(Entity(EntityKind.COLLECTION, collection)))


def test_the_avus_go_and_all_else_stays(site: TrialSite, run: Callable[..., TaskHandle], typed: Type) -> None:
    task = run(metadata=[{"attribute": "sample", "value": "7"}])
    before, status = avus(site, task.collection), task.status()
    on_output = site.alice.avus(Entity(EntityKind.DATA_OBJECT, f"{task.collection}/x"))
    contents = site.contents(task.collection)
    assert typed("archive", task.id).code == 0
    own = {one for one in before if not one.attribute.startswith(f"{PREFIX}::")}
    kept = {Avu(f"{PREFIX}::archived", "COMPLETED", COMPUTE), Avu(f"{PREFIX}::task_id", task.id)}
    assert avus(site, task.collection) == kept | own
    assert site.alice.avus(Entity(EntityKind.DATA_OBJECT, f"{task.collection}/x")) == on_output
    after = site.contents(task.collection)
    held = json.loads(after.pop("task-record.json"))
    assert after == contents
    assert {Avu(f"{PREFIX}::{name}", *rest) for name, *rest in held["avus"]} == before - own
    assert task.state is State.COMPLETED and task.status() == status, "it is read from the archived record"
    assert typed("fetch", task.id, "x", "--output", "-").out == "x\n"
    assert typed("logs", task.id).out == "said\n"


def test_it_comes_back(site: TrialSite, run: Callable[..., TaskHandle], typed: Type) -> None:
    task = run()
    before, contents = avus(site, task.collection), site.contents(task.collection)
    assert typed("archive", task.id).code == 0
    assert "archived already" in typed("archive", task.id).err
    assert typed("rerun", task.id).code != 0
    assert "c2d archive --restore" in typed("rerun", task.id).err
    assert typed("archive", "--restore", task.id[:8]).code == 0
    assert avus(site, task.collection) == before and site.contents(task.collection) == contents
    assert "not archived" in typed("archive", "--restore", task.id).err
    assert typed("rerun", task.id).code == 0


def test_a_listing_has_the_one_or_the_other(run: Callable[..., TaskHandle], typed: Type) -> None:
    old, new = run(), run()
    typed("archive", old.id)
    assert [one["task_id"] for one in typed("list", "--output", "json").json] == [new.id]
    (archived,) = typed("list", "--archived", "--output", "json").json
    assert (archived["task_id"], archived["state"], archived["resource"]) == (old.id, "COMPLETED", COMPUTE)
    assert typed("list", "--archived", "--name", "x").code == ExitCode.USAGE
    assert typed("rm", old.id, "--yes").code == 0


def test_what_cannot_be_archived(site: TrialSite, session: c2d.Session, run: Callable[..., TaskHandle]) -> None:
    queued = site.submit(site.request("true"))
    with pytest.raises(Refused, match="has not ended yet: it is QUEUED"):
        archive.archive(site.record(queued))
    task = run()
    site.alice.annotate(Entity(EntityKind.COLLECTION, task.collection), add=[Avu(f"{PREFIX}::workload", "/z/w")])
    with pytest.raises(Refused, match="belongs to a workload"):
        archive.archive(record_of(site, task))
    other = run()
    site.alice.write(f"{other.collection}/task-record.json", b"an output of an earlier version")
    with pytest.raises(InvalidRequest, match="task cannot be archived"):
        archive.archive(record_of(site, other))
    assert site.alice.read(f"{other.collection}/task-record.json", ENOUGH).startswith(b"an output")
    flooded = run()
    for start in range(0, 9000, 1000):
        more = [Avu(f"{PREFIX}::junk", str(number)) for number in range(start, start + 1000)]
        site.alice.annotate(Entity(EntityKind.COLLECTION, flooded.collection), add=more)
    with pytest.raises(Refused, match="cannot be archived"):
        archive.archive(record_of(site, flooded))
    assert flooded.state is State.COMPLETED


def test_another_users_task(site: TrialSite, run: Callable[..., TaskHandle], bobs: c2d.Session) -> None:
    """bob may read it, or even write to its collection: neither archives it, nor does what he writes count."""
    task = run()
    site.alice.set_access(f"{HOME}/out", BOB, Access.READ_OBJECT)
    site.alice.set_access(task.collection, BOB, Access.READ_OBJECT, recursive=True)
    with pytest.raises(Refused, match="belongs to alice"):
        archive.archive(record_of(site, task, site.bob))
    archive.archive(record_of(site, task))
    path = f"{task.collection}/task-record.json"
    site.alice.set_access(path, BOB, Access.OWN)
    forged = {"archived_task": 1, "avus": [["state", "COMPLETED", COMPUTE], ["outputs_digest", "forged", ""]]}
    site.bob.write(path, json.dumps(forged).encode(), force=True)
    with pytest.raises(Refused, match="bob#tempZone has own"):
        archive.restore(record_of(site, task))
    site.alice.set_access(path, BOB, Access.NULL)
    forged["avus"] = [["state", "QUEUED", COMPUTE]]
    site.alice.write(path, json.dumps(forged).encode(), force=True)
    with pytest.raises(InvalidRequest, match="no final state"):
        archive.restore(record_of(site, task))


def test_in_an_inheriting_collection_nobody_else_can_write_the_record(site: TrialSite, session: c2d.Session) -> None:
    site.alice.set_access(f"{HOME}/out", BOB, Access.OWN)
    site.alice.set_inheritance(f"{HOME}/out", True)
    submitted = site.submit(site.request("/bin/sh", "-c", SCRIPT))
    with site.working():
        site.ended(submitted)
    assert archive.archive(site.record(submitted))
    rows = site.alice.permissions(f"{submitted.collection}/task-record.json")
    assert {row.user: row.access for row in rows}[BOB] is Access.READ_OBJECT
    assert archive.restore(site.record(submitted))


@pytest.mark.parametrize("after", [False, True], ids=["before it takes effect", "after it took effect"])
def test_whoever_dies_at_any_call_loses_nothing(site: TrialSite, run: Callable[..., TaskHandle], after: bool) -> None:
    task = run()
    before, contents = avus(site, task.collection), site.contents(task.collection)
    for do, undo in ((archive.archive, archive.restore), (archive.restore, archive.archive)):
        for fate in each_fate(after):
            with contextlib.suppress(Died):
                do(record_of(site, task, Doomed(site.alice, fate)))
            assert record_of(site, task).state() is State.COMPLETED, fate.at
            do(record_of(site, task))
            undo(record_of(site, task))
        archive.archive(record_of(site, task))
    archive.restore(record_of(site, task))
    assert avus(site, task.collection) == before and site.contents(task.collection) == contents


def test_a_record_whose_writing_was_cut_off_is_written_again(site: TrialSite, run: Callable[..., TaskHandle]) -> None:
    task = run()
    archive.archive(record_of(site, task))
    whole = site.alice.read(f"{task.collection}/task-record.json", ENOUGH)
    archive.restore(record_of(site, task))
    for end in (0, 1, 30, len(whole) - 1):
        site.alice.write(f"{task.collection}/task-record.json", whole[:end], force=True)
        assert archive.archive(record_of(site, task))
        assert archive.restore(record_of(site, task))


def test_a_task_that_is_archived_already_is_not_refused(
    site: TrialSite, run: Callable[..., TaskHandle], typed: Type
) -> None:
    first, second = run(), run()
    typed("archive", first.id)
    done = typed("archive", first.id, second.id, "0" * 32, "--output", "json")
    assert done.json == {"archived": 1, "refused": 1}


class TestOlderThan:
    def test_ones_own(self, site: TrialSite, run: Callable[..., TaskHandle], typed: Type) -> None:
        tasks = [run(), run("exit 3"), run()]
        queued = site.submit(site.request("true"))
        assert "0 archived" in typed("archive", "--older-than", "1d").out
        assert "1 archived" in typed("archive", "--older-than", "2999-01-01", "--state", "FAILED").out
        done = typed("archive", "--older-than", "2999-01-01", "--output", "json").json
        assert done == {"archived": 2, "refused": 0}
        assert all(archive.is_archived(record_of(site, one)) for one in tasks)
        assert site.record(queued).state() is State.QUEUED

    def test_many_and_some_that_are_refused(
        self,
        site: TrialSite,
        session: c2d.Session,
        run: Callable[..., TaskHandle],
        typed: Type,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(archiving, "_AT_ONCE", 2)
        tasks = [run() for _ in range(7)]
        for one in (tasks[0], tasks[3]):
            site.alice.write(f"{one.collection}/task-record.json", b"an output")
        done = list(archiving.archive_older(session, FAR))
        assert [one.collection for one in done if one.error is None] == [
            one.collection for one in tasks if one not in (tasks[0], tasks[3])
        ]
        assert sum(one.error is not None for one in done) == 2
        left = typed("archive", "--older-than", "2999-01-01", "--output", "json")
        assert (left.code != 0, left.json) == (True, {"archived": 0, "refused": 2})

    def test_an_administrator_archives_those_of_all(
        self, site: TrialSite, session: c2d.Session, run: Callable[..., TaskHandle]
    ) -> None:
        mine = run()
        site.bob.create_collection(f"/{ZONE}/home/bob/out")
        bobs = site.submit(
            {**site.request("/bin/sh", "-c", SCRIPT), "output_collection": f"/{ZONE}/home/bob/out"}, catalog=site.bob
        )
        with site.working():
            site.ended(bobs, site.bob)
        done = list(archiving.archive_older(session, FAR, storage=site.storage))
        assert {one.collection for one in done if one.error is None} == {mine.collection, bobs.collection}
        assert site.bob.stat(f"{bobs.collection}/task-record.json").owner == BOB

    def test_a_record_by_hand_in_anothers_collection_is_no_task(self, site: TrialSite, session: c2d.Session) -> None:
        """alice marks collections of hers as ended tasks: an administrator's run goes on."""
        for number in range(3):
            site.alice.create_collection(f"{HOME}/out/junk{number}")
            state = Avu(f"{PREFIX}::state", "COMPLETED", COMPUTE)
            site.alice.annotate(Entity(EntityKind.COLLECTION, f"{HOME}/out/junk{number}"), add=[state])
        done = list(archiving.archive_older(session, FAR, storage=site.storage))
        assert len(done) == 3 and all(one.error is not None for one in done)

    def test_who_is_no_administrator(self, typed: Type, run: Callable[..., TaskHandle]) -> None:
        run()
        assert typed("archive", "--older-than", "2999-01-01", "--admin").code != 0


def test_other_tasks_still_use_its_results(site: TrialSite, run: Callable[..., TaskHandle], typed: Type) -> None:
    """By its id, by path, and as one that they wait for. A failed one still is no input."""
    good, bad = run(), run("exit 3")
    submitted = site.submit(site.request("true", after=[good.id]))
    for one in (good, bad):
        archive.archive(record_of(site, one))
    with site.working():
        assert site.ended(submitted)["state"] == "COMPLETED"
    assert (
        site.run(site.request("/bin/sh", "-c", "cat /inputs/*", inputs=[f"{good.collection}/x"]))["state"]
        == "COMPLETED"
    )
    waits = site.run(site.request("true", after=[good.id]))
    assert waits["state"] == "COMPLETED"
    with pytest.raises(Refused, match="is FAILED, so it has no results"):
        site.submit(site.request("true", inputs=[{"collection": bad.collection}]))


def test_the_words_that_do_not_go_together(typed: Type) -> None:
    for words in ((), ("x", "--older-than", "1d"), ("--restore", "--older-than", "1d"), ("x", "--state", "FAILED")):
        assert typed("archive", *words).code == ExitCode.USAGE
    assert typed("archive", "nothing").code == ExitCode.NOT_FOUND


def test_an_archived_task_is_in_no_queue_and_no_listing_of_states(
    site: TrialSite, run: Callable[..., TaskHandle]
) -> None:
    task = run()
    archive.archive(record_of(site, task))
    for state in State:
        assert site.storage.find(Query(EntityKind.COLLECTION, f"{PREFIX}::state", state.value)) == ()
    assert RODS not in {row.user for row in site.alice.permissions(task.collection)}
