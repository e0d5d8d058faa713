"""How much of the gateway host's disk uploads may take that have to arrive whole before the zone gets them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter

from compute_to_data.gateway.problems import HttpError

_RESERVE_BYTES = 1 << 30
"""Free space that uploads leave on the gateway's host."""
_SHARE = 4
"""No user takes more than one part in so many of what there is."""


class Room:
    """What each user's uploads take. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    def taking(self, user: str) -> Taking:
        """For one upload of a user."""
        return Taking(self, user)

    def _take(self, user: str, descriptor: int, count: int) -> None:
        with self._lock:
            free = need_room(descriptor, count)
            if free is not None:
                most = (free + sum(self._taken.values())) // _SHARE
                if self._taken[user] + count > most:
                    raise _no_room(f"your uploads take their share of the gateway's disk, {most} bytes")
            self._taken[user] += count

    def _give_back(self, user: str, count: int) -> None:
        with self._lock:
            self._taken[user] -= count
            if not self._taken[user]:
                del self._taken[user]


class Taking:
    """What one upload takes, until the context ends."""

    def __init__(self, room: Room, user: str) -> None:
        self._room = room
        self._user = user
        self._count = 0

    def __enter__(self) -> Taking:
        return self

    def __exit__(self, *error: object) -> None:
        self._room._give_back(self._user, self._count)

    def need(self, descriptor: int, count: int) -> None:
        """Take so many more bytes where an open file or directory lies. HttpError 507 unless they fit there, besides
        the reserve, and into the user's share."""
        self._room._take(self._user, descriptor, count)
        self._count += count


def need_room(descriptor: int, count: int) -> int | None:
    """HttpError 507 unless so many more bytes fit where an open file or directory lies, besides the reserve. Returns
    what may be written there; None when that is not known."""
    free = _free_bytes(descriptor)
    if free is not None and free < count:
        raise _no_room("the gateway's host has no room for it now")
    return free


def _free_bytes(descriptor: int) -> int | None:
    with contextlib.suppress(OSError):
        place = os.fstatvfs(descriptor)
        return place.f_bavail * place.f_frsize - min(_RESERVE_BYTES, place.f_blocks * place.f_frsize // 10)
    return None


def _no_room(cause: str) -> HttpError:
    """The answer to an upload that does not fit."""
    return HttpError(507, "the content", cause, "Try again later")
