"""Programs whose steps run apart: one job after the other, each in a container of its own, on the same outputs.

The engine has one job of a task at a time, under one key. When a step has ended, the worker keeps what it wrote, notes
in the checkpoint that it has ended, removes its job and submits the next one. A worker that was killed meanwhile goes
on at that place. If the engine has lost the job of a step, the task begins again with its first step, since nobody
knows what the lost one has changed in the outputs.
"""

from __future__ import annotations

import json
from dataclasses import replace

from compute_to_data.errors import ReasonCode, TaskFailed
from compute_to_data.job import Limits
from compute_to_data.pipeline.checkpoint import EndedStep
from compute_to_data.pipeline.execution import Execution
from compute_to_data.pipeline.running import job_log
from compute_to_data.pipeline.running.command_line import OneContainer
from compute_to_data.ports.engine import RunningJob

EXECUTORS = "executors"
"""The fact that says how each step ended: a JSON list of ``[exit status, started, finished, bytes of stdout, bytes of
stderr]``, in Unix seconds."""


def resume(execution: Execution, found: RunningJob | None) -> None:
    """Prepare what an interrupted attempt left. ``found``: the job that it submitted, if the engine has it."""
    checkpoint = execution.checkpoint
    if checkpoint.between:
        _leave(execution)
    elif checkpoint.ended and found is None:
        execution.journal.save(replace(checkpoint, ended=()))
        job_log.discard_parts(execution)


def remaining(execution: Execution, limits: Limits) -> Limits:
    """The limits of the next job: its walltime is what the steps before have left."""
    spent = sum(one.finished - one.started for one in execution.checkpoint.ended)
    if not spent or execution.resume_point.has_exited:
        return limits
    left = limits.walltime_seconds - spent
    if left <= 0:
        cause = f"the task ran longer than its {limits.walltime_seconds:g} seconds"
        remedy = "Ask for more in limits.walltime_seconds"
        raise TaskFailed(ReasonCode.WALLTIME_EXCEEDED, "walltime", cause, remedy)
    return replace(limits, walltime_seconds=left)


def goes_on(execution: Execution, container: OneContainer, count: int) -> bool:
    """Whether another of the ``count`` containers runs next. Notes how this one ended."""
    if not execution.program.apart:
        return False
    exit, number = execution.exit, len(execution.checkpoint.ended)
    is_excused = container.may_fail and exit.ended_by is None and not exit.out_of_memory
    is_last = number + 1 == count
    sizes = (0, 0) if is_last else job_log.keep_part(execution)
    ended = (*execution.checkpoint.ended, EndedStep(exit.status, exit.started, exit.finished, *sizes))
    execution.record.decide({EXECUTORS: json.dumps([[*one] for one in ended], separators=(",", ":"))})
    if is_excused:
        execution.exit = replace(exit, status=0)
        execution.exit_status = "0"
    if is_last or execution.exit.status:
        _sum_up(execution)
        return False
    execution.context.engine.take_back(execution.outputs)
    execution.journal.save(replace(execution.checkpoint, ended=ended, between=True, began=None))
    _leave(execution)
    return True


def _leave(execution: Execution) -> None:
    """Remove the job and the log of a step that has ended."""
    execution.context.engine.remove(execution.job_key)
    job_log.forget_log(execution)


def _sum_up(execution: Execution) -> None:
    """Let the exit and the limits be those of all steps together."""
    ended = execution.checkpoint.ended
    if ended:
        spent = sum(one.finished - one.started for one in ended)
        whole = execution.job.limits.walltime_seconds + spent
        execution.job = replace(execution.job, limits=replace(execution.job.limits, walltime_seconds=whole))
        execution.exit = replace(execution.exit, started=ended[0].started)
