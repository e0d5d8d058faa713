"""The warm sandboxes of this worker: which there are, which runs what, and when they go.

A task of another owner, image, workload or limits never gets into a sandbox: all of that is its
key. What is true of a sandbox is known to the process that made it and to nobody after it: the next
worker throws away what it finds, and the tasks that ran there begin again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from docker import APIClient

from compute_to_data.engines import checks
from compute_to_data.engines.docker import warm_runner
from compute_to_data.engines.docker.memory_groups import MemoryGroups
from compute_to_data.engines.docker.warm_channel import Closed
from compute_to_data.engines.docker.warm_job import WarmJob
from compute_to_data.engines.docker.warm_sandbox import RECORD, Unsuited, WarmSandbox, sweep
from compute_to_data.errors import EngineError, EngineOutOfReach
from compute_to_data.job import Job, JobKey

log = logging.getLogger(__name__)

_UNFIT_SECONDS = 300.0
"""How long an image is taken to have no warm sandboxes after making one has failed."""
Key = tuple[object, ...]


class WarmSandboxes:
    """All warm sandboxes that this process made. Threads may share it."""

    def __init__(
        self,
        docker: Callable[[], APIClient],
        state_directory: str,
        account: tuple[int, int],
        groups: MemoryGroups,
        ended: Callable[[JobKey], None],
        **options: Any,
    ) -> None:
        """``ended`` is called with each job that has ended. ``options``: ``init`` and ``runtime``, as in the
        engine's settings."""
        self._docker = docker
        self._home = os.path.join(state_directory, "sandboxes")
        self._account = account
        self._groups = groups
        self._ended = ended
        self._options = options
        self._lock = threading.Lock()
        self._idle: dict[Key, list[WarmSandbox]] = {}
        self._jobs: dict[JobKey, WarmJob] = {}
        self._known: set[str] = set()
        self._unfit: dict[str, float] = {}

    # A job, from start to removal

    def start(self, job: Job, volumes: Iterable[str]) -> WarmJob | None:
        """Run a job in a warm sandbox. None when it has to run in a container of its own."""
        if job.sandbox is None:
            return None
        checks.job(job)
        if self.find(job.key) is not None:
            raise EngineError(job.key.task, "there is a job for this task already")
        if not _suits(job) or time.monotonic() < self._unfit.get(job.image.digest, 0.0):
            return None
        sandbox = self._begun(job, volumes)
        if sandbox is None:
            return None
        made = WarmJob(job, sandbox, self.remove)
        with self._lock:
            self._jobs[job.key] = made
        threading.Thread(target=self._follow, args=(made,), name=f"warm-{sandbox.token}", daemon=True).start()
        return made

    def _begun(self, job: Job, volumes: Iterable[str]) -> WarmSandbox | None:
        """A sandbox in which the job runs."""
        while True:
            sandbox, fresh = self._take(job), False
            if sandbox is None:
                sandbox, fresh = self._make(job, volumes), True
            if sandbox is None:
                return None
            try:
                sandbox.begin(job)
                return sandbox
            except Unsuited:
                self._put_back(job, sandbox)
                return None
            except EngineError as error:
                log.warning("throwing a warm sandbox away: %s", error)
                self._discard(sandbox)
                if fresh:
                    return None

    def _take(self, job: Job) -> WarmSandbox | None:
        with self._lock:
            idle = self._idle.get(_key(job))
            return idle.pop() if idle else None

    def _make(self, job: Job, volumes: Iterable[str]) -> WarmSandbox | None:
        token = secrets.token_hex(12)
        with self._lock:
            self._known.add(token)
        sandbox = WarmSandbox(self._docker, os.path.join(self._home, token), job, self._groups)
        try:
            sandbox.open(job, self._account, volumes, **self._options)
        except EngineOutOfReach:
            self._discard(sandbox)
            raise
        except (EngineError, OSError, Closed) as error:
            # Without a shell, or where the kernel's words cannot be had, there is no warm sandbox.
            log.warning("image %s runs each task in a container of its own: %s", job.image.name, error)
            self._unfit[job.image.digest] = time.monotonic() + _UNFIT_SECONDS
            self._discard(sandbox)
            return None
        return sandbox

    def _follow(self, one: WarmJob) -> None:
        """See a job to its end; the only thread that uses its sandbox meanwhile."""
        reusable = False
        try:
            reusable = one.run_to_its_end()
        finally:
            # First the sandbox: nothing of the task may run while its outputs are read.
            if reusable and one.release():
                self._put_back(one.job, one.sandbox)
            elif not self._discard(one.sandbox):
                one.problem = EngineOutOfReach(one.key.task, "its sandbox could not be ended")
            one.ended.set()
            self._ended(one.key)

    def _put_back(self, job: Job, sandbox: WarmSandbox) -> None:
        assert job.sandbox is not None
        with self._lock:
            idle = self._idle.setdefault(_key(job), [])
            if len(idle) < job.sandbox.instances:
                idle.append(sandbox)
                return
        self._discard(sandbox)

    def find(self, key: JobKey) -> WarmJob | None:
        """The job of a key that runs here, or ended here and was not removed yet."""
        with self._lock:
            return self._jobs.get(key)

    def remove(self, key: JobKey) -> bool:
        """Forget a job; one that runs is ended with its sandbox. False when there is none."""
        one = self.find(key)
        if one is None:
            return False
        one.kill()
        with self._lock:
            self._jobs.pop(key, None)
        return True

    def jobs(self, scope: str) -> list[JobKey]:
        """The jobs that are held for a scope."""
        with self._lock:
            return [key for key, one in self._jobs.items() if one.job.scope == scope]

    # Throwing away

    def tidy(self, scope: str, workloads: frozenset[str], idle_seconds: float) -> None:
        """As the port says."""
        self._sweep(scope)
        oldest = time.monotonic() - idle_seconds
        gone: list[WarmSandbox] = []
        with self._lock:
            for key, idle in list(self._idle.items()):
                if key[0] == scope:
                    kept = [one for one in idle if key[1] in workloads and one.idle_since > oldest]
                    gone += [one for one in idle if one not in kept]
                    self._idle[key] = kept
            self._idle = {key: idle for key, idle in self._idle.items() if idle}
        for sandbox in gone:
            self._discard(sandbox)

    def _sweep(self, scope: str) -> None:
        """Throw away what an earlier worker of the scope made, running or not."""
        try:
            found = set(os.listdir(self._home))
        except FileNotFoundError:
            return
        with self._lock:
            found -= self._known
        for token in found:
            folder = os.path.join(self._home, token)
            # One without a whole record is half made or half gone, and another scope's at that.
            with contextlib.suppress(FileNotFoundError, ValueError):
                with open(os.path.join(folder, RECORD), encoding="utf-8") as file:
                    record = json.load(file)
                if record["resource"] == scope:
                    log.warning("removing %s: an earlier worker left it", record["container"])
                    sweep(self._docker(), folder, record)

    def _discard(self, sandbox: WarmSandbox) -> bool:
        """Whether nothing of it runs any more. Otherwise its record stays, so that it is swept later."""
        try:
            sandbox.destroy()
            gone = True
        except EngineError as error:
            log.warning("a warm sandbox could not be removed: %s", error)
            gone = False
        with self._lock:
            self._known.discard(sandbox.token)
        return gone


def _suits(job: Job) -> bool:
    """Whether what a job needs of its own can be given to a sandbox that runs already."""
    flat = all(mount.target.startswith("/inputs/") and mount.target.count("/") == 2 for mount in job.inputs)
    return flat and not job.output_mounts and not job.secrets and warm_runner.can_set(list(job.environment))


def _key(job: Job) -> Key:
    """All that a sandbox is made of: only jobs of which it is the same may follow each other.

    The walltime is the worker's to watch.
    """
    assert job.sandbox is not None
    limits = replace(job.limits, walltime_seconds=0.0)
    return (job.scope, job.sandbox.workload, job.owner, job.image.digest, limits, replace(job.sandbox, instances=0))
