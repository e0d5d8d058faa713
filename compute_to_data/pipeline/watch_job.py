"""What the worker watches of a job while it waits or runs, and the reasons for which it stops the job.

One thread of the worker, the watcher, watches all of its jobs. It sends each task an update about its job:
the job's status, or the order to stop it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar, Union

from compute_to_data.errors import Cancelled, ReasonCode, TaskFailed
from compute_to_data.job import Job, JobKey, JobStatus
from compute_to_data.ports.engine import Engine, RunningJob

FIRST_LOOK = 0.1
"""Seconds from the job's start to the first check of the outputs: a job can write gigabytes in a few seconds."""
_PAUSE, _SHORTEST_PAUSE = 0.25, 0.05
"""Shortest time in seconds between two checks, and the shortest when the job could reach its limit before the next."""
_FIRST_SHOW = 0.1
"""Seconds after a job's start at which a user who follows the task can read its log. Many jobs end earlier."""
_WALK_SHARE = 20
"""Checking takes at most 1/20 of a processor's time: with many files, the worker checks less often."""
_WALL_SHARE = 2
"""And, with waiting for the disk or for a busy processor, at most half of a helper thread's time."""
_LOOKS_A_SECOND = 100
"""For all jobs together: with many jobs, the worker checks each of them less often."""
_LONGEST_LOOK = 5.0
QUESTION_EVERY = 0.5
"""Seconds between two queries for requests to cancel or to follow a task, where the catalog answers fast."""
_GRACE_FOR_A_PERSON = 0.5
"""Seconds that a job has to end by itself when a user cancels its task: the user is waiting."""


class Detached(Exception):
    """The worker is stopping and leaves the job running; the next worker adopts it."""


@dataclass(frozen=True)
class MustEnd:
    """The task must stop its job, with ``grace`` seconds to end by itself, and then fail because of ``why``."""

    why: TaskFailed
    grace: float


Update = Union[JobStatus, MustEnd]
"""What the watcher sends to a task that waits for its job."""


class Watch:
    """One job to watch, and when it needs attention. One thread at a time calls its methods.

    ``cancelled_by`` reads from the record who cancelled the task, or ''. ``followed``: whether a user followed the
    task when the record was last read. ``show`` shows the job's log if a user follows the task, and returns the
    seconds until it must be called again.
    """

    def __init__(
        self,
        engine: Engine,
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
        """Whether the job has not begun to run, as far as the worker knows. Its walltime has not begun, and it
        has no outputs to check."""
        self.deadline = math.inf
        self._engine = engine
        self._job = job
        self._grace = grace
        self._cancelled_by = cancelled_by
        self._followed = followed
        self._show = show
        self.has_request = self._interrupted = False
        self.size = 0
        """The bytes that its outputs took at the last look."""
        self._next_look = self._next_show = math.inf
        self._looked = 0.0

    @property
    def key(self) -> JobKey:
        """The job's key."""
        return self._job.key

    def set_running(self, ran: float) -> None:
        """Note that the job runs, and has run for ``ran`` seconds."""
        now = time.monotonic()
        self.is_pending = False
        self.deadline = now + self._job.limits.walltime_seconds - ran
        self._next_look = now + FIRST_LOOK
        self._looked = now
        self._next_show = now + _FIRST_SHOW

    def note_requests(self, cancel: bool, follow: bool) -> bool:
        """Take note of the requests that the catalog lists for the task: to cancel it, to follow it.

        Returns whether :meth:`do_due_work` must read the task's record now.
        """
        self._interrupted = self._interrupted or cancel
        self.has_request = self.has_request or cancel or follow != self._followed()
        return self.has_request

    @property
    def due(self) -> float:
        """When :meth:`do_due_work` must be called next, on the monotonic clock."""
        return 0.0 if self.has_request else min(self._next_look, self._next_show)

    def look_soon(self) -> None:
        """Let the next :meth:`do_due_work` check the outputs."""
        self._next_look = min(self._next_look, time.monotonic())

    def interrupt(self) -> None:
        """Let :meth:`do_due_work` return soon if another thread runs it, because the task no longer waits."""
        self._interrupted = True

    def walltime_exceeded(self) -> MustEnd:
        """The update for a job that is past its deadline."""
        return MustEnd(_too_long(self._job), self._grace)

    def do_due_work(self, jobs: int) -> MustEnd | None:
        """Read the requests on the task's record, show its log and check its outputs, if it is time.

        ``jobs``: how many jobs the watcher watches. Errors: those of reading the record.
        """
        if self.has_request:
            self.has_request = self._interrupted = False
            who = self._cancelled_by()
            if who:
                return MustEnd(cancelled(who), min(self._grace, _GRACE_FOR_A_PERSON))
            self._next_show = min(self._next_show, time.monotonic())  # a user may have begun to follow the task
            return None  # the rest is for another thread: users wait for this one
        if time.monotonic() >= self._next_show:
            self._next_show = time.monotonic() + self._show()
        if time.monotonic() >= self._next_look:
            return self._check_outputs(jobs)
        return None

    def _check_outputs(self, jobs: int) -> MustEnd | None:
        """Compare the outputs with their limits. A job that breaks them gets no grace: it may fill the vault."""
        limits, before = self._job.limits, time.monotonic()
        most_entries = 2 * limits.output_files
        usage = self._engine.measure(self._job.outputs, limits.output_bytes, most_entries, lambda: self._interrupted)
        grown, self.size = usage.size - self.size, usage.size
        if usage.hidden:
            return MustEnd(_hidden(), 0.0)
        if usage.size > limits.output_bytes or usage.entries > most_entries:
            return MustEnd(_too_much(self._job), 0.0)
        after = time.monotonic()
        until_full = (limits.output_bytes - usage.size) * (before - self._looked) / grown if grown > 0 else math.inf
        shortest = max(_SHORTEST_PAUSE, min(_PAUSE, until_full / 2))
        walk = max(usage.processor_seconds * _WALK_SHARE, (after - before) * (_WALL_SHARE - 1))
        pause = max(shortest, walk, jobs / _LOOKS_A_SECOND)
        self._looked, self._next_look = before, after + min(pause, _LONGEST_LOOK)
        return None


Result = TypeVar("Result")
Waiting = Generator[Watch, Update, Result]
"""A step that waits for a job: it yields the job to watch, and the watcher sends it updates about the job."""


def cancelled(who: str) -> Cancelled:
    """The error of a task that the user ``who`` cancelled."""
    return Cancelled("task", f"cancelled by {who}")


def _too_long(job: Job) -> TaskFailed:
    return TaskFailed(
        ReasonCode.WALLTIME_EXCEEDED,
        "walltime",
        f"the task ran longer than its {job.limits.walltime_seconds:g} seconds, and the worker stopped it",
        "Ask for more in limits.walltime_seconds",
    )


def _hidden() -> TaskFailed:
    return TaskFailed(
        ReasonCode.OUTPUT_REFUSED,
        "outputs",
        "the worker cannot read one of the directories, or it is nested too deep, so it could hold anything",
        "Keep directories readable, and nest them less",
    )


def _too_much(job: Job) -> TaskFailed:
    return TaskFailed(
        ReasonCode.OUTPUT_LIMIT,
        "outputs",
        f"the task wrote more than its {job.limits.output_bytes} bytes "
        f"(or twice {job.limits.output_files} files), and the worker stopped it",
        "Write less, or ask for more in limits.output_bytes",
    )
