"""The last step: what stays on the compute resource, and what goes to long-term storage.

Results that are to go are replicated first, all of them, and each replica is read back; only then
does the compute resource lose its own. Two of the worker's notes divide the step for whoever must
take it up: ``moving_to`` (the compute resource still has everything: begin again, or undo) and
``moved_to`` (the receiving resource has everything: only trimming is left).
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Iterator, Sequence

from compute_to_data.errors import Code, ComputeToDataError, OutOfReach, Refused, zone_error
from compute_to_data.job import Logs
from compute_to_data.model import (
    Collection,
    DataObject,
    EntityKind,
    Query,
    Registration,
    ReplicaStatus,
    Resource,
    name_of,
)
from compute_to_data.pipeline import run_job, stage_in, workspace
from compute_to_data.pipeline.execution import Execution
from compute_to_data.pipeline.hooks import Retention
from compute_to_data.pipeline.watch_job import QUESTION_EVERY, Detached
from compute_to_data.task import CRATE_NAME, STDERR_NAME, STDOUT_NAME

log = logging.getLogger(__name__)

_MOVING, _MOVED = "moving_to", "moved_to"
_OWN_NAMES = frozenset({CRATE_NAME, STDOUT_NAME, STDERR_NAME})


def retain(execution: Execution, results: Sequence[Registration]) -> None:
    """Send the results where the role says, then keep or trim what staging made."""
    root = receiving_root(execution)
    if root:
        _replicate_all(execution, results, root)
        _trim_results(execution, root)
    _trim_staged(execution)


def receiving_root(execution: Execution) -> str:
    """The root resource that results are to be replicated to; '' when they stay where they are:
    the role sends them nowhere, or they lie on a resource of the wanted role already.

    Of several that are up it is the first by name. Refused when there is none.
    """
    role = execution.role.results_to(execution.task)
    if not role:
        return ""
    context = execution.context
    known = {one.name: one for one in context.catalog.resources()}
    attribute = context.configuration.attributes.role
    bearers = sorted(set(context.catalog.find(Query(EntityKind.RESOURCE, attribute, role))) & known.keys())
    here = _lineage(known, context.resource)
    if any(known[name] in here for name in bearers):
        return ""
    # A sibling below the same root cannot lose the compute resource's replica and keep its own.
    elsewhere = [line for line in (_lineage(known, known[name]) for name in bearers) if line[-1] != here[-1]]
    for line in elsewhere:
        if all(resource.is_up for resource in line):
            return line[-1].name
    subject = f"role {role}"
    if elsewhere:
        names = ", ".join(line[0].name for line in elsewhere)
        raise Refused(subject, f"no resource that bears it is up to receive the results (of: {names})", "Try later")
    remedy = f"An administrator can: imeta add -R <resource> {attribute} {role}"
    raise Refused(subject, "no resource bears it, so that nothing could receive the results", remedy)


def _lineage(known: dict[str, Resource], resource: Resource) -> list[Resource]:
    """A resource and those above it, the root last."""
    line = [known.get(resource.name, resource)]
    while line[-1].parent:
        line.append(known[line[-1].parent])
    return line


def _replicate_all(execution: Execution, results: Sequence[Registration], root: str) -> None:
    """Each result has a replica below the root that holds what was registered, or none has."""
    push_take_back(execution, root)
    execution.journal.put(moving_to=root)
    asked = time.monotonic()
    for registered in results:
        _stop_if_asked(execution)
        if time.monotonic() - asked > QUESTION_EVERY:
            asked = time.monotonic()
            execution.stop_if_cancelled()
        _replicate(execution, registered, root)
    execution.journal.put(moving_to=None, moved_to=root)
    execution.record.decide({_MOVED: root})  # for people


def _replicate(execution: Execution, registered: Registration, root: str) -> None:
    logical_path, storage = registered.logical_path, execution.context.storage
    storage.replicate(logical_path, root)
    found = execution.record.catalog.stat(logical_path)
    below = [one for one in found.replicas if one.root == root] if isinstance(found, DataObject) else []
    good = [replica for replica in below if replica.status is ReplicaStatus.GOOD]
    if not good:
        raise zone_error(Code.SYS_REPLICA_DOES_NOT_EXIST, logical_path, f"has no good replica on {root} after all")
    for replica in good:  # one a leaf, where the root is a coordinating resource
        read = storage.verify(logical_path, replica.number)
        if read != registered.checksum:
            cause = f"its replica on {replica.leaf} has checksum {read}, the task left {registered.checksum}"
            raise zone_error(Code.USER_CHKSUM_MISMATCH, logical_path, cause)


def _stop_if_asked(execution: Execution) -> None:
    """Moving may take hours, and the next worker can go on with it."""
    if execution.context.stopping():
        raise Detached(execution.job_id)


def _trim_results(execution: Execution, root: str) -> None:
    """The compute resource gives up its replicas of what the root has, and the empty directories.

    What another task reads there just now stays there, too.
    """
    context = execution.context
    here = stage_in.root_of(context.resource, execution)
    for one in _results(execution, execution.record.collection):
        if one.good_replica_on(root) and any(replica.root == here for replica in one.replicas):
            _stop_if_asked(execution)
            trim = functools.partial(context.storage.trim, one.logical_path, here)
            context.in_use.if_unused(one.logical_path, trim)
    top = workspace.task_directory(context.resource, execution.record.collection)
    for directory, _, _ in os.walk(top, topdown=False):
        workspace.discard_empty(directory)


def _trim_staged(execution: Execution) -> None:
    """Trim the replicas that staging made, and no others, if the role says so."""
    if execution.role.retention(execution.task) is not Retention.TRIM:
        return
    for logical_path in stage_in.staged_here(execution):
        stage_in.trim(execution, logical_path)


def _results(execution: Execution, collection: str) -> Iterator[DataObject]:
    """What the task left below its collection: never what its owner put there beside it."""
    catalog, record = execution.context.catalog, execution.record
    task_id = record.attributes.named("task_id")
    annotated = set(catalog.find(Query(EntityKind.DATA_OBJECT, task_id, record.task_id, within=collection)))
    for child in catalog.children(collection):
        if isinstance(child, Collection):
            yield from _results(execution, child.logical_path)
        elif child.owner == catalog.user and (
            child.logical_path in annotated
            or (collection == record.collection and name_of(child.logical_path) in _OWN_NAMES)
        ):
            yield child


# After an interruption


def expect_leftovers(execution: Execution) -> None:
    """Should the task fail, what an interrupted attempt had moved is taken back."""
    root = execution.journal.get(_MOVED) or execution.journal.get(_MOVING)
    if not root:
        return
    push_take_back(execution, root)
    if execution.journal.get(_MOVED):  # the logs may be nowhere on this resource any more
        execution.logs = Logs(_registered_log(execution, STDOUT_NAME), _registered_log(execution, STDERR_NAME))


def _registered_log(execution: Execution, name: str) -> bytes:
    try:
        return execution.context.catalog.read(f"{execution.record.collection}/{name}")
    except OutOfReach:
        raise
    except ComputeToDataError as error:  # should the task go well yet, nobody will miss it here
        log.warning("task %s: its %s cannot be read: %s", execution.record.task_id, name, error)
        return b""


def begin_again(execution: Execution) -> None:
    """Take back what an interrupted attempt had replicated, so that outputs can be registered anew."""
    if execution.exited_before:
        root = execution.journal.get(_MOVING)
        if root:
            _take_back(execution, root)


def has_moved(execution: Execution) -> bool:
    """Whether an interrupted attempt got all results to their place: then only trimming is left."""
    return execution.journal.get(_MOVED) is not None


def complete(execution: Execution) -> None:
    """Finish what an interrupted attempt left of this step."""
    root = execution.journal.get(_MOVED)
    execution.exit_status = str(execution.journal.get("exit")[0])
    execution.record.decide({_MOVED: root})
    run_job.remove_job_meanwhile(execution)
    _trim_results(execution, root)
    _trim_staged(execution)


def push_take_back(execution: Execution, root: str) -> None:
    """Should the task fail, the root gives its replicas up."""
    execution.undo.push(f"trim the results from {root}", functools.partial(_take_back, execution, root))


def _take_back(execution: Execution, root: str) -> None:
    """Leave the compute resource's replicas alone, for the registration's own undoing; what only
    the root has goes altogether. One that cannot be taken back does not keep the others."""
    context, problems = execution.context, []
    for one in _results(execution, execution.record.collection):
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
    execution.journal.put(moving_to=None, moved_to=None)
    execution.record.decide({_MOVED: ""})
