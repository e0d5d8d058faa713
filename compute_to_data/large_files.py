"""Reads large files for their checksums so that others on this host are not kept waiting.

A file may be a hole of 100 GiB: it costs its writer nothing, and its reader a minute of a processor. So all threads of
a process that read large files take turns, in pieces of some megabytes, and together use at most half of the
processors. Holes are not read, which would fill the page cache with zeros.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

BLOCK = 1 << 20
_PIECE = 8 << 20
"""Bytes that are read in one turn. A file that has no more needs no turn."""
_LONGEST_WAIT = 5.0
"""Seconds after which a thread goes on without a turn, since a disk that hangs must not keep others from theirs."""
_LOOK = 0.2
"""Seconds between two questions whether to stop, while a thread waits for its turn."""
_ZEROS = bytes(BLOCK)
_UNIT = 512
"""Bytes in a unit of ``st_blocks``."""


class Sum(Protocol):
    """What computes a checksum."""

    def update(self, block: bytes, /) -> object:
        """Add bytes."""


class Turns:
    """At most ``most`` threads have a turn at a time; the one that has waited longest comes next."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()

    @contextmanager
    def turn(self, between: Callable[[], object]) -> Iterator[None]:
        """Wait for a turn, and have it while inside. ``between`` is called meanwhile: it may raise."""
        has_turn = self._wait(between)
        try:
            yield
        finally:
            if has_turn:
                self._pass_on()

    def _wait(self, between: Callable[[], object]) -> bool:
        """False when it took too long: then the caller goes on without a turn."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            mine = threading.Event()
            self._waiting.append(mine)
        latest = time.monotonic() + _LONGEST_WAIT
        try:
            while not mine.wait(_LOOK):
                if between() or time.monotonic() > latest:
                    return self._leave(mine)
        except BaseException:
            if self._leave(mine):
                self._pass_on()
            raise
        return True

    def _leave(self, mine: threading.Event) -> bool:
        """Wait no longer. True when the turn has come in this very moment."""
        with self._lock:
            if mine in self._waiting:
                self._waiting.remove(mine)
                return False
            return True

    def _pass_on(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1


def _processors() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


TURNS = Turns(max(1, _processors() // 2))
"""Those of this process."""


def add_file(total: Sum, descriptor: int, between: Callable[[], object] = lambda: None) -> int | None:
    """Add a regular file, from its beginning to its end, to a checksum. Returns how many bytes it has.

    ``between`` is called before each block: it may raise; when it returns something true, this ends and returns None.
    OSError.
    """
    done = 0
    status = os.fstat(descriptor)
    size = status.st_size
    has_holes = getattr(status, "st_blocks", size) * _UNIT < size
    wanted = min(size + 1, BLOCK)  # a large buffer costs more time than a small file
    while done < _PIECE:
        if between():
            return None
        block = os.pread(descriptor, wanted, done)
        total.update(block)
        done += len(block)
        if len(block) < wanted:  # a regular file returns less only at its end
            return done
    while True:
        with TURNS.turn(between):
            for _ in range(_PIECE // BLOCK):
                if between():
                    return None
                is_hole = has_holes and done + BLOCK <= size and _is_hole(descriptor, done)
                block = _ZEROS if is_hole else os.pread(descriptor, BLOCK, done)
                total.update(block)
                done += len(block)
                if len(block) < BLOCK:
                    return done


def _is_hole(descriptor: int, position: int) -> bool:
    """Whether a file has no data in this block. False where the file system cannot say."""
    try:
        return os.lseek(descriptor, position, os.SEEK_DATA) >= position + BLOCK
    except OSError as error:
        return error.errno == errno.ENXIO  # no data up to the end
    except AttributeError:  # this system knows no holes
        return False
