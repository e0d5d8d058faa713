"""Find the task that a person means, and list tasks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from compute_to_data.client import task_rows
from compute_to_data.client.given import Given, text_of
from compute_to_data.client.task_rows import EVERY, Filter
from compute_to_data.client.task_status.status import TaskStatus, status_of
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.documents.schema_words import shown
from compute_to_data.errors import InvalidRequest, NotFound
from compute_to_data.inputs import naming
from compute_to_data.model import Avu, EntityKind, Query, Row, User, name_of
from compute_to_data.records.state import State, resource_of
from compute_to_data.records.task import timestamp
from compute_to_data.task import REQUEST_NAME

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench
    from compute_to_data.ports.zone import ClientCatalog, Storage

_SHOWN = 5
"""How many candidates an error names."""
_FEW = 100
"""Up to this many tasks, reading the facts of each task is faster than queries over all tasks."""
_SOME = 2000
"""Up to this many, naming them is cheaper than reading all tasks of a user, or of all users."""
_DATES = tuple(f"{state.value.lower()}_at" for state in State)
_NAMES = ("name", "role")
_COURSE = ("runs", "command", "image", "reason_code", "exit_status", *_DATES)
"""The facts of what a task runs, how long, and how it ended."""


def find(workbench: Workbench, given: Given) -> TaskHandle:
    """The task with this id, with an id that begins so, or with this logical path of its collection; or the task of a
    handle or of an entry of a listing.

    It looks among the person's own tasks first, then among others' tasks that they may read.
    NotFound, or InvalidRequest that names the candidates.
    """
    given = text_of(given, "task")
    if given.startswith("/"):
        task = TaskHandle(workbench, given.rstrip("/"))
        _ = task.state  # NotFound where there is none
        return task
    try:
        return TaskHandle(workbench, naming.task(workbench.catalog, workbench.attributes, given))
    except NotFound as error:
        renamed = _where_renamed(workbench, given)
        if not renamed:
            raise
        raise NotFound(error.subject, error.cause, renamed, code=error.code) from None


def _where_renamed(workbench: Workbench, given: str) -> str:
    """The remedy when the person has renamed the collection of one of their newest tasks: its path. ``given``: the
    task's id, or the new name. '' when there is no such task. It only names the task, since others may have written
    that id there."""
    query = Query(
        EntityKind.COLLECTION,
        workbench.attributes.named("task_id"),
        owner=workbench.user,
        newest_first=True,
        limit=_SOME,
    )
    for row in workbench.catalog.query(query):
        name = name_of(row.collection)
        if name != row.value and (name == given or row.value.startswith(given)):
            return f"Its collection was renamed: give the logical path {row.collection}"
    return ""


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
    """A task in a listing. Times in ISO 8601, UTC. ``runs``: its command line, or its notebook; ``seconds``: how long
    its program ran, or has run so far (None before that); ``reason_code`` and ``exit_status``: how it ended."""

    task_id: str
    name: str
    state: str
    role: str
    resource: str
    owner: str
    created: str
    collection: str
    runs: str = ""
    image: str = ""
    seconds: float | None = None
    ended: str = ""
    reason_code: str = ""
    exit_status: int | None = None

    def document(self) -> dict[str, Any]:
        """The same as JSON (docs/reference/json.md)."""
        return dict(vars(self))


def tasks(
    workbench: Workbench,
    chosen: Filter = EVERY,
    *,
    limit: int | None = None,
    offset: int = 0,
    with_course: bool = True,
) -> list[Listed]:
    """The tasks that a filter admits, newest first: at most ``limit``, after the first ``offset``.

    ``with_course``: also what they run, how long, and how they ended. For many tasks, that takes a query for each
    fact; without it, these fields may be empty.
    """
    for name, number in (("limit", limit), ("offset", offset)):
        if number is not None and (type(number) is not int or number < 0):
            raise InvalidRequest(name, f"found {shown(number)}, expected an integer of at least 0")
    found = task_rows.rows(workbench, chosen, limit, offset)
    if len(found) <= _FEW:
        known = _facts_of_few(workbench, found, (*_NAMES, *_COURSE))
    else:
        names = (*_NAMES, *_COURSE) if with_course else _NAMES
        known = _facts_of_many(workbench, found, names, None if chosen.everybodys else workbench.user)
    now = time.time()
    return [_listed(workbench, one, known.get(one.collection, []), now) for one in found]


def _facts_of_few(workbench: Workbench, found: list[Row], names: Sequence[str]) -> dict[str, list[Avu]]:
    """The AVUs with these facts, by collection, in one question."""
    attributes = [workbench.attributes.named(name) for name in names]
    avus = workbench.catalog.avus_of([one.collection for one in found], *attributes)
    return {collection: [*some] for collection, some in avus.items()}


def _facts_of_many(
    workbench: Workbench, found: list[Row], names: Sequence[str], owner: User | None
) -> dict[str, list[Avu]]:
    """The AVUs with these facts, by collection: one question for each fact, or few."""
    known: dict[str, list[Avu]] = {one.collection: [] for one in found}
    for name in names:
        attribute = workbench.attributes.named(name)
        query = Query(EntityKind.COLLECTION, attribute, owner=owner)
        for asked in query.among_each(list(known)) if len(known) <= _SOME else (query,):
            for row in workbench.catalog.query(asked):
                if row.collection in known:
                    known[row.collection].append(Avu(attribute, row.value, row.units))
    return known


def _listed(workbench: Workbench, one: Row, avus: list[Avu], now: float) -> Listed:
    state = Avu(workbench.attributes.state, one.value, one.units)
    others = (avu for avu in avus if avu.attribute != workbench.attributes.state)
    status = status_of(one.collection, [state, *others], workbench.attributes, now)
    return Listed(
        task_id=name_of(one.collection),
        name=status.name if status else "",
        state=one.value,
        role=status.role if status else "",
        resource=resource_of(one.units),
        owner=str(one.owner),
        created=timestamp(one.created),
        collection=one.collection,
        **(_course(status) if status else {}),
    )


def _course(status: TaskStatus) -> dict[str, Any]:
    """What a task runs, how long, and how it ended."""
    return {
        "runs": status.runs or " && ".join(status.commands),
        "image": status.image,
        "seconds": status.seconds.get("processing"),
        "ended": status.times.get(status.state.value, "") if status.state.is_final else "",
        "reason_code": status.reason_code,
        "exit_status": status.exit_status,
    }
