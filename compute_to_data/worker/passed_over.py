"""What looks like a queued task and is none. The worker looks at it once, and then passes over it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator

MOST = 4096
"""How many are remembered. The worker looks again at those that it has forgotten."""


class PassedOver:
    """The collections that a worker passes over until it starts again. Threads may share it."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._found: OrderedDict[str, None] = OrderedDict()

    def add(self, collection: str) -> None:
        """Remember one, and forget the one that was found first if there are too many."""
        with self._lock:
            self._found[collection] = None
            while len(self._found) > self._most:
                self._found.popitem(last=False)

    def __contains__(self, collection: object) -> bool:
        return collection in self._found

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(tuple(self._found))
