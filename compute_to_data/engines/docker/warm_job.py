"""A job in a warm sandbox, and how it ended. Only the process that runs the job knows this."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from compute_to_data.engines.docker.warm_channel import Closed
from compute_to_data.engines.docker.warm_sandbox import WarmSandbox
from compute_to_data.engines.log_writer import check_whole
from compute_to_data.errors import EngineError, EngineOutOfReach
from compute_to_data.job import Exit, Job, JobState, JobStatus

log = logging.getLogger(__name__)

_KILLED = 137
_OWN_END = b"\nthe task, or a process that it started, ended its sandbox\n"
_END_SECONDS = 60.0


class WarmJob:
    """A job that runs in a warm sandbox. Stopping the job ends the sandbox; else the next job can use it."""

    def __init__(self, job: Job, sandbox: WarmSandbox, remove: Callable[..., object]) -> None:
        self.job = job
        self.key = job.key
        self.sandbox = sandbox
        self.problem: EngineError | None = None
        """Why the engine cannot know how the job ended."""
        self.ended = threading.Event()
        self._remove = remove
        self._started = sandbox.started
        self._log = sandbox.log
        self._lock = threading.Lock()
        self._stopped = False
        self._released = False
        self._exit: Exit | None = None

    # The port

    def status(self) -> JobStatus:
        """As the port says."""
        if not self.ended.is_set():
            return JobStatus(JobState.RUNNING, self._started)
        return JobStatus(JobState.ENDED, self._started, None if self.problem else self._exit)

    def wait(self, timeout: float) -> Exit | None:
        """As the port says. EngineError, with the sandbox gone, when the engine cannot know how the job ended."""
        self.ended.wait(min(max(timeout, 0.0), threading.TIMEOUT_MAX))
        if self.problem is not None:
            if isinstance(self.problem, EngineOutOfReach):  # the job is lost; the task can submit it again
                self.remove()
            raise self.problem
        return self._exit if self.ended.is_set() else None

    def stop(self, grace: float) -> None:
        """As the port says. The sandbox ends with the job."""
        if self._claim():
            self.sandbox.stop(max(grace, 0))
        self.ended.wait(_END_SECONDS)

    def finish_log(self) -> None:
        """As the port says. The thread that waited for the job's end has closed the log."""
        self.ended.wait(_END_SECONDS)
        check_whole(self._log.file)

    def close_log(self) -> None:
        """Close the log when nothing writes into it any more."""
        self._log.close(complete=True)

    def remove(self) -> None:
        """As the port says."""
        self._remove(self.key)

    # For WarmSandboxes

    def kill(self) -> None:
        """Kill the job and its sandbox. EngineError when the sandbox does not end."""
        if self._claim():
            self.sandbox.kill()
        if not self.ended.wait(_END_SECONDS):
            raise EngineError(self.key.task, "its sandbox does not end")

    def run_to_its_end(self) -> bool:
        """Wait for the job's end. Returns whether another job can use the sandbox."""
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
        except Exception as error:  # threads that wait for the job must learn of its end
            log.exception("%s", self.key.task)
            self.problem = EngineError(self.key.task, f"its sandbox failed ({error!r})")
        return False

    def _lost(self) -> None:
        """Record the end of a job whose sandbox ended: the engine stopped it, memory ran out, or the task ended it.
        If the reason is unknown, the task must submit the job again."""
        finished = time.time()
        lost_memory = False
        try:
            lost_memory = self.sandbox.ended_for_memory()
        except EngineError as error:
            self.problem = None if self._stopped else error
        if not (lost_memory or self._stopped):
            self._log.append(1, _OWN_END)
        self._exit = self._ended(_KILLED, lost_memory, finished)

    def _ended(self, status: int, lost_memory: bool, finished: float) -> Exit:
        return Exit(status, lost_memory, self._started, max(self._started, finished))

    def release(self) -> bool:
        """Release the sandbox for other jobs. False when another thread is stopping the job and the sandbox."""
        with self._lock:
            self._released = not self._stopped
            return self._released

    def _claim(self) -> bool:
        """Reserve the sandbox for stopping this job, so that no other job gets it. False when the job has ended or
        has released the sandbox: another job may run in it by now."""
        with self._lock:
            if self._released or self.ended.is_set():
                return False
            self._stopped = True
            return True
