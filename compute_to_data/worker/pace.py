"""The pace of users whose tasks end before their jobs begin.

Such a task takes up no place for long, so its owner's next task could begin at once, and a line of requests that are
wrong, or as large as they may be, would keep the worker's processes busy with nothing else.
"""

from __future__ import annotations

import threading
import time

from compute_to_data.model import User

_SHARE = 3.0
"""So many times as long as the worker has spent on such tasks, their owner's next ones wait."""
_LONGEST_SECONDS = 2.0


class Pace:
    """Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent: dict[str, tuple[User, float]] = {}
        self._until: dict[User, float] = {}

    def spent(self, collection: str, owner: User, seconds: float) -> None:
        """Add processor time that a task has taken in the worker."""
        with self._lock:
            _, before = self._spent.get(collection, (owner, 0.0))
            self._spent[collection] = owner, before + seconds

    def over(self, collection: str, *, ended: bool, had_job: bool) -> None:
        """Forget a task that is no longer in flight. If it has ended, and had no job, its owner waits for a while."""
        with self._lock:
            owner, seconds = self._spent.pop(collection, (None, 0.0))
            if owner is not None and ended and not had_job:
                now = time.monotonic()
                until = max(now, self._until.get(owner, now)) + _SHARE * seconds
                self._until[owner] = min(until, now + _LONGEST_SECONDS)

    def may_begin(self, owner: User) -> bool:
        """Whether the next task of a user may begin."""
        return self._until.get(owner, 0.0) <= time.monotonic()

    def due_in(self) -> float | None:
        """Seconds until the next user may go on; None when nobody waits."""
        with self._lock:
            now = time.monotonic()
            self._until = {owner: until for owner, until in self._until.items() if until > now}
            return min(self._until.values()) - now if self._until else None
