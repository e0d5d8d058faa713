"""Streams of the Docker daemon, each on a connection of its own: its events, and the output of a container.

https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach
"""

from __future__ import annotations

import os
import socket
import struct
import urllib.parse
from collections.abc import Iterator

from compute_to_data.engines.docker.connection import DEFAULT_SOCKET

BLOCK = 1 << 18
_LONGEST_HEAD = 1 << 16
_FRAME = struct.Struct(">B3sL")
_STREAM_OF = {1: 0, 2: 1}


def full_address(address: str) -> str:
    """The daemon's address, from the settings, else from $DOCKER_HOST, else Docker's default."""
    return address or os.environ.get("DOCKER_HOST") or DEFAULT_SOCKET


def request(address: str, seconds: float, method: str, path: str, **query: object) -> tuple[socket.socket, bytes]:
    """Send a request whose answer does not end soon. Returns the connection, and what came after the answer's head.

    OSError when the daemon does not answer; FileNotFoundError when it does not know the container; ValueError for any
    other answer than a success.
    """
    connection = connected(address, seconds)
    try:
        # HTTP 1.0 has no chunks: the stream follows the head as it is.
        line = f"{method} {path}?{urllib.parse.urlencode(query)} HTTP/1.0\r\nHost: docker\r\nContent-Length: 0\r\n\r\n"
        connection.sendall(line.encode())
        return connection, _after_the_head(connection)
    except BaseException:
        connection.close()
        raise


def connected(address: str, seconds: float) -> socket.socket:
    """A connection to the daemon, on which nothing was asked yet. OSError."""
    scheme, _, place = address.partition("://")
    if scheme == "unix":
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(seconds)
            connection.connect(place)
        except BaseException:
            connection.close()
            raise
        return connection
    if scheme in ("tcp", "http"):
        host, _, port = place.rstrip("/").rpartition(":")
        return socket.create_connection((host, int(port)), seconds)
    raise OSError(f"cannot read a stream of the daemon at {scheme}://{place}: use unix:// or tcp://")


def _after_the_head(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(BLOCK)
        received += more
        if not more or len(received) > _LONGEST_HEAD + BLOCK:
            raise ValueError(f"no valid answer to the request for a stream ({received[:100]!r})")
    head, _, body = received.partition(b"\r\n\r\n")
    status = head.split()[1:2]
    if status == [b"404"]:
        raise FileNotFoundError("the daemon has no such container")
    if status not in ([b"200"], [b"101"]):
        raise ValueError(f"the answer to the request for a stream begins with {head[:100]!r}")
    return body


class DaemonLogs:
    """The output of containers, from the daemon."""

    def __init__(self, address: str, seconds: float) -> None:
        """``address``: the daemon's, as in the settings. ``seconds``: the time-out for its answers."""
        self._address = full_address(address)
        self._seconds = seconds

    def idle(self) -> socket.socket:
        """As :class:`~compute_to_data.engines.docker.client.LogStreams` says."""
        return connected(self._address, self._seconds)

    def attach(self, container: str) -> tuple[socket.socket, bytes]:
        """As :class:`~compute_to_data.engines.docker.client.LogStreams` says."""
        path = f"/containers/{container}/attach"
        return request(self._address, self._seconds, "POST", path, stream=1, stdout=1, stderr=1)

    def beside(self, container: str) -> tuple[socket.socket, bytes] | None:
        """As :class:`~compute_to_data.engines.docker.client.LogStreams` says."""
        return self.attach(container)

    def stored(self, container: str, *, follow: bool = False) -> tuple[socket.socket, bytes]:
        """As :class:`~compute_to_data.engines.docker.client.LogStreams` says."""
        path = f"/containers/{container}/logs"
        return request(self._address, self._seconds, "GET", path, follow=int(follow), stdout=1, stderr=1)

    def is_whole(self, container: str, size: int, bound: int) -> bool:
        """As :class:`~compute_to_data.engines.docker.client.LogStreams` says: the daemon drops the older of two full
        parts."""
        return size < bound


class Frames:
    """Takes Docker's frames apart, which arrive in pieces. Each frame has a stream number, three zeros, a length
    and the bytes.

    ``begun``: how many frames have begun.
    """

    def __init__(self) -> None:
        self.begun = 0
        self._head = b""
        self._stream = 0
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, memoryview]]:
        """The bytes of each stream (0: stdout, 1: stderr) in ``data``, in order. ValueError for anything else."""
        rest = memoryview(data)
        while rest:
            if self._left:
                piece = rest[: self._left]
                self._left -= len(piece)
                rest = rest[len(piece) :]
                yield self._stream, piece
                continue
            missing = _FRAME.size - len(self._head)
            self._head += rest[:missing]
            rest = rest[missing:]
            if len(self._head) == _FRAME.size:
                number, zeros, self._left = _FRAME.unpack(self._head)
                self._head = b""
                self.begun += 1
                if number not in _STREAM_OF or any(zeros):
                    raise ValueError("the container's output does not have Docker's format")
                self._stream = _STREAM_OF[number]

    @property
    def is_between(self) -> bool:
        """Whether the last frame was complete."""
        return not self._left and not self._head
