"""The process that changes jobs' files for a worker that is not root.

It is in a user namespace in which only the ids of the worker's account and of its jobs exist, with the same numbers as
outside. There it has a few capabilities, which the kernel applies only to files whose owner and group are among these
ids. The account could do as much without us, by ``newuidmap``. See user_namespaces(7).

It does what ``job_files.py`` has, for the worker at the other end of a socket, and ends with that. Each request comes
with the socket for its answer and the descriptors of its directories.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NoReturn

from compute_to_data.engines import job_files

MOST_BYTES = 1 << 16
"""Of a request, and of an answer."""
MOST_DESCRIPTORS = 8
_THREADS = 16
_NEW_USER_NAMESPACE = 0x10000000
_CHOWN, _DAC_OVERRIDE, _FOWNER = 0, 1, 3
_KEPT = (_CHOWN, _DAC_OVERRIDE, _FOWNER)
_END_WITH_PARENT, _DROP_FROM_BOUNDS, _AMBIENT, _CLEAR = 1, 24, 47, 4
_VERSION_3 = 0x20080522


def start(
    make_maps: Callable[[int], str], others: socket.socket, *, ends_with_this: bool
) -> tuple[socket.socket | None, str]:
    """Start the process. ``make_maps`` writes the maps of its namespace, and returns the problem, '' for none.
    ``others``: a socket of this process that it must not have. ``ends_with_this``: whether it ends with this process.

    Returns the worker's end of the socket, or None and the problem.
    """
    workers, own = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        workers.close()
        others.close()
        _enter_and_serve(own, ends_with_parent=ends_with_this)
    own.close()
    cause = workers.recv(MOST_BYTES).decode() or "its process has ended"
    problem = f"this host allows no user namespace ({cause})" if cause != _ENTERED else make_maps(child)
    if not problem:
        workers.send(b"go")
        cause = workers.recv(MOST_BYTES).decode() or "its process has ended"
        problem = "" if cause == _READY else cause
    if problem:
        workers.close()
        return None, problem
    return workers, ""


_ENTERED, _READY = "entered", "ready"


def _enter_and_serve(channel: socket.socket, *, ends_with_parent: bool) -> NoReturn:
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_NEW_USER_NAMESPACE):
            channel.send(os.strerror(ctypes.get_errno()).encode())
        else:
            channel.send(_ENTERED.encode())
            if channel.recv(MOST_BYTES):
                give_up_capabilities(_KEPT)
                if ends_with_parent:  # only now: changing capabilities would undo it
                    libc.prctl(_END_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
                channel.send(_READY.encode())
                _serve(channel)
    finally:
        os._exit(0)


def give_up_capabilities(kept: tuple[int, ...] = ()) -> None:
    """Give up all capabilities of this process but these, for ever. OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(64):
        if number not in kept:
            libc.prctl(_DROP_FROM_BOUNDS, number, 0, 0, 0)
    libc.prctl(_AMBIENT, _CLEAR, 0, 0, 0)
    mask = sum(1 << number for number in kept)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(mask, mask, 0, 0, 0, 0)
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), f"capset: {os.strerror(ctypes.get_errno())}")


def _serve(channel: socket.socket) -> None:
    """Do what the worker asks until it ends. A slow request, such as measuring many files, does not delay others."""
    threads = ThreadPoolExecutor(_THREADS)
    while True:
        request, descriptors, _, _ = socket.recv_fds(channel, MOST_BYTES, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        if not request:
            return
        threads.submit(_answer, request, descriptors)


def _answer(request: bytes, descriptors: list[int]) -> None:
    own = descriptors[1:]
    try:
        with socket.socket(fileno=descriptors[0]) as answers:
            answer = _done(request, own, lambda: _has_left(answers))
            with suppress(OSError):  # the worker has ended
                answers.send(json.dumps(answer).encode())
    finally:
        for descriptor in own:
            os.close(descriptor)


def _done(request: bytes, descriptors: list[int], stop: Callable[[], bool]) -> dict[str, Any]:
    """The answer: what the operation returns, or its error."""
    try:
        name, *values = json.loads(request)
        return {"returns": job_files.do(name, descriptors, values, stop)}
    except OSError as error:
        return {"errno": error.errno, "place": str(error.filename or "")}
    except Exception as error:  # noqa: BLE001 - the worker must get an answer
        return {"errno": errno.EIO, "place": repr(error)}


def _has_left(answers: socket.socket) -> bool:
    """Whether the worker has no use for a whole answer any more: it has closed its end, or that for requests."""
    events = select.poll()
    events.register(answers, select.POLLIN)
    return bool(events.poll(0))
