"""Signals: Ctrl-C while a command makes something that the person must be able to name, and those that end a command.
And questions to the person."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from compute_to_data.plain_text import indented

_SOON_SECONDS = 0.02
_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


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


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """Let SIGTERM, and SIGHUP of a terminal that is gone, undo what the block has begun: partial files, half a task.

    When its threads have ended, too, the signal ends the program, as its parent expects. A second signal does so at
    once. Does nothing where signals do not arrive, and leaves signals alone that the program ignores (``nohup``).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [one for one in _ENDING if signal.getsignal(one) is signal.SIG_DFL]

    def end(number: int, frame: FrameType | None) -> None:
        if _is_importing(frame):
            again = threading.Timer(_SOON_SECONDS, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        for one in ours:
            signal.signal(one, signal.SIG_DFL)
        atexit.register(signal.raise_signal, number)
        raise SystemExit(128 + number)

    for one in ours:
        signal.signal(one, end)
    try:
        yield
    finally:
        for one in ours:
            signal.signal(one, signal.SIG_DFL)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported. Python ignores exceptions in some places there: they would be lost."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
