"""A job in a warm sandbox, and how it ended. Only the process that runs it knows it."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from compute_to_data.engines.docker.warm_channel import Closed
from compute_to_data.engines.docker.warm_sandbox import WarmSandbox
from compute_to_data.errors import EngineError, EngineOutOfReach
from compute_to_data.job import Exit, Job, JobState, JobStatus, Logs

log = logging.getLogger(__name__)

_KILLED = 137
_OWN_END = b"\nthe task, or something it started, ended the sandbox it ran in\n"
_END_SECONDS = 60.0


class WarmJob:
    """One that was begun in a sandbox. The sandbox ends with a job that is ended, and is used again otherwise."""

    def __init__(self, job: Job, sandbox: WarmSandbox, remove: Callable[..., object]) -> None:
        self.job = job
        self.key = job.key
        self.sandbox = sandbox
        self.problem: EngineError | None = None
        """Why its end cannot be known."""
        self.ended = threading.Event()
        self._remove = remove
        self._started = sandbox.started
        self._stdout, self._stderr = sandbox.stdout, sandbox.stderr
        self._lock = threading.Lock()
        self._stopped = False
        self._released = False
        self._exit: Exit | None = None

    # What the port says

    def status(self) -> JobStatus:
        """As the port says."""
        if not self.ended.is_set():
            return JobStatus(JobState.RUNNING, self._started)
        return JobStatus(JobState.ENDED, self._started, None if self.problem else self._exit)

    def wait(self, timeout: float) -> Exit | None:
        """As the port says. EngineError, with the sandbox gone, when its end cannot be known."""
        self.ended.wait(min(max(timeout, 0.0), threading.TIMEOUT_MAX))
        if self.problem is not None:
            if isinstance(self.problem, EngineOutOfReach):  # the job is lost: the task can begin again
                self.remove()
            raise self.problem
        return self._exit if self.ended.is_set() else None

    def stop(self, grace: float) -> None:
        """As the port says; the sandbox ends with its task."""
        if self._claim():
            self.sandbox.stop(math.ceil(max(grace, 0)))
        self.ended.wait(_END_SECONDS)

    def logs(self, lines: int | None = None) -> Logs:
        """As the port says."""
        return Logs(self._stdout.content(), self._stderr.content())

    def remove(self) -> None:
        """As the port says."""
        self._remove(self.key)

    # What the warm sandboxes need

    def kill(self) -> None:
        """End it, and its sandbox with it. EngineError when it does not end."""
        if self._claim():
            self.sandbox.kill()
        if not self.ended.wait(_END_SECONDS):
            raise EngineError(self.key.task, "its sandbox does not end")

    def run_to_its_end(self) -> bool:
        """Wait for its end; whether the sandbox can be used again."""
        try:
            status = self.sandbox.wait()
            finished = time.time()
            reusable = self.sandbox.recycle(self.job)
            lost_memory = not reusable and self.sandbox.killed_for_memory()
            self._exit = self._ended(status, lost_memory, finished)
            return reusable
        except Closed:
            self._lost()
        except EngineError as error:
            self.problem = error
        except Exception as error:  # whoever waits must learn of the end, whatever it was
            log.exception("%s", self.key.task)
            self.problem = EngineError(self.key.task, f"its sandbox failed ({error!r})")
        return False

    def _lost(self) -> None:
        """The sandbox ended under its task: stopped by us, for want of memory, from within, or
        nobody knows why; then the task is to begin again."""
        finished = time.time()
        lost_memory = False
        try:
            lost_memory = self.sandbox.ended_for_memory()
        except EngineError as error:
            self.problem = None if self._stopped else error
        if not (lost_memory or self._stopped):
            self._stderr.add(_OWN_END)
        self._exit = self._ended(_KILLED, lost_memory, finished)

    def _ended(self, status: int, lost_memory: bool, finished: float) -> Exit:
        return Exit(status, lost_memory, self._started, max(self._started, finished))

    def release(self) -> bool:
        """Let go of the sandbox. False when somebody is ending the task, and the sandbox with it."""
        with self._lock:
            self._released = not self._stopped
            return self._released

    def _claim(self) -> bool:
        """Whether the sandbox is this job's to end; then it is not used again. One that was let go of is,
        or may be, another task's: whoever ends this job must not end that."""
        with self._lock:
            if self._released or self.ended.is_set():
                return False
            self._stopped = True
            return True
