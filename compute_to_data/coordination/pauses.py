"""Pauses between two queries of the catalog, or between two attempts."""

from __future__ import annotations

import random
import time

_GROWTH = 1.5
_LONGEST_STEP = 0.02


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


def step_back(attempt: int = 0) -> None:
    """Sleep for a random time, so that competing processes do not try again at the same moment.

    The time grows with ``attempt``, the number of attempts so far.
    """
    time.sleep(random.uniform(0, _LONGEST_STEP * (attempt + 1)))
