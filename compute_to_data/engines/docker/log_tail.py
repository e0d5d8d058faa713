"""The end of a job's output, beside the log that Docker keeps of the container.

The daemon closes its log some 10 s after the container's end. On a slow host, lines still wait then, and are lost: the
daemon (20.10) says so only in its own journal. A worker that takes a job over has only that log for what the job wrote
before. So it also attaches to the container, and keeps the last bytes that come.
"""

from __future__ import annotations

import socket

from compute_to_data.engines.docker import backlog, stream
from compute_to_data.engines.docker.log_connection import LogConnection

KEPT = 2 << 20
"""How many of the last bytes of each stream are kept. A daemon lets a job write some 1 MiB more than it has logged."""


class Tail(LogConnection):
    """What comes on a connection that was attached to a running container. One thread calls :meth:`take`."""

    def __init__(self, connection: socket.socket, received: bytes) -> None:
        super().__init__(connection, received)
        self._frames = stream.Frames()
        self._kept = (bytearray(), bytearray())

    def take(self) -> bool:
        """Keep what has arrived. False at the end of the connection."""
        try:
            data, self.received = self.received or self.connection.recv(stream.BLOCK), b""
            for number, piece in self._frames.feed(data):
                kept = self._kept[number]
                kept += piece
                del kept[: max(0, len(kept) - KEPT)]
        except BlockingIOError:
            return True
        except (OSError, ValueError):
            return False
        return bool(data)

    def after(self, number: int, written: bytes) -> bytes:
        """The bytes of a stream that follow those that are ``written``, of which these are the last; with a line about
        it if others may be missing before them."""
        return backlog.after(written, bytes(self._kept[number]))
