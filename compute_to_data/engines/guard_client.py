"""The worker's side of the guard: what only other processes can do for a worker that is not root.

Two processes help each worker: one outside of any namespace, which sees the processes of jobs (``guard.py``), and its
child in a user namespace, which changes their files (``namespace.py``). They belong to the guard's systemd unit.
Without that, the worker starts them itself: it was started with the guard's capabilities, which it then gives up, or
else ``newuidmap`` makes the maps. A worker of root needs no help with files.
"""

from __future__ import annotations

import json
import os
import select
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from compute_to_data.engines import guard, job_files, namespace
from compute_to_data.engines.job_ids import Account, JobIds
from compute_to_data.errors import EngineError, EngineOutOfReach

PLACE = "C2D_GUARD"
"""A variable of the worker's environment: where the guard listens, if not at its usual place."""
_SECONDS = 30.0
_STOP_EVERY = 0.05
"""Seconds between two questions whether to stop an operation early."""


class _Guard:
    """The processes that help this one. ``files``: the one for jobs' files; None when this process needs none.
    ``channel``: the one outside; None when there is none. ``is_unit``: whether they are the systemd unit's."""

    def __init__(self, channel: socket.socket | None, files: socket.socket | None, *, is_unit: bool) -> None:
        self.files = files
        self.is_unit = is_unit
        self._channel = channel
        self._turn = threading.Lock()

    @property
    def watches(self) -> bool:
        """Whether there is a process outside."""
        return self._channel is not None

    def say(self, *request: object, descriptors: Sequence[int] = ()) -> None:
        """Tell the process outside something that it does not answer. OSError."""
        if self._channel is not None:
            with self._turn:
                socket.send_fds(self._channel, [json.dumps(request).encode()], descriptors)

    def open(self, path: str, account: Account, flags: int) -> int:
        """A descriptor that it opens as a job's account. OSError."""
        if self._channel is None:
            raise PermissionError(1, "without compute-to-data-guard.service, it sees no processes of jobs", path)
        with self._turn:
            self._channel.send(json.dumps(["open", path, *account, flags]).encode())
            answer, descriptors, _, _ = socket.recv_fds(self._channel, guard.MOST_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        if not descriptors:
            number = int(answer or b"5")
            raise OSError(number, os.strerror(number), path)
        return descriptors[0]


_ids: JobIds | None = None
_guard: _Guard | None = None
_starting = threading.Lock()


def start(ids: JobIds) -> None:
    """Get the help of a guard for jobs with these ids. Call it before the process has other threads. Does nothing at a
    second call. Root gets only the process that holds the limits of its jobs after its end.

    EngineError, after which the process must end, when the host does not allow it.
    """
    global _guard, _ids
    if _guard is not None:
        return
    channel = _connected()
    if channel is not None:
        _guard = _begun(channel, is_unit=True)
    else:
        channel, child = _forked(ids)
        _guard = _begun(channel, is_unit=False)
        if not _guard.watches:
            os.waitpid(child, 0)
        if os.geteuid():
            namespace.give_up_capabilities()
    _ids = ids


def _connected() -> socket.socket | None:
    """A connection to the guard's unit. None without one; EngineError when its place is named and nobody listens."""
    if os.geteuid() == 0:
        return None
    place = os.environ.get(PLACE, guard.SOCKET)
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        channel.connect(place)
        return channel
    except OSError as error:
        channel.close()
        if PLACE in os.environ:
            raise _refused(f"the guard does not listen at {place} ({error.strerror})") from error
        return None


def _forked(ids: JobIds) -> tuple[socket.socket, int]:
    """A connection to a new child of this process, which serves it as the unit would, and the child's id."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        ours.close()
        guard.serve(theirs, ids)
    theirs.close()
    return ours, child


def _begun(channel: socket.socket, *, is_unit: bool) -> _Guard:
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
    return _Guard(channel if answer["stays"] else None, files, is_unit=is_unit)


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


def has(uid: int) -> bool:
    """Whether a guard can give files to a uid."""
    return _ids is not None and _ids.has(uid)


# The files of jobs


def do(operation: str, *values: Any, descriptors: Sequence[int], stop: Callable[[], bool] = lambda: False) -> Any:
    """Do an operation of ``job_files.py``, and return what it returns. This process does it if it has no guard.

    ``descriptors``: the operation's; they may only name their places (O_PATH). ``stop``: whether to end it early.
    OSError, that of the operation. EngineOutOfReach when the guard does not do it.
    """
    if _guard is None or _guard.files is None:
        return job_files.do(operation, descriptors, values, stop)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            _request(json.dumps([operation, *values]).encode(), [theirs.fileno(), *descriptors])
        answer = json.loads(_answer(ours, stop) or "{}")
    if "returns" in answer:
        return answer["returns"]
    if "errno" in answer:
        raise OSError(answer["errno"], os.strerror(answer["errno"]), answer["place"])
    raise _lost("ended while it changed files of a job")


def _request(request: bytes, descriptors: Sequence[int]) -> None:
    used = _guard
    for is_last in (False, True):
        assert used is not None and used.files is not None
        try:
            socket.send_fds(used.files, [request], descriptors)
            return
        except OSError as error:
            if is_last:
                raise _lost(f"does not answer ({error.strerror})") from error
        used = _started_again(used)


def _started_again(lost: _Guard) -> _Guard:
    """Another guard of the unit, when its process for this worker has ended. Jobs that run stay with the process
    outside that already knows them."""
    global _guard
    with _starting:
        if _guard is lost:
            channel = _connected() if lost.is_unit else None
            if channel is None:
                raise _lost("has ended")
            _guard = _begun(channel, is_unit=True)
        assert _guard is not None
        return _guard


def _answer(answers: socket.socket, stop: Callable[[], bool]) -> bytes:
    """What the guard answers; b'' when it has ended."""
    events = select.poll()
    events.register(answers, select.POLLIN)
    while not events.poll(_STOP_EVERY * 1000):
        if stop():
            answers.shutdown(socket.SHUT_WR)
            break
    return answers.recv(guard.MOST_BYTES)


def _lost(cause: str) -> EngineOutOfReach:
    remedy = "Look at: journalctl -u compute-to-data-guard. Without the unit, start the worker again"
    return EngineOutOfReach("the guard", f"its process for this worker {cause}", remedy)


# The processes of jobs


def process(number: int, account: Account) -> int:
    """A descriptor of the directory ``/proc/NUMBER`` of a job's process, which runs under ``account``. OSError."""
    return opened(f"/proc/{number}", account, os.O_RDONLY | os.O_DIRECTORY)


def opened(path: str, account: Account, flags: int = os.O_RDONLY) -> int:
    """A descriptor of ``/proc/N``, ``/proc/N/root`` or ``/proc/N/fdinfo/M`` of a job's process, opened by its account.
    OSError."""
    if _guard is None or _guard.files is None:
        return os.open(path, flags | os.O_CLOEXEC)
    return _guard.open(path, account, flags)


def keep(name: str, outputs: str, account: Account, most_bytes: int, most_entries: int) -> None:
    """Let the guard, if there is one, hold the limits of a job's outputs when this process has ended, until the job has
    ended. ``name`` identifies the job."""
    if _guard is not None and _guard.watches:
        with suppress(OSError):  # then it holds them only while this process lives
            descriptor = os.open(outputs, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                _guard.say("keep", name, *account, most_bytes, most_entries, descriptors=[descriptor])
            finally:
                os.close(descriptor)


def forget(name: str) -> None:
    """The job is gone: undo :func:`keep`."""
    if _guard is not None:
        with suppress(OSError):
            _guard.say("forget", name)
