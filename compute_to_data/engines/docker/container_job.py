"""A job in its own container, read from the daemon."""

from __future__ import annotations

import calendar
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from docker.errors import NotFound
from requests.exceptions import RequestException

from compute_to_data.engines.docker import memory_groups, sandbox
from compute_to_data.engines.docker.client import Client
from compute_to_data.engines.docker.log_copies import LogCopies
from compute_to_data.engines.docker.messages import asking_about, timed_out
from compute_to_data.engines.docker.sandbox import container_name
from compute_to_data.errors import EngineOutOfReach
from compute_to_data.job import LOG_NAME, Exit, JobKey, JobState, JobStatus

_SHORTEST_WAIT = 0.05  # seconds; the daemon needs some time to answer even for an ended container
_UNKNOWN = 255  # the status that containerd reports when it missed the end; a program may also exit with it
_NEVER = "0001-01-01T00:00:00Z"


class Log(NamedTuple):
    """Where a job's log is, and how many bytes of each stream it keeps."""

    file: str
    bound: int


class ContainerJob:
    """The job in a container that was started."""

    def __init__(
        self,
        key: JobKey,
        docker: Callable[[], Client],
        status: Callable[[JobKey], JobStatus],
        copies: LogCopies,
        log: Log,
        remove: Callable[[JobKey], None],
    ) -> None:
        self.key = key
        self._docker = docker
        self._status = status
        self._copies = copies
        self._log = log
        self._remove = remove

    def status(self) -> JobStatus:
        """As the port says."""
        return self._status(self.key)

    def wait(self, timeout: float) -> Exit | None:
        """As the port says. The daemon answers at the job's end, so this does not poll."""
        seconds = None if math.isinf(timeout) else max(timeout, _SHORTEST_WAIT)
        with asking_about(self.key.task):
            try:
                self._docker().wait(container_name(self.key), timeout=seconds)
            except NotFound as error:
                _no_such_job(self.key, error)
            except RequestException as error:
                if not timed_out(error):
                    raise
        status = self.status()
        if status.state is JobState.UNKNOWN:
            _no_such_job(self.key)
        return status.exit

    def stop(self, grace: float) -> None:
        """As the port says."""
        with asking_about(self.key.task):
            try:
                self._docker().stop(container_name(self.key), timeout=max(grace, 0))
            except NotFound as error:
                _no_such_job(self.key, error)

    def finish_log(self) -> None:
        """As the port says."""
        status = self.status()
        if status.exit is None:
            _no_such_job(self.key)
        with asking_about(self.key.task):
            self._copies.finish(self.key, self._log.file, self._log.bound, status.exit.finished)

    def remove(self) -> None:
        """As the port says."""
        self._remove(self.key)


def was_started(container: Mapping[str, Any]) -> bool:
    """Whether a container was started, and not only created, from Docker's inspection of it."""
    return bool(container["State"]["StartedAt"] != _NEVER)


def log_of(container: Mapping[str, Any]) -> Log:
    """A container's log, from Docker's inspection of it."""
    labels = container["Config"]["Labels"]
    file = labels.get(sandbox.LOG_FILE_LABEL, "")
    if not file:  # an earlier version made the container
        outputs = next(one["Source"] for one in container["Mounts"] if one["Destination"] == sandbox.OUTPUTS)
        file = os.path.join(os.path.dirname(outputs), LOG_NAME)
    return Log(file, int(labels[sandbox.LOG_BYTES_LABEL]))


def status_of(docker: Client, key: JobKey) -> JobStatus:
    """The status of the job in a container. UNKNOWN when there is none, or it was never started."""
    try:
        found = docker.inspect_container(container_name(key))
    except NotFound:
        return JobStatus(JobState.UNKNOWN)
    if not was_started(found):
        return JobStatus(JobState.UNKNOWN)
    state = found["State"]
    started = _unix_seconds(state["StartedAt"])
    if state["Running"]:
        return JobStatus(JobState.RUNNING, started)
    finished = _unix_seconds(state["FinishedAt"])
    # Docker notes the start after the runtime has reported it, and of a quick program that can be after its end.
    started = min(started, finished)
    exit = Exit(
        status=state["ExitCode"],
        out_of_memory=memory_groups.killed_for_memory(found),
        started=started,
        finished=finished,
        certain=state["ExitCode"] != _UNKNOWN,
    )
    return JobStatus(JobState.ENDED, started, exit)


def _no_such_job(key: JobKey, cause: Exception | None = None) -> NoReturn:
    raise EngineOutOfReach(key.task, "the engine has no job for it") from cause


def _unix_seconds(timestamp: str) -> float:
    """Unix seconds of a time such as ``2026-11-21T20:48:26.123456789Z``. Docker always uses UTC."""
    whole, _, fraction = timestamp.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{fraction or 0}")
