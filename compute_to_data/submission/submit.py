"""Turns a request into a recorded, QUEUED task, in the stages that :func:`submit` lists.

Translate the document into our own format, parse it into a Task, resolve what only the catalog
knows, admit what the site allows, authorise what the user may do, choose where the task runs, and
record it.

All of this uses the submitting user's session, so the zone itself enforces the user's rights. A
submission that fails leaves nothing behind.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

from compute_to_data.configuration import Configuration
from compute_to_data.coordination import heartbeat, lock, wakeup
from compute_to_data.coordination.held_images import AskImages
from compute_to_data.documents import formats, request
from compute_to_data.documents.given_beside import GivenBeside
from compute_to_data.documents.json_text import MAXIMUM_BYTES
from compute_to_data.documents.schema import read_json
from compute_to_data.documents.schema_words import shown
from compute_to_data.documents.task_json import recorded_document
from compute_to_data.errors import AlreadyExists, Code, InvalidRequest, Refused, TooLarge
from compute_to_data.inputs import references
from compute_to_data.irods_names import shortened
from compute_to_data.model import Avu, name_of
from compute_to_data.ports.zone import Catalog
from compute_to_data.records import tes_record, waiting_bound
from compute_to_data.records.state import State
from compute_to_data.records.task import AFTER, READS, TaskRecord, checked_task_id, new_task_id
from compute_to_data.records.undo import Undo
from compute_to_data.submission import admission, definitions, selection
from compute_to_data.submission.resolve import resolve
from compute_to_data.task import HIGHEST_PRIORITY, LOWEST_PRIORITY, InputKind, Task


@dataclass(frozen=True)
class Submitted:
    """A recorded task: its id, its collection, the resource it will run on, and why that one.

    ``reused``: this is an earlier, COMPLETED task with the requested results, and nothing new runs.
    ``notes``: what of the request has no effect.
    """

    task_id: str
    collection: str
    resource: str
    choice: str
    reused: bool = False
    notes: tuple[str, ...] = ()


def read_request(catalog: Catalog, data_object: str) -> Any:
    """The JSON document in a data object, read with the user's own rights."""
    return read_json(catalog.read(data_object, MAXIMUM_BYTES), data_object)


@dataclass(frozen=True)
class Accepted:
    """A request that passed all checks, and is not recorded yet. ``waits``: the tasks that it must wait for.
    ``reads``: the collections of datasets and tasks that it reads. ``reused``: an earlier task with the requested
    results, in the place of a new one. ``notes``: what of the request has no effect."""

    task: Task
    choice: selection.Choice
    task_id: str
    waits: AbstractSet[str]
    reads: Sequence[str]
    reused: Submitted | None
    notes: tuple[str, ...] = ()


def submit(
    catalog: Catalog,
    configuration: Configuration,
    document: Any,
    **options: Any,
) -> Submitted:
    """Accept a request in any of the formats (``documents.formats``) and queue it. ``options`` and errors: as for
    :func:`accept`."""
    accepted = accept(catalog, configuration, document, **options)
    return accepted.reused or record(catalog, configuration, accepted)


def accept(
    catalog: Catalog,
    configuration: Configuration,
    document: Any,
    *,
    resource: str = "",
    output_collection: str = "",
    image: str = "",
    task_id: str = "",
    after: Sequence[str] = (),
    reuse_earlier: bool = False,
    patient: bool = False,
    project: str = "",
    ask_images: AskImages | None = None,
    priority: int | None = None,
    coming: Collection[str] = (),
) -> Accepted:
    """Check a request in any of the formats, and choose where it will run.

    ``resource``, ``output_collection``, ``image`` and ``priority`` override the document where they are given.
    ``after``: tasks that this one waits for, in addition to those that the document names.
    ``reuse_earlier``: return an identical earlier task of this user instead, if one still has all
    its results (``reuse.find``). ``patient``: accept the task even when no worker is alive, or its
    resource is marked down. ``project``: the collection that the user works in, where the datasets are that the
    document names by an id.
    ``ask_images``: as for :func:`~compute_to_data.submission.selection.choose`. ``coming``: logical paths of inputs
    that the user uploads once the rest of the request is accepted; they are not looked up. Raises Refused
    (InvalidRequest) or the zone's own error. Records nothing.
    """
    chosen_id = checked_task_id(task_id) if task_id else new_task_id()
    filled = definitions.filled_in(catalog, configuration.attributes, document)
    used = formats.format_of(filled.document)
    beside = GivenBeside(resource, output_collection, image)
    task = _parsed(configuration, filled.document, beside, after, priority)
    task = replace(task, inputs=tuple(one for one in task.inputs if one.logical_path not in coming))
    task, waits, reads = resolve(catalog, configuration.attributes, task, project)
    admission.admit(configuration, task)
    found = admission.authorise(catalog, configuration, task)
    inputs = found.data_objects
    choice = selection.choose(
        catalog, configuration, task, inputs, patient=patient, role_remedy=used.role_remedy, ask_images=ask_images
    )
    admission.check_role(configuration, task, choice.role)
    waiting_bound.need_room(catalog, configuration, choice.resource.name)
    reuses = reuse_earlier and not waits and task.tes is None
    reused = _reused(catalog, configuration, task, choice.role, found) if reuses else None
    notes = (*filled.notes, *used.notes(filled.document))
    return Accepted(task, choice, chosen_id, waits, (*reads, *found.origins, *waits), reused, notes)


