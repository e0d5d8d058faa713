"""An engine whose jobs wait in its own queue, like those of a batch system. It runs nothing: a test decides when a
job begins and when it ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from compute_to_data import disk_usage
from compute_to_data.disk_usage import Usage
from compute_to_data.errors import EngineOutOfReach
from compute_to_data.job import Exit, Image, Job, JobKey, JobState, JobStatus

_STOPPED = 143


class QueueingEngine:
    """Holds jobs in memory, at most ``capacity`` of one worker's. It outlives workers."""

    name = "queueing"
    sandboxed = False

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.most = 0
        """The most jobs that it has held at a time."""
        self._change = threading.Condition()
        self._jobs: dict[JobKey, Job] = {}
        self._statuses: dict[JobKey, JobStatus] = {}
        self._changed: set[JobKey] = set()
        self._woken = False

    # For tests

    def begin(self, key: JobKey, ago: float = 0.0) -> None:
        """Let a job run, as if it had begun ``ago`` seconds ago."""
        self._set(key, JobStatus(JobState.RUNNING, time.time() - ago))

    def end(self, key: JobKey, status: int = 0) -> None:
        """Let a job end by itself."""
        started = self._statuses[key].started or time.time()
        self._set(key, JobStatus(JobState.ENDED, started, Exit(status, False, started, time.time())))

    def lose(self, key: JobKey) -> None:
        """Remove a job, as when a batch system loses its files."""
        self._set(key, JobStatus(JobState.UNKNOWN))

    def keys(self, state: JobState) -> list[JobKey]:
        """The jobs in a state, the oldest first."""
        with self._change:
            return [key for key, one in self._statuses.items() if one.state is state]

    def _set(self, key: JobKey, status: JobStatus) -> None:
        with self._change:
            if status.state is JobState.UNKNOWN:
                self._statuses.pop(key, None)
                self._jobs.pop(key, None)
            else:
                self._statuses[key] = status
            self._changed.add(key)
            self._change.notify_all()

    # The port

    def check(self) -> None:
        """As the port says; always succeeds."""

    def need_ready(self) -> None:
        """It is."""

    def check_directory(self, directory: str) -> None:
        """Do nothing."""

    def identify(self, image: str) -> Image:
        """Every name is an image."""
        return Image(image, f"sha256:{'0' * 64}")

    def images(self) -> None:
        """Not listed: every name is an image."""

    def prepare(self, outputs: str) -> None:
        """As the port says."""
        os.makedirs(outputs)

    def measure(self, outputs: str, most_bytes: int, most_entries: int, stop: Callable[[], bool]) -> Usage:
        """As the port says."""
        return disk_usage.measure(outputs, most_bytes=most_bytes, most_entries=most_entries, stop=stop)

    def take_back(self, outputs: str) -> None:
        """As the port says; nothing runs here."""

    def submit(self, job: Job) -> QueuedJob:
        """Put a job into the queue."""
        with self._change:
            self._jobs[job.key] = replace(job, secrets={})
            self._statuses[job.key] = JobStatus(JobState.PENDING)
            self.most = max(self.most, len(self._jobs))
        return QueuedJob(job.key, self)

    def find(self, key: JobKey) -> QueuedJob | None:
        """As the port says."""
        with self._change:
            return QueuedJob(key, self) if key in self._jobs else None

    def statuses(self, keys: Sequence[JobKey]) -> dict[JobKey, JobStatus]:
        """As the port says."""
        with self._change:
            return {key: self._statuses.get(key, JobStatus(JobState.UNKNOWN)) for key in keys}

    def wait_for_change(self, scope: str, timeout: float) -> frozenset[JobKey]:
        """As the port says."""
        with self._change:
            self._change.wait_for(lambda: self._changed or self._woken, timeout)
            self._woken = False
            changed = frozenset(self._changed)
            self._changed.clear()
            return changed

    def wake(self) -> None:
        """As the port says."""
        with self._change:
            self._woken = True
            self._change.notify_all()

    def remove(self, key: JobKey) -> None:
        """As the port says."""
        self._set(key, JobStatus(JobState.UNKNOWN))

    def jobs(self, scope: str) -> tuple[JobKey, ...]:
        """As the port says."""
        with self._change:
            return tuple(key for key, job in self._jobs.items() if job.scope == scope)

    def tidy(self, scope: str, workloads: frozenset[str], idle_seconds: float) -> None:
        """Do nothing: there are no warm sandboxes."""

    def ended(self, key: JobKey, timeout: float) -> JobStatus:
        """Wait for a job's end, at most ``timeout`` seconds. Returns its status."""

        def over() -> bool:
            return self._statuses.get(key, JobStatus(JobState.UNKNOWN)).state in (JobState.ENDED, JobState.UNKNOWN)

        with self._change:
            self._change.wait_for(over, timeout)
        return self.statuses([key])[key]


class QueuedJob:
    """A job of a :class:`QueueingEngine`."""

    def __init__(self, key: JobKey, engine: QueueingEngine) -> None:
        self.key = key
        self._engine = engine
        self.remove: Callable[[], None] = lambda: engine.remove(key)

    def status(self) -> JobStatus:
        """As the port says."""
        return self._engine.statuses([self.key])[self.key]

    def wait(self, timeout: float) -> Exit | None:
        """As the port says."""
        status = self._engine.ended(self.key, timeout)
        if status.state is JobState.UNKNOWN:
            raise EngineOutOfReach(self.key.task, "the engine has no job for it")
        return status.exit

    def stop(self, grace: float) -> None:
        """As the port says."""
        if self.status().state is not JobState.ENDED:
            self._engine.end(self.key, _STOPPED)

    def finish_log(self) -> None:
        """Do nothing: no program has run, so there is no log."""
