"""Pauses between two queries of the catalog, or between two attempts."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

_GROWTH = 1.5
_LONGEST_STEP = 0.02
_PART = 6
_EAGER_SECONDS, _LEAST_LATER = 10.0, 1.0


class Pauses:
    """Pauses, in seconds, that grow while nothing changes: a recent change makes another one likely."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = self._next = first
        self._longest = longest

    def pause(self) -> None:
        """Sleep. The next call sleeps longer, up to the longest pause."""
        time.sleep(self._next)
        self._next = min(self._next * _GROWTH, self._longest)

    def restart(self) -> None:
        """Go back to the first pause, because something has changed."""
        self._next = self._first


class WaitingPauses:
    """Pauses of a user who waits for a task's end, between two questions to the catalog.

    A pause is a sixth of the time since the last change, so waiting takes at most that much longer than the task. It
    is at least ``first`` and at most ``longest`` seconds. After the first ten seconds it is at least a second, even if
    something changes: many people may wait at a time.
    """

    def __init__(
        self,
        first: float,
        longest: float,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``sleep``: what sleeps; it may return early."""
        self._first, self._longest = first, longest
        self._sleep, self._clock = sleep, clock
        self._began = self._changed = clock()

    def pause(self, most: float | None = None) -> None:
        """Sleep, at most ``most`` seconds."""
        length = self.length()
        self._sleep(length if most is None else max(0.0, min(length, most)))

    def length(self) -> float:
        """The next pause, in seconds."""
        now = self._clock()
        pause = min(self._longest, max(self._first, (now - self._changed) / _PART))
        return pause if now - self._began < _EAGER_SECONDS else max(_LEAST_LATER, pause)

    def restart(self) -> None:
        """Note that something has changed."""
        self._changed = self._clock()


def step_back(attempt: int = 0) -> None:
    """Sleep for a random time, so that competing processes do not try again at the same moment.

    The time grows with ``attempt``, the number of attempts so far.
    """
    time.sleep(random.uniform(0, _LONGEST_STEP * (attempt + 1)))