def _parsed(
    configuration: Configuration, document: Any, beside: GivenBeside, after: Sequence[str], priority: int | None
) -> Task:
    """The task that a document asks for, with what is given beside it. InvalidRequest."""
    task = request.parse(translate(configuration, document, beside), plain=InputKind.PATH)
    return replace(task, after=(*task.after, *after), priority=_priority(task, priority))


def _priority(task: Task, given: int | None) -> int:
    """The task's priority. InvalidRequest when the one that is given is out of range."""
    chosen = task.priority if given is None else given
    if type(chosen) is not int or not LOWEST_PRIORITY <= chosen <= HIGHEST_PRIORITY:
        expected = f"an integer from {LOWEST_PRIORITY} to {HIGHEST_PRIORITY}"
        raise InvalidRequest("/priority", f"found {shown(chosen)}, expected {expected}")
    return chosen


def translate(configuration: Configuration, document: Any, beside: GivenBeside) -> Any:
    """A document of any of the formats, translated into our own. InvalidRequest."""
    roles = {name: role.settings for name, role in configuration.roles.items()}
    translated = formats.in_our_own(document, beside, roles)
    return definitions.with_image_of_application(configuration, translated)


def _reused(
    catalog: Catalog, configuration: Configuration, task: Task, role: str, inputs: references.Resolved
) -> Submitted | None:
    from compute_to_data.submission import reuse  # here, since an agent never needs its imports

    earlier = reuse.find(catalog, configuration, task, role, inputs)
    if earlier is None:
        return None
    why = f"reused: it computed the same from the same inputs, and ended {earlier.completed_at}"
    return Submitted(earlier.task_id, earlier.collection, earlier.resource, why, reused=True)


def record(catalog: Catalog, configuration: Configuration, accepted: Accepted) -> Submitted:
    """Record a task in a collection of its own: as WAITING if it must wait for others, else as QUEUED. From then on
    a worker may start it."""
    task, choice, task_id = accepted.task, accepted.choice, accepted.task_id
    collection = f"{task.output_collection}/{task_id}"
    task_record = TaskRecord(catalog, configuration.attributes, collection, choice.resource.name)
    facts = {
        "task_id": task_id,
        "name": task.name,
        "role": choice.role,
        "resource": choice.resource.name,
        "choice": choice.reason,
        "workload": task.workload,
        "runs": shortened(_runs(task)),
        "image": next(iter(selection.asked_images(task)), ""),
        "note": shortened("; ".join(accepted.notes)),
    }
    named = configuration.attributes.named
    also = [Avu(named(READS), one) for one in dict.fromkeys(accepted.reads)]
    also += [Avu(named(AFTER), one) for one in task.awaited]
    also += tes_record.avus(configuration.attributes, task)
    first = State.WAITING if accepted.waits else State.QUEUED
    priority = 0 if accepted.waits else task.priority

    def declare() -> None:
        task_record.move_to(first, facts, also, priority=priority)

    record_sealed(task_record, recorded_document(task), declare)
    return Submitted(task_id, collection, choice.resource.name, choice.reason, notes=accepted.notes)


def _runs(task: Task) -> str:
    """What the task runs, for listings: its commands, or its notebook; '' when its role decides."""
    if task.tes is not None:
        return " && ".join(shlex.join(one.command) for one in task.tes.executors)
    if task.process is not None:
        text = " && ".join(shlex.join(words) for words in task.process.commands)
        return text.replace("$${", "${")  # as the program sees it
    name = "" if task.notebook is None else task.notebook.name or name_of(task.notebook.data_object)
    return f"notebook {name}" if name else ""


def record_sealed(record: TaskRecord, document: Mapping[str, Any], declare: Callable[[], None]) -> None:
    """Write a request where no other user can change it, then call ``declare`` to record its state.

    The state comes last, because a worker may begin once it is there. Raises AlreadyExists, the zone's error, or
    InvalidRequest for a request that the worker could not read, and then leaves nothing behind.
    """
    catalog = record.catalog
    content = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False).encode()
    read_json(content, "request, as it would be recorded")  # too large, or with a number of too many digits
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
            "there is already a task of that id",
            "Leave the task id empty to get a new one",
            code=Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME,
        ) from None
    except BaseException:  # also when a person interrupts it
        undo.run()
        raise


def _seal(record: TaskRecord, content: bytes) -> None:
    record.seal(record.catalog.user)
    try:
        is_ours = record.catalog.read(record.request_path, len(content)) == content
    except TooLarge:
        is_ours = False
    if not is_ours:
        raise Refused(record.request_path, "was changed by another user while it was recorded", "Submit it again")


def call_worker(
    catalog: Catalog,
    configuration: Configuration,
    collection: str,
    resource: str,
    hosts: frozenset[str] = frozenset({"localhost"}),
    call_there: Callable[[str], None] | None = None,
) -> bool:
    """Wake the worker of a queued task, or start one where the site starts workers on demand.

    ``hosts``: this host's names. ``call_there``: has the server on another host, which it gets, do the same.
    Returns False when a worker had to be started. OSError when neither is possible. A running worker that gets no
    call, as on another host, finds the task with its next look at the queue.
    """
    on_demand = configuration.worker.on_demand
    host = next((known.host for known in catalog.resources() if known.name == resource), "")
    if host not in hosts:
        if not on_demand or call_there is None or heartbeat.is_served(catalog, configuration, resource):
            return True
        call_there(host)
        return False
    zone = collection.split("/")[1]  # the user may belong to another zone
    is_running = lock.ResourceLock(configuration, zone, resource).is_held()
    wakeup.call_worker(configuration, zone, resource)
    return is_running or not on_demand
