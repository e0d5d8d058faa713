"""A connection with the Docker daemon that the output of one job comes on."""

from __future__ import annotations

import socket
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress


class LogConnection(ABC):
    """``received``: what has arrived already. One thread takes from it until it ends, and then calls :meth:`end`."""

    def __init__(self, connection: socket.socket, received: bytes) -> None:
        self.connection = connection
        self.received = received
        self.ended = threading.Event()
        """The connection has ended."""
        self.ended_at = 0.0
        """When it ended, in Unix seconds."""

    @abstractmethod
    def take(self) -> bool:
        """Take what has arrived. False at the end of the connection."""

    def shut(self) -> None:
        """End the connection, from any thread. The thread that takes from it notices."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Note that the connection has ended."""
        self.connection.close()
        self.ended_at = time.time()
        self.ended.set()
