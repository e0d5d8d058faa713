"""A worker that dies at its n-th call to the zone or the engine."""

from __future__ import annotations

import itertools
import threading
from typing import Any


class Died(BaseException):
    """Raised where a killed process would have stopped. Our code does not catch it."""


class Fate:
    """Counts the calls to all adapters that share it. The worker dies at one of them.

    ``after``: the call still takes effect, but the worker never gets its result. When the worker is dead, every
    call raises.
    """

    def __init__(self, at: int, after: bool) -> None:
        self._at = at
        self._after = after
        self._count = itertools.count(1)
        self._lock = threading.Lock()
        self.dead = False
        self.where = ""

    def call(self, name: str, operation: Any, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            if self.dead:
                raise Died
            now = next(self._count) == self._at
            if now:
                self.dead = True
                self.where = name
        if now and not self._after:
            raise Died
        answer = operation(*args, **kwargs)
        if now:
            raise Died
        return answer


_OPENED = frozenset({"on_behalf_of", "submit", "find"})


class Doomed:
    """Passes all calls on to ``inner``, counted by ``fate``. The same for sessions and jobs that it opens."""

    def __init__(self, inner: Any, fate: Fate, spared: frozenset[str] = frozenset()) -> None:
        self._inner = inner
        self._fate = fate
        self._spared = spared

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value) or name in self._spared:
            return value

        def doomed(*args: Any, **kwargs: Any) -> Any:
            answer = self._fate.call(name, value, *args, **kwargs)
            opened = name in _OPENED and answer is not None and not isinstance(answer, tuple)  # a catalog finds names
            return Doomed(answer, self._fate) if opened else answer

        return doomed
