"""Starts and stops workloads and submits their tasks, all in the user's own session.

:func:`start` records a workload. :func:`create_task` submits its tasks, which are ordinary tasks:
users follow, cancel and fetch them like any other. Nothing runs for a workload until it has a task.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from compute_to_data.configuration import Attributes, Configuration
from compute_to_data.coordination.held_images import AskImages
from compute_to_data.documents import request
from compute_to_data.documents.interpolation import escaped
from compute_to_data.documents.schema import problems, summary
from compute_to_data.errors import InvalidRequest, NotFound
from compute_to_data.inputs import references
from compute_to_data.inputs.complete import Origins
from compute_to_data.irods_names import shortened
from compute_to_data.model import Access, DataObject, EntityKind, Query, name_of
from compute_to_data.ports.zone import Catalog, ClientCatalog
from compute_to_data.records.access import MAKE_IT, require
from compute_to_data.records.cancel import request_cancel
from compute_to_data.records.state import State, furthest
from compute_to_data.records.task import TaskRecord, new_task_id, timestamp
from compute_to_data.records.workload import (
    CONTINUED_AT,
    DATASET,
    INSTANCES,
    STATE,
    Workload,
    WorkloadRecord,
    WorkloadState,
    new_workload_id,
)
from compute_to_data.submission import admission, selection, submit
from compute_to_data.submission.submit import Submitted
from compute_to_data.task import ProcessDefinition, RequestedLimits, Task

WORKLOADS = "workloads"
"""The collection of a project that holds its workloads."""
STDIN = "stdin"
"""The collection of a workload that holds its tasks' standard input."""
DEFAULT_ROLE = "CONTAINER"


@dataclass(frozen=True)
class Started:
    """A recorded workload: its id, its collection, the resource of its tasks, and why that one."""

    workload_id: str
    collection: str
    resource: str
    choice: str


@dataclass(frozen=True)
class Description:
    """A workload as the catalog shows it. ``tasks``: the number of its tasks by state."""

    workload_id: str
    collection: str
    state: str
    created: float
    workload: Workload
    tasks: Mapping[str, int] = field(default_factory=dict)


def start(
    catalog: Catalog, configuration: Configuration, project: str, *, workload_id: str = "", **asked: Any
) -> Started:
    """Record a workload below ``project``, a collection of the user's own. ``asked`` and errors: as for
    :func:`accept`; after an error, nothing is recorded. ``workload_id``: from :func:`new_workload_id`; by default a
    new one."""
    workload, reason = accept(catalog, configuration, project, **asked)
    workload_id = workload_id or new_workload_id()
    collection = f"{project}/{WORKLOADS}/{workload_id}"
    record = WorkloadRecord(catalog, configuration.attributes, collection, workload.resource)
    facts = {INSTANCES: str(workload.instances), DATASET: workload.dataset, "name": workload.name}
    catalog.create_collection(f"{project}/{WORKLOADS}", parents=True)
    submit.record_sealed(record, workload.document(), lambda: record.declare(WorkloadState.STARTED, facts))
    return Started(workload_id, collection, workload.resource, reason)


