"""The last step: record the final state, after success or after undoing what the task did."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace

from compute_to_data.errors import (
    AccessDenied,
    Code,
    ComputeToDataError,
    NotFound,
    OutOfReach,
    ReasonCode,
    ServedElsewhere,
)
from compute_to_data.model import Registration
from compute_to_data.pipeline import left_behind
from compute_to_data.pipeline.checkpoint import Ending, required
from compute_to_data.pipeline.execution import Execution, printable
from compute_to_data.pipeline.running import layout, plan
from compute_to_data.pipeline.running.job_log import delete, discard_parts, log_files
from compute_to_data.pipeline.staging import changed_inputs
from compute_to_data.pipeline.vault import removal, workspace
from compute_to_data.records.state import State

log = logging.getLogger(__name__)


COMPLETED = Ending(State.COMPLETED, ReasonCode.COMPLETED, "", 0)


def finish(execution: Execution, ending: Ending, facts: Mapping[str, str] = {}) -> Ending:
    """Record the final state, and facts. After this, nothing is undone."""
    execution.after_sandbox()
    delete(execution.log_file)
    _discard_parts(execution)
    for directory in (execution.private, os.path.dirname(execution.private)):
        workspace.discard_empty(directory)  # if the results have moved, nothing else was left
    if ending.state is State.COMPLETED and (execution.folders or not execution.files):
        workspace.discard_empty_below(execution.private)  # the catalog has collections instead
    execution.record.move_to(ending.state, {**_facts(execution, ending), **facts, "ending": ""})
    execution.undo.discard()
    execution.journal.remove()
    removal.remove(execution.context.journal_folder, execution.outputs)
    return ending


def _facts(execution: Execution, ending: Ending) -> dict[str, str]:
    seen = {**execution.log_facts(), **changed_inputs.facts(execution)}
    return {**ending.facts, **seen, "exit_status": execution.exit_status, **execution.durations()}


def fail(execution: Execution, error: Exception) -> Ending:
    """Decide on the final state, undo what the task did, keep the logs, and record why.

    The journal gets the decision first: a worker that finds the task half undone must continue
    to undo it, for the same reason, and must not run the task again.
    """
    execution.after_sandbox()
    ending = ending_of(error)
    try:
        log_files(execution)  # before undoing removes the job, which has the only other copy
    except ComputeToDataError as problem:
        log.warning("task %s: the worker could not write its logs yet: %s", execution.record.task_id, problem)
    try:
        execution.journal.save(replace(execution.checkpoint, ending=ending, exit_status=execution.exit_status))
        facts = {**_facts(execution, ending), "ending": ending.state.value}  # for people
        execution.record.decide(facts, plan.avus(execution))
    except ServedElsewhere:
        raise
    except ComputeToDataError:  # the record may be gone; undo all the same
        log.exception("task %s: the worker could not record its end before undoing it", execution.record.task_id)
    return undo(execution, ending)


def undo(execution: Execution, ending: Ending) -> Ending:
    """Undo what the task did, keep what it left behind, and record the final state.

    OutOfReach when the zone or the engine does not answer: the task has not ended then, and another
    attempt undoes the rest. Until then, its claims stay: another task must not count on a replica that is still to
    be trimmed.
    """
    execution.context.transfers.need_rest(execution.record.collection)
    failures = execution.undo.run(until=OutOfReach)
    facts, more = left_behind.settle(execution)
    more += _keep_logs(execution)
    delete(execution.log_file)
    _discard_parts(execution)
    workspace.discard_empty(execution.private)
    workspace.discard_empty(os.path.dirname(execution.private))
    text = " ".join([ending.text, *(f"Afterwards {what}: {error}" for what, error in (*failures, *more))])
    return finish(execution, Ending(ending.state, ending.reason, printable(text), ending.code), facts)


def _discard_parts(execution: Execution) -> None:
    if execution.task.tes is not None:
        discard_parts(execution)
        layout.discard_contents(execution)


def decided(execution: Execution) -> Ending:
    """The final state that an earlier attempt decided on, for a task that a worker resumes at ENDING."""
    execution.exit_status = execution.checkpoint.exit_status
    return required(execution.checkpoint.ending, "ending")


def _keep_logs(execution: Execution) -> list[tuple[str, Exception]]:
    """Register the program's logs. An error here must not hide why the task failed; returns it, to be named beside."""
    files: list[Registration] = []
    try:
        files = log_files(execution)
        if files:
            execution.record.catalog.register(execution.context.resource.name, files)
    except OutOfReach:
        raise
    except ComputeToDataError as error:
        log.warning("task %s: the worker could not register its logs: %s", execution.record.task_id, error)
        for file in files:
            delete(file.physical_path)
        return [("could not keep what the program wrote", error)]
    return []


def ending_of(error: Exception) -> Ending:
    """The final state that follows from an error. An exception that is not ours becomes an internal error."""
    if not isinstance(error, ComputeToDataError):
        text = f"internal error: {type(error).__name__}: {error}. The worker's log has more."
        return Ending(State.FAILED, ReasonCode.SYSTEM_ERROR, printable(text), int(Code.SYS_INTERNAL_ERR))
    reason = getattr(error, "reason", None)
    if reason is None:
        denied = isinstance(error, (AccessDenied, NotFound))
        reason = ReasonCode.REFUSED if denied else ReasonCode.SYSTEM_ERROR
    state = State.CANCELLED if reason is ReasonCode.CANCELLED else State.FAILED
    return Ending(state, reason, printable(str(error)), int(error.code))
