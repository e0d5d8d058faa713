"""Archives tasks that have ended, one's own or, for an administrator, those of all users."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from compute_to_data.errors import AccessDenied, ComputeToDataError, NotFound, OutOfReach
from compute_to_data.model import EntityKind, Query, Row
from compute_to_data.records import archive
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench
    from compute_to_data.ports.zone import Catalog, Storage

FINAL = tuple(state for state in State if state.is_final)
_AT_ONCE = 500
"""How many tasks one question finds. The archived ones are not found again."""


@dataclass(frozen=True)
class Done:
    """One task that was to be archived. ``error``: why it was not; None when it is archived now."""

    collection: str
    error: ComputeToDataError | None = None


def archive_older(
    workbench: Workbench, before: float, states: Sequence[State] = FINAL, storage: Storage | None = None
) -> Iterator[Done]:
    """Archive the ended tasks that were submitted before a time (Unix seconds), the oldest first, and yield each.

    The person's own tasks; with ``storage``, a rodsadmin's, those of all users, each in a session on behalf of its
    owner. A user who interrupts it and starts it again goes on with the tasks that are left.
    """
    source = workbench.catalog if storage is None else storage
    owner = None if storage is not None else workbench.user
    for state in states:
        query = Query(EntityKind.COLLECTION, workbench.attributes.state, state.value, owner=owner, limit=_AT_ONCE)
        left = 0
        while True:
            rows = source.query(replace(query, offset=left))
            for row in rows:
                if row.created >= before:
                    break
                done = _archived(workbench, row, storage)
                left += done.error is not None
                yield done
            else:
                if len(rows) == _AT_ONCE:
                    continue
            break


def _archived(workbench: Workbench, row: Row, storage: Storage | None) -> Done:
    try:
        catalog: Catalog = workbench.catalog if storage is None else storage.on_behalf_of(row.owner)
        archive.archive(TaskRecord(catalog, workbench.attributes, row.collection, ""))
    except OutOfReach:
        raise
    except ComputeToDataError as error:  # the other tasks are archived all the same
        return Done(row.collection, error)
    return Done(row.collection)


def archive_one(catalog: Catalog, workbench: Workbench, collection: str) -> bool:
    """Archive one task; False when it is archived already. Errors as for :func:`archive.archive`."""
    return _of(catalog, workbench, collection, archive.archive)


def restore_one(catalog: Catalog, workbench: Workbench, collection: str) -> bool:
    """Give an archived task its AVUs back; False when it is not archived."""
    return _of(catalog, workbench, collection, archive.restore)


def _of(catalog: Catalog, workbench: Workbench, collection: str, do: Callable[[TaskRecord], bool]) -> bool:
    record = TaskRecord(catalog, workbench.attributes, collection, "")
    if record.state() is None:
        raise NotFound(f"task {record.task_id}", f"{collection} has no task's state", "List your tasks: c2d list")
    if record.sealed_owner() != catalog.user:
        remedy = "Ask them, or an administrator: c2d archive --admin"
        raise AccessDenied(f"task {record.task_id}", f"belongs to {record.sealed_owner()}", remedy)
    return do(record)
