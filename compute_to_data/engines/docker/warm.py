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
from dataclasses import dataclass, field, replace
from typing import Any

from docker import APIClient

from compute_to_data.engines import checks
from compute_to_data.engines.docker import warm_runner
from compute_to_data.engines.docker.memory_groups import MemoryGroups
from compute_to_data.engines.docker.warm_channel import Closed, Tail
from compute_to_data.engines.docker.warm_sandbox import RECORD, Unsuited, WarmSandbox, sweep
from compute_to_data.errors import EngineError, EngineOutOfReach
from compute_to_data.job import Exit, Job, Logs

log = logging.getLogger(__name__)

_KILLED = 137
_OWN_END = b"\nthe task, or something it started, ended the sandbox it ran in\n"
_UNFIT_SECONDS = 300.0
"""How long an image is taken to have no warm sandboxes after making one has failed."""
_END_SECONDS = 60.0
Key = tuple[object, ...]


@dataclass
class _Run:
    """A task in a warm sandbox, and how it ended."""

    job: Job
    sandbox: WarmSandbox
    started: float
    stdout: Tail
    stderr: Tail
    stopped: bool = False
    released: bool = False
    """Its sandbox is, or may be, another task's: whoever ends this task must not end that."""
    exit: Exit | None = None
    problem: EngineError | None = None
    ended: threading.Event = field(default_factory=threading.Event)


