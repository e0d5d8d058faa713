"""Watching a job until it ends by itself or must be ended: one loop, whatever the engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from compute_to_data import outputs
from compute_to_data.errors import Cancelled, ReasonCode, TaskFailed
from compute_to_data.ports import Engine, Exit, Job

_FIRST_LOOK = 0.25
"""Seconds between looks at the outputs; short, since a job writes gigabytes in a few seconds."""
_WALK_SHARE = 20
"""Looking may take one part in so many of the time: many files make looks rarer, not the job slower."""
_LONGEST_LOOK = 5.0
_CANCEL_EVERY = 1.0
"""Seconds between questions to the catalog whether the task was cancelled."""


class Detached(Exception):
    """The worker is to stop and leaves the job running, for its successor to adopt."""


_AT_ONCE = (ReasonCode.OUTPUT_LIMIT, ReasonCode.OUTPUT_REFUSED)


@dataclass(frozen=True)
class Watch:
    """What besides its own end can end the wait for a job.

    ``stopping``: the worker is to stop. ``cancelled_by``: who asked for the end of the task, or ''.
    """

    stopping: Callable[[], bool]
    cancelled_by: Callable[[], str]
    grace: float


def supervise(engine: Engine, job: Job, watch: Watch, ran: float) -> Exit:
    """The end of a job that has run for ``ran`` seconds already.

    TaskFailed, with the job ended, for walltime or outputs over the limit; Cancelled likewise;
    Detached, with the job running on, when the worker is to stop.
    """
    deadline = time.monotonic() + job.limits.walltime_seconds - ran
    look = _FIRST_LOOK
    next_question = time.monotonic() + _CANCEL_EVERY
    while True:
        ended = engine.wait(job.task_id, max(0.0, min(look, deadline - time.monotonic())))
        if ended is not None:
            return ended
        if watch.stopping():
            raise Detached(job.task_id)
        if time.monotonic() >= deadline:
            raise _ended(engine, job, watch, _too_long(job))
        if time.monotonic() >= next_question:
            next_question = time.monotonic() + _CANCEL_EVERY
            who = watch.cancelled_by()
            if who:
                raise _ended(engine, job, watch, Cancelled("task", f"cancelled by {who}"))
        before = time.monotonic()
        usage = outputs.measure(job.outputs, job.limits.output_bytes)
        look = min(max(_FIRST_LOOK, (time.monotonic() - before) * _WALK_SHARE), _LONGEST_LOOK)
        if usage.hidden:
            raise _ended(engine, job, watch, _hidden())
        if usage.size > job.limits.output_bytes or usage.entries > 2 * job.limits.output_files:
            raise _ended(engine, job, watch, _too_much(job))


def _ended(engine: Engine, job: Job, watch: Watch, why: TaskFailed) -> TaskFailed:
    """Ends the job at once for what it did, with grace where a person asked."""
    engine.stop(job.task_id, 0.0 if why.reason in _AT_ONCE else watch.grace)
    return why


def _too_long(job: Job) -> TaskFailed:
    return TaskFailed(
        ReasonCode.WALLTIME_EXCEEDED,
        "walltime",
        f"the task ran longer than its {job.limits.walltime_seconds:g} seconds and was ended",
        "Ask for more in limits.walltime_seconds",
    )


def _hidden() -> TaskFailed:
    return TaskFailed(
        ReasonCode.OUTPUT_REFUSED,
        "outputs",
        "a directory among them cannot be looked into, or lies too deep, and could hold anything",
        "Leave directories their permissions, and nest them less",
    )


def _too_much(job: Job) -> TaskFailed:
    return TaskFailed(
        ReasonCode.OUTPUT_LIMIT,
        "outputs",
        f"the task wrote more than its {job.limits.output_bytes} bytes "
        f"(or twice {job.limits.output_files} files) and was ended",
        "Write less, or ask for more in limits.output_bytes",
    )
