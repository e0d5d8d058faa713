"""Compensation, last in first out: how to put the zone back as it was before a failed operation."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


class Undo:
    """A stack of compensations.

    A step that changes something first pushes the action that takes the change back. A failure
    between the two then leaves nothing behind. Compensations must therefore be idempotent, and do
    nothing when their change never happened.
    """

    def __init__(self) -> None:
        self._pile: list[tuple[str, Callable[[], object]]] = []

    def push(self, what: str, action: Callable[[], object]) -> None:
        """Remember ``action``; ``what`` names it in messages: "trim /z/home/a/x from r"."""
        self._pile.append((what, action))

    def discard(self) -> None:
        """Forget all compensations, since the work succeeded."""
        self._pile.clear()

    def run(self, until: type[Exception] | None = None) -> tuple[tuple[str, Exception], ...]:
        """Run all compensations, newest first. A failure does not stop the others, unless it is an ``until``, which
        this raises: then the caller tries again, and nothing is undone before what was done after it.

        Returns what failed and why, so that the task's reason can name it.
        """
        failures = []
        while self._pile:
            what, action = self._pile.pop()
            try:
                action()
            except Exception as error:
                log.exception("could not %s", what)
                if until is not None and isinstance(error, until):
                    raise
                failures.append((f"could not {what}", error))
        return tuple(failures)
