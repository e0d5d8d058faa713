"""The worker's ends of a warm sandbox's FIFOs."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import threading
import time

from compute_to_data.engines import checks
from compute_to_data.engines.docker.warm_runner import FIFOS

_BLOCK = 1 << 16


class Closed(Exception):
    """The sandbox has ended: its runner holds no FIFO any more."""


class Tail:
    """The last ``bound`` bytes of a stream; written by one thread, read by any."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._kept = bytearray()
        self._lock = threading.Lock()

    def add(self, data: bytes) -> None:
        """Append, and forget what is too old."""
        with self._lock:
            self._kept += data
            if len(self._kept) > 2 * self._bound + _BLOCK:
                del self._kept[: len(self._kept) - self._bound]

    def content(self) -> bytes:
        """What is kept."""
        with self._lock:
            return bytes(self._kept[-self._bound :]) if self._bound else b""


class Channel:
    """FIFOs in a folder: made, opened, and waited for without polling."""

    def __init__(self, folder: str, account: tuple[int, int]) -> None:
        self._descriptors: dict[str, int] = {}
        try:
            for name in FIFOS:
                path = os.path.join(folder, name)
                os.mkfifo(path, 0o600)
                checks.give(path, account)
                # The end that this process does not use keeps the other side from blocking here.
                flags = os.O_RDWR if name == "requests" else os.O_RDONLY
                self._descriptors[name] = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
        except BaseException:
            self.close()
            raise
        self._poll = select.poll()
        for name in ("answers", "stdout", "stderr"):
            self._poll.register(self._descriptors[name], select.POLLIN)
        self._unread = b""
        self._tails: dict[str, Tail] = {}

    def begin(self, stdout: Tail, stderr: Tail) -> None:
        """From now on, what is written goes there."""
        self._tails = {"stdout": stdout, "stderr": stderr}

    def ask(self, line: str) -> None:
        """Send a line to the runner. EngineError's concern if it does not fit: it is short."""
        os.write(self._descriptors["requests"], f"{line}\n".encode())

    @property
    def asked(self) -> int:
        """Bytes of requests that the runner has not read."""
        return int(
            struct.unpack("i", fcntl.ioctl(self._descriptors["requests"], termios.FIONREAD, struct.pack("i", 0)))[0]
        )

    def answer(self, timeout: float) -> str | None:
        """The next line of the runner, or of whoever pretends to be it; None when there was none in
        time. Meanwhile the streams are read. Closed when the sandbox has ended."""
        deadline = time.monotonic() + timeout
        while True:
            if b"\n" in self._unread:
                line, _, self._unread = self._unread.partition(b"\n")
                return line.decode("ascii", "replace")
            left = deadline - time.monotonic()
            found = self._poll.poll(max(left, 0) * 1000)
            if not found and left <= 0:
                return None
            self._read(dict(found))

    def _read(self, found: dict[int, int]) -> None:
        for name in ("stdout", "stderr"):
            if found.get(self._descriptors[name], 0) & select.POLLIN:
                self._pump(name)
        events = found.get(self._descriptors["answers"], 0)
        if events & select.POLLIN:
            self._unread += os.read(self._descriptors["answers"], _BLOCK)
            if len(self._unread) > _BLOCK:
                raise Closed  # no runner says so much: a task floods it
        elif any(event & (select.POLLHUP | select.POLLERR) and not event & select.POLLIN for event in found.values()):
            raise Closed  # of a stream alone, too: the runner keeps it open for as long as it lives

    def _pump(self, name: str) -> bool:
        try:
            data = os.read(self._descriptors[name], _BLOCK)
        except BlockingIOError:
            return False
        tail = self._tails.get(name)
        if tail is not None:
            tail.add(data)
        return bool(data)

    def drain(self) -> None:
        """Read what still lies in the streams when their writers have ended."""
        for name in ("stdout", "stderr"):
            for _ in range(64):  # a FIFO holds less, unless somebody still writes
                if not self._pump(name):
                    break

    def close(self) -> None:
        """Let go of all FIFOs: the runner ends."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])
