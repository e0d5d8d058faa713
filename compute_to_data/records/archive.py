"""Archiving: the facts of a task that has ended move from AVUs into a data object of the task's collection.

A task has some 25 AVUs. They make it quick to find and cheap to follow, and a catalog with millions of ended tasks
does not need that of the old ones. :func:`archive` writes them into ``task-record.json`` beside ``task.json``, and then
replaces them by two, in one atomic call: ``task_id``, and ``archived`` with the state and the resource. Results, logs,
the crate and everything on the results stay as they are. :func:`restore` reverses it.

The data object is complete before an AVU is removed. So a crash in between loses nothing, and the next attempt ends it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from compute_to_data.bounds import MOST_PERMISSIONS
from compute_to_data.configuration import Attributes
from compute_to_data.documents.json_text import MAXIMUM_BYTES
from compute_to_data.documents.schema import read_json
from compute_to_data.errors import InvalidRequest, NotFound, Refused, TooLarge, ZoneError
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.ports.zone import Catalog
from compute_to_data.records.access import refuse_tampering
from compute_to_data.records.state import furthest
from compute_to_data.records.task import ARCHIVED, TaskRecord
from compute_to_data.task import RECORD_NAME

_VERSION = "archived_task"
_HEAD = f'{{\n "{_VERSION}": 1,'.encode()
_KEPT = ("task_id", ARCHIVED)


def is_archived(record: TaskRecord) -> bool:
    """Whether a task has an archived record, and no other one."""
    entity, attributes = _entity(record), record.attributes
    found = {avu.attribute for avu in record.catalog.avus(entity, attributes.state, attributes.named(ARCHIVED))}
    return found == {attributes.named(ARCHIVED)}


def archive(record: TaskRecord) -> bool:
    """Archive a task, in its owner's session. False when it is archived already.

    Refused while it has not ended, when it belongs to a workload, when another user could have changed its record,
    and when its facts do not fit into the data object.
    """
    if is_archived(record):
        return False
    owner = record.sealed_owner()
    if owner != record.catalog.user:
        raise Refused(record.collection, f"belongs to {owner}", "Ask them to archive it")
    facts = _facts(record)
    state = furthest(avu.value for avu in facts if avu.attribute == record.attributes.state)
    if state is None or not state.is_final:
        cause = f"has not ended yet: it is {state.value if state else 'in an unknown state'}"
        raise Refused(record.collection, cause, "Archive it when it has ended")
    if any(avu.attribute == record.attributes.named("workload") for avu in facts):
        raise Refused(record.collection, "belongs to a workload, whose tasks are listed by their AVUs")
    _write(record, facts)
    units = next(avu.units for avu in facts if avu.value == state.value and avu.attribute == record.attributes.state)
    kept = {record.attributes.named(name) for name in _KEPT}
    now = [Avu(record.attributes.named(ARCHIVED), state.value, units)]
    now += [Avu(record.attributes.named("task_id"), record.task_id)]
    record.catalog.annotate(_entity(record), add=now, remove=[avu for avu in facts if avu.attribute not in kept])
    return True


def restore(record: TaskRecord) -> bool:
    """Give an archived task its AVUs back, in its owner's session. False when it is not archived."""
    if not is_archived(record):
        return False
    avus = archived_avus(record)
    state = furthest(avu.value for avu in avus if avu.attribute == record.attributes.state)
    if state is None or not state.is_final:
        raise InvalidRequest(record_path(record), "holds no final state", "It was changed since the task was archived")
    old = record.catalog.avus(_entity(record), record.attributes.named(ARCHIVED))
    record.catalog.annotate(_entity(record), add=avus, remove=old)
    with contextlib.suppress(NotFound):
        record.catalog.remove(record_path(record))
    return True


def archived_avus(record: TaskRecord) -> tuple[Avu, ...]:
    """The AVUs in an archived record. Refused when a user other than the task's owner may have changed it."""
    path = record_path(record)
    owner = record.sealed_owner()
    refuse_tampering(path, record.catalog.permissions(path, MOST_PERMISSIONS), owner)
    return _avus(record.attributes, path, read_json(record.catalog.read(path, MAXIMUM_BYTES), path))


def record_path(record: TaskRecord) -> str:
    """The logical path of the data object that holds the archived facts."""
    return f"{record.collection}/{RECORD_NAME}"


def _entity(record: TaskRecord) -> Entity:
    return Entity(EntityKind.COLLECTION, record.collection)


def _facts(record: TaskRecord) -> tuple[Avu, ...]:
    try:
        found = record.catalog.avus(_entity(record))
    except TooLarge as error:
        cause = f"cannot be archived: {error.cause}"
        raise Refused(record.collection, cause, "Remove AVUs that others added") from None
    return tuple(avu for avu in found if avu.attribute.startswith(record.attributes.named("")))


def _write(record: TaskRecord, facts: Sequence[Avu]) -> None:
    """Write the data object, over one that an earlier attempt left, where no other user can change it."""
    path = record_path(record)
    _need_ours(record.catalog, path)
    beginning = len(record.attributes.named(""))
    rows = [[avu.attribute[beginning:], avu.value, avu.units] for avu in facts]
    content = json.dumps({_VERSION: 1, "avus": rows}, indent=1, ensure_ascii=False).encode()
    if len(content) > MAXIMUM_BYTES:
        raise Refused(record.collection, f"has facts of {len(content)} bytes, and {MAXIMUM_BYTES} can be archived")
    record.catalog.write(path, content, force=True)
    record.seal(record.catalog.user, path)
    if record.catalog.read(path, MAXIMUM_BYTES) != content:
        raise Refused(path, "was changed by another user while it was written", "Archive the task again")


def _need_ours(catalog: Catalog, path: str) -> None:
    """InvalidRequest when something else is at the path. What an earlier attempt wrote may be cut off anywhere."""
    try:
        content = catalog.read(path, MAXIMUM_BYTES)
    except ZoneError:  # there is nothing, or nothing that can be read
        return
    if content[: len(_HEAD)] != _HEAD[: len(content)]:
        raise _not_ours(path)


def _not_ours(path: str) -> InvalidRequest:
    remedy = "If it is an output of the task, the task cannot be archived"
    return InvalidRequest(path, "is no archived record of a task", remedy)


def _avus(attributes: Attributes, path: str, document: Any) -> tuple[Avu, ...]:
    """The AVUs in a document. InvalidRequest for anything else."""
    rows = document.get("avus") if isinstance(document, dict) and document.get(_VERSION) == 1 else None
    if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
        raise _not_ours(path)
    return tuple(Avu(attributes.named(name), value, units) for name, value, units in rows)


def _is_row(row: object) -> bool:
    return isinstance(row, list) and len(row) == 3 and all(isinstance(one, str) for one in row) and all(row[:2])


def in_place_of(record: TaskRecord, found: Iterable[Avu]) -> tuple[Avu, ...]:
    """The AVUs of a task: those ``found``, or the archived ones when these only say that it is archived."""
    listed = tuple(found)
    attributes = {avu.attribute for avu in listed}
    if record.attributes.named(ARCHIVED) not in attributes or record.attributes.state in attributes:
        return listed
    others = (avu for avu in listed if not avu.attribute.startswith(record.attributes.named("")))
    return (*archived_avus(record), *others)
