"""Ctrl-C while a command makes something that the person must be able to name, and questions to the person."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from compute_to_data.plain_text import indented


def can_ask() -> bool:
    """Whether a person at a terminal can read a question and answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirmed(question: str) -> bool:
    """Ask on stderr; whether the person answers yes. Ctrl-C raises KeyboardInterrupt."""
    sys.stderr.write(f"{indented(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Raise KeyboardInterrupt for a Ctrl-C at the end of the block, when the block has made what it makes.

    A second Ctrl-C takes effect at once. An error of the block is raised instead. Does nothing where signals do not
    arrive, or where the program ignores them.
    """
    earlier = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(earlier):
        yield
        return
    pressed = 0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed += 1
        if pressed > 1:
            raise KeyboardInterrupt
        sys.stderr.write("\nc2d finishes what it has begun. Press Ctrl-C again to leave at once.\n")

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)
    if pressed:
        raise KeyboardInterrupt
