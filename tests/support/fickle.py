"""A proxy in front of Docker's socket. A test decides how it answers."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

RELAY, MUTE = b"relay", b"mute"
"""Pass everything on; never answer. Anything else is itself the answer to whatever is asked, but for
the version: without that a client asks nothing else."""
_VERSION = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n{"ApiVersion":"1.41"}'


class FickleSocket:
    """Listens at ``path``; ``target`` is the path of Docker's socket, where there is one to relay to."""

    def __init__(self, path: Path, target: str = "") -> None:
        self.path = str(path)
        self._target = target
        self._mood = RELAY if target else MUTE
        self._open: list[socket.socket] = []
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.path)
        self._server.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def become(self, mood: bytes) -> None:
        """Change the mood. Cuts the connections that are open."""
        self._mood = mood
        self._cut()

    def go_away(self) -> None:
        """Be no longer there, as when the daemon has stopped. Cuts the connections that are open."""
        os.rename(self.path, f"{self.path}.away")
        self._cut()

    def come_back(self) -> None:
        """Be there again."""
        os.rename(f"{self.path}.away", self.path)

    def _cut(self) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):  # its other end is gone
                one.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            self._open.append(near)
            if self._mood == RELAY:
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._target)
                self._open.append(far)
                self._copying(near, far)
                self._copying(far, near)
            elif self._mood != MUTE:
                threading.Thread(target=self._answer, args=(near, self._mood), daemon=True).start()

    def _copying(self, source: socket.socket, target: socket.socket) -> None:
        def copy() -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)  # an answer without a length ends with its connection

        threading.Thread(target=copy, daemon=True).start()

    @staticmethod
    def _answer(near: socket.socket, words: bytes) -> None:
        with contextlib.suppress(OSError):
            while asked := near.recv(65536):
                if b"/version" in asked:
                    near.sendall(_VERSION)
                else:
                    near.sendall(words)
                    near.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._cut()
        for one in (self._server, *self._open):
            one.close()


@contextlib.contextmanager
def fickle_socket(path: Path, target: str = "") -> Iterator[FickleSocket]:
    """One that is closed in the end."""
    made = FickleSocket(path, target)
    try:
        yield made
    finally:
        made.close()
