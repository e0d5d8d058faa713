"""Which unfinished tasks depend on what a collection holds: nothing that they will read may go or change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compute_to_data.errors import ZoneError
from compute_to_data.model import EntityKind, Query, name_of
from compute_to_data.records.task import State
from compute_to_data.task import REQUEST_NAME

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench

_UNFINISHED = tuple(state for state in State if not state.is_final)


@dataclass(frozen=True)
class Unfinished:
    """A task that has not ended: its collection, its state, and its request as accepted."""

    collection: str
    state: str
    request: Any

    def depends_on(self, collection: str, ids: Iterable[str] = ()) -> bool:
        """Whether it will read something in the collection, or names it, or something in it, by an id."""
        known = {name_of(collection), *ids}
        return any(one in known or _overlap(one, collection) for one in _mentioned(self.request))


def unfinished(workbench: Workbench) -> list[Unfinished]:
    """All unfinished tasks that the person may see."""
    catalog, attribute = workbench.catalog, workbench.attributes.state
    found = []
    for state in _UNFINISHED:
        for row in catalog.query(Query(EntityKind.COLLECTION, attribute, state.value, newest_first=True)):
            try:
                request = json.loads(catalog.read(f"{row.collection}/{REQUEST_NAME}"))
            except (ZoneError, ValueError):
                request = None  # it has just been removed, or is no task
            found.append(Unfinished(row.collection, state.value, request))
    return found


def tasks_that_read(workbench: Workbench, collection: str, workloads: Iterable[str] = ()) -> dict[str, str]:
    """The unfinished tasks that depend on a collection, or that belong to one of these workloads, with their
    states."""
    among = frozenset(workloads)
    return {
        one.collection: one.state
        for one in unfinished(workbench)
        if one.depends_on(collection) or (isinstance(one.request, dict) and one.request.get("workload") in among)
    }


def _mentioned(request: Any) -> Iterator[str]:
    """The logical paths and ids that a request reads or waits for."""
    if not isinstance(request, dict):
        return
    notebook = request.get("notebook")
    listed = [*_list(request.get("inputs")), *_list(request.get("after"))]
    for one in [*listed, notebook if isinstance(notebook, dict) else {}]:
        values = one.values() if isinstance(one, dict) else (one,)
        yield from (value for value in values if isinstance(value, str))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _overlap(one: str, other: str) -> bool:
    """Whether one of two logical paths is the other, or below it."""
    return one == other or one.startswith(f"{other}/") or (one.startswith("/") and other.startswith(f"{one}/"))
