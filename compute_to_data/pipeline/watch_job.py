"""Watching a job until it ends by itself or must be ended: one loop, whatever the engine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from compute_to_data.errors import Cancelled, ReasonCode, TaskFailed
from compute_to_data.job import Exit, Job
from compute_to_data.pipeline import outputs
from compute_to_data.ports import RunningJob

_FIRST_LOOK = 0.25
"""Seconds between looks at the outputs; short, since a job writes gigabytes in a few seconds."""
_WALK_SHARE = 20
"""Looking may take one part in so many of the time: many files make looks rarer, not the job slower."""
_LONGEST_LOOK = 5.0
QUESTION_EVERY = 1.0
"""Seconds between questions to the catalog what people wish of the task."""
_GRACE_FOR_A_PERSON = 1.0
"""Seconds that a job has to end by itself where somebody waits for its end."""


class Detached(Exception):
    """The worker is to stop and leaves the job running, for its successor to adopt."""


@dataclass(frozen=True)
class Watch:
    """What besides its own end can end the wait for a job.

    ``stopping``: the worker is to stop. ``cancelled_by``: who asked for the end of the task, or ''.
    ``show``: put what the job has written where its followers read it; the seconds until that is
    worth doing again, infinite while nobody follows.
    """

    stopping: Callable[[], bool]
    cancelled_by: Callable[[], str]
    grace: float
    show: Callable[[], float] = lambda: math.inf


def supervise(running: RunningJob, job: Job, watch: Watch, ran: float) -> Exit:
    """The end of a job that has run for ``ran`` seconds already.

    TaskFailed, with the job ended, for walltime or outputs over the limit; Cancelled likewise;
    Detached, with the job running on, when the worker is to stop.
    """
    now = time.monotonic()
    deadline = now + job.limits.walltime_seconds - ran
    next_look, next_show, next_question = now + _FIRST_LOOK, now + _FIRST_LOOK, now + QUESTION_EVERY
    while True:
        until = min(deadline, next_look, next_show, next_question)
        ended = running.wait(max(0.0, until - time.monotonic()))
        if ended is not None:
            return ended
        if watch.stopping():
            raise Detached(job.key)
        if time.monotonic() >= deadline:
            raise _ended(running, watch.grace, _too_long(job))
        if time.monotonic() >= next_question:
            next_question = time.monotonic() + QUESTION_EVERY
            who = watch.cancelled_by()
            if who:
                raise _ended(running, min(watch.grace, _GRACE_FOR_A_PERSON), cancelled(who))
            next_show = min(next_show, time.monotonic())  # somebody may have begun to follow
        if time.monotonic() >= next_show:
            next_show = time.monotonic() + watch.show()
        if time.monotonic() >= next_look:
            next_look = _look_at_outputs(running, job)


def _look_at_outputs(running: RunningJob, job: Job) -> float:
    """Hold the outputs against their limits; when to look again (of the monotonic clock)."""
    before = time.monotonic()
    usage = outputs.measure(job.outputs, job.limits.output_bytes)
    if usage.hidden:
        raise _ended(running, 0.0, _hidden())
    if usage.size > job.limits.output_bytes or usage.entries > 2 * job.limits.output_files:
        raise _ended(running, 0.0, _too_much(job))
    after = time.monotonic()
    return after + min(max(_FIRST_LOOK, (after - before) * _WALK_SHARE), _LONGEST_LOOK)


def _ended(running: RunningJob, grace: float, why: TaskFailed) -> TaskFailed:
    """Ends the job: with no grace for what it did to the vault."""
    running.stop(grace)
    return why


def cancelled(who: str) -> Cancelled:
    """The failure of a task that somebody wanted ended."""
    return Cancelled("task", f"cancelled by {who}")


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