def accept(
    catalog: Catalog,
    configuration: Configuration,
    project: str,
    *,
    image: str,
    instances: int = 1,
    dataset: str = "",
    environment: Mapping[str, str] | None = None,
    limits: Mapping[str, Any] | None = None,
    role: str = "",
    resource: str = "",
    name: str = "",
    each: str = "",
    ask_images: AskImages | None = None,
) -> tuple[Workload, str]:
    """Check what is asked of a workload, and choose its resource; returns the workload, and why this resource. Records
    nothing.

    ``dataset``: a collection that the tasks see, read-only, as ``/input``. ``limits``: the limits
    of each task, as in a task's request. Without ``role`` and ``resource``, the workload goes to a
    resource with the role CONTAINER, preferably one that holds the dataset. ``each``: as in
    :class:`Workload`. ``ask_images``: as for :func:`~compute_to_data.submission.selection.choose`. Raises Refused
    (InvalidRequest) or the zone's own error.
    """
    variables = environment or {}
    asked = Workload(image, instances, role or DEFAULT_ROLE, resource or "any", dataset, each, variables, name=name)
    requested_limits = _checked_limits(configuration, asked, limits)
    origins = Origins(catalog, configuration.attributes)
    inputs = references.tree(catalog, origins, dataset).data_objects if dataset else ()
    require(catalog, project, Access.OWN, "to keep a workload and its results there", MAKE_IT)
    commands = ProcessDefinition(image, ())  # the tasks' own commands are not known yet
    typical = Task(name, role or ("" if resource else DEFAULT_ROLE), resource, (), project, commands)
    choice = selection.choose(catalog, configuration, typical, inputs, ask_images=ask_images)
    workload = replace(asked, role=choice.role, resource=choice.resource.name, limits=requested_limits)
    return workload, choice.reason


def _checked_limits(configuration: Configuration, asked: Workload, limits: Mapping[str, Any] | None) -> RequestedLimits:
    """The limits that a workload asks for. InvalidRequest when something that it asks for is wrong, Refused when the
    site does not allow it."""
    found = problems({**asked.document(), **({"limits": dict(limits)} if limits else {})}, "workload")
    if found:
        raise InvalidRequest(*summary(found))
    if configuration.allows(asked.image) is None:
        raise admission.image_refused(configuration, asked.image)
    requested = request.limits(limits or {})
    configuration.effective_limits(requested, None)
    return requested


def _known(catalog: Catalog, attributes: Attributes, collection: str) -> tuple[WorkloadRecord, Workload]:
    """A workload's record and the workload. NotFound when it does not exist or the user may not read it."""
    record = WorkloadRecord(catalog, attributes, collection, "")
    try:
        workload = record.read()
    except NotFound as error:
        cause, remedy = "does not exist, or you may not read it", "List your workloads with: c2d workload list"
        raise NotFound(f"workload {name_of(collection)}", cause, remedy, code=error.code) from None
    record.resource = workload.resource
    return record, workload


def need_words(command: Sequence[str]) -> None:
    """InvalidRequest for a command that is not a list of words. A text is a sequence of its letters, too."""
    if isinstance(command, str) or not all(isinstance(word, str) for word in command):
        remedy = "Give a list of words, such as ['wc', '-l', 'a.txt']"
        raise InvalidRequest("command", f"is {shortened(repr(command))}", remedy)


def create_task(
    catalog: Catalog,
    configuration: Configuration,
    collection: str,
    command: Sequence[str],
    *,
    stdin: str = "",
    name: str = "",
    walltime_seconds: float | None = None,
    environment: Mapping[str, str] | None = None,
    secrets: Sequence[str] = (),
    task_id: str = "",
) -> Submitted:
    """Queue a task of a workload.

    ``command``: its argument vector, which runs without a shell. ``stdin``: a data object that it
    reads as standard input (:func:`put_stdin` makes one). ``environment``: variables in addition to
    the workload's. ``secrets``: as in a request; a task with secrets gets a container of its own.
    Errors as for :func:`~compute_to_data.submission.submit.submit`.
    """
    need_words(command)
    if not command:
        raise InvalidRequest("task", "names no program", "Write one after --: c2d task create W -- PROGRAM ARGUMENTS")
    _, workload = _known(catalog, configuration.attributes, collection)
    process = _process(workload, command, stdin, environment or {})
    if walltime_seconds is not None:
        process["timeout"] = walltime_seconds
    document = {
        "workload": collection,
        "output_collection": collection,
        "role": workload.role,
        "resource": workload.resource,
        "inputs": [stdin] if stdin else [],
        "process": process,
        "limits": request.limits_document(workload.limits),
        **({"name": name} if name else {}),
        **({"secrets": list(secrets)} if secrets else {}),
    }
    return submit.submit(catalog, configuration, document, task_id=task_id)


