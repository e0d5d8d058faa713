"""The note that says that a data object has arrived, and that a worker must submit its task.

A policy leaves it inside the user's upload, in one call. It is an AVU of the data object: attribute
``<prefix>::arrived``, value the compute resource whose worker submits the task, units the id that the task will have.
The id stays the same after a crash, so the worker's successor recognises what was done already.

An AVU does not say who wrote it. So a note names no user: the task runs as the owner of the data object according to
the catalog. It counts only while no other user may write AVUs on that data object. Where another user may, or where
the arriving user is not the owner, the policy submits the task itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from compute_to_data.bounds import MOST_PERMISSIONS
from compute_to_data.configuration import Attributes
from compute_to_data.errors import InvalidRequest, NotFound, Refused, TooLarge
from compute_to_data.model import Avu, DataObject, Entity, EntityKind, Query, ReplicaStatus, User
from compute_to_data.ports.zone import Catalog, Storage
from compute_to_data.records.access import refuse_tampering
from compute_to_data.records.task import new_task_id

NAME = "arrived"
"""The fact on a data object that has arrived, while its task is not submitted yet."""


class BeingWritten(Exception):
    """The data object is still being written, or was created empty and will be written later."""


def at_rest(catalog: Catalog, logical_path: str, written: bool) -> DataObject | None:
    """A data object that nobody writes; None when there is none at this path.

    ``written``: it was opened and closed; if it is empty, it may still be filled. Raises BeingWritten.
    """
    try:
        found = catalog.stat(logical_path)
    except NotFound:
        return None
    if not isinstance(found, DataObject):
        return None
    statuses = {replica.status for replica in found.replicas}
    if ReplicaStatus.GOOD not in statuses or statuses & {ReplicaStatus.INTERMEDIATE, ReplicaStatus.WRITE_LOCKED}:
        raise BeingWritten(logical_path)
    if written and found.size == 0:
        raise BeingWritten(logical_path)
    return found


def may_be_noted(catalog: Catalog, data_object: DataObject) -> bool:
    """Whether a note on a data object shows that the session's user has written it."""
    if data_object.owner != catalog.user:
        return False
    try:
        refuse_forgeable(catalog, data_object.logical_path)
    except Refused:
        return False
    return True


def refuse_forgeable(catalog: Catalog, logical_path: str) -> None:
    """Refused when a user other than the session's, administrators aside, may have written a note there."""
    refuse_tampering(logical_path, catalog.permissions(logical_path, MOST_PERMISSIONS), catalog.user)


def leave(catalog: Catalog, attributes: Attributes, logical_path: str, resource: str) -> None:
    """Note that a data object has arrived, for the worker of a resource."""
    note = Avu(attributes.named(NAME), resource, new_task_id())
    catalog.annotate(Entity(EntityKind.DATA_OBJECT, logical_path), add=[note])


def notes(catalog: Catalog | Storage, attributes: Attributes, logical_path: str, resource: str) -> tuple[Avu, ...]:
    """The notes on a data object for the worker of a resource. Of more than can be read, the first."""
    try:
        found = catalog.avus(Entity(EntityKind.DATA_OBJECT, logical_path), attributes.named(NAME))
    except TooLarge as error:
        found = error.first
    return tuple(avu for avu in found if avu.value == resource)


def task_ids(logical_path: str, found: Iterable[Avu]) -> tuple[str, ...]:
    """The ids in notes, as a policy writes them. InvalidRequest when there is none."""
    ids = tuple(avu.units for avu in found if _is_an_id(avu.units))
    if not ids:
        raise InvalidRequest(logical_path, "has a note of its arrival that no policy wrote", "Store it again")
    return ids


def _is_an_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def query(attributes: Attributes, resource: str, owner: User | None = None, limit: int | None = None) -> Query:
    """The data objects with notes for the worker of a resource."""
    return Query(EntityKind.DATA_OBJECT, attributes.named(NAME), resource, owner=owner, limit=limit)
