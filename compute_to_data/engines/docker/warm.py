"""The warm sandboxes of this worker: makes them, runs jobs in them, and removes them.

A sandbox's key has its owner, image, workload and limits, so it never runs a task with other ones. Only the
process that made a sandbox knows its state: the next worker removes the sandboxes that it finds, and the
tasks that ran there begin again.
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

from compute_to_data.engines import checks
from compute_to_data.engines.docker import warm_runner
from compute_to_data.engines.docker.client import Client
from compute_to_data.engines.docker.first_process import FirstProcess
from compute_to_data.engines.docker.image_paths import ImagePaths
from compute_to_data.engines.docker.job_accounts import AccountTaken, JobAccounts
from compute_to_data.engines.docker.memory_groups import MemoryGroups
from compute_to_data.engines.docker.warm_channel import Closed
from compute_to_data.engines.docker.warm_job import WarmJob
from compute_to_data.engines.docker.warm_sandbox import RECORD, Unsuited, WarmSandbox, sweep
from compute_to_data.errors import EngineError, EngineOutOfReach
from compute_to_data.job import Job, JobKey

log = logging.getLogger(__name__)

_UNFIT_SECONDS = 300.0
"""For how long the worker makes no warm sandbox of an image after that has failed."""
Key = tuple[object, ...]


class WarmSandboxes:
    """All warm sandboxes that this process has made. Threads may share it."""

    def __init__(
        self,
        docker: Callable[[], Client],
        state_directory: str,
        accounts: JobAccounts,
        groups: MemoryGroups,
        paths: ImagePaths,
        ended: Callable[[JobKey], None],
        first: FirstProcess | None,
        **options: Any,
    ) -> None:
        """``ended`` is called with the key of each job that has ended. ``first``: gives sandboxes their first
        process. ``options``: as for :func:`sandbox.container`."""
        self._docker = docker
        self._home = os.path.join(state_directory, "sandboxes")
        self._accounts = accounts
        self._groups = groups
        self._paths = paths
        self._ended = ended
        self._first = first
        self._options = options
        self._lock = threading.Lock()
        self._idle: dict[Key, list[WarmSandbox]] = {}
        self._jobs: dict[JobKey, WarmJob] = {}
        self._known: set[str] = set()
        self._unfit: dict[str, float] = {}

    # A job, from start to removal

    def start(self, job: Job, volumes: Iterable[str]) -> WarmJob | None:
        """Run a job in a warm sandbox. None when it needs its own container."""
        if job.sandbox is None or job.sandbox.instances < 1:
            return None
        checks.job(job)
        if self.find(job.key) is not None:
            raise EngineError(job.key.task, "there is a job for this task already")
        if not _suits(job) or time.monotonic() < self._unfit.get(job.image.digest, 0.0):
            return None
        sandbox = self._begin(job, volumes)
        if sandbox is None:
            return None
        made = WarmJob(job, sandbox, self.remove)
        with self._lock:
            self._jobs[job.key] = made
        threading.Thread(target=self._follow, args=(made,), name=f"warm-{sandbox.token}", daemon=True).start()
        return made

    def _begin(self, job: Job, volumes: Iterable[str]) -> WarmSandbox | None:
        """Run the job in an idle sandbox, or in a new one. Returns the sandbox, or None when this is impossible."""
        while True:
            sandbox, is_new = self._take(job), False
            if sandbox is None:
                sandbox, is_new = self._make(job, volumes), True
            if sandbox is None:
                return None
            try:
                sandbox.begin(job)
                return sandbox
            except Unsuited:
                self._put_back(job, sandbox)
                return None
            except EngineError as error:
                log.warning("removing a warm sandbox: %s", error)
                self._discard(sandbox)
                if is_new:
                    return None

    def _take(self, job: Job) -> WarmSandbox | None:
        while True:
            with self._lock:
                idle = self._idle.get(_key(job))
                sandbox = idle.pop() if idle else None
            if sandbox is None or sandbox.seconds_left() >= job.limits.walltime_seconds:
                return sandbox
            self._discard(sandbox)  # its first process would end the job too early

    def _make(self, job: Job, volumes: Iterable[str]) -> WarmSandbox | None:
        self._discard_replaced(job)
        token = secrets.token_hex(12)
        with self._lock:
            self._known.add(token)
        place = os.path.join(self._home, token)
        sandbox = WarmSandbox(self._docker, place, job, self._groups, self._paths, self._accounts)
        try:
            sandbox.open(job, volumes, self._first, **self._options)
        except AccountTaken:
            self._discard(sandbox)
            return None
        except EngineOutOfReach:
            self._discard(sandbox)
            raise
        except (EngineError, OSError, Closed) as error:
            # The image has no shell, or the worker cannot read the state of containers from the kernel.
            log.warning("each task with the image %s gets its own container: %s", job.image.name, error)
            self._unfit[job.image.digest] = time.monotonic() + _UNFIT_SECONDS
            self._discard(sandbox)
            return None
        return sandbox

    def _discard_replaced(self, job: Job) -> None:
        """Remove the idle sandboxes of the job's workload with other inputs: its dataset has changed."""
        gone: list[WarmSandbox] = []
        mine = _key(job)
        with self._lock:
            for key in [one for one in self._idle if one[:2] == mine[:2] and one[-1] != mine[-1]]:
                gone += self._idle.pop(key)
        for sandbox in gone:
            self._discard(sandbox)

    def _follow(self, one: WarmJob) -> None:
        """Wait for a job's end, and reuse or remove its sandbox. No other thread uses the sandbox meanwhile."""
        reusable = False
        try:
            reusable = one.run_to_its_end()
        finally:
            # First the sandbox: no process of the task may run while the worker reads the outputs.
            if reusable and one.release():
                self._put_back(one.job, one.sandbox)
            elif not self._discard(one.sandbox):
                one.problem = EngineOutOfReach(one.key.task, "the engine could not remove its sandbox")
            one.close_log()
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
        """The job with this key, which runs or has ended in a warm sandbox; None when there is none."""
        with self._lock:
            return self._jobs.get(key)

    def remove(self, key: JobKey) -> bool:
        """Remove a job. If it runs, kill it with its sandbox. False when there is none."""
        one = self.find(key)
        if one is None:
            return False
        one.kill()
        with self._lock:
            self._jobs.pop(key, None)
        return True

    def jobs(self, scope: str) -> list[JobKey]:
        """The jobs of a scope."""
        with self._lock:
            return [key for key, one in self._jobs.items() if one.job.scope == scope]

    # Removal

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
        """Remove the sandboxes that an earlier worker of the scope made, idle or not."""
        try:
            found = set(os.listdir(self._home))
        except FileNotFoundError:
            return
        with self._lock:
            found -= self._known
        for token in found:
            folder = os.path.join(self._home, token)
            # Without a complete record, another worker is making or removing it.
            with contextlib.suppress(FileNotFoundError, ValueError):
                with open(os.path.join(folder, RECORD), encoding="utf-8") as file:
                    record = json.load(file)
                if record["resource"] == scope:
                    log.warning("removing %s, which an earlier worker left", record["container"])
                    sweep(self._docker(), self._accounts, folder, record)

    def _discard(self, sandbox: WarmSandbox) -> bool:
        """Remove a sandbox. False when it may still run; then its record stays, and a later sweep tries again."""
        try:
            sandbox.destroy()
            gone = True
        except EngineError as error:
            log.warning("the worker could not remove a warm sandbox: %s", error)
            gone = False
        with self._lock:
            self._known.discard(sandbox.token)
        return gone


def _suits(job: Job) -> bool:
    """Whether the job can run in a sandbox that exists already."""
    flat = all(mount.target.startswith("/inputs/") and mount.target.count("/") == 2 for mount in job.inputs)
    return (
        flat
        and not set(job.input_folders) - {"/inputs"}
        and not job.output_mounts
        and not job.secrets
        and not job.helper
        and warm_runner.can_set(list(job.environment))
    )


def _key(job: Job) -> Key:
    """All properties of a job that decide about its sandbox: only jobs with the same key may share one.

    Without the walltime, which the worker watches, and for which it picks a sandbox that lives long enough.
    """
    assert job.sandbox is not None
    limits = replace(job.limits, walltime_seconds=0.0)
    return (job.scope, job.sandbox.workload, job.owner, job.image.digest, limits, replace(job.sandbox, instances=0))
