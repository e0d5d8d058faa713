"""Counts what is asked of a catalog."""

from __future__ import annotations

from collections import Counter
from typing import Any


class Counting:
    """A catalog that counts the calls to it."""

    def __init__(self, catalog: Any, calls: Counter[str]) -> None:
        self._catalog, self._calls = catalog, calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._catalog, name)
        if not callable(found):
            return found

        def call(*words: Any, **more: Any) -> Any:
            self._calls[name] += 1
            return found(*words, **more)

        return call
