"""A worker that dies at one of its calls to the zone or the engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Optional


class Died(BaseException):
    """Raised where a killed process would have stopped. Our code does not catch it."""


class Call(NamedTuple):
    """The ``nth`` call, from 1, of one name."""

    name: str
    nth: int

    def __str__(self) -> str:
        return f"{self.name}-{self.nth}"


class Fate:
    """Records the calls to all adapters that share it. The worker dies at one of them, or lives.

    ``after``: the call still takes effect, but the worker never gets its result. When the worker is dead, every
    call raises.
    """

    def __init__(self, at: Optional[Call] = None, after: bool = False) -> None:
        self.at = at
        self._after = after
        self._lock = threading.Lock()
        self.calls: list[Call] = []
        self.dead = False

    @property
    def where(self) -> str:
        """The name of the call at which the worker died; '' while it lives."""
        return self.at.name if self.at and self.dead else ""

    def call(self, name: str, operation: Any, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            if self.dead:
                raise Died
            this = Call(name, 1 + sum(one.name == name for one in self.calls))
            self.calls.append(this)
            now = self.dead = this == self.at
        if now and not self._after:
            raise Died
        answer = operation(*args, **kwargs)
        if now:
            raise Died
        return answer


def each_fate(after: bool, choose: Callable[[Sequence[Call]], Sequence[Call]] = lambda calls: calls) -> Iterator[Fate]:
    """A worker that lives, and then one that dies at the first of its calls, one at the second, and so on.

    How often a worker asks for a job's status depends on the machine. So a worker may live because it never comes to
    its call, but none of the other calls is left out for that. ``choose``: from all calls, those to die at.
    """
    calm = Fate()
    yield calm
    for call in choose(calm.calls):
        yield Fate(call, after)


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