class WarmSandboxes:
    """All warm sandboxes that this process made. Threads may share it."""

    def __init__(
        self,
        docker: Callable[[], APIClient],
        state_directory: str,
        account: tuple[int, int],
        groups: MemoryGroups,
        **options: Any,
    ) -> None:
        """``options``: ``init`` and ``runtime``, as in the engine's settings."""
        self._docker = docker
        self._home = os.path.join(state_directory, "sandboxes")
        self._account = account
        self._groups = groups
        self._options = options
        self._lock = threading.Lock()
        self._idle: dict[Key, list[WarmSandbox]] = {}
        self._runs: dict[str, _Run] = {}
        self._known: set[str] = set()
        self._unfit: dict[str, float] = {}

    # A job, from start to removal

    def start(self, job: Job, volumes: Iterable[str]) -> bool:
        """Run a job in a warm sandbox. False when it has to run in a container of its own."""
        if job.sandbox is None:
            return False
        checks.job(job)
        if self.holds(job.task_id):
            raise EngineError(f"task {job.task_id}", "there is a job for this task already")
        if not _suits(job) or time.monotonic() < self._unfit.get(job.image.digest, 0.0):
            return False
        while True:
            sandbox, fresh = self._take(job), False
            if sandbox is None:
                sandbox, fresh = self._make(job, volumes), True
            if sandbox is None:
                return False
            try:
                sandbox.begin(job)
                break
            except Unsuited:
                self._put_back(job, sandbox)
                return False
            except EngineError as error:
                log.warning("throwing a warm sandbox away: %s", error)
                self._discard(sandbox)
                if fresh:
                    return False
        run = _Run(job, sandbox, sandbox.started, sandbox.stdout, sandbox.stderr)
        with self._lock:
            self._runs[job.task_id] = run
        threading.Thread(target=self._follow, args=(run,), name=f"warm-{sandbox.token}", daemon=True).start()
        return True

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

    def _follow(self, run: _Run) -> None:
        """See a task to its end; the only thread that uses its sandbox meanwhile."""
        reusable = False
        try:
            status = run.sandbox.wait()
            finished = time.time()
            reusable = run.sandbox.recycle(run.job)
            lost_memory = not reusable and run.sandbox.killed_for_memory()
            run.exit = _exit(run, status, lost_memory, finished)
        except Closed:
            self._lost(run)
        except EngineError as error:
            run.problem = error
        except Exception as error:  # whoever waits must learn of the end, whatever it was
            log.exception("task %s", run.job.task_id)
            run.problem = EngineError(f"task {run.job.task_id}", f"its sandbox failed ({error!r})")
        finally:
            # First the sandbox: nothing of the task may run while its outputs are read.
            if reusable and self._release(run):
                self._put_back(run.job, run.sandbox)
            elif not self._discard(run.sandbox):
                run.problem = EngineOutOfReach(f"task {run.job.task_id}", "its sandbox could not be ended")
            run.ended.set()

    def _lost(self, run: _Run) -> None:
        """The sandbox ended under its task: stopped by us, for want of memory, from within, or
        nobody knows why; then the task is to begin again."""
        finished = time.time()
        lost_memory = False
        try:
            lost_memory = run.sandbox.ended_for_memory()
        except EngineError as error:
            run.problem = None if run.stopped else error
        if not (lost_memory or run.stopped):
            run.stderr.add(_OWN_END)
        run.exit = _exit(run, _KILLED, lost_memory, finished)

    def _release(self, run: _Run) -> bool:
        """Let go of a task's sandbox. False when somebody is ending the task, and the sandbox with it."""
        with self._lock:
            run.released = not run.stopped
            return run.released

    def _claim(self, run: _Run) -> bool:
        """Whether the sandbox is a task's to end; then it is not used again."""
        with self._lock:
            if run.released or run.ended.is_set():
                return False
            run.stopped = True
            return True

    def _put_back(self, job: Job, sandbox: WarmSandbox) -> None:
        assert job.sandbox is not None
        with self._lock:
            idle = self._idle.setdefault(_key(job), [])
            if len(idle) < job.sandbox.instances:
                idle.append(sandbox)
                return
        self._discard(sandbox)

    def holds(self, task_id: str) -> bool:
        """Whether a task runs here, or ended here and was not removed yet."""
        with self._lock:
            return task_id in self._runs

    def wait(self, task_id: str, timeout: float) -> Exit | None:
        """As the port says. EngineError, with the sandbox gone, when its end cannot be known."""
        run = self._run(task_id)
        run.ended.wait(min(max(timeout, 0.0), threading.TIMEOUT_MAX))
        if run.problem is not None:
            if isinstance(run.problem, EngineOutOfReach):  # who asks again is told that there is none
                self.remove(task_id)
            raise run.problem
        return run.exit if run.ended.is_set() else None

    def started(self, task_id: str) -> float:
        """When a task began."""
        return self._run(task_id).started

    def logs(self, task_id: str) -> Logs:
        """What a task has written so far, bounded."""
        run = self._run(task_id)
        return Logs(run.stdout.content(), run.stderr.content())

    def stop(self, task_id: str, grace: int) -> None:
        """As the port says; the sandbox ends with its task."""
        run = self._run(task_id)
        if self._claim(run):
            run.sandbox.stop(grace)
        run.ended.wait(_END_SECONDS)

    def remove(self, task_id: str) -> None:
        """Forget a task; one that runs is ended with its sandbox."""
        with self._lock:
            run = self._runs.get(task_id)
        if run is None:
            return
        if self._claim(run):
            run.sandbox.kill()
        if not run.ended.wait(_END_SECONDS):
            raise EngineError(f"task {task_id}", "its sandbox does not end")
        with self._lock:
            self._runs.pop(task_id, None)

    def jobs(self, resource: str) -> list[str]:
        """Ids of the tasks held for a resource."""
        with self._lock:
            return [task_id for task_id, run in self._runs.items() if run.job.resource == resource]

    def _run(self, task_id: str) -> _Run:
        with self._lock:
            run = self._runs.get(task_id)
        if run is None:
            raise EngineOutOfReach(f"task {task_id}", "the engine holds no job for it")
        return run

    # Throwing away

    def tidy(self, resource: str, workloads: frozenset[str], idle_seconds: float) -> None:
        """As the port says."""
        self._sweep(resource)
        oldest = time.monotonic() - idle_seconds
        gone: list[WarmSandbox] = []
        with self._lock:
            for key, idle in list(self._idle.items()):
                if key[0] == resource:
                    kept = [one for one in idle if key[1] in workloads and one.idle_since > oldest]
                    gone += [one for one in idle if one not in kept]
                    self._idle[key] = kept
            self._idle = {key: idle for key, idle in self._idle.items() if idle}
        for sandbox in gone:
            self._discard(sandbox)

    def _sweep(self, resource: str) -> None:
        """Throw away what an earlier worker of the resource made, running or not."""
        try:
            found = set(os.listdir(self._home))
        except FileNotFoundError:
            return
        with self._lock:
            found -= self._known
        for token in found:
            folder = os.path.join(self._home, token)
            # One without a whole record is half made or half gone, and another resource's at that.
            with contextlib.suppress(FileNotFoundError, ValueError):
                with open(os.path.join(folder, RECORD), encoding="utf-8") as file:
                    record = json.load(file)
                if record["resource"] == resource:
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


def _exit(run: _Run, status: int, lost_memory: bool, finished: float) -> Exit:
    return Exit(status, lost_memory, run.started, max(run.started, finished))


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
    return (job.resource, job.sandbox.workload, job.owner, job.image.digest, limits, replace(job.sandbox, instances=0))
