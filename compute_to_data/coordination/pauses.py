"""Pauses between two looks at the catalog, or between two attempts."""

from __future__ import annotations

import random
import time

_GROWTH = 1.5
_LONGEST_STEP = 0.02


class Pauses:
    """Ever longer pauses, in seconds: what has just changed is likely to change again soon."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = self._next = first
        self._longest = longest

    def pause(self) -> None:
        """Sleep, and longer the next time."""
        time.sleep(self._next)
        self._next = min(self._next * _GROWTH, self._longest)

    def restart(self) -> None:
        """Something has changed: the next pause is the first one again."""
        self._next = self._first


def step_back(attempt: int = 0) -> None:
    """Sleep for a random time before the next attempt, so that of several who stepped back one
    comes first. The time grows with the number of attempts before this one."""
    time.sleep(random.uniform(0, _LONGEST_STEP * (attempt + 1)))
