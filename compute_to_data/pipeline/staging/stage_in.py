"""The steps that bring a task's inputs to the compute resource."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from compute_to_data.errors import Code, ComputeToDataError, Refused, ZoneError
from compute_to_data.inputs import claims, naming, places, references, sandbox_paths
from compute_to_data.model import Avu, DataObject, Entity, EntityKind, Replica, Resource, lineage, name_of, parent_of
from compute_to_data.pipeline.checkpoint import ResumePoint
from compute_to_data.pipeline.execution import Execution
from compute_to_data.pipeline.replication import replicas
from compute_to_data.pipeline.staging import fetch_urls
from compute_to_data.pipeline.staging.staging_room import room_for
from compute_to_data.records import awaited, readable
from compute_to_data.records.access import require
from compute_to_data.records.state import State
from compute_to_data.task import InputKind, InputReference

_WHEN_DOWN = (Code.SYS_RESC_IS_DOWN, Code.SYS_REPLICA_INACCESSIBLE, Code.HIERARCHY_ERROR)
"""What the zone answers when a resource is marked down, and for other reasons."""


def authorise(execution: Execution) -> references.Resolved:
    """Check every access that the task needs and that its inputs are complete, and claim its inputs, all in
    the owner's session."""
    context, record, task = execution.context, execution.record, execution.task
    push_unclaims(execution)  # first: a worker that was killed may have claimed them without leaving a checkpoint
    needed = execution.role.required_access(task)
    if execution.recorded is State.QUEUED or not execution.resume_point.has_checkpoint:
        record.move_to(State.STAGING_IN)
    require(context.catalog, parent_of(record.collection), needed.output_collection, "to keep results there")
    if not execution.resume_point.has_exited:
        places.need(context.catalog, context.configuration.attributes, task)
    _need_completed(execution)
    attributes = context.configuration.attributes
    named = [naming.result(context.catalog, attributes, reference) for reference in task.inputs]
    own, check = (record.collection, task.workload), execution.interruption.check
    found = references.resolve(context.catalog, attributes, named, own=own, between=check)
    mine = Avu(attributes.claim, record.task_id, record.place)
    for reference in _claims(execution):
        found = found.claiming(claims.claim_next(context.catalog, reference.logical_path, mine), reference)
    for data_object in found.data_objects:
        check()
        require(context.catalog, data_object.logical_path, needed.inputs, "to use it as input")
    found = fetch_urls.with_urls(execution, found)
    execution.input_folders = sandbox_paths.check(found)
    return found


def _need_completed(execution: Execution) -> None:
    """Cancelled when a task that this one waited for is gone by now. Refused when it has not ended: only a record
    that was written by hand is queued before."""
    if execution.resume_point is not ResumePoint.FRESH:
        return
    unfinished = awaited.unfinished(execution.context.catalog, execution.record.attributes, execution.task.awaited)
    if unfinished:
        raise Refused("task", f"was queued before task {name_of(unfinished[0])} has ended, for which it should wait")


def _claims(execution: Execution) -> list[InputReference]:
    return [one for one in execution.task.inputs if one.kind is InputKind.NEXT_OF]


def push_unclaims(execution: Execution) -> None:
    """If the task fails, remove its claims, so that another task can have these inputs."""
    record = execution.record
    mine = Avu(record.attributes.claim, record.task_id, record.place)
    for reference in _claims(execution):
        collection = reference.logical_path
        execution.undo.push(
            f"remove the claim in {collection}",
            functools.partial(claims.unclaim, execution.context.catalog, collection, mine),
        )


def choose_resource(execution: Execution) -> None:
    """Refused when the resource that was chosen at submission is gone, or no longer has the role. ZoneOutOfReach when
    it is marked down: the task waits until it is up, and a job that was submitted before runs on."""
    context = execution.context
    resource = _resource(execution)
    if resource is None or not resource.is_up:
        if execution.resume_point is ResumePoint.STARTED:
            return
        if resource is None and not execution.resume_point.has_exited:  # else what the program left would be lost
            raise Refused(f"resource {context.resource.name}", "is no longer there", "Submit the task again")
        raise readable.down(context.resource.name)
    attribute = context.configuration.attributes.role
    avus = context.catalog.avus(Entity(EntityKind.RESOURCE, resource.name), attribute)
    if not any(avu.value == execution.role.name for avu in avus):
        raise Refused(
            f"resource {resource.name}", f"no longer has the role {execution.role.name}", "Submit the task again"
        )


def _resource(execution: Execution) -> Resource | None:
    """The compute resource as the catalog has it now; None when it is gone."""
    name = execution.context.resource.name
    return next((one for one in execution.context.catalog.resources() if one.name == name), None)


def need_resource_up(execution: Execution, error: ComputeToDataError) -> None:
    """ZoneOutOfReach when the zone refused something because the compute resource is marked down, or was then."""
    if isinstance(error, ZoneError):
        name, resource = execution.context.resource.name, _resource(execution)
        was_down = error.code is Code.SYS_RESC_IS_DOWN and error.subject == name
        if was_down or resource is None or not resource.is_up:
            raise readable.down(name) from error


