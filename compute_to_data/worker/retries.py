"""Tasks that the worker must try again. They wait here, and no slot waits for them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass

FIRST_SECONDS = 1.0
_LONGEST_SECONDS = 8.0


@dataclass(frozen=True)
class Retry:
    """A task to try again. ``due``: when, by the monotonic clock. ``has_job``: it may have a job in the engine, which
    takes up a place there meanwhile."""

    collection: str
    due: float
    has_job: bool


class Retries:
    """The pause before each attempt is twice as long as the one before, up to 8 seconds. Threads may share it."""

    def __init__(self, first: float) -> None:
        """``first``: seconds before the first further attempt."""
        self._first = first
        self._lock = threading.Lock()
        self._waiting: dict[str, Retry] = {}
        self._attempts: Counter[str] = Counter()

    def put(self, collection: str, has_job: bool) -> None:
        """Try a task again, after a pause."""
        with self._lock:
            pause = min(_LONGEST_SECONDS, self._first * 2 ** min(self._attempts[collection], 10))
            self._attempts[collection] += 1
            self._waiting[collection] = Retry(collection, time.monotonic() + pause, has_job)

    def drop(self, collection: str) -> None:
        """Forget a task, because it has ended."""
        with self._lock:
            self._waiting.pop(collection, None)
            self._attempts.pop(collection, None)

    def has_tried(self, collection: str) -> bool:
        """Whether a task was tried before, and has not ended."""
        with self._lock:
            return collection in self._attempts

    def tried(self) -> list[str]:
        """All tasks that were tried before, and have not ended."""
        with self._lock:
            return list(self._attempts)

    def no_longer(self, collection: str) -> None:
        """Take out a task that begins now."""
        with self._lock:
            self._waiting.pop(collection, None)

    def waiting(self) -> list[Retry]:
        """All that wait."""
        with self._lock:
            return list(self._waiting.values())

    def take_due(self) -> list[Retry]:
        """Remove and return those whose pause is over."""
        with self._lock:
            due = [one for one in self._waiting.values() if one.due <= time.monotonic()]
            for one in due:
                del self._waiting[one.collection]
            return due

    def due_in(self) -> float | None:
        """Seconds until the first pause is over; None when no task waits."""
        waiting = self.waiting()
        return max(0.0, min(one.due for one in waiting) - time.monotonic()) if waiting else None
