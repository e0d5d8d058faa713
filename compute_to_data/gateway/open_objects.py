"""Data objects that stay open between requests, as a follower of a log needs them."""

from __future__ import annotations

import secrets
import threading
import time
from contextlib import AbstractContextManager, suppress

from compute_to_data.errors import ComputeToDataError, NotFound
from compute_to_data.gateway.problems import HttpError
from compute_to_data.model import User
from compute_to_data.ports.zone import ClientCatalog, OpenDataObject

MOST_OF_A_USER = 64
IDLE_SECONDS = 120.0


class _Handle:
    def __init__(self, user: User, context: AbstractContextManager[OpenDataObject]) -> None:
        self.user = user
        self.used = time.monotonic()
        self.lock = threading.Lock()
        self._context = context
        self.opened: OpenDataObject | None = context.__enter__()

    def close(self) -> None:
        with self.lock:
            opened, self.opened = self.opened, None
            if opened is not None:
                with suppress(ComputeToDataError):
                    self._context.__exit__(None, None, None)


class Handles:
    """The open data objects of one gateway, each for one user. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handles: dict[str, _Handle] = {}

    def open(self, catalog: ClientCatalog, data_object: str) -> str:
        """Open one; returns its name. HttpError 503 when the user has too many open."""
        with self._lock:
            own = sum(one.user == catalog.user for one in self._handles.values())
        if own >= MOST_OF_A_USER:
            cause = f"{own} data objects of yours are open"
            raise HttpError(503, data_object, cause, "Close some of them", headers={"Retry-After": "30"})
        handle = _Handle(catalog.user, catalog.open_to_read(data_object))
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._handles[name] = handle
        return name

    def read(self, user: User, name: str, offset: int, size: int) -> bytes:
        """As ``OpenDataObject.read``. NotFound for a name that this user does not have, or no longer."""
        handle = self._of(user, name)
        with handle.lock:
            if handle.opened is None:
                raise _gone()
            handle.used = time.monotonic()
            return handle.opened.read(offset, size)

    def close(self, user: User, name: str) -> None:
        """Close one. NotFound as above."""
        handle = self._of(user, name)
        with self._lock:
            self._handles.pop(name, None)
        handle.close()

    def _of(self, user: User, name: str) -> _Handle:
        with self._lock:
            found = self._handles.get(name)
        if found is None or found.user != user:
            raise _gone()
        return found

    def tend(self, everything: bool = False) -> None:
        """Close those that nobody uses any more, or all."""
        now = time.monotonic()
        with self._lock:
            over = [name for name, one in self._handles.items() if everything or now - one.used > IDLE_SECONDS]
            closed = [self._handles.pop(name) for name in over]
        for one in closed:
            one.close()


def _gone() -> NotFound:
    return NotFound("the open data object", "is closed", "Open it again")
