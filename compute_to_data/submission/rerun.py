"""Makes the request that repeats a task, with exactly the inputs that it used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from compute_to_data.configuration import Attributes
from compute_to_data.documents import request
from compute_to_data.documents.task_json import recorded_task
from compute_to_data.errors import NotFound
from compute_to_data.inputs import references
from compute_to_data.model import Entity, EntityKind, Query, parent_of
from compute_to_data.ports import Catalog
from compute_to_data.records.task import State, TaskRecord
from compute_to_data.task import InputKind, InputReference


def again(catalog: Catalog, attributes: Attributes, collection: str) -> dict[str, Any]:
    """The request that repeats a recorded task on the same data objects, in our own format.

    The new request names the data object that the task claimed, and for a collection the data
    objects that it held then. A task that did not complete has kept no claim; its request stays as
    it was. NotFound when the task, or what it claimed, does not exist any more.
    """
    record = TaskRecord(catalog, attributes, collection, "")
    task = recorded_task(catalog.read(record.request_path), record.request_path)
    if record.state() is State.COMPLETED:
        attribute = attributes.named("input")
        avus = catalog.avus(Entity(EntityKind.COLLECTION, collection))
        used = [avu.value for avu in avus if avu.attribute == attribute]
        pinned = [exact for reference in task.inputs for exact in _pinned(record, reference, used)]
        task = replace(task, inputs=tuple(pinned), after=())  # what it waited for has completed
    return request.document(task)


def _need_same(record: TaskRecord, collection: str, used: set[str]) -> None:
    """NotFound unless the collection holds what it held when the task ran."""
    different = used ^ {item.logical_path for item in references.tree(record.catalog, collection)}
    if different:
        cause = f"has changed since task {record.task_id} ran: {min(different)} was added or removed"
        raise NotFound(collection, cause, "Name the inputs in a new request")


def _pinned(record: TaskRecord, reference: InputReference, used: Sequence[str]) -> list[InputReference]:
    """References to the data objects that ``reference`` stood for when the task ran."""
    if reference.kind is InputKind.OBJECT:
        return [reference]
    if reference.kind is InputKind.COLLECTION:
        meant = [path for path in used if path.startswith(f"{reference.logical_path}/")]
        if any(parent_of(path) != reference.logical_path for path in meant):
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
