"""From a request to a recorded, QUEUED task: checked, authorised, placed, written down.

Everything happens in the submitting user's session, so the zone itself says no where iRODS
would. Nothing is left behind by a submission that fails.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from compute_to_data import secret, selection, staging
from compute_to_data.configuration import Configuration
from compute_to_data.documents import formats, request
from compute_to_data.documents.schema import read_json
from compute_to_data.errors import AlreadyExists, Code, InvalidRequest, Refused
from compute_to_data.model import Access, zone_of
from compute_to_data.ports import Catalog
from compute_to_data.record import State, TaskRecord, checked_task_id, new_task_id, require
from compute_to_data.task import InputKind, Task
from compute_to_data.undo import Undo


@dataclass(frozen=True)
class Submitted:
    """A recorded task: its id, its collection, where it will run and why there."""

    task_id: str
    collection: str
    resource: str
    choice: str


def read_request(catalog: Catalog, data_object: str) -> Any:
    """The JSON document in a data object, read with the user's own rights."""
    return read_json(catalog.read(data_object), data_object)


def submit(
    catalog: Catalog,
    configuration: Configuration,
    document: Any,
    *,
    resource: str = "",
    output_collection: str = "",
    image: str = "",
    task_id: str = "",
) -> Submitted:
    """Accept a request in any of the formats (``documents.formats``) and queue it.

    ``resource`` and ``output_collection``, where given, stand above what the document says;
    ``image`` is for a format that names none.
    Raises Refused (InvalidRequest) or the zone's own error; then nothing was recorded.
    """
    task = understand(configuration, document, resource=resource, output_collection=output_collection, image=image)
    _admit(configuration, task)
    inputs = _authorise(catalog, configuration, task)
    choice = selection.choose(catalog, configuration, task, inputs)
    chosen_id = checked_task_id(task_id) if task_id else new_task_id()
    record = TaskRecord(
        catalog, configuration.attributes, f"{task.output_collection}/{chosen_id}", choice.resource.name
    )
    _record(record, task, choice)
    return Submitted(chosen_id, record.collection, choice.resource.name, choice.reason)


def understand(
    configuration: Configuration,
    document: Any,
    *,
    resource: str = "",
    output_collection: str = "",
    image: str = "",
) -> Task:
    """The task that a document in any format asks for; see :func:`submit`. InvalidRequest."""
    settings = {name: role.settings for name, role in configuration.roles.items()}
    return request.parse(
        formats.in_our_own(
            document, resource=resource, output_collection=output_collection, image=image, roles=settings
        )
    )


def _admit(configuration: Configuration, task: Task) -> None:
    """Refuse early what the site will not run: an image or limits beyond its own.

    The worker asks again with what the engine really holds; this is for the user's sake.
    """
    image = task.process.image if task.process else task.notebook.image if task.notebook else ""
    if image and configuration.allows(image) is None:
        raise Refused(
            f"image {image}",
            "is not in this site's list of allowed images",
            "Ask the administrator to add it to `images` in the configuration",
        )
    for avu in task.metadata:
        if avu.attribute.startswith((configuration.attributes.prefix, configuration.attributes.claim)):
            raise InvalidRequest("/metadata", f"{avu.attribute} is an attribute that this product keeps for itself")
    configuration.effective_limits(task.limits, task.process.timeout_seconds if task.process else None)


def _authorise(catalog: Catalog, configuration: Configuration, task: Task) -> Any:
    """The inputs known so far, after asking for every access the task will need."""
    inputs = staging.resolve(catalog, task.inputs)
    staging.targets(inputs)
    for reference in task.inputs:
        if reference.kind is InputKind.NEXT_OF:
            claim = configuration.attributes.claim
            first = next(staging.eligible(catalog, reference.logical_path, claim), None)
            if first is None:
                raise staging.nothing_to_claim(reference.logical_path, claim)
            inputs = (*inputs, first)
    secret.check(catalog, zone_of(task.output_collection), task.secrets)
    require(catalog, task.output_collection, Access.OWN, "to keep a task and its results there")
    return inputs


def _record(record: TaskRecord, task: Task, choice: selection.Choice) -> None:
    """Write the task down; the state comes last, since with it a worker may begin."""
    catalog = record.catalog
    content = json.dumps(recorded_document(task), indent=2, sort_keys=True, ensure_ascii=False).encode()
    undo = Undo()
    try:
        catalog.create_collection(record.collection)
        undo.push(f"remove {record.collection}", lambda: catalog.remove(record.collection, recursive=True))
        catalog.write(record.request_path, content)
        _seal(record, content)
        record.move_to(
            State.QUEUED,
            {
                "task_id": record.task_id,
                "name": task.name,
                "role": choice.role,
                "resource": choice.resource.name,
                "choice": choice.reason,
            },
        )
    except AlreadyExists:
        undo.run()
        raise AlreadyExists(
            record.collection,
            "a task of that id is there already",
            "Leave the task id empty to get a new one",
            code=Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME,
        ) from None
    except Exception:
        undo.run()
        raise


def _seal(record: TaskRecord, content: bytes) -> None:
    record.seal(record.catalog.user)
    if record.catalog.read(record.request_path) != content:
        raise Refused(record.request_path, "was changed by somebody else while it was recorded")


def recorded_document(task: Task) -> dict[str, Any]:
    """``task.json``: the request as accepted, with the version of its format."""
    return {"version": 1, **request.document(task)}


def recorded_task(content: bytes, subject: str) -> Task:
    """The task that a ``task.json`` holds. InvalidRequest when it is not one of ours."""
    document = read_json(content, subject)
    if not isinstance(document, dict) or document.pop("version", None) != 1:
        raise InvalidRequest(subject, "is not a task of version 1")
    return request.parse(document)
