"""Makes the request that repeats a task, with exactly the inputs that it used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from compute_to_data.configuration import Attributes
from compute_to_data.documents import request
from compute_to_data.documents.task_json import LARGEST, recorded_task
from compute_to_data.errors import AccessDenied, NotFound, Refused
from compute_to_data.inputs import naming, references
from compute_to_data.inputs.complete import Origins
from compute_to_data.model import Collection, DataObject, Entity, EntityKind, Query, Replica, ReplicaStatus, parent_of
from compute_to_data.ports.zone import Catalog
from compute_to_data.provenance.outcome import UNKNOWN
from compute_to_data.records import archive
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord, timestamp
from compute_to_data.task import FETCHED_NAME, InputKind, InputReference

_SHOWN = 5


@dataclass(frozen=True)
class Changed:
    """An input that is not what it was when the task ran, and how it differs."""

    logical_path: str
    how: str


def again(catalog: Catalog, attributes: Attributes, collection: str, *, changed_inputs: bool = False) -> dict[str, Any]:
    """The request that repeats a recorded task on the same data objects, in our own format.

    The new request names the data object that the task claimed, and for a collection the data
    objects that it held then. A task that did not complete has kept no claim; its request stays as
    it was. NotFound when the task, or what it claimed, or one of its inputs, does not exist any more.
    Refused when an input has changed since, unless ``changed_inputs``: then the request names the
    inputs as they are now.
    """
    record = TaskRecord(catalog, attributes, collection, "")
    if archive.is_archived(record):
        remedy = f"Bring its record back first: c2d archive --restore {record.task_id}"
        raise Refused(f"task {record.task_id}", "is archived", remedy)
    task = recorded_task(catalog.read(record.request_path, LARGEST), record.request_path)
    is_completed = record.state() is State.COMPLETED
    used = _recorded_inputs(record)
    if not is_completed:  # it claims anew, and may not have read what it names
        claimed_in = {one.logical_path for one in task.inputs if one.kind is InputKind.NEXT_OF}
        gone = f"{collection}/{FETCHED_NAME}/"
        used = {
            path: known
            for path, known in used.items()
            if known != UNKNOWN and parent_of(path) not in claimed_in and not path.startswith(gone)
        }
    singly = {one.logical_path for one in task.inputs if one.kind is InputKind.OBJECT}
    _need_there(record, singly & used.keys() if changed_inputs else used)
    if not changed_inputs:
        _need_unchanged(record, used)
    if is_completed:
        named = [naming.result(catalog, attributes, reference) for reference in task.inputs]
        pinned = (_pinned(record, reference, list(used), changed_inputs) for reference in named)
        task = replace(task, inputs=tuple(chain.from_iterable(pinned)), after=())  # those tasks have completed
    return request.document(task)


def _recorded_inputs(record: TaskRecord) -> dict[str, str]:
    """The checksums of the inputs that the task used, by logical path."""
    attribute = record.attributes.named("input")
    avus = record.catalog.avus(Entity(EntityKind.COLLECTION, record.collection), attribute)
    return {avu.value: avu.units for avu in avus}


def _now(catalog: Catalog, logical_path: str) -> DataObject | None:
    try:
        found = catalog.stat(logical_path)
    except NotFound:
        return None
    return None if isinstance(found, Collection) else found


def _need_there(record: TaskRecord, logical_paths: Iterable[str]) -> None:
    missing = sorted(path for path in logical_paths if _now(record.catalog, path) is None)
    if missing:
        cause = f"ran on inputs that do not exist any more: {_listed(missing)}"
        raise NotFound(f"task {record.task_id}", cause, "Name others in a new request")


def _need_unchanged(record: TaskRecord, used: Mapping[str, str]) -> None:
    changed = [f"{one.logical_path} ({one.how})" for one in changes(record, used)]
    if changed:
        remedy = f"To run it on them as they are now: c2d rerun {record.task_id} --changed-inputs"
        raise Refused(
            f"task {record.task_id}", f"its inputs are not what they were when it ran: {_listed(changed)}", remedy
        )


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:_SHOWN])}{f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''}"


def changes(record: TaskRecord, used: Mapping[str, str]) -> Iterator[Changed]:
    """The inputs of a task that exist and that have changed since it ran, or may have.

    It compares checksums. An input without a recorded checksum has not changed if the catalog says that it
    was last modified before the task began to stage its inputs.
    """
    began = record.facts("staging_in_at").get("staging_in_at", "")
    for path, checksum in used.items():
        found = _now(record.catalog, path)
        if found is None:
            continue
        if checksum == UNKNOWN:
            if not timestamp(found.modified) < began:
                yield Changed(path, "modified since, and no checksum of it was recorded")
        elif _checksum(record.catalog, found) != checksum:
            yield Changed(path, "other content")


def _checksum(catalog: Catalog, data_object: DataObject) -> str:
    """The checksum of all good replicas; '' when they differ, or when it cannot be known."""
    good: list[Replica] = [one for one in data_object.replicas if one.status is ReplicaStatus.GOOD]
    known = {one.checksum for one in good if one.checksum}
    if len(known) == 1:
        return known.pop()
    try:
        return "" if known or not good else catalog.checksum(data_object.logical_path)
    except AccessDenied:
        return ""


def _need_same(record: TaskRecord, collection: str, used: set[str]) -> None:
    """NotFound unless the collection holds what it held when the task ran."""
    origins = Origins(record.catalog, record.attributes, own=(record.collection,))
    now = {one.logical_path for one in references.tree(record.catalog, origins, collection).data_objects}
    different = used ^ now
    if different:
        cause = f"has changed since task {record.task_id} ran: {min(different)} was added or removed"
        remedy = f"Name the inputs in a new request, or: c2d rerun {record.task_id} --changed-inputs"
        raise NotFound(collection, cause, remedy)


def _has_collections(catalog: Catalog, collection: str) -> bool:
    return any(isinstance(one, Collection) for one in catalog.children(collection))


def _pinned(
    record: TaskRecord, reference: InputReference, used: Sequence[str], changed_inputs: bool
) -> list[InputReference]:
    """References to the data objects that ``reference`` stood for when the task ran."""
    if reference.kind is InputKind.URL and not changed_inputs:
        fetched = references.fetched_path(reference, record.collection)
        return [InputReference(InputKind.OBJECT, fetched, reference.path)]
    if reference.kind not in (InputKind.COLLECTION, InputKind.NEXT_OF):
        return [reference]
    if reference.kind is InputKind.COLLECTION:
        if changed_inputs:
            return [reference]
        meant = [path for path in used if path.startswith(f"{reference.logical_path}/")]
        is_flat = all(parent_of(path) == reference.logical_path for path in meant)
        if not meant or not is_flat or _has_collections(record.catalog, reference.logical_path):
            _need_same(record, reference.logical_path, set(meant))
            return [reference]  # only the collection's reference keeps the subdirectories in the sandbox
    else:
        claim = record.attributes.claim
        claimed = Query(EntityKind.DATA_OBJECT, claim, record.task_id, record.place, within=reference.logical_path)
        meant = list(record.catalog.find(claimed))
        if not meant:
            raise NotFound(
                reference.logical_path,
                f"the data object that task {record.task_id} claimed there is gone, or its claim is",
                "Name the data object in a new request",
            )
    return [InputReference(InputKind.OBJECT, path, _path_of(reference, path)) for path in meant]


def _path_of(reference: InputReference, data_object: str) -> str:
    """Where the sandbox shows a data object of a reference; '' when the reference names no path."""
    if reference.kind is InputKind.COLLECTION and reference.path:
        return f"{reference.path}/{data_object[len(reference.logical_path) + 1 :]}"
    return reference.path
