"""Whose password is checked next.

A check takes a processor, or asks the zone's server, so only some run at the same time: one of each user, and of each
address at most half of them. Others wait for their turn in the event loop, where they cost no thread, in the order in
which they came. So when many people sign in at once, they get in one after another, the throttle takes none of them
for a guesser, and no single user or address takes all turns.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from compute_to_data.gateway.problems import HttpError

MOST = 16
"""Checks at the same time. Those of one address must stay below the throttle's number of free attempts."""
LONGEST_SECONDS = 60.0
"""How long a request waits for its turn."""


@dataclass
class _Line:
    """Those who may, and those who wait. ``count``: of both."""

    room: anyio.Semaphore
    count: int = 0


class Turns:
    """The turns of one gateway. Only for its event loop. ``most``: checks at the same time."""

    def __init__(self, most: int = MOST) -> None:
        self._most = max(1, most)
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def one(self, user: str, address: str) -> AsyncIterator[None]:
        """The turn of a user, as they write their name. HttpError 503 when it does not come in time."""
        lines = ((f"user {user}", 1), (f"address {address}", max(1, self._most // 2)), ("all", self._most))
        taken: list[_Line] = []
        try:
            with anyio.move_on_after(LONGEST_SECONDS) as waiting:
                for name, most in lines:
                    await self._take(name, most)
                    taken.append(self._lines[name])
            if waiting.cancelled_caught:
                cause = f"too many sign in at the same time: your turn did not come within {LONGEST_SECONDS:g} s"
                raise HttpError(503, "signing in", cause, "Try again", headers={"Retry-After": "5"})
            yield
        finally:
            for (name, _), line in zip(lines, taken):
                line.room.release()
                self._leave(name)

    async def _take(self, name: str, most: int) -> None:
        line = self._lines.setdefault(name, _Line(anyio.Semaphore(most)))
        line.count += 1
        try:
            await line.room.acquire()
        except BaseException:
            self._leave(name)
            raise

    def _leave(self, name: str) -> None:
        line = self._lines[name]
        line.count -= 1
        if not line.count:
            del self._lines[name]
