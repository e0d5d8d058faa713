"""Reports ends of jobs without delay, from the daemon's events on a connection of their own.

https://docs.docker.com/reference/api/engine/version/v1.41/#tag/System/operation/SystemEvents
"""

from __future__ import annotations

import json
import socket
import threading
import time
import weakref

from compute_to_data.engines.changes import Changes
from compute_to_data.engines.docker import stream
from compute_to_data.engines.docker.sandbox import RESOURCE_LABEL, TASK_LABEL
from compute_to_data.job import JobKey

_BLOCK = 1 << 16
_LAG_SECONDS = 1.0
"""For this time after the event of a container's end, Docker's list may still show it as running."""
_SURE_SECONDS = 60.0
"""How often the worker asks about all jobs, in case an event was lost."""
_BLIND_SECONDS = 1.0
"""How often the worker asks about all jobs without events."""


class DaemonEnds:
    """The daemon's events about ends of jobs. One thread waits for them; others may wake it."""

    def __init__(self, address: str, seconds: float) -> None:
        """``address``: the daemon's, as in the settings. ``seconds``: the time-out for its answer."""
        self._address = stream.full_address(address)
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
            if not self._address.startswith("unix://"):
                self.changes.wait(min(timeout, _BLIND_SECONDS))
                return None
            if self._connection is not None and scope != self._scope:
                self._disconnect()
            if self._connection is None:
                self._connect(scope)
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

    def _connect(self, scope: str) -> None:
        # Few events: a daemon drops those that a client is slow to read.
        labels = [TASK_LABEL, f"{RESOURCE_LABEL}={scope}"]
        filters = json.dumps({"type": ["container"], "event": ["die"], "label": labels})
        connection, self._received = stream.request(self._address, self._seconds, "GET", "/events", filters=filters)
        self._connection, self._scope = connection, scope
        self._close = weakref.finalize(self, connection.close)
        self._ask_at = time.monotonic() + _LAG_SECONDS

    def _disconnect(self) -> None:
        self._connection = None
        self._close()
