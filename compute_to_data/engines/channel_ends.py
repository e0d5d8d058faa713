"""The ways in and out of a program that its helper serves (``channels.py``): named pipes, appended files and ports.

It runs in the sandbox, beside the program, and uses the standard library only.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
from contextlib import suppress

TYPE_CHECKING = False  # the name is enough for a type checker, and each import delays the job
if TYPE_CHECKING:
    from typing import IO, Any, Optional

LOOPBACK = "127.0.0.1"


class Failed(Exception):
    """The program did not take its input, or gave no output."""


class Channel:
    """One way in or out. ``waits_for``: the descriptor and the events to wait for, None to be called again soon.
    ``is_done``: nothing more to do."""

    is_done = False

    def waits_for(self) -> Optional[tuple[int, int]]:
        return None

    def move(self) -> None:
        """Move what can be moved without waiting. Failed, OSError."""

    def end(self) -> None:
        """The program has ended: take what is left. Failed when it did not do its part."""

    @property
    def answered(self) -> bool:
        """Whether the program has said that its answer is complete, and may go on running."""
        return False


def _keep(output: IO[Any], data: bytes) -> None:
    """Write all of the data to the output. Failed, as for an output of more bytes than the limit."""
    try:
        while data:
            data = data[output.write(data) :]
        output.flush()
    except OSError as error:
        raise Failed(f"the output cannot be written: {error.strerror}") from error


class Source:
    """The input, in chunks."""

    def __init__(self, file: str, size: int) -> None:
        self._file = open(file, "rb", buffering=0)  # noqa: SIM115 - until this process ends
        self._size = size or 65536
        self._left = b""
        self._at_end = False

    def chunk(self) -> bytes:
        """What is to be sent next; b'' at the end."""
        if not self._left and not self._at_end:
            self._left = self._file.read(self._size)
            self._at_end = not self._left
        return self._left

    def sent(self, count: int) -> None:
        self._left = self._left[count:]


class FedFile(Channel):
    """A file to which the input is appended while the program runs."""

    def __init__(self, file: str, place: str, size: int) -> None:
        self._source = Source(file, size)
        self._target = open(place, "xb", buffering=0)  # noqa: SIM115 - until this process ends

    def move(self) -> None:
        chunk = self._source.chunk()
        if not chunk:
            self.is_done = True
            return
        try:
            self._source.sent(self._target.write(chunk))
        except OSError as error:
            raise Failed(f"the input cannot be appended to {self._target.name}: {error.strerror}") from error

    def waits_for(self) -> Optional[tuple[int, int]]:
        return (self._target.fileno(), 0)  # a file can always be written


class FedPipe(Channel):
    """A named pipe from which the program reads the input."""

    def __init__(self, file: str, place: str, size: int) -> None:
        self._source = Source(file, size)
        self._place = place
        self._pipe: Optional[int] = None
        os.mkfifo(place, 0o600)

    def waits_for(self) -> Optional[tuple[int, int]]:
        return None if self._pipe is None else (self._pipe, select.POLLOUT)

    def move(self) -> None:
        if self._pipe is None:
            try:
                self._pipe = os.open(self._place, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # the program has not opened it yet
                    raise
            return
        chunk = self._source.chunk()
        try:
            if chunk:
                self._source.sent(os.write(self._pipe, chunk))
                return
        except BlockingIOError:
            return
        except BrokenPipeError:
            pass  # the program wants no more
        os.close(self._pipe)
        self.is_done = True

    def end(self) -> None:
        if self._pipe is None:
            raise Failed(f"the program ended without opening its input, the pipe {self._place}")


class CollectedPipe(Channel):
    """A named pipe into which the program writes its output, perhaps several times."""

    def __init__(self, file: str, place: str, size: int) -> None:
        self._output = open(file, "wb", buffering=0)  # noqa: SIM115 - until this process ends
        self._place = place
        self._size = size or 65536
        self._opened = False
        os.mkfifo(place, 0o600)
        self._pipe = os.open(place, os.O_RDONLY | os.O_NONBLOCK)

    def waits_for(self) -> Optional[tuple[int, int]]:
        return (self._pipe, select.POLLIN)

    def move(self) -> None:
        data = self._read()
        if data:
            _keep(self._output, data)
        elif data is not None:
            # The program closed the pipe, and may open it again. A new descriptor does not tell of the end of the
            # earlier writer; it is opened first, so that the pipe always has a reader.
            earlier, self._pipe = self._pipe, os.open(self._place, os.O_RDONLY | os.O_NONBLOCK)
            os.close(earlier)

    def _read(self) -> Optional[bytes]:
        """What the program wrote; b'' when it has closed the pipe, None when there is nothing yet."""
        self._opened = True
        try:
            return os.read(self._pipe, self._size)
        except BlockingIOError:
            return None

    def end(self) -> None:
        events = select.poll()
        events.register(self._pipe, select.POLLIN)
        self._opened = self._opened or bool(events.poll(0))
        if not self._opened:
            raise Failed(f"the program ended without opening its output, the pipe {self._place}")
        while True:
            try:
                data = os.read(self._pipe, self._size)
            except BlockingIOError:
                return
            if not data:
                return
            _keep(self._output, data)


class Port(Channel):
    """A port of the sandbox's own loopback, at which the program listens: the input is sent, the answer collected."""

    def __init__(self, port: int, source: str, output: str, size: int) -> None:
        self._port = port
        self._size = size or 65536
        self._source = Source(source, size) if source else None
        self._collects = bool(output)
        self._output: IO[Any] = open(output, "wb", buffering=0) if output else sys.stdout.buffer  # noqa: SIM115 - until this process ends
        self._connection: Optional[socket.socket] = None
        self._sends = True
        self._sent_all = False

    def waits_for(self) -> Optional[tuple[int, int]]:
        if self._connection is None:
            return None
        return (self._connection.fileno(), select.POLLIN | (select.POLLOUT if self._sends else 0))

    def move(self) -> None:
        if self._connection is None:
            self._connect()
            return
        try:
            self._receive()
            self._send()
        except ConnectionError:
            self._reset()

    def _connect(self) -> None:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            connection.connect((LOOPBACK, self._port))
        except ConnectionRefusedError:
            connection.close()
            return
        connection.setblocking(False)
        self._connection = connection

    def _send(self) -> None:
        if not self._sends or self._connection is None:
            return
        chunk = self._source.chunk() if self._source else b""
        if chunk and self._source:
            with suppress(BlockingIOError):
                self._source.sent(self._connection.send(chunk))
            return
        self._sends, self._sent_all = False, True
        self._connection.shutdown(socket.SHUT_WR)  # so the program sees the end of its input

    def _receive(self) -> None:
        if self._connection is None or self.is_done:
            return
        try:
            data = self._connection.recv(self._size)
        except BlockingIOError:
            return
        if data:
            _keep(self._output, data)
        else:
            self.is_done, self._sends = True, False

    def _reset(self) -> None:
        raise Failed(f"the program broke its connection on port {self._port} off; what it answered may not be complete")

    def end(self) -> None:
        if self._connection is None:
            raise Failed(f"the program ended before it listened on port {self._port}")
        try:
            while not self.is_done:
                self._receive()
                if not self.is_done and not select.select([self._connection], [], [], 0)[0]:
                    break
        except ConnectionError:
            self._reset()

    @property
    def answered(self) -> bool:
        return self._collects and self.is_done
