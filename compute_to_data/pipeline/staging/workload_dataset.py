"""The step that gives a workload's task its sandbox, with the workload's dataset in it.

The dataset is a directory of hard links to the replicas on the compute resource. The worker makes it for all tasks
of the workload, and another one when the dataset has changed: it copies no bytes, and thousands of files need only one
mount.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from compute_to_data.bounds import MOST_MEMBERS
from compute_to_data.catalog_tree import walk
from compute_to_data.errors import Cancelled, EngineError, NotFound
from compute_to_data.inputs import references
from compute_to_data.inputs.complete import Origins, has_content
from compute_to_data.job import JobKey, Sandbox
from compute_to_data.model import Access, DataObject, Replica, name_of, parent_of
from compute_to_data.pipeline.execution import Execution, SharedDataset
from compute_to_data.pipeline.replication import replicas
from compute_to_data.pipeline.staging import stage_in
from compute_to_data.pipeline.staging.staging_room import room_for
from compute_to_data.pipeline.vault.dataset_listings import Listing
from compute_to_data.pipeline.vault.written_files import now
from compute_to_data.records.access import require
from compute_to_data.records.dataset_content import checksum_of
from compute_to_data.records.workload import Workload, WorkloadRecord

_DATASET, _SANDBOXES = "dataset", "sandboxes"
_WALKS = 3
_T = TypeVar("_T")


def sandbox(execution: Execution) -> Sandbox | None:
    """The sandboxes in which the task may run; None for a task without a workload.

    Refused when the workload belongs to another user, or differs from what the task says. Cancelled when the
    workload was stopped, which also ends the tasks that have no request to cancel on their record yet.
    """
    collection = execution.task.workload
    if not collection:
        return None
    began = time.monotonic()
    context = execution.context
    record = WorkloadRecord(context.catalog, context.configuration.attributes, collection, context.resource.name)
    workload = record.of_its_task(execution.task, parent_of(execution.record.collection))
    since = record.started_since()
    if since is None:
        raise Cancelled("task", f"its workload {name_of(collection)} was stopped")
    if workload.dataset:
        require(context.catalog, workload.dataset, Access.READ_OBJECT, "to use it as a dataset")
        Origins(context.catalog, context.configuration.attributes).need_collection(workload.dataset)
    acquire = execution.interruption.acquire
    held = ""
    if workload.dataset:
        look = functools.partial(_steady, functools.partial(_look, execution, workload.dataset))
        held = context.workload_directories.listings.of(collection, execution.submitted_at, look, acquire).fingerprint
    made = context.catalog.stat(collection).created
    identity = hashlib.sha256(json.dumps([made, since, held, workload.document()], sort_keys=True).encode()).hexdigest()
    fill = functools.partial(_fill, execution, workload, context.workload_directories.newest(collection))
    place = context.workload_directories.of(collection, identity, execution.record.collection, fill, acquire)
    execution.stage_in_seconds += time.monotonic() - began
    dataset = os.path.join(place, _DATASET) if workload.dataset else ""
    if dataset:
        execution.dataset = SharedDataset(workload.dataset, dataset, now(place))
    return Sandbox(
        workload=JobKey.of(context.scope, collection).text,
        instances=workload.instances,
        directory=os.path.join(place, _SANDBOXES),
        inputs=dataset,
    )


def _steady(walks: Callable[..., _T], *given: Any) -> _T:
    """What a walk through the dataset returns. It begins again when a collection is removed meanwhile."""
    for _ in range(_WALKS - 1):
        with contextlib.suppress(NotFound):
            return walks(*given)
    return walks(*given)


def _look(execution: Execution, dataset: str, before: Listing | None) -> Listing:
    """What the dataset holds now. NotFound, TooLarge."""
    context = execution.context
    origins = Origins(context.catalog, context.configuration.attributes, own=(execution.task.workload,))
    began, contents = time.time(), dict[str, str]()
    for place, _, here in walk(context.catalog, dataset, MOST_MEMBERS):
        execution.interruption.check()
        if origins.is_own(place):
            continue
        contents[place] = ""
        for one in here:
            path = one.logical_path
            if has_content(one):
                contents[path] = checksum_of(one) or f"{one.size} {one.modified}"
            elif before is not None and path in before.contents:
                contents[path] = before.contents[path]
    return Listing(began, contents)


def _fill(execution: Execution, workload: Workload, previous: str, directory: str) -> None:
    """Link the dataset into a directory. ``previous``: the workload's directory before, if there is one. Then data
    objects that are being written do not keep tasks from running: they are as they were there, or not there yet."""
    if not workload.dataset:
        return
    top = os.path.join(directory, _DATASET)
    os.mkdir(top, 0o755)
    context = execution.context
    moving: set[str] = set()

    def takes(one: DataObject) -> bool:
        if previous and not has_content(one):
            moving.add(one.logical_path[len(workload.dataset) + 1 :])
            return False
        return True

    origins = Origins(context.catalog, context.configuration.attributes, own=(execution.task.workload,))
    check = execution.interruption.check
    tree = functools.partial(references.tree, between=check, takes=takes)
    below = _steady(tree, context.catalog, origins, workload.dataset)
    found = below.data_objects
    for collection in below.empty:
        os.makedirs(f"{top}{collection[len(workload.dataset) :]}", mode=0o755, exist_ok=True)
    with stage_in.using(execution, found), room_for(execution, found):
        for data_object in found:
            execution.interruption.check()
            relative = data_object.logical_path[len(workload.dataset) + 1 :]
            os.makedirs(os.path.dirname(os.path.join(top, relative)), mode=0o755, exist_ok=True)
            _link(_staged(execution, data_object), os.path.join(top, relative))
    for relative in sorted(moving):
        with contextlib.suppress(FileNotFoundError):
            earlier = os.path.join(previous, _DATASET, relative)
            os.stat(earlier, follow_symlinks=False)
            os.makedirs(os.path.dirname(os.path.join(top, relative)), mode=0o755, exist_ok=True)
            os.link(earlier, os.path.join(top, relative), follow_symlinks=False)
    context.workload_directories.written.begin(top, directory)


def _staged(execution: Execution, data_object: DataObject) -> references.Staged:
    """A good replica on the resource, made if there is none. It stays for later tasks."""
    replica = data_object.good_replica_on(execution.context.resource.name)
    if replica is None:
        with execution.context.transfers.alone(data_object.logical_path, execution.interruption):
            replica = _made(execution, data_object)
    name = name_of(data_object.logical_path)
    return replicas.check_physical(references.Staged(data_object, replica, name, replica.checksum))


def _made(execution: Execution, data_object: DataObject) -> Replica:
    context = execution.context
    current = references.anew(context.catalog, data_object.logical_path)
    replica = replicas.usable_replica(current, context.resource)
    if replica is None:
        stage_in.count_staged(execution, current, bounded=True)
        replica, _ = stage_in.transferred(execution, current)
    return replica


def _link(staged: references.Staged, link: str) -> None:
    try:
        os.link(staged.replica.physical_path, link, follow_symlinks=False)
    except OSError as error:
        cause = f"its replica on {staged.replica.leaf} cannot be linked into the workload's dataset ({error.strerror})"
        remedy = ""
        if error.errno == errno.EXDEV:
            remedy = "Replicate it into the resource's vault: its file is on another file system"
        raise EngineError(staged.data_object.logical_path, cause, remedy) from error
