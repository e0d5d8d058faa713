"""What is watched of a job while it waits or runs, and what, besides its own end, ends it.

The worker's watcher watches all of its jobs in one thread. It sends a task the news of its job: how far the
job is, or that it must be ended.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar, Union

from compute_to_data.errors import Cancelled, ReasonCode, TaskFailed
from compute_to_data.job import Job, JobKey, JobStatus
from compute_to_data.pipeline import outputs
from compute_to_data.ports import RunningJob

FIRST_LOOK = 0.25
"""Seconds between looks at the outputs; short, since a job writes gigabytes in a few seconds."""
_WALK_SHARE = 20
"""Looking may take one part in so many of the time: many files make looks rarer, not the job slower."""
_LOOKS_A_SECOND = 100
"""Of all jobs together: many jobs make looks rarer, too."""
_LONGEST_LOOK = 5.0
QUESTION_EVERY = 1.0
"""Seconds between questions to the catalog what people ask of tasks."""
_GRACE_FOR_A_PERSON = 1.0
"""Seconds that a job has to end by itself where somebody waits for its end."""


class Detached(Exception):
    """The worker is to stop and leaves the job running, for its successor to adopt."""


@dataclass(frozen=True)
class MustEnd:
    """The job must be ended, within ``grace`` seconds, and the task with it."""

    why: TaskFailed
    grace: float


News = Union[JobStatus, MustEnd]
"""What a task is sent that waits for its job."""


class Watch:
    """One job to be watched, and what is due for it. One thread at a time uses it, but for the attributes.

    ``cancelled_by``: who asked for the end of the task, or ''. ``followed``: whether somebody follows it, as far as
    is known. ``show``: put what the job has written where its followers read it; the seconds until that is worth
    doing again, infinite while nobody follows.
    """

    def __init__(
        self,
        running: RunningJob,
        job: Job,
        collection: str,
        grace: float,
        *,
        cancelled_by: Callable[[], str],
        followed: Callable[[], bool],
        show: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self.running = running
        self.collection = collection
        self.is_pending = True
        """Whether the job is not known to run yet. Then it has no walltime, and nothing to look at."""
        self.deadline = math.inf
        self._job = job
        self._grace = grace
        self._cancelled_by = cancelled_by
        self._followed = followed
        self._show = show
        self._asks = False
        self._next_look = self._next_show = math.inf

    @property
    def key(self) -> JobKey:
        """The job's."""
        return self._job.key

    def runs(self, ran: float) -> None:
        """The job runs, and has run for ``ran`` seconds."""
        now = time.monotonic()
        self.is_pending = False
        self.deadline = now + self._job.limits.walltime_seconds - ran
        self._next_look = self._next_show = now + FIRST_LOOK

    def requested(self, cancel: bool, follow: bool) -> bool:
        """Hear what people ask of the task, as the catalog lists it; whether the task's own record must be read."""
        self._asks = self._asks or cancel or follow != self._followed()
        return self._asks

    @property
    def due(self) -> float:
        """When something is to be done for it next, on the monotonic clock."""
        return 0.0 if self._asks else min(self._next_look, self._next_show)

    def too_long(self) -> MustEnd:
        """What follows when the deadline is past."""
        return MustEnd(_too_long(self._job), self._grace)

    def attend(self, jobs: int) -> MustEnd | None:
        """Do what is due: read what people ask of the task, show its words, look at its outputs.

        ``jobs``: how many are watched beside it. Errors: whatever reading the record raises.
        """
        if self._asks:
            self._asks = False
            who = self._cancelled_by()
            if who:
                return MustEnd(cancelled(who), min(self._grace, _GRACE_FOR_A_PERSON))
            self._next_show = min(self._next_show, time.monotonic())  # somebody may have begun to follow
        if time.monotonic() >= self._next_show:
            self._next_show = time.monotonic() + self._show()
        if time.monotonic() >= self._next_look:
            return self._look_at_outputs(jobs)
        return None

    def _look_at_outputs(self, jobs: int) -> MustEnd | None:
        """Hold the outputs against their limits. There is no grace for what a job did to the vault."""
        limits, before = self._job.limits, time.monotonic()
        usage = outputs.measure(self._job.outputs, limits.output_bytes)
        if usage.hidden:
            return MustEnd(_hidden(), 0.0)
        if usage.size > limits.output_bytes or usage.entries > 2 * limits.output_files:
            return MustEnd(_too_much(self._job), 0.0)
        after = time.monotonic()
        pause = max(FIRST_LOOK, (after - before) * _WALK_SHARE, jobs / _LOOKS_A_SECOND)
        self._next_look = after + min(pause, _LONGEST_LOOK)
        return None


Result = TypeVar("Result")
Waiting = Generator[Watch, News, Result]
"""A step that waits for a job, and all steps around it: they yield the job to be watched, and are sent its news."""


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
