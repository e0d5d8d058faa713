"""A worker's connection to the processes that help it. What they do for it: ``guard_client.py``."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from compute_to_data.engines import guard
from compute_to_data.engines.job_ids import Account, JobIds
from compute_to_data.errors import EngineError

PLACE = "C2D_GUARD"
"""A variable of the worker's environment: where the guard's unit listens, if not at its usual place."""
_SECONDS = 30.0


class Ended(Exception):
    """A process that helps this one has ended."""


class Guard:
    """The processes that help this one. ``files``: the one for jobs' files; None when this process needs none.
    ``channel``: the one outside; None when there is none. ``is_unit``: whether they are the systemd unit's."""

    def __init__(self, channel: socket.socket | None, files: socket.socket | None, *, is_unit: bool) -> None:
        self.changes_files = files is not None
        self.watches = channel is not None
        self.is_unit = is_unit
        self._files = files
        self._channel = channel
        self._turn = threading.Lock()

    def change(self, operation: str, values: Sequence[Any], descriptors: Sequence[int]) -> None:
        """Ask the process for jobs' files for an operation. Ended."""
        assert self._files is not None
        _send(self._files, [operation, *values], descriptors)

    def say(self, *request: object, descriptors: Sequence[int] = ()) -> None:
        """Tell the process outside something that it does not answer. Ended."""
        if self._channel is not None:
            with self._turn:
                _send(self._channel, request, descriptors)

    def open(self, path: str, account: Account, flags: int) -> int:
        """A descriptor that the process outside opens as a job's account. OSError, Ended."""
        if self._channel is None:
            raise PermissionError(1, "without compute-to-data-guard.service, it sees no processes of jobs", path)
        with self._turn:
            _send(self._channel, ["open", path, *account, flags], ())
            try:
                answer, found, _, _ = socket.recv_fds(self._channel, guard.MOST_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
            except ConnectionError as error:
                raise Ended from error
        if not answer:
            raise Ended
        if not found:
            raise OSError(int(answer), os.strerror(int(answer)), path)
        return found[0]


def _send(channel: socket.socket, request: Sequence[Any], descriptors: Sequence[int]) -> None:
    try:
        socket.send_fds(channel, [json.dumps(request).encode()], descriptors)
    except ConnectionError as error:
        raise Ended from error


def of_unit() -> Guard | None:
    """The processes that the guard's systemd unit starts for this one. None when there is no unit, or for root.

    Raises EngineError when the environment names the unit's socket and nobody listens there, or when the guard says
    that it cannot help.
    """
    if os.geteuid() == 0:
        return None
    place = os.environ.get(PLACE, guard.SOCKET)
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        channel.connect(place)
    except OSError as error:
        channel.close()
        if PLACE in os.environ:
            raise _refused(f"the guard does not listen at {place} ({error.strerror})") from error
        return None
    return _begun(channel, is_unit=True)


def of_its_own(ids: JobIds) -> Guard:
    """Processes that this one starts itself, and which do what the unit's would do. EngineError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        ours.close()
        guard.serve(theirs, ids)
    theirs.close()
    begun = _begun(ours, is_unit=False)
    if not begun.watches:
        os.waitpid(child, 0)
    return begun


def _begun(channel: socket.socket, *, is_unit: bool) -> Guard:
    try:
        channel.settimeout(_SECONDS)
        channel.send(guard.LIMITS_ONLY if os.geteuid() == 0 else guard.FILES)
        said, descriptors, _, _ = socket.recv_fds(channel, guard.MOST_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        channel.settimeout(None)
        answer = json.loads(said or b'{"problem": "the guard has ended"}')
    except OSError as error:
        channel.close()
        raise _refused(f"the guard does not answer ({error})") from error
    if answer["problem"]:
        channel.close()
        raise _refused(answer["problem"])
    files = socket.socket(fileno=descriptors[0]) if descriptors else None
    if not answer["stays"]:
        channel.close()
    return Guard(channel if answer["stays"] else None, files, is_unit=is_unit)


def answers() -> bool:
    """Whether the guard of the systemd unit listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel, suppress(OSError):
        channel.connect(os.environ.get(PLACE, guard.SOCKET))
        return True
    return False


def _refused(cause: str) -> EngineError:
    return EngineError(
        "the user ids of jobs",
        cause,
        "Start compute-to-data-guard.service, or install newuidmap (Debian: uidmap); packaging/install install gives "
        'the account subordinate ids. Or set "job_uids": null, and jobs share one account',
    )
