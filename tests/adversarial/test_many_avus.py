"""Outputs times AVUs: what one task writes into the catalog must be bounded, and must let others write meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import pytest
from support.site import ALICE, BOB, HOME, TrialSite

from compute_to_data import bounds
from compute_to_data.errors import Refused, TooLarge
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord
from compute_to_data.zones.embedded import EmbeddedZone

PREFIX = "irods::compute_to_data::"
MOST = 300


@pytest.fixture
def bounded(site: TrialSite) -> TrialSite:
    site.configuration = site.configure(
        engine={"name": "process", "images": {"tools": str(site.folder / "tools")}},
        limits={"default": {"output_avus": MOST}, "maximum": {"output_avus": MOST}},
    )
    return site


def writing(count: int) -> tuple[str, ...]:
    return ("/bin/sh", "-c", f"cd /outputs && seq {count} | xargs touch")


def metadata(count: int, value: str = "v") -> list[dict[str, str]]:
    return [{"attribute": f"a{number}", "value": value} for number in range(count)]


def facts_of(site: TrialSite, path: str, kind: EntityKind = EntityKind.DATA_OBJECT) -> dict[str, str]:
    return {avu.attribute: avu.value for avu in site.alice.avus(Entity(kind, path))}


def test_outputs_times_metadata_are_bounded(bounded: TrialSite) -> None:
    ended = bounded.run(bounded.request(*writing(31), metadata=metadata(9)))
    assert (ended["state"], ended["reason_code"]) == ("FAILED", "output_limit")
    assert "31 outputs with 10 AVUs each count as 310 AVUs, and at most 300" in ended["reason"]
    assert "fewer files" in ended["reason"]


def test_as_many_as_allowed_are_written(bounded: TrialSite) -> None:
    ended = bounded.run(bounded.request(*writing(30), metadata=metadata(9)))
    assert ended["state"] == "COMPLETED"
    found = facts_of(bounded, f"{ended['collection']}/30")
    assert found == {**{f"a{number}": "v" for number in range(9)}, f"{PREFIX}task_id": ended["task_id"]}
    assert "task_id and metadata only" in ended["on_outputs"]


def test_long_values_count_more(bounded: TrialSite) -> None:
    ended = bounded.run(bounded.request(*writing(30), metadata=metadata(1, "v" * 2560)))
    assert (ended["state"], ended["reason_code"]) == ("FAILED", "output_limit")


def test_too_much_metadata_is_refused_at_submission(bounded: TrialSite) -> None:
    with pytest.raises(Refused, match="output_avus"):
        bounded.submit(bounded.request("/bin/true", metadata=metadata(MOST // 10, "v" * 2560)))


def test_many_outputs_without_metadata_do_not_fail(bounded: TrialSite) -> None:
    """The facts of each output are the worker's own choice, so it leaves some out and says so."""
    ended = bounded.run(bounded.request(*writing(MOST + 1)))
    assert ended["state"] == "COMPLETED"
    assert facts_of(bounded, f"{ended['collection']}/1") == {f"{PREFIX}task_id": ended["task_id"]}
    few = bounded.run(bounded.request(*writing(3)))
    assert "on_outputs" not in few
    assert f"{PREFIX}image" in facts_of(bounded, f"{few['collection']}/1")


def test_a_neighbour_writes_while_many_avus_are_written_and_removed(site: TrialSite) -> None:
    paths = [f"{HOME}/{number}" for number in range(60)]
    for path in paths:
        site.alice.write(path, b"")
    service = site.storage.on_behalf_of(ALICE)
    avus = [Avu(f"a{number}", "v" * 500) for number in range(256)]
    for change in (lambda: service.annotate_all(paths, avus), lambda: service.unregister(paths)):
        done = threading.Event()
        thread = threading.Thread(target=lambda change=change, done=done: (change(), done.set()))  # type: ignore[misc]
        neighbour = EmbeddedZone(site.zone.directory).session(BOB)
        thread.start()
        written = 0
        while not done.is_set():
            neighbour.write(f"/tempZone/home/bob/x{written}", b"x", force=True)
            written += 1
        thread.join()
        assert written > 2, "the neighbour waited for the end of it"


class _Counting:
    """A session that notes how many AVUs each question reads, and each change removes."""

    def __init__(self, catalog: Any) -> None:
        self._catalog = catalog
        self.read: list[int] = []
        self.removed: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    def avus(self, entity: Entity, *attributes: str, most: int | None = None) -> tuple[Avu, ...]:
        try:
            found: tuple[Avu, ...] = self._catalog.avus(entity, *attributes, most=most)
        except TooLarge as error:
            self.read.append(len(error.first) + 1)
            raise
        self.read.append(len(found))
        return found

    def annotate(self, entity: Entity, *, add: Iterable[Avu] = (), remove: Iterable[Avu] = ()) -> None:
        removed = list(remove)
        self.removed.append(len(removed))
        self._catalog.annotate(entity, add=add, remove=removed)


@pytest.mark.parametrize("attribute", ["state", "reason", "reads", "cancel"])
def test_a_record_of_thousands_of_avus_changes_as_quickly_as_any(site: TrialSite, attribute: str) -> None:
    """No question reads more than one answer of an iRODS server holds. The change removes them all, in one call, not
    one by one."""
    submitted = site.submit(site.request("/bin/true"))
    record = site.record(submitted)
    entity, named = Entity(EntityKind.COLLECTION, submitted.collection), f"{PREFIX}{attribute}"
    site.alice.annotate(entity, add=[Avu(named, "RUNNING", str(number)) for number in range(bounds.MOST_AVUS)])
    counted = _Counting(site.alice)
    flooded = TaskRecord(counted, record.attributes, submitted.collection, record.resource)
    flooded.decide({"ending": "CANCELLED", "exit_status": "1", "reason": "first"})
    flooded.move_to(State.CANCELLED, {"reason": "cancelled by alice", "reason_code": "cancelled", "ending": ""})
    assert max(counted.read) <= 256
    assert sum(counted.read) <= 2048
    assert max(counted.removed) <= 128
    facts = record.facts("state", "reason", "reason_code", "reads", "cancel", "exit_status")
    expected = {"state": "CANCELLED", "reason": "cancelled by alice", "reason_code": "cancelled", "exit_status": "1"}
    assert facts == expected
    assert len(site.alice.avus(entity, named)) == len([one for one in expected if one == attribute])
