"""A task once more: the request that repeats it, with the very inputs and image that it used."""

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
    """The request that repeats a recorded task on the data objects it had, in our own format.

    What it claimed becomes that very data object, and a collection those that were in it then.
    Of a task that did not complete, which kept no claim, the request is as it was. NotFound when
    the task, or what it had claimed, is not there any more.
    """
    record = TaskRecord(catalog, attributes, collection, "")
    task = recorded_task(catalog.read(record.request_path), record.request_path)
    if record.state() is State.COMPLETED:
        attribute = attributes.named("input")
        avus = catalog.avus(Entity(EntityKind.COLLECTION, collection))
        used = [avu.value for avu in avus if avu.attribute == attribute]
        pinned = [one for reference in task.inputs for one in _pinned(record, reference, used)]
        task = replace(task, inputs=tuple(pinned))
    return request.document(task)


def _need_same(record: TaskRecord, collection: str, used: set[str]) -> None:
    """NotFound unless the collection holds what it held when the task ran."""
    different = used ^ {one.logical_path for one in references.tree(record.catalog, collection)}
    if different:
        cause = f"does not hold what it did when task {record.task_id} ran: {min(different)} has come or gone"
        raise NotFound(collection, cause, "Name what is meant in a new request")


def _pinned(record: TaskRecord, reference: InputReference, used: Sequence[str]) -> list[InputReference]:
    """The data objects that a reference meant when the task ran."""
    if reference.kind is InputKind.OBJECT:
        return [reference]
    if reference.kind is InputKind.COLLECTION:
        meant = [one for one in used if one.startswith(f"{reference.logical_path}/")]
        if any(parent_of(one) != reference.logical_path for one in meant):
            _need_same(record, reference.logical_path, set(meant))
            return [reference]  # which alone says where each is seen
    else:
        claim = record.attributes.claim
        claimed = Query(EntityKind.DATA_OBJECT, claim, record.task_id, record.place, within=reference.logical_path)
        meant = list(record.catalog.find(claimed))
        if not meant:
            raise NotFound(
                reference.logical_path,
                f"the data object that task {record.task_id} claimed there is gone, or not claimed any more",
                "Name the one that is meant in a new request",
            )
    return [InputReference(InputKind.OBJECT, one, _path_of(reference, one)) for one in meant]


def _path_of(reference: InputReference, data_object: str) -> str:
    """Where the sandbox shows a data object that a reference meant, if the reference names a path."""
    if reference.kind is InputKind.COLLECTION and reference.path:
        return f"{reference.path}/{data_object[len(reference.logical_path) + 1 :]}"
    return reference.path
