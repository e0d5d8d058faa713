"""What the datasets of workloads hold, looked up once for tasks that begin at the same time."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakValueDictionary

_CLOCK_SECONDS = 1.0
"""The catalog tells the time in whole seconds."""


@dataclass(frozen=True)
class Listing:
    """What a dataset held. ``began``: when the worker began to list it, in Unix seconds. ``contents``: for each logical
    path, a text that changes with the content. A data object that is being written has the content that it had before,
    or is not there yet."""

    began: float
    contents: Mapping[str, str]

    @cached_property
    def fingerprint(self) -> str:
        """Another one if anything is different."""
        return hashlib.sha256(json.dumps(sorted(self.contents.items())).encode()).hexdigest()


class DatasetListings:
    """The datasets of one worker's workloads. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._newest: dict[str, Listing] = {}

    def of(
        self,
        workload: str,
        submitted: float,
        look: Callable[[Listing | None], Listing],
        acquire: Callable[[threading.Lock], object],
    ) -> Listing:
        """What the dataset of a workload held after one of its tasks was submitted, in Unix seconds. ``look`` lists it,
        given the listing before, unless another task has done so since. ``acquire`` waits for that task; it may raise
        instead."""
        with self._lock:
            lock = self._locks.setdefault(workload, threading.Lock())
        acquire(lock)
        try:
            known = self._newest.get(workload)
            if known is None or known.began < submitted + _CLOCK_SECONDS:
                known = self._newest[workload] = look(known)
            return known
        finally:
            lock.release()

    def keep(self, workloads: frozenset[str]) -> None:
        """Forget the listings of other workloads."""
        with self._lock:
            self._newest = {workload: one for workload, one in self._newest.items() if workload in workloads}
