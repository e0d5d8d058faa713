"""Find the task that a person means, and list tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from compute_to_data.client.tasks import TaskHandle
from compute_to_data.errors import InvalidRequest, NotFound
from compute_to_data.inputs import naming
from compute_to_data.model import Entity, EntityKind, Query, Row, User, name_of
from compute_to_data.records.task import State, timestamp
from compute_to_data.task import REQUEST_NAME

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench
    from compute_to_data.ports import ClientCatalog, Storage

_SHOWN = 5
"""How many candidates an error names."""
_FEW = 100
"""Up to this many tasks, reading the facts of each task is faster than two queries over all tasks."""


def find(workbench: Workbench, given: str) -> TaskHandle:
    """The task with this id, with an id that begins so, or with this logical path of its collection.

    It looks among the person's own tasks first, then among others' tasks that they may read.
    NotFound, or InvalidRequest that names the candidates.
    """
    if given.startswith("/"):
        task = TaskHandle(workbench, given.rstrip("/"))
        _ = task.state  # NotFound where there is none
        return task
    return TaskHandle(workbench, naming.task(workbench.catalog, workbench.attributes, given))


def find_for_administrator(workbench: Workbench, storage: Storage, given: str) -> TaskHandle:
    """The task of any user, in a session on behalf of its owner. ``storage`` is a rodsadmin's.
    ``given`` is the whole id, or the logical path of the task's collection. NotFound, or
    InvalidRequest when several tasks match."""
    if given.startswith("/"):
        found: tuple[str, ...] = (given.rstrip("/"),)
    else:
        attribute = workbench.attributes.named("task_id")
        found = storage.find(Query(EntityKind.COLLECTION, attribute, given, "", limit=_SHOWN + 1))
        found = tuple(one for one in found if name_of(one) == given)
    if not found:
        raise NotFound(f"task {given}", "does not exist", "With --admin, give the whole id")
    if len(found) > 1:
        cause = f"several tasks match: {', '.join(found[:_SHOWN])}"
        raise InvalidRequest(f"task {given}", cause, "Give the logical path of its collection")
    owner = storage.owner(f"{found[0]}/{REQUEST_NAME}")
    # In both kinds of zone, a session on behalf of a user is a full ClientCatalog.
    task = TaskHandle(workbench, found[0], cast("ClientCatalog", storage.on_behalf_of(owner)))
    _ = task.state
    return task


@dataclass(frozen=True)
class Listed:
    """A task in a listing. ``created`` in ISO 8601, UTC."""

    task_id: str
    name: str
    state: str
    role: str
    resource: str
    owner: str
    created: str
    collection: str

    def document(self) -> dict[str, str]:
        """The same as JSON (docs/reference/json.md)."""
        return dict(vars(self))


@dataclass(frozen=True)
class Filter:
    """Which tasks to list. An empty field admits all. ``since`` and ``until`` are Unix seconds of
    submission. ``workload``: the collection of a workload. ``everybodys``: also list others' tasks that
    the person may read."""

    states: tuple[State, ...] = ()
    role: str = ""
    resource: str = ""
    since: float | None = None
    until: float | None = None
    workload: str = ""
    everybodys: bool = False


def tasks(
    workbench: Workbench, chosen: Filter = Filter(), *, limit: int | None = None, offset: int = 0
) -> list[Listed]:
    """The tasks that a filter admits, newest first: at most ``limit``, after the first ``offset``."""
    found = _rows(workbench, chosen, limit, offset)
    if len(found) <= _FEW:
        return [_listed(workbench, one) for one in found]
    owner = None if chosen.everybodys else workbench.user
    roles, names = (
        {one.collection: one.value for one in workbench.catalog.query(Query(EntityKind.COLLECTION, about, owner=owner))}
        for about in (workbench.attributes.named("role"), workbench.attributes.named("name"))
    )
    return [_task(one, names.get(one.collection, ""), roles.get(one.collection, "")) for one in found]


def _rows(workbench: Workbench, chosen: Filter, limit: int | None, offset: int) -> list[Row]:
    """One row for each task, with as few queries as the filter needs."""
    attributes, catalog = workbench.attributes, workbench.catalog
    owner: User | None = None if chosen.everybodys else workbench.user
    value = chosen.states[0].value if len(chosen.states) == 1 else None
    units = chosen.resource or None
    plain = len(chosen.states) <= 1 and not chosen.role and chosen.since is None and chosen.until is None
    within = chosen.workload
    query = Query(EntityKind.COLLECTION, attributes.state, value, units, owner=owner, within=within, newest_first=True)
    if plain:
        page = catalog.query(replace(query, limit=limit, offset=offset))
        return [one for one in page if one.value in State.__members__]
    found = catalog.query(query)
    admitted = {state.value for state in chosen.states or State}
    if chosen.role:
        roles = Query(EntityKind.COLLECTION, attributes.named("role"), chosen.role, owner=owner)
        with_role = {one.collection for one in catalog.query(roles)}
        found = tuple(one for one in found if one.collection in with_role)
    rows = [one for one in found if one.value in admitted and _is_in_time(one, chosen)]
    return rows[offset : None if limit is None else offset + limit]


def _is_in_time(one: Row, chosen: Filter) -> bool:
    after = chosen.since is None or one.created >= chosen.since
    return after and (chosen.until is None or one.created <= chosen.until)


def _listed(workbench: Workbench, one: Row) -> Listed:
    facts = {avu.attribute: avu.value for avu in workbench.catalog.avus(Entity(EntityKind.COLLECTION, one.collection))}
    named = workbench.attributes.named
    return _task(one, facts.get(named("name"), ""), facts.get(named("role"), ""))


def _task(one: Row, name: str, role: str) -> Listed:
    return Listed(
        task_id=name_of(one.collection),
        name=name,
        state=one.value,
        role=role,
        resource=one.units,
        owner=str(one.owner),
        created=timestamp(one.created),
        collection=one.collection,
    )