def _process(workload: Workload, command: Sequence[str], stdin: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """The process definition of a task. It escapes the command's words, so that they run literally."""
    process: dict[str, Any] = {
        "image": workload.image,
        "exec": escaped(command[0]),
        "argv": [escaped(word) for word in command[1:]],
        "environment": {**workload.environment, **environment},
    }
    if stdin:
        stream = {"file_type": "stream", "stream_name": "STDIN"}
        process["input_adapter"] = {"input_type": "file", "input_parameters": stream}
    return process


def put_stdin(catalog: ClientCatalog, attributes: Attributes, collection: str, content: bytes | str) -> str:
    """Store the standard input of a task, bytes or the content of the local file with this path; returns the data
    object to pass to :func:`create_task`."""
    _, workload = _known(catalog, attributes, collection)
    catalog.create_collection(f"{collection}/{STDIN}", parents=True)
    path = f"{collection}/{STDIN}/{new_task_id()}"
    resources = {resource.name: resource for resource in catalog.resources()}
    target = resources.get(workload.resource)
    # iRODS accepts only a root by its name. From elsewhere, the worker replicates the data object.
    resource = target.name if target and target.is_root else ""
    if isinstance(content, str):
        catalog.put(content, path, resource=resource)
    else:
        catalog.write(path, content, resource=resource)
    return path


def states(catalog: ClientCatalog, attributes: Attributes, collection: str) -> dict[str, State | None]:
    """The states of a workload's tasks by collection, oldest first.

    None for a task whose states no worker can have written.
    """
    values_of: dict[str, list[str]] = {}
    for row in catalog.query(Query(EntityKind.COLLECTION, attributes.state, within=collection)):
        values_of.setdefault(row.collection, []).append(row.value)
    return {task: furthest(values) for task, values in values_of.items()}


def listed(catalog: Catalog, attributes: Attributes, project: str) -> tuple[str, ...]:
    """The collections of a project's workloads, oldest first."""
    return catalog.find(Query(EntityKind.COLLECTION, attributes.named(STATE), within=f"{project}/{WORKLOADS}"))


def describe(catalog: ClientCatalog, attributes: Attributes, collection: str) -> Description:
    """Describe a workload. NotFound when it does not exist or the user may not read it."""
    record, workload = _known(catalog, attributes, collection)
    found = catalog.stat(record.request_path)
    created = found.created if isinstance(found, DataObject) else 0.0
    counts = Counter(states(catalog, attributes, collection).values())
    tasks = {state.value: counts[state] for state in State if counts[state]}
    current = record.workload_state()
    return Description(
        name_of(collection), collection, current.value if current else "unknown", created, workload, tasks
    )


def restart(catalog: Catalog, attributes: Attributes, collection: str) -> None:
    """Let a stopped workload accept tasks again. Those that begin from now on get its dataset anew. NotFound,
    AccessDenied."""
    record, _ = _known(catalog, attributes, collection)
    record.declare(WorkloadState.STARTED, {CONTINUED_AT: timestamp(time.time())})


def stop(catalog: ClientCatalog, attributes: Attributes, collection: str) -> tuple[str, ...]:
    """Stop accepting tasks, and cancel those that have not ended.

    Returns the collections of the tasks that end because of this. The worker then removes the
    workload's sandboxes.
    """
    record, workload = _known(catalog, attributes, collection)
    before = states(catalog, attributes, collection)
    record.declare(WorkloadState.STOPPED)
    stopped = []
    for task, state in states(catalog, attributes, collection).items():
        if state is None or not state.is_final:
            unfinished = TaskRecord(catalog, attributes, task, workload.resource)
            is_stopped = request_cancel(unfinished, state, catalog.user)  # False when the task is gone
        else:  # The worker may already have cancelled a task because its workload is STOPPED.
            earlier = before.get(task)
            is_stopped = state is State.CANCELLED and not (earlier is not None and earlier.is_final)
        if is_stopped:
            stopped.append(task)
    return tuple(stopped)
