"""Compensation, last in first out: what to do so that the zone is as it was found."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


class Undo:
    """A pile of compensations.

    Each step of the template that changes something first pushes how to take it back, so that
    a failure between the two finds nothing to do rather than something forgotten. Compensations
    are therefore idempotent: they must not mind that their step never happened.
    """

    def __init__(self) -> None:
        self._pile: list[tuple[str, Callable[[], object]]] = []

    def push(self, what: str, action: Callable[[], object]) -> None:
        """Remember ``action``; ``what`` names it where it fails: "trim /z/home/a/x from r"."""
        self._pile.append((what, action))

    def discard(self) -> None:
        """The work is done: nothing is to be taken back any more."""
        self._pile.clear()

    def run(self) -> tuple[tuple[str, Exception], ...]:
        """Take everything back, newest first. One that fails never stops the others.

        Returns what failed and why, so that the task's reason can name it.
        """
        failures = []
        while self._pile:
            what, action = self._pile.pop()
            try:
                action()
            except Exception as error:
                log.exception("could not %s", what)
                failures.append((f"could not {what}", error))
        return tuple(failures)
