"""The rows of the tasks that a filter admits, newest first, with as few questions as the filter needs.

What a catalog can look up by itself, it is asked for. For all else, such as a pattern of names, this goes through the
tasks from the newest on, in windows that grow, and stops when it has enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from compute_to_data.documents import schema_words as words
from compute_to_data.errors import InvalidRequest
from compute_to_data.model import MOST_AMONG, EntityKind, Query, Row
from compute_to_data.records.state import State, queue_levels
from compute_to_data.records.task import ARCHIVED

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench
    from compute_to_data.ports.zone import ClientCatalog

_FIRST_WINDOW, _LARGEST_WINDOW = MOST_AMONG, 8000
_WILD = "*?["


@dataclass(frozen=True)
class Filter:
    """Which tasks to list. An empty field admits all. ``since`` and ``until`` are Unix seconds of
    submission. ``name``: the name of tasks, or a pattern of names, such as ``filter*``. ``workload``: the
    collection of a workload. ``everybodys``: also list others' tasks that the person may read. ``archived``:
    list archived tasks instead, of which only the id, state, resource and times are known without reading each."""

    states: tuple[State, ...] = ()
    role: str = ""
    resource: str = ""
    name: str = ""
    since: float | None = None
    until: float | None = None
    workload: str = ""
    everybodys: bool = False
    archived: bool = False


def states_named(given: str | Iterable[str]) -> tuple[State, ...]:
    """The states with these names, one or several. InvalidRequest for what is no state."""
    several = [given] if isinstance(given, str) or not isinstance(given, Iterable) else [*given]
    for one in several:
        if not isinstance(one, str) or one not in State.__members__:
            raise InvalidRequest("states", f"found {words.shown(one)}, expected {words.one_of(State.__members__)}")
    return tuple(map(State, several))


EVERY = Filter()
"""Admits all one's own tasks that are not archived."""


def rows(workbench: Workbench, chosen: Filter, limit: int | None, offset: int) -> list[Row]:
    """The row of the state of each task: at most ``limit``, after the first ``offset``."""
    state = _state(workbench, chosen)
    if len(chosen.states) <= 1 and not (chosen.role or chosen.name) and chosen.since is None and chosen.until is None:
        page = workbench.catalog.query(replace(state, limit=limit, offset=offset))
        return [one for one in page if one.value in State.__members__]
    most = None if limit is None else offset + limit
    found: list[Row] = []
    for window in _windows(workbench.catalog, _leading(workbench, chosen, state)):
        found += _admitted(workbench, chosen, state, window)
        if most is not None and len(found) >= most:
            break
    return found[offset:most]


def _state(workbench: Workbench, chosen: Filter) -> Query:
    attributes = workbench.attributes
    return Query(
        EntityKind.COLLECTION,
        attributes.named(ARCHIVED) if chosen.archived else attributes.state,
        chosen.states[0].value if len(chosen.states) == 1 else None,
        queue_levels(chosen.resource) if chosen.resource else None,
        owner=None if chosen.everybodys else workbench.user,
        within=chosen.workload,
        newest_first=True,
    )


def _leading(workbench: Workbench, chosen: Filter, state: Query) -> Query:
    """What to go through: the names or roles of tasks, if they must be some, or else their states."""
    named = workbench.attributes.named
    if not chosen.name:
        return replace(state, attribute=named("role"), value=chosen.role, units=None) if chosen.role else state
    names = replace(state, attribute=named("name"), value=None, units=None)
    fixed = next((place for place, one in enumerate(chosen.name) if one in _WILD), len(chosen.name))
    if fixed == len(chosen.name):
        return replace(names, value=chosen.name)
    return replace(names, beginning=chosen.name[:fixed])


def _windows(catalog: ClientCatalog, query: Query) -> Iterator[list[Row]]:
    """The rows of a query, a few at first and then more at a time: most people want the newest ones only, and the
    memory is often that of a gateway."""
    offset, size = 0, _FIRST_WINDOW
    window: tuple[Row, ...] = ()
    while True:
        before = set(window)
        window = catalog.query(replace(query, limit=size, offset=offset))
        yield [one for one in window if one not in before]  # tasks submitted meanwhile move the windows
        if len(window) < size:
            return
        offset, size = offset + size, min(2 * size, _LARGEST_WINDOW)


def _admitted(workbench: Workbench, chosen: Filter, state: Query, window: Sequence[Row]) -> list[Row]:
    """The rows of the states of those tasks in a window that the filter admits."""
    found = [one for one in window if _is_in_time(one, chosen)]
    if chosen.name:
        found = [one for one in found if fnmatchcase(one.value, chosen.name)]
        if chosen.role:
            role = replace(state, attribute=workbench.attributes.named("role"), value=chosen.role, units=None)
            found = _bearing(workbench.catalog, role, found)
    if chosen.name or chosen.role:
        found = _bearing(workbench.catalog, state, found)
    admitted = {one.value for one in chosen.states or State}
    return [one for one in found if one.value in admitted]


def _bearing(catalog: ClientCatalog, query: Query, those: Sequence[Row]) -> list[Row]:
    """The rows of a query for the collections of other rows, in their order."""
    names = list(dict.fromkeys(one.collection for one in those))
    asked = replace(query, within="").among_each(names)
    found: dict[str, Row] = {}
    for one in (row for each in asked for row in catalog.query(each)):
        found.setdefault(one.collection, one)
    return [found[name] for name in names if name in found]


def _is_in_time(one: Row, chosen: Filter) -> bool:
    after = chosen.since is None or one.created >= chosen.since
    return after and (chosen.until is None or one.created <= chosen.until)
