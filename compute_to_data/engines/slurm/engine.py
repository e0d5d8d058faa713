"""Runs jobs on the nodes of a Slurm cluster. What it must know is in Slurm and in a directory that the nodes see."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from compute_to_data import disk_usage
from compute_to_data.disk_usage import Usage
from compute_to_data.engines import checks, ownership
from compute_to_data.engines.changes import Changes
from compute_to_data.engines.docker import sandbox
from compute_to_data.engines.docker import settings as docker_settings
from compute_to_data.engines.slurm import commands, sandboxes, written_job
from compute_to_data.engines.slurm import settings as slurm_settings
from compute_to_data.engines.slurm.images import ListedImages, missing
from compute_to_data.engines.slurm.job import SlurmJob
from compute_to_data.engines.slurm.notes import REQUEST, Directory
from compute_to_data.engines.slurm.probe import Prober
from compute_to_data.engines.slurm.queue import Queue
from compute_to_data.errors import EngineError, EngineNotReady, EngineOutOfReach
from compute_to_data.job import Image, Job, JobKey, JobState, JobStatus, scope_mark

_EVENTS_SECONDS = 0.1
"""How often the engine looks whether a node has told something."""
_FRESH_SECONDS = 60.0
"""For how long an image that is not in the list of images is missing, without another look at a node."""
_OLD_SECONDS = 600.0
"""How old the list of images may become while all images in demand are in it."""
_GONE = (JobState.UNKNOWN, JobState.PREEMPTED)


class SlurmEngine:
    """Slurm, with the settings of :class:`settings.SlurmSettings`.

    Slurm says when and where a job runs. On the node, Docker runs it in the same sandbox as on a single host.
    ConfigurationError for a wrong setting.
    """

    name = "slurm"
    sandboxed = True

    def __init__(self, settings: Mapping[str, Any], state_directory: str, submitted: int) -> None:
        """``submitted``: how many jobs this worker keeps in Slurm at most."""
        self._settings = slurm_settings.read(settings)
        self.capacity: int | None = submitted
        self._account = docker_settings.account(sandboxes.read(self._settings.sandbox))
        self._directory = Directory(self._settings.directory)
        self._changes = Changes()
        self._queue = Queue(self._settings, self._changes)
        self._prober = Prober(self._settings, self._directory)
        self._removing = threading.Lock()

    def check(self) -> None:
        """EngineError when slurmctld does not answer, or has no such partition with nodes."""
        self._directory.make()
        answer = commands.run(commands.nodes_of(self._settings), self._settings.timeout_seconds)
        partition = self._settings.partition or "the default partition"
        states = [line.strip().partition("|") for line in answer.splitlines() if line.strip()]
        if not states:
            raise EngineError("Slurm", f"there is no partition {partition}", "sinfo lists the partitions")
        if not any(state == "up" for state, _, _ in states):
            raise EngineError("Slurm", f"{partition} is not up", "See sinfo")

    def need_ready(self) -> None:
        """Does nothing: Slurm keeps jobs in its queue until a node can run them."""

    def check_directory(self, directory: str) -> None:
        """As the port says. Writes and reads a file below the directory from a node."""
        self._directory.make()
        self._prober.try_directory(directory)

    def identify(self, image: str) -> Image:
        """The image that the nodes have under a name. EngineOutOfReach while no node has been looked at."""
        listed = ListedImages(self._directory)
        found = listed.image(image)
        age = time.time() - listed.asked
        if found is None and age > _FRESH_SECONDS:
            self._directory.make()
            self._prober.list_images()
            listed = ListedImages(self._directory)
            found = listed.image(image)
        elif age > _OLD_SECONDS:
            self._prober.refresh()
        if found is None:
            raise missing(image, listed.node)
        return found

    def images(self) -> tuple[str, ...] | None:
        """The names of the images on a node, as a probe has listed them; None without such a list."""
        listed = ListedImages(self._directory)
        if time.time() - listed.asked > _OLD_SECONDS:
            self._directory.make()
            self._prober.refresh()
        return listed.names() if listed.asked else None

    def prepare(self, outputs: str) -> None:
        """As the port says."""
        ownership.make_outputs(outputs, self._account)

    def submit(self, job: Job) -> SlurmJob:
        """As the port says. The node makes the sandbox when Slurm starts the job there."""
        job = job.run_by(*self._account)
        checks.job(job)
        sandbox.working_directory(job)
        listed = ListedImages(self._directory)
        if not listed.has(job.image.digest):
            raise missing(job.image.name, listed.node)
        self._directory.make()
        running = self._job(job.key)
        self._make_folder(running)
        nonce = secrets.token_hex(8)
        try:
            (running.notes.folder / f"scope-{scope_mark(job.scope)}").touch()
            running.notes.keep_secrets(dict(job.secrets))
            document = written_job.document(replace(job, secrets={}))
            request = {"nonce": nonce, "job": document, "sandbox": dict(self._settings.sandbox)}
            running.notes.write(REQUEST, request)
            words = commands.submission(self._settings, job, str(running.notes.folder), nonce)
            answer = commands.run(words, self._settings.timeout_seconds, job.key.task)
            identity = answer.strip().partition(";")[0]
            running.note_id(identity)
        except EngineError as error:
            shutil.rmtree(running.notes.folder)  # if Slurm has the job all the same, its program does nothing
            if isinstance(error, EngineOutOfReach):
                raise EngineNotReady(error.subject, error.cause, error.remedy) from error
            raise
        self._queue.watch(identity, job.key)
        return running

    def _make_folder(self, running: SlurmJob) -> None:
        folder = running.notes.folder
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError as error:
            if self._identified(running):
                raise EngineError(running.key.task, "there is a job for this task already") from error
            shutil.rmtree(folder)
            folder.mkdir(mode=0o700)

    def _identified(self, running: SlurmJob) -> str:
        """Slurm's id of a job, also if the worker was killed before it noted the id; '' when Slurm has none."""
        identity = running.identity()
        if not identity and running.notes.read(REQUEST) is not None:
            name = commands.name_of(running.key)
            same = [one for one, (_, named) in self._queue.ask().items() if named == name]
            identity = max(same, key=int, default="")
            if identity:
                running.note_id(identity)
        if identity:
            self._queue.watch(identity, running.key)
        return identity

    def find(self, key: JobKey) -> SlurmJob | None:
        """As the port says."""
        running = self._job(key)
        if not self._identified(running) or running.status().state in _GONE:
            return None
        return running

    def statuses(self, keys: Sequence[JobKey]) -> dict[JobKey, JobStatus]:
        """As the port says. Reads notes only: one thread asks Slurm about all jobs."""
        return {key: self._job(key).status() for key in keys}

    def wait_for_change(self, scope: str, timeout: float) -> frozenset[JobKey] | None:
        """As the port says. A node tells of a job's begin and end by a file, Slurm's queue of all else."""
        until = time.monotonic() + min(timeout, threading.TIMEOUT_MAX)
        while True:
            changed = self._directory.rung(scope) | self._changes.take()
            left = until - time.monotonic()
            if changed or left <= 0 or self._changes.was_woken():
                return changed
            self._changes.wait(min(left, _EVENTS_SECONDS))

    def wake(self) -> None:
        """As the port says."""
        self._changes.wake()

    def measure(self, outputs: str, most_bytes: int, most_entries: int, stop: Callable[[], bool]) -> Usage:
        """As the port says."""
        return disk_usage.measure(outputs, most_bytes=most_bytes, most_entries=most_entries, stop=stop)

    def take_back(self, outputs: str) -> None:
        """Do nothing: all jobs have the account to which outputs belong."""

    def remove(self, key: JobKey) -> None:
        """As the port says. Returns when the job's node, or Slurm, says that nothing of it runs."""
        running = self._job(key)
        if not running.notes.folder.exists():
            return
        identity = self._identified(running)
        if identity and not running.is_over():
            try:
                running.stop(0.0)
            except EngineOutOfReach:
                if running.notes.folder.exists() and not running.is_over():
                    raise
        with self._removing:
            running.discard()
        if identity:
            self._queue.forget(identity)

    def jobs(self, scope: str) -> tuple[JobKey, ...]:
        """As the port says, ordered by key."""
        found: list[Path] = sorted(self._directory.jobs.glob(f"*/scope-{scope_mark(scope)}"))
        return tuple(JobKey(file.parent.name) for file in found)

    def tidy(self, scope: str, workloads: frozenset[str], idle_seconds: float) -> None:
        """Do nothing: there are no warm sandboxes."""

    def _job(self, key: JobKey) -> SlurmJob:
        return SlurmJob(key, self._directory.of(checks.key(key)), self._queue, self._settings, self.remove)
