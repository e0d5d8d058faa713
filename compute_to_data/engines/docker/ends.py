"""Which jobs have ended, as the daemon tells at once on a connection of its own.

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
"""A list of containers may show one as running so long after the event of its end."""
_SURE_SECONDS = 60.0
"""So often any job is asked about even if no event tells of it."""
_BLIND_SECONDS = 1.0
"""Where no events can be had, any job may have changed so often."""


class Ends:
    """The daemon's events about ends of jobs. One thread waits; others may wake it."""

    def __init__(self, address: str, seconds: float) -> None:
        """``address``: of the daemon, as in the settings. ``seconds``: for its answer."""
        self._address = address or os.environ.get("DOCKER_HOST") or DEFAULT_SOCKET
        self._seconds = seconds
        self._turn = threading.Lock()
        self._connection: socket.socket | None = None
        self._received = b""
        self._scope = ""
        self._ask_at = 0.0
        self.changes = Changes()
        """Where changes are told of that the daemon knows nothing of."""

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
                return None  # whatever ended before
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
        return self._ended() | self.changes.taken()

    def _ended(self) -> frozenset[JobKey]:
        *events, self._received = self._received.split(b"\n")
        try:
            return frozenset(JobKey(json.loads(event)["Actor"]["Attributes"][TASK_LABEL]) for event in events if event)
        except (LookupError, TypeError, ValueError):  # whatever answers there, it is no daemon
            self._disconnect()
            raise

    def _connect(self, path: str, scope: str) -> None:
        labels = [TASK_LABEL, f"{RESOURCE_LABEL}={scope}"]  # a daemon loses the events of listeners that do not read
        filters = json.dumps({"type": ["container"], "event": ["die"], "label": labels})
        query = urllib.parse.urlencode({"filters": filters})
        # The older version of HTTP has no chunks: what follows the head are the events, each on a line.
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
    """What has come after the head of the answer. ValueError for an answer that is none."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(_BLOCK)
        received += more
        if not more or len(received) > _BLOCK:
            raise ValueError(f"no answer to a question for events ({received[:100]!r})")
    head, _, body = received.partition(b"\r\n\r\n")
    if head.split()[1:2] != [b"200"]:
        raise ValueError(f"the answer to a question for events begins with {head[:100]!r}")
    return body
