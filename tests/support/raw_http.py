"""HTTP over a plain socket, for figures: a client that takes hardly any processor beside the gateway."""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_BLOCK = 1 << 20


class Connection:
    """One connection that stays open. ``token`` signs in."""

    def __init__(self, url: str, token: str) -> None:
        host, _, port = url.rpartition("//")[2].partition(":")
        self._head = f"Host: {host}:{port}\r\n" + (f"Authorization: Bearer {token}\r\n" if token else "")
        self.socket = socket.create_connection((host, int(port)), 600)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def begin(self, method: str, path: str, more: str = "", body: bytes = b"") -> None:
        """Send a request, or its beginning."""
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\n{self._head}{more}\r\n".encode() + body)

    def ask(self, method: str, path: str, document: Any = None) -> tuple[int, bytes]:
        """Status and content of an answer with a length."""
        body = b"" if document is None else json.dumps(document).encode()
        kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        self.begin(method, path, kind, body)
        return self._answer()

    def _answer(self) -> tuple[int, bytes]:
        with self.socket.makefile("rb") as file:
            status, length = _read_head(file)
            return status, file.read(length)

    def fetch(self, path: str, target: Path) -> None:
        """Write an answer with a length to a file."""
        self.begin("GET", path)
        with self.socket.makefile("rb", _BLOCK) as file, target.open("wb") as out:
            status, left = _read_head(file)
            assert status == 200, status
            while left:
                piece = file.read(min(left, _BLOCK))
                assert piece, f"{left} bytes are missing"
                out.write(piece)
                left -= len(piece)


def _read_head(file: Any) -> tuple[int, int]:
    """Status and length of an answer."""
    status, length = int(file.readline().split()[1]), -1
    while (line := file.readline().strip()) != b"":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    assert length >= 0, "the answer has no length"
    return status, length


def first_bytes(url: str, asked: Sequence[tuple[str, str]], seconds: float) -> tuple[list[float], int]:
    """Ask for many streams at once, each a token and a path, and read them for some time.

    Returns when the first byte of each content came, in seconds, and how many pieces came in all.
    """
    came: dict[int, float] = {}
    pieces = 0
    connections = [Connection(url, token) for token, _ in asked]
    with selectors.DefaultSelector() as selector:
        began = time.perf_counter()
        for number, (one, path) in enumerate(zip(connections, (path for _, path in asked))):
            one.begin("GET", path)
            selector.register(one.socket, selectors.EVENT_READ, number)
        while time.perf_counter() < began + seconds:
            for key, _ in selector.select(0.5):
                read = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                pieces += b"event:" in read
                if b"event:" in read:
                    came.setdefault(key.data, time.perf_counter() - began)
    for one in connections:
        one.socket.close()
    return sorted(came.values()), pieces
