"""The last step: move results to long-term storage, and keep or trim the staged inputs.

The worker first replicates all results and reads each replica back. Only then does it trim the replicas on
the compute resource. Two fields of the checkpoint tell a worker how to resume this step: with ``moving_to``,
the compute resource still has everything, and the worker begins the step again or undoes it; with
``moved_to``, the receiving resource has everything, and only trimming remains.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

from compute_to_data.catalog_tree import walk
from compute_to_data.errors import Code, ComputeToDataError, OutOfReach, Refused, ZoneError, zone_error
from compute_to_data.job import Logs
from compute_to_data.model import (
    DataObject,
    EntityKind,
    Query,
    Registration,
    ReplicaStatus,
    lineage,
    name_of,
)
from compute_to_data.pipeline.checkpoint import ResumePoint, required
from compute_to_data.pipeline.execution import Execution
from compute_to_data.pipeline.hooks import Retention
from compute_to_data.pipeline.results import check_job, placing
from compute_to_data.pipeline.staging import stage_in
from compute_to_data.pipeline.vault import workspace
from compute_to_data.pipeline.watch_job import Detached
from compute_to_data.records import readable
from compute_to_data.task import CRATE_NAME, LOG_NAMES, STDERR_NAME, STDOUT_NAME, TIMES_NAME

log = logging.getLogger(__name__)

_LARGEST_LOG = 1 << 20
"""The most bytes of a registered log from which the worker explains a failure. It does without a longer one."""
_OWN_NAMES = frozenset({CRATE_NAME, *LOG_NAMES, TIMES_NAME})


def retain(execution: Execution, results: Sequence[Registration]) -> None:
    """Move the results as the role says, then keep or trim the replicas that staging made."""
    root = receiving_root(execution)
    if root:
        _replicate_all(execution, results, root)
        _trim_results(execution, root)
    _trim_staged(execution)


def receiving_root(execution: Execution) -> str:
    """The root resource that receives the results; '' when they stay on the compute resource, because the
    role says so or because the compute resource has the receiving role itself.

    Of several resources that are up, the first by name. Refused when there is none. When all of them are marked down,
    a task whose program has ended waits (ZoneOutOfReach); for another one, this is the first by name, since its program
    need not wait for that.
    """
    role = execution.role.results_to(execution.task)
    if not role:
        return ""
    context = execution.context
    resources = context.catalog.resources()
    known = {one.name: one for one in resources}
    attribute = context.configuration.attributes.role
    bearers = sorted(set(context.catalog.find(Query(EntityKind.RESOURCE, attribute, role))) & known.keys())
    here = lineage(context.resource, resources)
    if any(known[name] in here for name in bearers):
        return ""
    # A sibling below the same root cannot lose the compute resource's replica and keep its own.
    elsewhere = [line for line in (lineage(known[name], resources) for name in bearers) if line[-1] != here[-1]]
    for line in elsewhere:
        if all(resource.is_up for resource in line):
            return line[-1].name
    if elsewhere and execution.checkpoint.exit is None:
        return elsewhere[0][-1].name
    if elsewhere:
        raise readable.down(next(one.name for one in elsewhere[0] if not one.is_up))
    remedy = f"An administrator can: imeta add -R <resource> {attribute} {role}"
    raise Refused(f"role {role}", "no resource has this role, so none can receive the results", remedy)


def need_receiver_up(execution: Execution, error: ComputeToDataError) -> None:
    """ZoneOutOfReach when the zone refused something because all resources that may receive the results are down."""
    if not isinstance(error, ZoneError) or not execution.checkpoint.moving_to:
        return
    try:
        receiving_root(execution)
    except OutOfReach:
        raise
    except ComputeToDataError as other:
        log.info("task %s: %s", execution.record.task_id, other)


def _replicate_all(execution: Execution, results: Sequence[Registration], root: str) -> None:
    """Replicate every result to the root resource and verify it. An error undoes all of them."""
    push_take_back(execution, root)
    execution.journal.save(replace(execution.checkpoint, moving_to=root))
    for registered in results:
        _stop_if_asked(execution)
        execution.interruption.check()
        _replicate(execution, registered, root)
    execution.journal.save(replace(execution.checkpoint, moving_to="", moved_to=root))
    execution.record.decide({"moved_to": root})  # for people to read


def _replicate(execution: Execution, registered: Registration, root: str) -> None:
    logical_path, storage = registered.logical_path, execution.context.storage
    execution.context.transfers.move(logical_path, root, execution.interruption)
    found = execution.record.catalog.stat(logical_path)
    below = [one for one in found.replicas if one.root == root] if isinstance(found, DataObject) else []
    good = [replica for replica in below if replica.status is ReplicaStatus.GOOD]
    if not good:
        raise zone_error(
            Code.SYS_REPLICA_DOES_NOT_EXIST, logical_path, f"has no good replica on {root} after replication"
        )
    for replica in good:  # one per leaf, if the root is a coordinating resource
        verify = functools.partial(storage.verify, logical_path, replica.number)
        read = execution.interruption.wait_for(verify, f"check of {logical_path}")
        if read != registered.checksum:
            cause = f"its replica on {replica.leaf} has checksum {read}, but the task wrote {registered.checksum}"
            raise zone_error(Code.USER_CHKSUM_MISMATCH, logical_path, cause)


def _stop_if_asked(execution: Execution) -> None:
    """Raise Detached when the worker is stopping: moving may take hours, and the next worker can continue it."""
    if execution.context.stopping():
        raise Detached(execution.job_key)


def _trim_results(execution: Execution, root: str) -> None:
    """Trim the compute resource's replicas of results that the root resource has, and remove empty directories.

    A replica that another task is reading stays.
    """
    context = execution.context
    here = stage_in.root_here(execution)
    for one in _results(execution):
        if one.good_replica_on(root) and any(replica.root == here for replica in one.replicas):
            _stop_if_asked(execution)
            trim = functools.partial(context.storage.trim, one.logical_path, here)
            context.in_use.if_unused(one.logical_path, trim)
    workspace.discard_empty_below(workspace.task_directory(context.resource, execution.record.collection))


def _trim_staged(execution: Execution) -> None:
    """Trim only the replicas that staging made, if the role says so."""
    if execution.role.retention(execution.task) is not Retention.TRIM:
        return
    for logical_path in execution.checkpoint.staged:
        stage_in.trim(execution, logical_path)


def _results(execution: Execution) -> Iterator[DataObject]:
    """The data objects below the task's collection that the task made, without those of its owner."""
    catalog, record = execution.context.catalog, execution.record
    task_id = record.attributes.named("task_id")
    for collection, _, members in walk(catalog, record.collection, execution.most_members):
        annotated = set(catalog.find(Query(EntityKind.DATA_OBJECT, task_id, record.task_id, within=collection)))
        for one in members:
            is_own = collection == record.collection and name_of(one.logical_path) in _OWN_NAMES
            if one.owner == catalog.user and (is_own or one.logical_path in annotated):
                yield one
    yield from placing.annotated(execution)


