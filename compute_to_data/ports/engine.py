"""What this project needs from an engine, which runs containers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from compute_to_data.disk_usage import Usage
from compute_to_data.job import Exit, Image, Job, JobKey, JobStatus


class RunningJob(Protocol):
    """A job in an engine: it waits, runs, or has ended. Threads may share it.

    Each call may raise EngineOutOfReach, also when the engine no longer has the job.
    """

    @property
    def key(self) -> JobKey:
        """The job's key."""

    def status(self) -> JobStatus:
        """The job's status; UNKNOWN when the engine no longer has the job."""

    def wait(self, timeout: float) -> Exit | None:
        """Wait for the job's end. None after ``timeout`` seconds."""

    def stop(self, grace: float) -> None:
        """Send SIGTERM, and SIGKILL after ``grace`` seconds (an engine may round up to whole seconds). Returns when
        the job has ended. A job that waits in the engine's queue will not run."""

    def finish_log(self) -> None:
        """For a job that has ended: return when its ``log_file`` has all that it wrote, and is marked as complete.

        EngineError when the disk does not take it, or when the engine no longer has the job.
        """

    def remove(self) -> None:
        """As :meth:`Engine.remove`."""


class Engine(Protocol):
    """Where jobs run. Threads may share it. After a restart of the worker it finds all of its jobs again, because
    it keeps what it must know in the engine. Each call may raise EngineOutOfReach."""

    @property
    def name(self) -> str:
        """The engine's name in the configuration: ``docker``, ``podman``, ``slurm``, ``process``."""

    @property
    def sandboxed(self) -> bool:
        """False for an engine that does not isolate its jobs."""

    @property
    def capacity(self) -> int | None:
        """How many jobs of one worker an engine with its own queue accepts at a time. None for an engine that runs
        each job at once: the worker then submits as many as it has slots."""

    def check(self) -> None:
        """Raise EngineError, with the remedy, when the engine does not answer."""

    def need_ready(self) -> None:
        """Raise EngineNotReady while no job can begin, because something that each job needs does not answer. Costs
        little: the worker asks once a second before it lets tasks begin."""

    def check_directory(self, directory: str) -> None:
        """Raise EngineError when jobs would not see a directory of this host, such as a vault, as this host does.
        Does nothing for an engine that runs its jobs on this host."""

    def identify(self, image: str) -> Image:
        """The image that the engine has under a name. ImageMissing when it has none."""

    def images(self) -> tuple[str, ...] | None:
        """The names, with tag or digest, of all images that the engine has. None when it does not list them: it may
        fetch an image when a job needs it."""

    def prepare(self, outputs: str) -> None:
        """Make the new directory ``outputs`` for a job."""

    def submit(self, job: Job) -> RunningJob:
        """Accept a job, which runs now or later. After an EngineError, nothing of the job is left; after
        EngineNotReady, it has not begun either.

        While the job runs, the engine appends to its ``log_file`` what it writes. When no worker runs, an engine may
        append the bytes later: :meth:`find` continues that, and no byte is doubled or lost. If the engine could
        not keep some bytes for so long, a line in the log says so.
        """

    def find(self, key: JobKey) -> RunningJob | None:
        """The job with this key. None when the engine has none, or has one that was made but never submitted to
        run; ``submit`` replaces that."""

    def statuses(self, keys: Sequence[JobKey]) -> Mapping[JobKey, JobStatus]:
        """The statuses of several jobs, with as few requests as possible."""

    def wait_for_change(self, scope: str, timeout: float) -> frozenset[JobKey] | None:
        """Wait, at most ``timeout`` seconds, until a job of a scope may have begun or ended since the last call.

        Returns the jobs that may have changed; None when any job may have. Only the thread of the worker's
        watcher calls this.
        """

    def wake(self) -> None:
        """Make :meth:`wait_for_change` return now, or at its next call."""

    def measure(self, outputs: str, most_bytes: int, most_entries: int, stop: Callable[[], bool]) -> Usage:
        """Measure the outputs of a job that may run, as :func:`compute_to_data.disk_usage.measure` does."""

    def take_back(self, outputs: str) -> None:
        """Make all that an ended job left in its outputs the worker's account's, if it ran under another one. Leaves
        alone what another account made there. Does nothing when the directory is not there. EngineError when this
        fails; it may be tried again."""

    def remove(self, key: JobKey) -> None:
        """Remove all that the engine has of a job, also of one that never ran. Does nothing when there is none."""

    def jobs(self, scope: str) -> tuple[JobKey, ...]:
        """The jobs of a scope of which the engine has anything, running or ended."""

    def tidy(self, scope: str, workloads: frozenset[str], idle_seconds: float) -> None:
        """Remove the scope's idle warm sandboxes whose workload is not among ``workloads``, or that have been idle
        for longer than ``idle_seconds``. Also remove those that an earlier worker left, idle or not, and whatever
        else an earlier worker left that belongs to no job."""
