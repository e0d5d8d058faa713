"""The worker's side of the guard: what only other processes can do for a worker that is not root.

Two processes help each worker: one outside of any namespace, which sees the processes of jobs (``guard.py``), and its
child in a user namespace, which changes their files (``namespace.py``). They belong to the guard's systemd unit, which
starts others when they were killed. Without the unit, the worker starts them itself: it was started with the guard's
capabilities, which it then gives up, or else ``newuidmap`` makes the maps. A worker of root needs no help with files.
"""

from __future__ import annotations

import json
import os
import select
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from compute_to_data.engines import guard_connection, job_files, namespace
from compute_to_data.engines.guard_connection import Ended, Guard
from compute_to_data.engines.job_ids import Account, JobIds
from compute_to_data.errors import EngineError, EngineOutOfReach

_STOP_EVERY = 0.05
"""Seconds between two questions whether to stop an operation early."""
_Returned = TypeVar("_Returned")

_ids: JobIds | None = None
_guard: Guard | None = None
_starting = threading.Lock()
_kept: dict[str, tuple[str, Account, int, int]] = {}
"""What :func:`keep` was told of the jobs that go on."""


def start(ids: JobIds) -> None:
    """Get the help of a guard for jobs with these ids. Call it before the process has other threads. Does nothing at a
    second call. Root gets only the process that holds the limits of its jobs after its end.

    EngineError, after which the process must end, when the host does not allow it.
    """
    global _guard, _ids
    if _guard is not None:
        return
    _guard = guard_connection.of_unit()
    if _guard is None:
        _guard = guard_connection.of_its_own(ids)
        if os.geteuid():
            namespace.give_up_capabilities()
    _ids = ids


def has(uid: int) -> bool:
    """Whether a guard can give files to a uid."""
    return _ids is not None and _ids.has(uid)


def _asked(ask: Callable[[Guard], _Returned]) -> _Returned:
    """Ask the guard, and another one if it has ended. EngineOutOfReach when there is no other one."""
    used = _guard
    assert used is not None
    with suppress(Ended):
        return ask(used)
    try:
        return ask(_started_again(used))
    except Ended as error:
        raise _lost("has ended") from error


def _started_again(lost: Guard) -> Guard:
    """Connect to the guard's unit again, and tell it which jobs run. Raises Ended when the unit does not help."""
    global _guard
    with _starting:
        if _guard is lost:
            try:
                begun = guard_connection.of_unit() if lost.is_unit else None
            except EngineError as error:
                raise Ended from error
            if begun is None:
                raise Ended
            for name in list(_kept):
                _tell(begun, name)
            _guard = begun
        assert _guard is not None
        return _guard


def _lost(cause: str) -> EngineOutOfReach:
    remedy = "Look at: journalctl -u compute-to-data-guard. Without the unit, start the worker again"
    return EngineOutOfReach("the guard", f"its process for this worker {cause}", remedy)


# The files of jobs


def do(operation: str, *values: Any, descriptors: Sequence[int], stop: Callable[[], bool] = lambda: False) -> Any:
    """Do an operation of ``job_files.py``, and return what it returns. This process does it if it has no guard.

    ``descriptors``: the operation's; they may only name their places (O_PATH). ``stop``: whether to end it early.
    OSError, that of the operation. EngineOutOfReach when the guard does not do it.
    """
    if _guard is None or not _guard.changes_files:
        return job_files.do(operation, descriptors, values, stop)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            given = [theirs.fileno(), *descriptors]
            _asked(lambda guard: guard.change(operation, values, given))
        answer = json.loads(_answer(ours, stop) or "{}")
    if "returns" in answer:
        return answer["returns"]
    if "errno" in answer:
        raise OSError(answer["errno"], os.strerror(answer["errno"]), answer["place"])
    raise _lost("ended while it changed files of a job")


def _answer(answers: socket.socket, stop: Callable[[], bool]) -> bytes:
    """What the guard answers; b'' when it has ended."""
    events = select.poll()
    events.register(answers, select.POLLIN)
    while not events.poll(_STOP_EVERY * 1000):
        if stop():
            answers.shutdown(socket.SHUT_WR)
            break
    return answers.recv(namespace.MOST_BYTES)


# The processes of jobs


def process(number: int, account: Account) -> int:
    """A descriptor of the directory ``/proc/NUMBER`` of a job's process, which runs under ``account``. Errors as for
    :func:`opened`."""
    return opened(f"/proc/{number}", account, os.O_RDONLY | os.O_DIRECTORY)


def opened(path: str, account: Account, flags: int = os.O_RDONLY) -> int:
    """A descriptor of ``/proc/N``, ``/proc/N/root`` or ``/proc/N/fdinfo/M`` of a job's process, opened by its account.
    OSError. EngineOutOfReach when the guard has ended."""
    if _guard is None or not _guard.changes_files:
        return os.open(path, flags | os.O_CLOEXEC)
    return _asked(lambda guard: guard.open(path, account, flags))


def keep(name: str, outputs: str, account: Account, most_bytes: int, most_entries: int) -> None:
    """Let the guard, if there is one, hold the limits of a job's outputs when this process has ended, until the job has
    ended. ``name`` identifies the job."""
    if _guard is not None and _guard.watches:
        _kept[name] = outputs, account, most_bytes, most_entries
        with suppress(EngineOutOfReach):  # then it holds them only while this process lives
            _asked(lambda guard: _tell(guard, name))


def _tell(guard: Guard, name: str) -> None:
    """Tell a guard of a job that goes on. Ended."""
    with suppress(KeyError, OSError):  # the job is gone
        outputs, account, most_bytes, most_entries = _kept[name]
        place = os.open(outputs, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            guard.say("keep", name, *account, most_bytes, most_entries, descriptors=[place])
        finally:
            os.close(place)


def forget(name: str) -> None:
    """The job is gone: undo :func:`keep`."""
    if _kept.pop(name, None) is not None and _guard is not None:
        with suppress(Ended):
            _guard.say("forget", name)
