"""One job of the process engine, read from its folder, in which its runner writes."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import Any

from compute_to_data.engines import log_writer, process_runner
from compute_to_data.errors import EngineOutOfReach
from compute_to_data.job import SECRETS, Exit, JobKey, JobState, JobStatus

SECRETS_FOLDER = Path("root", SECRETS.lstrip("/"))
_KILLED = 128 + signal.SIGKILL


class ProcessJob:
    """The job of a folder, which may be missing."""

    def __init__(self, key: JobKey, folder: Path, remove: Callable[[JobKey], None]) -> None:
        self.key = key
        self.folder = folder
        self._remove = remove

    def was_started(self) -> bool:
        """Whether the engine has the job and its runner has started it."""
        return (self.folder / process_runner.STARTED).exists()

    def status(self) -> JobStatus:
        """As the port says."""
        try:
            exit = self.wait(0)
            return JobStatus(JobState.RUNNING if exit is None else JobState.ENDED, self._started(), exit)
        except (EngineOutOfReach, FileNotFoundError):
            return JobStatus(JobState.UNKNOWN)

    def wait(self, timeout: float) -> Exit | None:
        """As the port says. If the job's runner was killed, the job ends with status 137."""
        try:
            started = self._started()
            if not self._ended(timeout):
                return None
            shutil.rmtree(self.folder / SECRETS_FOLDER, ignore_errors=True)
            end = self._exit()
        except FileNotFoundError as error:  # there was none, or another thread removed it
            raise EngineOutOfReach(self.key.task, "the engine has no job for it") from error
        if end is None:
            return Exit(_KILLED, False, started, time.time(), certain=False)
        return Exit(end["status"], False, started, end["finished"])

    def stop(self, grace: float) -> None:
        """As the port says. Signals go to the job's whole process group."""
        if self.wait(0) is not None:
            return
        self._signal(signal.SIGTERM)
        if not self._ended(max(grace, 0)):
            self._signal(signal.SIGKILL)
            self._ended(None)

    def finish_log(self) -> None:
        """As the port says. The runner has written the log, unless it was killed."""
        try:
            request = json.loads((self.folder / process_runner.REQUEST).read_text())
        except FileNotFoundError as error:
            raise EngineOutOfReach(self.key.task, "the engine has no job for it") from error
        log_writer.finish(request["log_file"], int(request["log_bytes"]))

    def remove(self) -> None:
        """As the port says."""
        self._remove(self.key)

    def pipe(self) -> FileIO | None:
        """The pipe that hangs up at the job's end; None when the job has ended or is missing."""
        try:
            descriptor = os.open(self.folder / process_runner.ALIVE, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        with ExitStack() as stack:
            pipe = stack.enter_context(os.fdopen(descriptor, "rb", buffering=0))
            if pipe.read(1) == b"":
                return None
            stack.pop_all()
        return pipe

    def _started(self) -> float:
        return float(json.loads((self.folder / process_runner.STARTED).read_text())["time"])

    def _ended(self, timeout: float | None) -> bool:
        """Wait up to ``timeout`` seconds for the end of the job's runner. Returns whether it has ended.

        The runner holds a pipe open for writing, which hangs up when it ends. So this needs no polling, and no
        process id, which another process may have by now.
        """
        descriptor = os.open(self.folder / process_runner.ALIVE, os.O_RDONLY | os.O_NONBLOCK)
        try:
            try:
                if os.read(descriptor, 1) == b"":
                    return True
            except BlockingIOError:
                pass
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(None if timeout is None else timeout * 1000))
        finally:
            os.close(descriptor)

    def _exit(self) -> dict[str, Any] | None:
        """What the runner wrote at the end; None when the runner was killed, and then the job is killed, too."""
        try:
            end: dict[str, Any] = json.loads((self.folder / process_runner.EXIT).read_text())
        except FileNotFoundError:
            self._signal(signal.SIGKILL)
            return None
        return end

    def _signal(self, number: int) -> None:
        """Send a signal to the job's process group, unless another process has its id by now."""
        group = json.loads((self.folder / process_runner.STARTED).read_text())
        if process_runner.birth(group["pid"]) == group["birth"]:
            try:
                os.killpg(group["pid"], number)
            except ProcessLookupError:
                return
