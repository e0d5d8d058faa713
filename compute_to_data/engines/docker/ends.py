"""Reports ends of jobs without delay, from the daemon's events on a connection of their own.

https://docs.docker.com/reference/api/engine/version/v1.41/#tag/System/operation/SystemEvents
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import urllib.parse
import weakref

from compute_to_data.engines.changes import Changes
from compute_to_data.engines.docker.connection import DEFAULT_SOCKET
from compute_to_data.engines.docker.sandbox import RESOURCE_LABEL, TASK_LABEL
from compute_to_data.job import JobKey

_BLOCK = 1 << 16
_LAG_SECONDS = 1.0
"""For this time after the event of a container's end, Docker's list may still show it as running."""
_SURE_SECONDS = 60.0
"""How often the worker asks about all jobs, in case an event was lost."""
_BLIND_SECONDS = 1.0
"""How often the worker asks about all jobs without events."""


class Ends:
    """The daemon's events about ends of jobs. One thread waits for them; others may wake it."""

    def __init__(self, address: str, seconds: float) -> None:
        """``address``: the daemon's, as in the settings. ``seconds``: the time-out for its answer."""
        self._address = address or os.environ.get("DOCKER_HOST") or DEFAULT_SOCKET
        self._seconds = seconds
        self._turn = threading.Lock()
        self._connection: socket.socket | None = None
        self._received = b""
        self._scope = ""
        self._ask_at = 0.0
        self.changes = Changes()
        """Changes of which the daemon reports no event: ends of jobs in warm sandboxes."""

    def wait(self, scope: str, timeout: float) -> frozenset[JobKey] | None:
        """As :meth:`~compute_to_data.ports.Engine.wait_for_change`. OSError when the daemon does not answer."""
        with self._turn:
            scheme, _, path = self._address.partition("://")
            if scheme != "unix":
                self.changes.wait(min(timeout, _BLIND_SECONDS))
                return None
            if self._connection is not None and scope != self._scope:
                self._disconnect()
            if self._connection is None:
                self._connect(path, scope)
                return None  # any job may have ended before the connection
            return self._next(self._connection, timeout)

    def _next(self, connection: socket.socket, timeout: float) -> frozenset[JobKey] | None:
        if self.changes.wait(min(timeout, self._ask_at - time.monotonic()), [connection.fileno()]):
            received = connection.recv(_BLOCK)
            if not received:
                self._disconnect()
                return None
            self._received += received
        if time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + _SURE_SECONDS
            return None
        return self._ended() | self.changes.take()

    def _ended(self) -> frozenset[JobKey]:
        *events, self._received = self._received.split(b"\n")
        try:
            return frozenset(JobKey(json.loads(event)["Actor"]["Attributes"][TASK_LABEL]) for event in events if event)
        except (LookupError, TypeError, ValueError):  # what answers there is not a Docker daemon
            self._disconnect()
            raise

    def _connect(self, path: str, scope: str) -> None:
        labels = [
            TASK_LABEL,
            f"{RESOURCE_LABEL}={scope}",
        ]  # few events: a daemon drops those that a client is slow to read
        filters = json.dumps({"type": ["container"], "event": ["die"], "label": labels})
        query = urllib.parse.urlencode({"filters": filters})
        # HTTP 1.0 has no chunks: the events follow the head, one per line.
        request = f"GET /events?{query} HTTP/1.0\r\nHost: docker\r\n\r\n"
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(self._seconds)
            connection.connect(path)
            connection.sendall(request.encode())
            self._received = _after_the_head(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._scope = connection, scope
        self._close = weakref.finalize(self, connection.close)
        self._ask_at = time.monotonic() + _LAG_SECONDS

    def _disconnect(self) -> None:
        self._connection = None
        self._close()


def _after_the_head(connection: socket.socket) -> bytes:
    """The bytes received after the head of the answer. ValueError for anything but a successful answer."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(_BLOCK)
        received += more
        if not more or len(received) > _BLOCK:
            raise ValueError(f"no valid answer to the request for events ({received[:100]!r})")
    head, _, body = received.partition(b"\r\n\r\n")
    if head.split()[1:2] != [b"200"]:
        raise ValueError(f"the answer to the request for events begins with {head[:100]!r}")
    return body
