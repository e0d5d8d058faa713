"""An engine that isolates nothing: jobs are processes of the worker's account.

For trying out on a machine without Docker, with programs you trust. A job is a folder
``<state directory>/jobs/<task id>`` and a process group of its own, looked after by a runner
(``process_runner.py``) that outlives the worker. Its paths ``/inputs/...``, ``/outputs``,
``/tmp`` and ``/run/secrets/...`` are replaced, in arguments and in values of the environment, by the
folder's own. Secrets lie in that folder, on the disk, until the job has ended.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compute_to_data.engines import checks, process_runner
from compute_to_data.errors import ConfigurationError, EngineError, EngineOutOfReach, ImageMissing
from compute_to_data.job import SECRETS, Exit, Image, Job, Logs

# A path of the sandbox inside a longer text: not the end of another path, not a longer name.
_SANDBOX_PATH = re.compile(r"(?<![\w./-])/(?:inputs?|outputs?|tmp|run/secrets)(?![\w-]|\.\w)")
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_SECRETS = Path("root", SECRETS.lstrip("/"))
_KILLED = 128 + signal.SIGKILL


class ProcessEngine:
    """Processes on this host. Its one setting is ``images``: {name: folder}.

    A folder stands for an image: it comes first on the job's ``PATH``, before the folder of the
    worker's own Python and the system's. Of the limits, only that of the logs is kept here; the
    worker watches walltime and outputs. Errors: ConfigurationError for a wrong setting.
    """

    name = "process"
    sandboxed = False

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

    def check(self) -> None:
        """EngineError when jobs cannot be kept in the state directory."""
        try:
            self._jobs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(str(self._jobs), f"it cannot be made ({error.strerror})") from error
        if not os.access(self._jobs, os.W_OK):
            raise EngineError(str(self._jobs), "it cannot be written", "give it to the worker's account")

    def identify(self, image: str) -> Image:
        """The image of a folder: its digest is over the names, modes and contents of its files."""
        folder = self._images.get(image)
        if folder is None or not folder.is_dir():
            known = ", ".join(sorted(self._images)) or "none"
            raise ImageMissing(
                f"image {image!r}",
                "no folder is configured for it" if folder is None else f"its folder {folder} is missing",
                f"add it to the engine's setting 'images' (there: {known})",
            )
        return Image(image, _digest(folder))

    def prepare(self, outputs: str) -> None:
        """As the port says; the directory belongs to the worker's account."""
        checks.make_outputs(outputs)

    def start(self, job: Job) -> None:
        """As the port says. A missing program is a job that ends with status 127."""
        checks.job(job)
        checks.usual_places_only(job, self.name)
        if self.identify(job.image.name).digest != job.image.digest:
            raise ImageMissing(f"image {job.image.name!r}", "its folder has changed since it was looked at")
        folder = self._folder(job.task_id)
        self.check()
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError as error:
            if self.started(job.task_id) is not None:
                raise EngineError(f"task {job.task_id}", "there is a job for this task already") from error
            shutil.rmtree(folder)  # a worker died before its runner took over
            folder.mkdir(mode=0o700)
        try:
            _write_request(folder, job, self._images[job.image.name])
            _launch(folder, job.task_id)
        except BaseException:
            self.remove(job.task_id)
            raise

    def wait(self, task_id: str, timeout: float) -> Exit | None:
        """As the port says. A job whose runner was lost has ended with status 137."""
        folder = self._folder(task_id)
        started = self.started(task_id)
        try:
            if started is None:
                raise FileNotFoundError(folder)
            if not _ended(folder, timeout):
                return None
            shutil.rmtree(folder / _SECRETS, ignore_errors=True)
            end = _exit_of(folder)
        except FileNotFoundError as error:  # there was none, or it was removed meanwhile
            raise EngineOutOfReach(f"task {task_id}", "the engine holds no job for it") from error
        if end is None:
            return Exit(_KILLED, False, started, time.time(), certain=False)
        return Exit(end["status"], False, started, end["finished"])

    def started(self, task_id: str) -> float | None:
        """As the port says."""
        try:
            return float(json.loads((self._folder(task_id) / process_runner.STARTED).read_text())["time"])
        except FileNotFoundError:
            return None

    def stop(self, task_id: str, grace: float) -> None:
        """As the port says; signals go to the job's whole process group."""
        if self.wait(task_id, 0) is not None:
            return
        folder = self._folder(task_id)
        _signal(folder, signal.SIGTERM)
        if not _ended(folder, max(grace, 0)):
            _signal(folder, signal.SIGKILL)
            _ended(folder, None)

    def logs(self, task_id: str, lines: int | None = None) -> Logs:
        """As the port says. EngineError when there is no such job."""
        folder = self._folder(task_id)
        if not folder.is_dir():
            raise EngineOutOfReach(f"task {task_id}", "the engine holds no job for it")
        bound = int(json.loads((folder / process_runner.REQUEST).read_text())["log_bytes"])
        stdout, stderr = (process_runner.tail(folder / name, bound) for name in ("stdout", "stderr"))
        return Logs(stdout, stderr)

    def remove(self, task_id: str) -> None:
        """As the port says: a running job is killed first. The outputs are not touched."""
        folder = self._folder(task_id)
        with self._removing:  # of two at one time, one would miss what the other has just taken away
            if self.started(task_id) is not None:
                self.stop(task_id, 0)
            shutil.rmtree(folder, ignore_errors=True)
            if folder.exists():
                raise EngineError(str(folder), "it cannot be removed", "see who owns the files in it")

    def jobs(self, resource: str) -> tuple[str, ...]:
        """As the port says, ordered by id."""
        found = []
        for request in sorted(self._jobs.glob(f"*/{process_runner.REQUEST}")):
            try:
                if json.loads(request.read_text())["resource"] == resource:
                    found.append(request.parent.name)
            except FileNotFoundError:
                continue  # removed meanwhile
        return tuple(found)

    def tidy(self, resource: str, workloads: frozenset[str], idle_seconds: float) -> None:
        """Nothing: each job has a folder of its own."""

    def _folder(self, task_id: str) -> Path:
        return self._jobs / checks.task_id(task_id)


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        executable = os.access(file, os.X_OK)
        total.update(f"{file.relative_to(folder).as_posix()}\0{executable}\0{content}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _write_request(folder: Path, job: Job, image: Path) -> None:
    """Lay out the job's folder: its ``/tmp``, links to its inputs and outputs, what to run."""
    root = folder / "root"
    (root / "tmp").mkdir(parents=True)
    (root / "outputs").symlink_to(job.outputs)
    if job.sandbox is not None:
        (root / "output").symlink_to(job.outputs)
        if job.sandbox.inputs:
            (root / "input").symlink_to(job.sandbox.inputs)
    for mount in job.inputs:
        link = root / mount.target.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(mount.physical_path)

    (folder / _SECRETS).mkdir(parents=True, mode=0o700)
    for name, value in job.secrets.items():
        with open(os.open(folder / _SECRETS / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as secret:
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
        "resource": job.resource,
        "log_bytes": job.limits.log_bytes,
        "command": [real(word) for word in job.command],
        "environment": {**environment, **{name: real(value) for name, value in job.environment.items()}},
        "directory": directory,
    }
    os.mkfifo(folder / process_runner.ALIVE)
    process_runner.write_whole(folder / process_runner.REQUEST, request)


def _launch(folder: Path, task_id: str) -> None:
    """Run the runner, which returns once the job runs and leaves a process behind to watch it."""
    runner = [sys.executable, "-I", "-S", process_runner.__file__, str(folder)]
    done = subprocess.run(runner, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise EngineError(f"task {task_id}", f"it could not be started ({said})")


def _ended(folder: Path, timeout: float | None) -> bool:
    """Whether the job's runner is gone, waiting for that up to ``timeout`` seconds.

    The runner holds a pipe open for writing; its end is the pipe's hang-up, which needs no
    process id (one could be another process's by now) and no polling.
    """
    descriptor = os.open(folder / process_runner.ALIVE, os.O_RDONLY | os.O_NONBLOCK)
    try:
        try:
            if os.read(descriptor, 1) == b"":
                return True
        except BlockingIOError:
            pass
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))
    finally:
        os.close(descriptor)


def _exit_of(folder: Path) -> dict[str, Any] | None:
    """What the runner wrote at the end; None, with the job killed, where the runner was lost."""
    try:
        end: dict[str, Any] = json.loads((folder / process_runner.EXIT).read_text())
    except FileNotFoundError:
        _signal(folder, signal.SIGKILL)
        return None
    return end


def _signal(folder: Path, number: int) -> None:
    """Send a signal to the job's process group if it is still the one that was started."""
    group = json.loads((folder / process_runner.STARTED).read_text())
    if process_runner.birth(group["pid"]) == group["birth"]:
        try:
            os.killpg(group["pid"], number)
        except ProcessLookupError:
            return
