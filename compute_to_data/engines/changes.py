"""What the thread sleeps on that waits for changes of an engine's jobs."""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
import weakref
from collections.abc import Iterable

from compute_to_data.job import JobKey

_LONGEST_SECONDS = 3600.0


class Changes:
    """Wakes one thread: for a descriptor that is ready, or when another thread says so. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed: set[JobKey] = set()
        self._reader, self._writer = os.pipe()
        for descriptor in (self._reader, self._writer):
            os.set_blocking(descriptor, False)
        weakref.finalize(self, _close, self._reader, self._writer)

    def tell(self, key: JobKey) -> None:
        """A job may have changed."""
        with self._lock:
            self._changed.add(key)
        self.wake()

    def wake(self) -> None:
        """Let the waiting thread go on, or not wait next time."""
        with contextlib.suppress(BlockingIOError):  # it is awake a thousand times over
            os.write(self._writer, b"!")

    def taken(self) -> frozenset[JobKey]:
        """The jobs that were told of since the last call."""
        with self._lock:
            taken = frozenset(self._changed)
            self._changed.clear()
        return taken

    def wait(self, timeout: float, descriptors: Iterable[int] = ()) -> set[int]:
        """Those descriptors that can be read, or whose other end is closed, as soon as there are any, or
        somebody wakes this thread; none after ``timeout`` seconds."""
        poll = select.poll()
        for descriptor in (self._reader, *descriptors):
            poll.register(descriptor, select.POLLIN)
        milliseconds = math.ceil(min(max(timeout, 0.0), _LONGEST_SECONDS) * 1000)
        ready = {descriptor for descriptor, _ in poll.poll(milliseconds)}
        if self._reader in ready:
            ready.discard(self._reader)
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader, 1 << 16)
        return ready


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
