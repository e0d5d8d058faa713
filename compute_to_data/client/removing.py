"""Removes tasks and workloads that have ended, with their results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from compute_to_data.bounds import MOST_MEMBERS
from compute_to_data.catalog_tree import walk
from compute_to_data.client.kinds import Kind, Named
from compute_to_data.errors import AccessDenied, InvalidRequest, NotFound, Refused
from compute_to_data.model import DataObject, Entity, EntityKind, Query
from compute_to_data.records.state import State, furthest
from compute_to_data.records.task import AFTER, ARCHIVED, READS
from compute_to_data.records.workload import STATE, WORKLOAD_NAME, WorkloadState
from compute_to_data.task import REQUEST_NAME

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench

_SHOWN = 5
_MOST_DEPENDING = MOST_MEMBERS
"""So many collections that say that they depend on a task are looked at. Anybody can make more, with an AVU."""
_DEPENDING = (READS, AFTER)
"""The facts of an unfinished task that name the tasks whose results it reads, or for which it waits."""


@dataclass(frozen=True)
class Removal:
    """A task or workload that may be removed, and what goes with it: files, and their size in bytes."""

    kind: str
    id: str
    state: str
    files: int
    size: int
    collection: str


class Removing:
    """Plans and carries out removals."""

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench

    def plan(self, found: Named) -> Removal:
        """What would be removed with a task or workload.

        Refused while it has not ended, while an unfinished task depends on it or is inside it, or when the
        person did not make it; NotFound.
        """
        if found.kind in (Kind.DATASET, Kind.COLLECTION):
            remedy = f"Remove it with: c2d dataset remove {found.id}" if found.kind is Kind.DATASET else ""
            raise InvalidRequest(found.id, f"is a {found.kind.value}, expected a task or workload", remedy)
        state = self._state(found)
        self._need_own(found)
        self._need_no_readers(found)
        files = size = 0
        collections = []
        for collection, _, held in walk(self._workbench.catalog, found.collection):
            collections.append(collection)
            files += len(held)
            size += sum(one.size for one in held)
        self._need_all_ended(found, collections[1:])
        return Removal(found.kind.value, found.id, state, files, size, found.collection)

    def remove(self, planned: Removal) -> None:
        """Remove what was planned."""
        self._workbench.catalog.remove(planned.collection, recursive=True)

    def _state(self, found: Named) -> str:
        """The state. Refused unless it is a final one."""
        attributes = self._workbench.attributes
        facts = attributes.state, attributes.named(STATE), attributes.named(ARCHIVED)
        avus = self._workbench.catalog.avus(Entity(EntityKind.COLLECTION, found.collection), *facts)
        if found.kind is Kind.WORKLOAD:
            states = [avu.value for avu in avus if avu.attribute == attributes.named(STATE)]
            if states != [WorkloadState.STOPPED.value]:
                raise Refused(str(found), "still accepts tasks", f"Stop it first: c2d workload stop {found.id}")
            return states[0]
        state = furthest(avu.value for avu in avus if avu.attribute != attributes.named(STATE))
        if state is None or not state.is_final:
            cause = f"has not ended yet: it is {state.value if state else 'in an unknown state'}"
            raise Refused(str(found), cause, f"Cancel it first: c2d cancel {found.id}")
        return state.value

    def _need_own(self, found: Named) -> None:
        """Refused unless the person made it. A user who can write to one of my collections can mark it as a
        task, but cannot put a request of mine there."""
        catalog, user = self._workbench.catalog, self._workbench.user
        record = f"{found.collection}/{WORKLOAD_NAME if found.kind is Kind.WORKLOAD else REQUEST_NAME}"
        try:
            request = catalog.stat(record)
        except NotFound:
            cause = f"has no {record.rpartition('/')[2]}, so it may not be what it seems"
            raise Refused(str(found), cause, f"Look at it, and remove it with: irm -r {found.collection}") from None
        if not isinstance(request, DataObject) or user != request.owner or user != catalog.stat(found.collection).owner:
            raise AccessDenied(str(found), f"belongs to {request.owner}", "Ask them to remove it")

    def _need_all_ended(self, found: Named, inside: Sequence[str]) -> None:
        waiting = self._unfinished(inside)
        if waiting:
            cause = f"holds tasks that have not ended: {_named(waiting)}"
            raise Refused(str(found), cause, "Cancel them first, with c2d cancel, or wait until they end")

    def _need_no_readers(self, found: Named) -> None:
        readers = self._dependents(found)
        if readers:
            cause = f"tasks that have not ended use its results: {_named(readers)}"
            raise Refused(str(found), cause, "Wait until they end, or cancel them with c2d cancel")

    def _dependents(self, named: Named) -> list[str]:
        """The unfinished tasks that read something of a task, or of a workload's tasks, or wait for it."""
        catalog, attributes = self._workbench.catalog, self._workbench.attributes
        found: list[str] = []
        for fact in _DEPENDING:
            depends = Query(EntityKind.COLLECTION, attributes.named(fact), limit=_MOST_DEPENDING + 1)
            found += catalog.find(replace(depends, value=named.collection))
            found += catalog.find(replace(depends, beginning=f"{named.collection}/"))
            if len(found) > _MOST_DEPENDING:
                cause = f"more than {_MOST_DEPENDING} tasks say that they use its results, among them {_named(found)}"
                raise Refused(str(named), cause, f"Wait until they end, or remove it with: irm -r {named.collection}")
        return self._unfinished(list(dict.fromkeys(found)))

    def _unfinished(self, collections: Sequence[str]) -> list[str]:
        """Those of the collections that are tasks that have not ended."""
        catalog, attribute = self._workbench.catalog, self._workbench.attributes.state
        unfinished = [Query(EntityKind.COLLECTION, attribute, state.value) for state in State if not state.is_final]
        return [one for query in unfinished for part in query.among_each(collections) for one in catalog.find(part)]


def _named(tasks: Iterable[str]) -> str:
    shown = sorted(tasks)
    return f"{', '.join(shown[:_SHOWN])}{' and others' if len(shown) > _SHOWN else ''}"
