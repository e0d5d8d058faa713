"""The one directory that a warm sandbox sees as its outputs: a mount, and so the same for all tasks.

While a task runs, it lies where the task's outputs are wanted, and is looked at there. Afterwards
its content moves to a fresh directory, which takes its place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from compute_to_data.errors import EngineError

_MOST_MOVED = 10_000
"""Entries at the top; moving more takes longer than another sandbox."""


class LentOutputs:
    """Below ``area``: ``outputs`` while no task runs, ``next``, the fresh one, while one does."""

    def __init__(self, area: str) -> None:
        """``outputs`` is there, with the owner and mode it is to keep."""
        self._own = os.path.join(area, "outputs")
        self._fresh = os.path.join(area, "next")
        self._marks = _marks(self._own)

    def lend(self, outputs: str) -> None:
        """Put it in the place of a task's fresh directory, with what is in that one. OSError."""
        for name in os.listdir(outputs):
            os.rename(os.path.join(outputs, name), os.path.join(self._own, name))
        os.rename(outputs, self._fresh)
        os.rename(self._own, outputs)

    def give_back(self, outputs: str) -> None:
        """Undo as much of :meth:`lend` as was done."""
        with suppress(OSError):
            if os.path.isdir(self._fresh):
                if not os.path.isdir(self._own):
                    os.rename(outputs, self._own)
                os.rename(self._fresh, outputs)

    def take(self, outputs: str) -> bool:
        """Take it back empty, leaving what the task wrote in the fresh one. False, with all of that
        where it is, when it could not be as it was. EngineError when neither can be had."""
        names = os.listdir(outputs)
        if _marks(outputs) != self._marks or len(names) > _MOST_MOVED:
            return False
        moved: list[str] = []
        try:
            for name in names:
                os.rename(os.path.join(outputs, name), os.path.join(self._fresh, name))
                moved.append(name)
        except OSError:  # a directory without permissions: it stays, and so do the others
            self._move_back(moved, outputs)
            return False
        os.rename(outputs, self._own)
        os.rename(self._fresh, outputs)
        return True

    def _move_back(self, names: Iterable[str], outputs: str) -> None:
        try:
            for name in names:
                os.rename(os.path.join(self._fresh, name), os.path.join(outputs, name))
        except OSError as error:  # half of the outputs are no outputs
            raise EngineError(outputs, f"what the task left could not be kept together ({error.strerror})") from error


def _marks(directory: str) -> tuple[object, ...]:
    """What a task could change about the directory itself, for the tasks after it."""
    status = os.lstat(directory)
    return status.st_mode, status.st_uid, status.st_gid, tuple(sorted(os.listxattr(directory)))
