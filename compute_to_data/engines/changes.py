"""Lets a thread sleep until jobs of an engine change."""

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
    """Wakes one thread when a descriptor is ready or another thread asks for it. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed: set[JobKey] = set()
        self._asked = False
        self._reader, self._writer = os.pipe()
        for descriptor in (self._reader, self._writer):
            os.set_blocking(descriptor, False)
        weakref.finalize(self, _close, self._reader, self._writer)

    def add(self, key: JobKey) -> None:
        """Note that a job may have changed, and wake the thread."""
        with self._lock:
            self._changed.add(key)
        self._signal()

    def wake(self) -> None:
        """Wake the waiting thread, or make its next wait return at once."""
        with self._lock:
            self._asked = True
        self._signal()

    def take(self) -> frozenset[JobKey]:
        """Return and forget the jobs that other threads have added."""
        with self._lock:
            changed = frozenset(self._changed)
            self._changed.clear()
        return changed

    def was_woken(self) -> bool:
        """Whether another thread has called :meth:`wake` since the last call of this. Jobs that were added do not
        count: a thread that sleeps for them has them already, or gets them from :meth:`take`."""
        with self._lock:
            asked, self._asked = self._asked, False
        return asked

    def wait(self, timeout: float, descriptors: Iterable[int] = ()) -> set[int]:
        """Wait until a descriptor can be read or its other end is closed, until another thread calls
        :meth:`wake`, or for ``timeout`` seconds. Returns the descriptors that are ready."""
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

    def _signal(self) -> None:
        with contextlib.suppress(BlockingIOError):  # the pipe is full, so the thread will wake anyway
            os.write(self._writer, b"!")


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
