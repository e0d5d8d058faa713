"""An engine without isolation: jobs are processes of the worker's account.

It is for trials on a machine without Docker, with programs that you trust. A job has a folder
``<state directory>/jobs/<job key>`` and a process group. A runner (``process_runner.py``), which outlives the
worker, looks after it. In arguments and in values of the environment, the engine replaces ``/inputs/...``,
``/outputs``, ``/tmp`` and ``/run/secrets/...`` by paths in the folder. Secrets are files in that folder until the
job has ended.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from compute_to_data import disk_usage
from compute_to_data.disk_usage import Usage
from compute_to_data.engines import channels, checks, ownership, process_runner
from compute_to_data.engines.changes import Changes
from compute_to_data.engines.process_job import SECRETS_FOLDER, ProcessJob
from compute_to_data.errors import ConfigurationError, EngineError, ImageMissing
from compute_to_data.job import Image, Job, JobKey, JobStatus

# A path of the sandbox inside a longer text, but not the end of another path, nor part of a longer name.
_SANDBOX_PATH = re.compile(r"(?<![\w./-])/(?:inputs?|outputs?|notebook(?=/)|tmp|run/secrets)(?![\w-]|\.\w)")
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


class ProcessEngine:
    """Runs jobs as processes on this host. Its only setting is ``images``: {name: folder}.

    A folder serves as an image: it comes first on the job's ``PATH``, before the folder of the worker's Python
    and the system's folders. This engine enforces only the walltime and the limit of the logs; the worker
    watches the outputs. ConfigurationError for a wrong setting.
    """

    name = "process"
    sandboxed = False
    capacity = None

    def __init__(self, settings: Mapping[str, Any], state_directory: str) -> None:
        given = checks.settings(self.name, settings, {"images": Mapping})
        self._images: dict[str, Path] = {}
        for image, folder in given.get("images", {}).items():
            if not isinstance(folder, str) or not os.path.isabs(folder):
                raise ConfigurationError(
                    f"/engine/settings/images/{image}", f"{folder!r} is not an absolute path of a folder"
                )
            self._images[image] = Path(folder)
        self._jobs = Path(state_directory).absolute() / "jobs"
        self._removing = threading.Lock()
        self._changes = Changes()
        self._lock = threading.Lock()
        self._watched: set[JobKey] = set()

    def check(self) -> None:
        """EngineError when the engine cannot write jobs into the state directory."""
        try:
            self._jobs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(str(self._jobs), f"the worker cannot make it ({error.strerror})") from error
        if not os.access(self._jobs, os.W_OK):
            raise EngineError(str(self._jobs), "the worker cannot write there", "make the worker's account its owner")

    def need_ready(self) -> None:
        """Always ready: it runs jobs itself."""

    def check_directory(self, directory: str) -> None:
        """Do nothing: jobs run on this host."""

    def identify(self, image: str) -> Image:
        """The image of a folder. Its digest covers names, executable bits and contents of the files."""
        folder = self._images.get(image)
        if folder is None or not folder.is_dir():
            known = ", ".join(sorted(self._images)) or "none"
            raise ImageMissing(
                f"image {image!r}",
                "no folder is configured for it" if folder is None else f"its folder {folder} is missing",
                f"add it to the engine's setting 'images' (now there: {known})",
            )
        return Image(image, _digest(folder))

    def images(self) -> tuple[str, ...]:
        """The names that have a folder."""
        return tuple(sorted(name for name, folder in self._images.items() if folder.is_dir()))

    def prepare(self, outputs: str) -> None:
        """As the port says; the directory belongs to the worker's account."""
        ownership.make_outputs(outputs)

    def submit(self, job: Job) -> ProcessJob:
        """As the port says. The job runs at once. If its program is missing, it ends with status 127."""
        checks.job(job)
        checks.usual_places_only(job, self.name)
        job = job.run_by(os.getuid(), os.getgid())
        if self.identify(job.image.name).digest != job.image.digest:
            raise ImageMissing(f"image {job.image.name!r}", "its folder has changed since the worker identified it")
        running = self._job(job.key)
        folder = running.folder
        self.check()
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError as error:
            if running.was_started():
                raise EngineError(job.key.task, "there is a job for this task already") from error
            shutil.rmtree(folder)  # a worker died before its runner took over
            folder.mkdir(mode=0o700)
        try:
            _write_request(folder, job, self._images[job.image.name])
            _launch(folder, job.key)
        except BaseException:
            self.remove(job.key)
            raise
        self._watch(job.key)
        return running

    def find(self, key: JobKey) -> ProcessJob | None:
        """As the port says."""
        job = self._job(key)
        if not job.was_started():
            return None
        self._watch(key)
        return job

    def statuses(self, keys: Sequence[JobKey]) -> dict[JobKey, JobStatus]:
        """As the port says."""
        return {key: self._job(key).status() for key in keys}

    def wait_for_change(self, scope: str, timeout: float) -> frozenset[JobKey]:
        """As the port says. When a job's runner ends, its pipe hangs up."""
        with self._lock:
            watched = set(self._watched)
        with ExitStack() as stack:
            pipes = {stack.enter_context(pipe): key for key in watched if (pipe := self._job(key).pipe()) is not None}
            ended = watched.difference(pipes.values())
            ready = self._changes.wait(0.0 if ended else timeout, [pipe.fileno() for pipe in pipes])
            ended.update(key for pipe, key in pipes.items() if pipe.fileno() in ready)
        with self._lock:
            self._watched -= ended
        return frozenset(ended)

    def wake(self) -> None:
        """As the port says."""
        self._changes.wake()

    def measure(self, outputs: str, most_bytes: int, most_entries: int, stop: Callable[[], bool]) -> Usage:
        """As the port says."""
        return disk_usage.measure(outputs, most_bytes=most_bytes, most_entries=most_entries, stop=stop)

    def take_back(self, outputs: str) -> None:
        """Do nothing: jobs have the worker's account."""

    def remove(self, key: JobKey) -> None:
        """As the port says. Kills a running job first. The outputs stay."""
        job = self._job(key)
        folder = job.folder
        with self._removing:  # one at a time: another thread could remove the files in between
            if job.was_started():
                job.stop(0)
            shutil.rmtree(folder, ignore_errors=True)
            if folder.exists():
                raise EngineError(str(folder), "the worker cannot remove it", "see who owns the files in it")

    def jobs(self, scope: str) -> tuple[JobKey, ...]:
        """As the port says, ordered by id."""
        found = []
        for request in sorted(self._jobs.glob(f"*/{process_runner.REQUEST}")):
            try:
                if json.loads(request.read_text())["resource"] == scope:
                    found.append(JobKey(request.parent.name))
            except FileNotFoundError:
                continue  # removed meanwhile
        return tuple(found)

    def tidy(self, scope: str, workloads: frozenset[str], idle_seconds: float) -> None:
        """Do nothing: there are no warm sandboxes."""

    def _job(self, key: JobKey) -> ProcessJob:
        return ProcessJob(key, self._jobs / checks.key(key), self.remove)

    def _watch(self, key: JobKey) -> None:
        with self._lock:
            self._watched.add(key)
        self._changes.wake()


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        executable = os.access(file, os.X_OK)
        total.update(f"{file.relative_to(folder).as_posix()}\0{executable}\0{content}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _lay_out(root: Path, job: Job) -> None:
    """Make what the job sees as the root of its files: its ``/tmp``, and links to its inputs and outputs."""
    (root / "tmp").mkdir(parents=True)
    (root / "inputs").mkdir()
    (root / "outputs").symlink_to(job.outputs)
    if job.sandbox is not None:
        (root / "output").symlink_to(job.outputs)
        if job.sandbox.inputs:
            (root / "input").symlink_to(job.sandbox.inputs)
    for mount in job.inputs:
        link = root / mount.target.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(mount.physical_path)
    for place in job.input_folders:
        (root / place.lstrip("/")).mkdir(parents=True, exist_ok=True)


def _write_request(folder: Path, job: Job, image: Path) -> None:
    """Fill the job's folder: its files, its secrets, and the request."""
    root = folder / "root"
    _lay_out(root, job)
    (folder / SECRETS_FOLDER).mkdir(parents=True, mode=0o700)
    for name, value in job.secrets.items():
        with open(os.open(folder / SECRETS_FOLDER / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as secret:
            secret.write(value)

    def real(text: str) -> str:
        return _SANDBOX_PATH.sub(lambda found: f"{root}{found.group()}", text)

    directory = real(job.working_directory or "/tmp")
    if not os.path.isdir(directory):
        raise EngineError(f"working directory {job.working_directory}", "there is no such directory on this host")
    environment = {
        "PATH": f"{image}:{os.path.dirname(sys.executable)}:{_SYSTEM_PATH}",
        "HOME": str(root / "tmp"),
        "TMPDIR": str(root / "tmp"),
        "LANG": "C.UTF-8",
    }
    request = {
        "resource": job.scope,
        "log_file": job.log_file,
        "log_bytes": job.limits.log_bytes,
        "seconds": job.limits.walltime_seconds + job.own_margin,
        "grace_seconds": job.grace_seconds,
        "command": [*_helper(job, real), *map(real, job.command)],
        "environment": {**environment, **{name: real(value) for name, value in job.environment.items()}},
        "directory": directory,
    }
    os.mkfifo(folder / process_runner.ALIVE)
    process_runner.write_whole(folder / process_runner.REQUEST, request)


def _helper(job: Job, real: Callable[[str], str]) -> list[str]:
    """The words before the command that start the helper, when the job needs one. ``real``: where a path of the
    sandbox lies. Our own paths stay as they are: a checkout may lie below ``/tmp``."""
    words = [sys.executable, "-I", "-S", channels.__file__]
    return [*words, *map(real, job.helper), "--"] if job.helper else []


def _launch(folder: Path, key: JobKey) -> None:
    """Start the runner, which returns when the job runs and leaves a process behind to look after it."""
    runner = [sys.executable, "-I", "-S", process_runner.__file__, str(folder)]
    done = subprocess.run(runner, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        message = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise EngineError(key.task, f"the engine could not start it ({message})")
