"""Processes that outlive what started them, such as workers on demand: they have sessions of their own."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from pathlib import Path


def end_processes(place: str, word: str, seconds: float) -> None:
    """End the processes that have ``word`` as a whole entry of their ``environ`` or ``cmdline``, and wait until they
    are gone. Those that take more than ``seconds`` after SIGTERM are killed."""
    for order in (signal.SIGTERM, signal.SIGKILL):
        deadline, told = time.monotonic() + seconds, set[int]()
        while (found := _with(place, word.encode())) and time.monotonic() < deadline:
            for number in set(found) - told:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, order)
            told.update(found)
            with contextlib.suppress(ProcessLookupError):
                _wait_for_end(found[0], 1.0)


def _with(place: str, word: bytes) -> list[int]:
    found = []
    for file in Path("/proc").glob(f"[0-9]*/{place}"):
        with contextlib.suppress(OSError):
            if word in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
    return found


def _wait_for_end(number: int, seconds: float) -> None:
    process = os.pidfd_open(number)
    try:
        ends = select.poll()
        ends.register(process, select.POLLIN)
        ends.poll(seconds * 1000)
    finally:
        os.close(process)
