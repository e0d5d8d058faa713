"""Reports ends of jobs without delay: the kernel tells when a container's first process has ended."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from compute_to_data.engines.changes import Changes
from compute_to_data.engines.docker.sandbox import RESOURCE_LABEL, TASK_LABEL
from compute_to_data.engines.podman import processes
from compute_to_data.engines.podman.client import PodmanClient
from compute_to_data.job import JobKey

_SURE_SECONDS = 60.0
"""How often the worker asks about all jobs, in case one was missed."""


@dataclass(frozen=True)
class _Watched:
    key: JobKey
    scope: str


class ProcessEnds:
    """The ends of the first processes of jobs. One thread waits for them; others may wake it and add processes."""

    def __init__(self, client: Callable[[], PodmanClient]) -> None:
        self._client = client
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._watched: dict[int, _Watched] = {}
        """By the open descriptor of the process."""
        self._scope: str | None = None
        self._ask_at = 0.0
        self.changes = Changes()
        """As :class:`~compute_to_data.engines.docker.client.Ends` says."""
        weakref.finalize(self, _close, self._watched)

    def watch(self, key: JobKey, scope: str, process: int) -> None:
        """Report the end of a job whose first process this is. A job that has ended is reported at once."""
        one = _Watched(key, scope)
        with self._lock:
            if one in self._watched.values():
                return
            try:
                self._watched[processes.opened(process)] = one
            except ProcessLookupError:
                self.changes.add(key)
        self.changes.wake()

    def wait(self, scope: str, timeout: float) -> frozenset[JobKey] | None:
        """As :class:`~compute_to_data.engines.docker.client.Ends` says."""
        with self._turn:
            if scope != self._scope or time.monotonic() >= self._ask_at:
                self._learn(scope)
                return None  # any job may have ended before
            return self._ended(scope, min(timeout, self._ask_at - time.monotonic()))

    def _ended(self, scope: str, timeout: float) -> frozenset[JobKey]:
        with self._lock:
            watched = [descriptor for descriptor, one in self._watched.items() if one.scope == scope]
        ready = self.changes.wait(timeout, watched)
        with self._lock:
            ended = {self._watched.pop(descriptor).key for descriptor in ready}
        for descriptor in ready:
            os.close(descriptor)
        return frozenset(ended) | self.changes.take()

    def _learn(self, scope: str) -> None:
        """Watch the jobs of a scope that run, which an earlier worker may have started."""
        labels = [TASK_LABEL, f"{RESOURCE_LABEL}={scope}"]
        for one in self._client().containers(filters={"label": labels, "status": ["running"]}):
            self.watch(JobKey(one["Labels"][TASK_LABEL]), scope, int(one["Pid"]))
        self._scope = scope
        self._ask_at = time.monotonic() + _SURE_SECONDS


def _close(watched: dict[int, _Watched]) -> None:
    while watched:
        os.close(watched.popitem()[0])
