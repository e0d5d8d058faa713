"""Anybody can write any AVU on thousands of collections. No answer to a question of ours grows with their number."""

from __future__ import annotations

from typing import Any

import pytest
from support.crowds import make_collections
from support.site import ALICE, BOB, COMPUTE, HOME, TrialSite

from compute_to_data.inputs import readers
from compute_to_data.model import Avu, Entity, EntityKind, Query
from compute_to_data.pipeline.execution import ServedResource
from compute_to_data.records.state import State
from compute_to_data.submission import reuse
from compute_to_data.worker.waiting import WaitingTasks
from compute_to_data.worker.workload_slots import WorkloadSlots

PREFIX = "irods::compute_to_data::"
BOBS = "/tempZone/home/bob"
FLOOD = 6000


class _Noting:
    """A session that notes the longest answer to its questions."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.longest = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def find(self, query: Query) -> tuple[str, ...]:
        found: tuple[str, ...] = self._session.find(query)
        self.longest = max(self.longest, len(found))
        return found

    def query(self, query: Query) -> tuple[Any, ...]:
        found: tuple[Any, ...] = self._session.query(query)
        self.longest = max(self.longest, len(found))
        return found


@pytest.fixture
def noting(site: TrialSite) -> _Noting:
    return _Noting(site.storage)


@pytest.fixture
def served(site: TrialSite, noting: _Noting) -> ServedResource:
    (resource,) = [one for one in site.storage.catalog.resources() if one.name == COMPUTE]
    return ServedResource(site.configuration, noting, site.engine, resource, "test")  # type: ignore[arg-type]


def flood(site: TrialSite, *avus: Avu) -> None:
    """Collections of alice's with these AVUs."""
    make_collections(site, ALICE, f"{HOME}/out", FLOOD, avus, reader=ALICE)


def test_collections_that_look_like_waiting_tasks(site: TrialSite, served: ServedResource, noting: _Noting) -> None:
    """The worker reads a part of them, and finds the tasks of another user that are newer."""
    site.bob.create_collection(f"{BOBS}/out")
    document = {**site.request("/bin/true"), "output_collection": f"{BOBS}/out"}
    first = site.submit(document, catalog=site.bob)
    flood(site, Avu(f"{PREFIX}state", "WAITING", COMPUTE))
    second = site.submit({**document, "after": [first.collection]}, catalog=site.bob)
    assert site.record(second, site.bob).state() is State.WAITING
    site.record(first, site.bob).move_to(State.COMPLETED)
    assert second.collection in WaitingTasks(served).look(), "at the first look"
    assert noting.longest <= 2049


def test_collections_that_look_like_started_workloads(site: TrialSite, served: ServedResource, noting: _Noting) -> None:
    """The worker asks about those only of which it has a sandbox. Those that are started keep it."""
    flood(site, Avu(f"{PREFIX}workload_state", "STARTED", COMPUTE))
    site.alice.create_collection(f"{HOME}/mine")
    entity = Entity(EntityKind.COLLECTION, f"{HOME}/mine")
    site.alice.annotate(entity, add=[Avu(f"{PREFIX}workload_state", "STARTED", COMPUTE)])
    slots = WorkloadSlots(served)
    for name in ("mine", "stopped"):
        slots.directories.of(f"{HOME}/{name}", "1", f"{HOME}/{name}/task", lambda directory: None)
    slots.tend([])
    assert noting.longest == 1
    assert slots.directories.workloads() == {f"{HOME}/mine"}


def test_collections_that_look_like_started_workloads_of_a_dataset(site: TrialSite) -> None:
    flood(site, Avu(f"{PREFIX}workload_state", "STARTED", COMPUTE))
    site.alice.create_collection(f"{HOME}/mine")
    avus = [Avu(f"{PREFIX}workload_state", "STARTED", COMPUTE), Avu(f"{PREFIX}dataset", f"{HOME}/data")]
    site.alice.annotate(Entity(EntityKind.COLLECTION, f"{HOME}/mine"), add=avus)
    noting: Any = _Noting(site.alice)
    found = readers.readers(noting, site.configuration.attributes, f"{HOME}/data")
    assert found.workloads == (f"{HOME}/mine",)
    assert noting.longest == 1


def test_collections_with_the_fingerprint_of_a_task(site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the user's own are only looked at up to a bound, the newest first."""
    site.alice.write(f"{HOME}/a.txt", b"12345")
    document = site.request("/bin/sh", "-c", "cp /inputs/a.txt /outputs/b.txt", inputs=[f"{HOME}/a.txt"])
    ran = site.run(document)
    assert ran["state"] == "COMPLETED", ran
    make_collections(site, BOB, f"{HOME}/out", FLOOD, [Avu(f"{PREFIX}fingerprint", ran["fingerprint"])], reader=ALICE)
    asked: list[_Noting] = []
    real = reuse.find

    def find(catalog: Any, *given: Any) -> Any:
        asked.append(_Noting(catalog))
        return real(asked[-1], *given)  # type: ignore[arg-type]

    monkeypatch.setattr(reuse, "find", find)
    assert site.submit(document, reuse_earlier=True).reused
    flood(site, Avu(f"{PREFIX}fingerprint", ran["fingerprint"]))
    site.submit(document, reuse_earlier=True)
    assert [one.longest for one in asked] == [1, 100]


def test_many_numbers_of_instances_and_datasets_of_one_workload(site: TrialSite, served: ServedResource) -> None:
    """The worker goes on. Before, its next look at any task of it ended with an error."""
    workload = f"{HOME}/out/w-0123456789ab"
    site.alice.create_collection(workload)
    avus = [Avu(f"{PREFIX}instances", "3", str(number)) for number in range(9000)]
    site.alice.annotate(Entity(EntityKind.COLLECTION, workload), add=avus)
    assert WorkloadSlots(served).full([f"{workload}/task"]) == []
