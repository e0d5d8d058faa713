"""The worker's ends of a warm sandbox's FIFOs."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import time

from compute_to_data.engines import ownership
from compute_to_data.engines.docker.warm_runner import FIFOS
from compute_to_data.engines.log_writer import LogWriter
from compute_to_data.log_file import STREAMS

_BLOCK = 1 << 16
_GET_PIPE_SIZE = 1032  # fcntl.F_GETPIPE_SZ, which Python 3.9 does not have


class Closed(Exception):
    """The sandbox has ended: its runner has closed the FIFOs."""


class Channel:
    """The FIFOs in a folder. Makes and opens them, and waits for them without polling."""

    def __init__(self, folder: str, account: tuple[int, int]) -> None:
        self._descriptors: dict[str, int] = {}
        try:
            for name in FIFOS:
                path = os.path.join(folder, name)
                os.mkfifo(path, 0o600)
                # This process also holds the reading end of the requests, so that opening does not fail or block.
                flags = os.O_RDWR if name == "requests" else os.O_RDONLY
                self._descriptors[name] = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
                ownership.give(self._descriptors[name], account, path)  # afterwards, this process could not open it
        except BaseException:
            self.close()
            raise
        self._poll = select.poll()
        for name in ("answers", "stdout", "stderr"):
            self._poll.register(self._descriptors[name], select.POLLIN)
        self._sizes = self._pipe_sizes()
        self._unread = b""
        self._log: LogWriter | None = None

    def begin(self, log: LogWriter) -> None:
        """From now on, append what a task writes to this log."""
        self._log = log

    def ask(self, line: str) -> None:
        """Send a line to the runner. It is short, so the FIFO has room for it."""
        os.write(self._descriptors["requests"], f"{line}\n".encode())

    @property
    def asked(self) -> int:
        """How many bytes of requests the runner has not read."""
        return int(
            struct.unpack("i", fcntl.ioctl(self._descriptors["requests"], termios.FIONREAD, struct.pack("i", 0)))[0]
        )

    def as_it_was(self) -> bool:
        """Whether the FIFOs have their original sizes. A task may change these, too."""
        return self._pipe_sizes() == self._sizes

    def _pipe_sizes(self) -> dict[str, int]:
        return {name: fcntl.fcntl(number, _GET_PIPE_SIZE) for name, number in self._descriptors.items()}

    def answer(self, timeout: float) -> str | None:
        """The next line from the runner, or from a task that pretends to be it; None after ``timeout`` seconds.
        Reads the streams meanwhile. Closed when the sandbox has ended."""
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
                raise Closed  # no runner sends so much: a task floods the FIFO
        elif any(event & (select.POLLHUP | select.POLLERR) and not event & select.POLLIN for event in found.values()):
            raise Closed  # one stream is enough: the runner keeps all open while it lives

    def _pump(self, name: str) -> bool:
        try:
            data = os.read(self._descriptors[name], _BLOCK)
        except BlockingIOError:
            return False
        if self._log is not None:
            self._log.append(STREAMS.index(name), data)
            self._log.publish()
        return bool(data)

    def drain(self) -> None:
        """Read the rest of the streams when their writers have ended."""
        for name in ("stdout", "stderr"):
            for _ in range(64):  # more than a FIFO holds, and a limit in case a process still writes
                if not self._pump(name):
                    break

    def close(self) -> None:
        """Close all FIFOs, which ends the runner."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])
