"""Lets a worker that is not root change the owners of its jobs' files, and of no others.

The worker enters a user namespace in which only the ids of its account and of its jobs exist, with the same numbers as
outside. There it has a few capabilities, which the kernel applies only to files whose owner and group are among these
ids. Its account could do as much without us, by ``newuidmap``. See user_namespaces(7).

Another process must write the namespace's maps (``guard.py``): that of the systemd unit; or a child of the worker, if
the worker was started with the guard's capabilities; or else ``newuidmap``.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress

from compute_to_data.engines import guard
from compute_to_data.engines.job_ids import Account, JobIds
from compute_to_data.errors import EngineError

PLACE = "C2D_GUARD"
"""A variable of the worker's environment: where the guard listens, if not at its usual place."""
_NEW_USER_NAMESPACE = 0x10000000
_CHOWN, _DAC_OVERRIDE, _FOWNER = 0, 1, 3
_KEPT = (_CHOWN, _DAC_OVERRIDE, _FOWNER)
_DROP_FROM_BOUNDS, _AMBIENT, _RAISE = 24, 47, 2
_VERSION_3 = 0x20080522
_SECONDS = 30.0


class _Guard:
    """A process outside of the namespace that stays with this one."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._turn = threading.Lock()

    def say(self, *request: object, descriptors: Sequence[int] = ()) -> None:
        """Tell it something that it does not answer. OSError."""
        with self._turn:
            socket.send_fds(self._channel, [json.dumps(request).encode()], descriptors)

    def open(self, path: str, account: Account, flags: int) -> int:
        """A descriptor that it opens as a job's account. OSError."""
        with self._turn:
            self._channel.send(json.dumps(["open", path, *account, flags]).encode())
            answer, descriptors, _, _ = socket.recv_fds(self._channel, guard.MOST_BYTES, 1)
        if not descriptors:
            number = int(answer or b"5")
            raise OSError(number, os.strerror(number), path)
        return descriptors[0]


_ids: JobIds | None = None
"""The ids of jobs in this process's namespace, which it never leaves."""
_guard: _Guard | None = None


def enter(ids: JobIds) -> None:
    """Enter the namespace. Call it before the process has other threads. Does nothing at a second call. Root needs no
    namespace, and gets only the guard that holds the limits of its jobs after its end.

    EngineError, after which the process must end, when the host does not allow it.
    """
    global _guard, _ids
    if _ids is not None or _guard is not None:
        return
    is_root = os.geteuid() == 0
    channel, child = _helper(ids, is_root)
    libc = ctypes.CDLL(None, use_errno=True)
    if not is_root and libc.unshare(_NEW_USER_NAMESPACE):
        cause = os.strerror(ctypes.get_errno())
        channel.close()
        raise _refused(f"this host allows no user namespace ({cause})")
    try:
        channel.settimeout(_SECONDS)
        channel.send(b"keep" if is_root else guard.MAP)
        answer = json.loads(channel.recv(guard.MOST_BYTES) or b'{"problem": "the guard has ended"}')
        channel.settimeout(None)
    except OSError as error:
        raise _refused(f"the guard does not answer ({error})") from error
    if answer["problem"]:
        raise _refused(answer["problem"])
    if not is_root:
        _keep_capabilities(libc)
        _ids = ids
    if answer["stays"]:
        _guard = _Guard(channel)
    elif child:
        os.waitpid(child, 0)


def _helper(ids: JobIds, is_root: bool) -> tuple[socket.socket, int]:
    """A connection to a process outside of the namespace, and its id if it is a child of this one, else 0."""
    if not is_root:
        place = os.environ.get(PLACE, guard.SOCKET)
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            channel.connect(place)
            return channel, 0
        except OSError as error:
            channel.close()
            if PLACE in os.environ:
                raise _refused(f"the guard does not listen at {place} ({error.strerror})") from error
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        ours.close()
        guard.serve(theirs, os.getppid(), ids)
    theirs.close()
    return ours, child


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
    """Whether this process can give files to a uid, because it is in a namespace with it."""
    return _ids is not None and _ids.has(uid)


def opened(path: str, account: Account, flags: int = os.O_RDONLY) -> int:
    """A descriptor of ``/proc/N/root`` or ``/proc/N/fdinfo/M`` of a job's process, opened by its account. OSError."""
    if _ids is None:
        return os.open(path, flags | os.O_CLOEXEC)
    if _guard is None:
        raise PermissionError(1, "without compute-to-data-guard.service, it sees no processes of jobs", path)
    return _guard.open(path, account, flags)


def keep(name: str, outputs: str, account: Account, most_bytes: int, most_entries: int) -> None:
    """Let the guard, if there is one, hold the limits of a job's outputs when this process has ended, until the job has
    ended. ``name`` identifies the job."""
    if _guard is not None:
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


def _keep_capabilities(libc: ctypes.CDLL) -> None:
    """Give up all capabilities but those that jobs' files need. Programs that this process starts have them, too."""
    for number in range(64):
        if number not in _KEPT:
            libc.prctl(_DROP_FROM_BOUNDS, number, 0, 0, 0)
    kept = sum(1 << number for number in _KEPT)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(kept, kept, kept, 0, 0, 0)
    if libc.capset(header, data):
        raise _refused(f"capset: {os.strerror(ctypes.get_errno())}")
    for number in _KEPT:
        libc.prctl(_AMBIENT, _RAISE, number, 0, 0)