def stage_in(execution: Execution, inputs: Sequence[references.Input]) -> None:
    """Fetch what URLs name, and make a good replica of each input on the resource, unless it has one. Errors also as
    for ``room_for``."""
    began = time.monotonic()
    fetch_urls.fetch(execution, inputs)
    staged = []
    with room_for(execution, [one.data_object for one in inputs if one.reference.kind is not InputKind.URL]):
        for one in inputs:
            execution.interruption.check()
            with execution.context.transfers.alone(one.data_object.logical_path, execution.interruption):
                staged.append(_staged(execution, one.data_object, one.target))
    execution.staged = tuple(staged)
    execution.stage_in_seconds = time.monotonic() - began


def _staged(execution: Execution, data_object: DataObject, target: str) -> references.Staged:
    context = execution.context
    logical_path = data_object.logical_path
    current = references.anew(context.catalog, logical_path)
    staged_before = logical_path in execution.checkpoint.staged
    if staged_before:  # an earlier attempt began the transfer
        replica = current.good_replica_on(context.resource.name)
    else:
        replica = replicas.usable_replica(current, context.resource)
    checksum = replica.checksum if replica else ""
    is_left = context.transfers.is_to_trim(logical_path)  # a cancelled task's, which is this one's from now on
    if replica is None or staged_before or is_left:
        count_staged(execution, data_object, bounded=not staged_before)
    if replica is None or is_left:
        execution.stop_if_cancelled()
        push_trim(execution, logical_path)
        _save_staged(execution, {*execution.checkpoint.staged, logical_path})
        execution.record.remember("staged", logical_path)
        context.transfers.keep(logical_path)
    if replica is None:
        replica, checksum = transferred(execution, current)
    else:
        context.transfers.staged.touch(logical_path)
    return replicas.check_physical(references.Staged(current, replica, target, checksum))


def transferred(execution: Execution, data_object: DataObject) -> tuple[Replica, str]:
    """Make a good replica of a data object on the resource. Returns it with its checksum.

    If it is the first one there, nobody but the worker has made it: the worker notes it, to trim it when it is unused.
    ZoneOutOfReach while the resource, or all that have a good replica, are marked down.
    """
    context, root = execution.context, root_here(execution)
    is_first = all(one.root != root for one in data_object.replicas)
    replica, checksum = _transfer(execution, data_object.logical_path, root, again=True)
    context.in_use.arriving.arrived(execution.record.collection, data_object.size)
    if is_first:
        context.transfers.staged.add(data_object.logical_path, replica, root)
    return replica, checksum


def _transfer(execution: Execution, logical_path: str, root: str, *, again: bool) -> tuple[Replica, str]:
    """``again``: try once more when a resource was marked down, and is up by now."""
    context = execution.context
    try:
        return context.transfers.transfer(logical_path, root, execution.interruption)
    except ZoneError as error:
        need_resource_up(execution, error)
        readable.need_after(context.catalog, error, logical_path)
        if not again or error.code not in _WHEN_DOWN:
            raise
    return _transfer(execution, logical_path, root, again=False)


@contextmanager
def using(execution: Execution, data_objects: Sequence[DataObject]) -> Iterator[None]:
    """In this context the task uses these inputs, so that nobody trims their replicas."""
    logical_paths = [one.logical_path for one in data_objects]
    with execution.context.in_use.using(logical_paths):
        try:
            yield
        finally:
            for one in logical_paths:
                execution.context.transfers.staged.touch(one)


def count_staged(execution: Execution, data_object: DataObject, *, bounded: bool) -> None:
    """Count what the task's owner has staged. OutOfReach or Refused when that is more than a user may have."""
    context = execution.context
    most = context.configuration.worker.per_user.staged_bytes if bounded else None
    counted = execution.record.collection, context.catalog.user, data_object.logical_path, data_object.size
    context.in_use.staged_bytes.add(*counted, most)


def _save_staged(execution: Execution, logical_paths: set[str]) -> None:
    execution.journal.save(replace(execution.checkpoint, staged=tuple(sorted(logical_paths))))


def push_trim(execution: Execution, logical_path: str) -> None:
    """If the task fails, trim the replica that it made."""
    execution.undo.push(
        f"trim {logical_path} from {execution.context.resource.name}",
        functools.partial(trim, execution, logical_path),
    )


def trim(execution: Execution, logical_path: str) -> None:
    """Trim a replica that staging made, unless another task is using it. If it is being made, that comes later."""
    context = execution.context
    root = root_here(execution)
    if not context.transfers.trim_later(logical_path, root):
        context.in_use.if_unused(logical_path, lambda: context.transfers.trim(logical_path, root))
    _save_staged(execution, {*execution.checkpoint.staged} - {logical_path})
    execution.record.forget("staged", logical_path)


def root_here(execution: Execution) -> str:
    """The root resource above the compute resource: iRODS does not replicate to a child resource by name."""
    return lineage(execution.context.resource, execution.context.catalog.resources())[-1].name
