"""From a request to a recorded, QUEUED task, in stages that :func:`submit` lists:

translate (into our own format), parse (into a Task), resolve (what only the catalog knows), admit
(what the site allows), authorise (what the user may), choose (where it runs), record.

Everything happens in the submitting user's session, so the zone itself says no where iRODS
would. Nothing is left behind by a submission that fails.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compute_to_data.configuration import Configuration
from compute_to_data.coordination import lock, wakeup
from compute_to_data.documents import formats, request
from compute_to_data.documents.given_beside import GivenBeside
from compute_to_data.documents.schema import read_json
from compute_to_data.documents.task_json import recorded_document
from compute_to_data.errors import AlreadyExists, Code, InvalidRequest, Refused
from compute_to_data.inputs import claims, references
from compute_to_data.model import Access, DataObject, zone_of
from compute_to_data.ports import Catalog
from compute_to_data.records import secret
from compute_to_data.records.task import State, TaskRecord, checked_task_id, new_task_id, require
from compute_to_data.records.undo import Undo
from compute_to_data.submission import selection
from compute_to_data.submission.resolve import resolve
from compute_to_data.task import InputKind, Task


@dataclass(frozen=True)
class Submitted:
    """A recorded task: its id, its collection, where it will run and why there.

    ``reused``: an earlier, COMPLETED one, whose results are what was asked for; nothing runs.
    """

    task_id: str
    collection: str
    resource: str
    choice: str
    reused: bool = False


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
    reuse_earlier: bool = False,
    patient: bool = False,
) -> Submitted:
    """Accept a request in any of the formats (``documents.formats``) and queue it.

    ``resource``, ``output_collection`` and ``image``, where given, stand above what the document
    says. ``reuse_earlier``: an identical earlier task of this user, if there is one with all its
    results (``reuse.find``), is what comes back. ``patient``: queue it also where no worker is alive
    just now. Raises Refused (InvalidRequest) or the zone's own error; then nothing was recorded.
    """
    beside = GivenBeside(resource, output_collection, image)
    chosen_id = checked_task_id(task_id) if task_id else new_task_id()
    task = request.parse(translate(configuration, document, beside))
    task = resolve(catalog, configuration.attributes, task)
    admit(configuration, task)
    inputs = authorise(catalog, configuration, task)
    role_remedy = formats.format_of(document).role_remedy
    choice = selection.choose(catalog, configuration, task, inputs, patient=patient, role_remedy=role_remedy)
    reused = _reused(catalog, configuration, task, choice.role, inputs) if reuse_earlier else None
    return reused or record(catalog, configuration, task, choice, chosen_id)


def translate(configuration: Configuration, document: Any, beside: GivenBeside) -> Any:
    """The document, in whichever format it is, in our own. InvalidRequest."""
    roles = {name: role.settings for name, role in configuration.roles.items()}
    return formats.in_our_own(document, beside, roles)


def admit(configuration: Configuration, task: Task) -> None:
    """Refuse early what the site will not run: an image or limits beyond its own.

    The worker asks again with what the engine really holds; this is for the user's sake.
    """
    image = task.process.image if task.process else task.notebook.image if task.notebook else ""
    if image and configuration.allows(image) is None:
        raise image_refused(image)
    for avu in task.metadata:
        if avu.attribute.startswith((configuration.attributes.prefix, configuration.attributes.claim)):
            raise InvalidRequest("/metadata", f"{avu.attribute} is an attribute that this product keeps for itself")
    configuration.effective_limits(task.limits, task.process.timeout_seconds if task.process else None)


def image_refused(image: str) -> Refused:
    """The refusal of an image that the site does not list."""
    return Refused(
        f"image {image}",
        "is not in this site's list of allowed images",
        "Ask the administrator to add it to `images` in the configuration",
    )


def authorise(catalog: Catalog, configuration: Configuration, task: Task) -> tuple[DataObject, ...]:
    """The inputs known so far, after asking for every access the task will need."""
    inputs = references.resolve(catalog, task.inputs)
    references.targets(inputs, task.inputs)
    for reference in task.inputs:
        if reference.kind is InputKind.NEXT_OF:
            claim = configuration.attributes.claim
            first = next(claims.eligible(catalog, reference.logical_path, claim), None)
            if first is None:
                raise claims.nothing_to_claim(reference.logical_path, claim)
            inputs = (*inputs, first)
    secret.check(catalog, zone_of(task.output_collection), task.secrets)
    require(catalog, task.output_collection, Access.OWN, "to keep a task and its results there")
    return inputs


def _reused(
    catalog: Catalog, configuration: Configuration, task: Task, role: str, inputs: Sequence[DataObject]
) -> Submitted | None:
    from compute_to_data.submission import reuse  # an agent, which never asks, is spared its imports

    earlier = reuse.find(catalog, configuration, task, role, inputs)
    if earlier is None:
        return None
    why = f"reused: it computed the same from the same inputs, and ended {earlier.completed_at}"
    return Submitted(earlier.task_id, earlier.collection, earlier.resource, why, reused=True)


def record(
    catalog: Catalog, configuration: Configuration, task: Task, choice: selection.Choice, task_id: str
) -> Submitted:
    """Write the task down in a collection of its own, QUEUED: a worker may begin with it from now on."""
    collection = f"{task.output_collection}/{task_id}"
    kept = TaskRecord(catalog, configuration.attributes, collection, choice.resource.name)
    facts = {
        "task_id": task_id,
        "name": task.name,
        "role": choice.role,
        "resource": choice.resource.name,
        "choice": choice.reason,
        "workload": task.workload,
    }
    record_sealed(kept, recorded_document(task), lambda: kept.move_to(State.QUEUED, facts))
    return Submitted(task_id, collection, choice.resource.name, choice.reason)


def record_sealed(record: TaskRecord, document: Mapping[str, Any], declare: Callable[[], None]) -> None:
    """Write a request down where nobody else can change it; ``declare`` puts the state on it, last,
    since with the state a worker may begin. AlreadyExists, or the zone's error: nothing is left."""
    catalog = record.catalog
    content = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False).encode()
    undo = Undo()
    try:
        catalog.create_collection(record.collection)
        undo.push(f"remove {record.collection}", lambda: catalog.remove(record.collection, recursive=True))
        catalog.write(record.request_path, content)
        _seal(record, content)
        declare()
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


def call_worker(
    catalog: Catalog,
    configuration: Configuration,
    collection: str,
    resource: str,
    hosts: frozenset[str] = frozenset({"localhost"}),
) -> bool:
    """Wake (or start) the worker of a queued task where its resource is on one of ``hosts``: the
    names this one goes by. False when one had to be started. OSError when it cannot be called;
    then, as on another host, it finds the task with its next look at the queue.
    """
    host = next((one.host for one in catalog.resources() if one.name == resource), "")
    if host not in hosts:
        return True
    zone = collection.split("/")[1]  # the user's own zone may be another one
    there = lock.ResourceLock(configuration, zone, resource).is_held()
    wakeup.call_worker(configuration, zone, resource)
    return there or not configuration.worker.on_demand