# After an interruption


def expect_leftovers(execution: Execution) -> None:
    """If the task fails, also trim what an earlier attempt has moved."""
    checkpoint = execution.checkpoint
    root = checkpoint.moved_to or checkpoint.moving_to
    if not root:
        return
    push_take_back(execution, root)
    if checkpoint.moved_to:  # this resource may have lost its replicas of the logs
        execution.logs = Logs(_registered_log(execution, STDOUT_NAME), _registered_log(execution, STDERR_NAME))


def _registered_log(execution: Execution, name: str) -> bytes:
    try:
        return execution.context.catalog.read(f"{execution.record.collection}/{name}", _LARGEST_LOG)
    except OutOfReach:
        raise
    except ComputeToDataError as error:  # only a task that still fails needs the logs
        log.warning("task %s: the worker cannot read its %s: %s", execution.record.task_id, name, error)
        return b""


def begin_again(execution: Execution) -> None:
    """Trim what an earlier attempt has replicated, before the outputs are registered again."""
    if execution.resume_point is ResumePoint.MOVING:
        _take_back(execution, execution.checkpoint.moving_to)


def complete(execution: Execution) -> None:
    """Finish this step for a task that the worker resumes at MOVED."""
    root = execution.checkpoint.moved_to
    execution.exit_status = str(required(execution.checkpoint.exit, "exit").status)
    execution.record.decide({"moved_to": root})
    check_job.remove_job_meanwhile(execution)
    _trim_results(execution, root)
    _trim_staged(execution)


def push_take_back(execution: Execution, root: str) -> None:
    """If the task fails, trim the results from the root resource."""
    execution.undo.push(f"trim the results from {root}", functools.partial(_take_back, execution, root))


def _take_back(execution: Execution, root: str) -> None:
    """Trim the results from ``root``; remove those of which the compute resource has no good replica.

    The replicas on the compute resource stay, because undoing the registration removes them. After an error
    the worker continues with the other results, and raises the first error at the end.
    """
    context, problems = execution.context, []
    for one in _results(execution):
        if not any(replica.root == root for replica in one.replicas):
            continue
        try:
            if one.good_replica_on(context.resource.name):
                context.storage.trim(one.logical_path, root)
            else:
                context.catalog.remove(one.logical_path)
        except ComputeToDataError as error:
            problems.append(error)
    if problems:
        raise problems[0]
    execution.journal.save(replace(execution.checkpoint, moving_to="", moved_to=""))
    execution.record.decide({"moved_to": ""})
