"""A job in its own container, read from the daemon."""

from __future__ import annotations

import calendar
import math
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from docker import APIClient
from docker.errors import NotFound
from requests.exceptions import RequestException

from compute_to_data.engines.docker import memory_groups, sandbox
from compute_to_data.engines.docker.messages import asking_about, timed_out
from compute_to_data.engines.docker.sandbox import container_name
from compute_to_data.errors import EngineOutOfReach
from compute_to_data.job import Exit, JobKey, JobState, JobStatus, Logs

_SHORTEST_WAIT = 0.05  # seconds; the daemon needs some time to answer even for an ended container
_FRAME = struct.Struct(">B3sL")
_UNKNOWN = 255  # the status that containerd reports when it missed the end; a program may also exit with it
_NEVER = "0001-01-01T00:00:00Z"


class ContainerJob:
    """The job in a container that was started."""

    def __init__(
        self,
        key: JobKey,
        docker: Callable[[], APIClient],
        log_bytes: int,
        seconds: float,
        remove: Callable[[JobKey], None],
    ) -> None:
        """``log_bytes``: how much of each stream to keep. ``seconds``: the time-out for one request to the daemon."""
        self.key = key
        self._docker = docker
        self._log_bytes = log_bytes
        self._seconds = seconds
        self._remove = remove

    def status(self) -> JobStatus:
        """As the port says."""
        with asking_about(self.key.task):
            return status_of(self._docker(), self.key)

    def wait(self, timeout: float) -> Exit | None:
        """As the port says. The daemon answers at the job's end, so this does not poll."""
        seconds = None if math.isinf(timeout) else max(timeout, _SHORTEST_WAIT)
        with asking_about(self.key.task):
            try:
                self._docker().wait(container_name(self.key), timeout=seconds)  # type: ignore[arg-type]  # floats are taken
            except NotFound as error:
                _no_such_job(self.key, error)
            except RequestException as error:
                if not timed_out(error):
                    raise
            status = status_of(self._docker(), self.key)
        if status.state is JobState.UNKNOWN:
            _no_such_job(self.key)
        return status.exit

    def stop(self, grace: float) -> None:
        """As the port says. Docker takes whole seconds, so ``grace`` is rounded up."""
        with asking_about(self.key.task):
            try:
                self._docker().stop(container_name(self.key), timeout=math.ceil(max(grace, 0)))
            except NotFound as error:
                _no_such_job(self.key, error)

    def logs(self, lines: int | None = None) -> Logs:
        """The last ``log_bytes`` of each stream."""
        with asking_about(self.key.task):
            # The client's own method reads one stream at a time, and inspects the container before each.
            url = self._docker()._url("/containers/{0}/logs", container_name(self.key))  # type: ignore[attr-defined]
            which = {"stdout": 1, "stderr": 1, "tail": "all" if lines is None else lines}
            answer = self._docker().get(url, params=which, timeout=self._seconds)
            if answer.status_code == 404:
                _no_such_job(self.key)
            answer.raise_for_status()
            stdout, stderr = _streams(answer.content)
        bound = self._log_bytes
        return Logs(stdout[-bound:] if bound else b"", stderr[-bound:] if bound else b"")

    def remove(self) -> None:
        """As the port says."""
        self._remove(self.key)


def was_started(container: Mapping[str, Any]) -> bool:
    """Whether a container was started, and not only created, from Docker's inspection of it."""
    return bool(container["State"]["StartedAt"] != _NEVER)


def log_bytes(container: Mapping[str, Any]) -> int:
    """How much of each stream to keep, from Docker's inspection of a container."""
    return int(container["Config"]["Labels"][sandbox.LOG_BYTES_LABEL])


def status_of(docker: APIClient, key: JobKey) -> JobStatus:
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
    exit = Exit(
        status=state["ExitCode"],
        out_of_memory=memory_groups.killed_for_memory(found),
        started=started,
        finished=_unix_seconds(state["FinishedAt"]),
        certain=state["ExitCode"] != _UNKNOWN,
    )
    return JobStatus(JobState.ENDED, started, exit)


def _no_such_job(key: JobKey, cause: Exception | None = None) -> NoReturn:
    raise EngineOutOfReach(key.task, "the engine has no job for it") from cause


def _streams(content: bytes) -> tuple[bytes, bytes]:
    """Standard output and error from Docker's frames. Each frame has a stream number, three zeros, a length and
    the bytes. ValueError for anything else.

    https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach
    """
    pieces: dict[int, list[bytes]] = {1: [], 2: []}
    place = 0
    while place < len(content):
        stream, zeros, length = _FRAME.unpack_from(content, place)
        place += _FRAME.size
        if stream not in pieces or any(zeros) or place + length > len(content):
            raise ValueError("the logs do not have Docker's format")
        pieces[stream].append(content[place : place + length])
        place += length
    return b"".join(pieces[1]), b"".join(pieces[2])


def _unix_seconds(timestamp: str) -> float:
    """Unix seconds of a time such as ``2026-11-21T20:48:26.123456789Z``. Docker always uses UTC."""
    whole, _, fraction = timestamp.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{fraction or 0}")
