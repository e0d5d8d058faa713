"""Asks for project quotas on the outputs of jobs: the process of ``quota_guard.py``, or this one itself as root.

The project's id is the job's uid, which no other running job has.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress

from compute_to_data.disk_usage import DIRECTORY
from compute_to_data.engines import guard, quota_guard
from compute_to_data.engines.job_ids import JobIds
from compute_to_data.errors import EngineError, EngineNotReady

PLACE = "C2D_QUOTA_GUARD"
"""A variable of the worker's environment: where the quota guard listens, if not at its usual place."""
UNIT = "compute-to-data-quotas.service"
_SECONDS = 600.0
"""For one answer: a job may leave many files."""
REMEDY = (
    "Put the vault on XFS mounted with prjquota, or on ext4 with the features project and quota mounted with prjquota "
    '(Linux 5.14 or newer), or remove "project_quotas" from the engine\'s settings. docs/installation.md has the steps'
)


def answers() -> bool:
    """Whether the quota guard listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel, suppress(OSError):
        _connected(channel)
        return True
    return False


class OutputQuotas:
    """The project quotas of one engine's jobs."""

    def __init__(self, ids: JobIds) -> None:
        """``ids``: those of jobs."""
        self._ids = ids

    @staticmethod
    def need_helper() -> None:
        """EngineNotReady while the quota guard, without which no job can have a quota, does not listen. Root needs
        none."""
        if os.geteuid():
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
                    _connected(channel)
            except OSError as error:
                raise _not_ready(error) from error

    def hold(self, outputs: str, uid: int, most_bytes: int, most_entries: int) -> None:
        """Let the kernel hold the outputs of a job to limits, while they belong to the worker's account still.

        EngineError when the kernel does not; EngineNotReady when the quota guard does not answer.
        """
        self._ask(outputs, quota_guard.HOLD, uid, most_bytes, most_entries)

    def release(self, outputs: str) -> None:
        """Undo :meth:`hold`, when everything in there belongs to the worker's account again. Does nothing when the
        directory is gone. Errors as there."""
        if os.path.isdir(outputs):
            self._ask(outputs, quota_guard.RELEASE)

    def check(self, directory: str) -> None:
        """Raise the errors that :meth:`hold` would raise for each directory in this one, such as a vault."""
        self._ask(directory, quota_guard.CHECK)

    def _ask(self, directory: str, *request: object) -> None:
        try:
            descriptor = os.open(directory, os.O_RDONLY | DIRECTORY)
        except OSError as error:
            raise EngineError(directory, f"it cannot be opened for its project quota ({error.strerror})") from error
        try:
            if os.geteuid() == 0:
                problem = quota_guard.answer(request, descriptor, self._ids, os.fstat(descriptor).st_uid)
            else:
                problem = _answer(request, descriptor)
        finally:
            os.close(descriptor)
        if problem:
            raise EngineError(directory, problem, REMEDY)


def _answer(request: tuple[object, ...], descriptor: int) -> str:
    """What the quota guard answers. EngineNotReady when it does not."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
            channel.settimeout(_SECONDS)
            _connected(channel)
            socket.send_fds(channel, [json.dumps(request).encode()], [descriptor])
            received = channel.recv(guard.MOST_BYTES)
            return str(json.loads(received))
    except (OSError, ValueError) as error:
        raise _not_ready(error) from error


def _connected(channel: socket.socket) -> None:
    channel.connect(os.environ.get(PLACE, quota_guard.SOCKET))


def _not_ready(error: Exception) -> EngineNotReady:
    place = os.environ.get(PLACE, quota_guard.SOCKET)
    cause = f"{UNIT} does not answer at {place} ({getattr(error, 'strerror', None) or error})"
    return EngineNotReady("the project quotas of jobs", cause, f"Run: systemctl start {UNIT}")
