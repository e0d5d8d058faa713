"""Starts workers as their host does, outside of the user namespace that pytest enters for Podman.

The process that changes jobs' files for a worker enters a namespace of its own, and only its parent namespace can
write the maps of that one: a worker that pytest starts itself has none. So a small process is left outside, before
pytest enters, and starts programs for it. They have the same account, environment and process ids as if pytest had
started them. Without Podman, pytest does.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, Union

_MOST_BYTES = 1 << 20
_starter: socket.socket | None = None
_turn = threading.Lock()
Process = Union["subprocess.Popen[bytes]", "Outside"]


class Outside:
    """A program outside of the namespace, with what tests use of :class:`subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = _ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        with suppress(ProcessLookupError):  # it has ended, and the starter knows it
            descriptor = os.pidfd_open(self.pid)
            try:
                if not select.select([descriptor], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            finally:
                os.close(descriptor)
        found = self.poll()
        assert found is not None
        return found

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def leave_a_starter() -> None:
    """Leave the process that starts programs outside. Call it before this process enters a namespace."""
    global _starter
    _starter, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words = [sys.executable, "-I", "-S", __file__, str(theirs.fileno())]
    subprocess.Popen(words, pass_fds=[theirs.fileno()], start_new_session=True)
    theirs.close()


def start(
    command: Sequence[str], log: IO[bytes], *, env: Mapping[str, str] | None = None, cwd: str | None = None
) -> Process:
    """Start a program whose output goes into a file, without input."""
    if _starter is None:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=cwd)
    given = {"start": list(command), "env": dict(env or os.environ), "cwd": cwd or os.getcwd()}
    answer = _ask(given, [log.fileno()])
    assert isinstance(answer, int), f"{command}: {answer}"
    return Outside(answer)


def _ask(question: Mapping[str, Any], descriptors: Sequence[int] = ()) -> Any:
    """What the starter answers."""
    assert _starter is not None
    with _turn:
        socket.send_fds(_starter, [json.dumps(question).encode()], list(descriptors))
        return json.loads(_starter.recv(_MOST_BYTES))


def _serve(channel: socket.socket) -> None:
    """Start programs until pytest has ended, and then end those that still run."""
    started: dict[int, subprocess.Popen[bytes]] = {}
    while True:
        question, descriptors, _, _ = socket.recv_fds(channel, _MOST_BYTES, 1)
        if not question:
            break
        asked = json.loads(question)
        answer: object
        if "poll" in asked:
            answer = started[asked["poll"]].poll()
        else:
            (log,) = descriptors
            try:
                one = subprocess.Popen(
                    asked["start"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=asked["env"],
                    cwd=asked["cwd"],
                )
                started[one.pid] = one
                answer = one.pid
            except OSError as error:
                answer = str(error)
            os.close(log)
        channel.send(json.dumps(answer).encode())
    for one in started.values():
        one.kill()


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as handed:
        _serve(handed)
