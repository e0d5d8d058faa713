"""What the worker and the nodes write for each other, on the file system that they share.

::

    <directory>/jobs/<key>/     request.json  slurm.json  stop.json    the worker's
                                started.json  exit.json   node.log     the node's
                                verdict.json                           what the worker has found out from Slurm
                                secrets/
    <directory>/events/<mark>/  an empty file <key> for each job of a scope that has begun or ended
    <directory>/nodes/<name>/   the state directory of a node's own engine
    <directory>/images.json     the images that a node has

Each document is written whole and then renamed, so that a reader sees all of it or nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

from compute_to_data.errors import EngineError, EngineOutOfReach
from compute_to_data.job import JobKey, scope_mark

REQUEST, SUBMITTED, STOP, STARTED, EXIT, VERDICT = (
    f"{name}.json" for name in ("request", "slurm", "stop", "started", "exit", "verdict")
)
SECRETS, IMAGES = "secrets", "images.json"
_REMEDY = "See whether the file system that the nodes share is there, and has room"


class Notes:
    """The notes of one job. The folder may be missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str) -> dict[str, Any] | None:
        """A document; None when there is none."""
        return read(self.folder / name)

    def write(self, name: str, document: dict[str, Any]) -> None:
        """Write a document, in place of an earlier one. FileNotFoundError when the folder is gone."""
        write(self.folder / name, document)

    def written(self, name: str) -> float | None:
        """When a document was written, in Unix seconds on the clock of the file system; None when there is none."""
        try:
            return (self.folder / name).stat().st_mtime
        except OSError:
            return None

    def secrets(self) -> dict[str, bytes]:
        """The values of the secrets, by name."""
        with contextlib.suppress(FileNotFoundError):
            return {one.name: one.read_bytes() for one in (self.folder / SECRETS).iterdir()}
        return {}

    def keep_secrets(self, values: dict[str, bytes]) -> None:
        """Write the values of the secrets, so that only this account can read them."""
        (self.folder / SECRETS).mkdir(mode=0o700)
        for name, value in values.items():
            file = os.open(self.folder / SECRETS / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
            with open(file, "wb") as secret:
                secret.write(value)

    def forget_secrets(self) -> None:
        """Remove the values of the secrets."""
        shutil.rmtree(self.folder / SECRETS, ignore_errors=True)


def need_private(folder: Path, status: os.stat_result) -> None:
    """EngineError unless it is a folder that this account alone may use. ``status``: what the kernel says of it."""
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        remedy = f"Run: chown {os.geteuid()} {folder}; chmod 700 {folder}"
        raise EngineError(str(folder), "other accounts may use it, or it is another account's", remedy)


class Directory:
    """The directory of an engine."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def make(self) -> None:
        """Make it if it is missing. EngineError unless it is this account's alone."""
        try:
            for folder in (self.path, self.jobs, self.path / "events", self.path / "nodes"):
                folder.mkdir(mode=0o700, parents=folder is self.path, exist_ok=True)
        except OSError as error:
            raise EngineError(str(self.path), f"the worker cannot make it ({error.strerror})") from error
        self.need_own()

    def need_own(self) -> None:
        """EngineError unless the directory and those in it are this account's alone: an account that can
        write there decides what runs on the nodes."""
        for folder in (self.path, self.jobs, self.path / "events", self.path / "nodes"):
            try:
                status = folder.stat() if folder is self.path else folder.lstat()
            except OSError as error:
                raise EngineError(str(folder), f"it cannot be looked at ({error.strerror})") from error
            need_private(folder, status)

    @property
    def jobs(self) -> Path:
        """The folder with the folders of all jobs."""
        return self.path / "jobs"

    def of(self, key: str) -> Notes:
        """The notes of a job, by its checked key."""
        return Notes(self.jobs / key)

    def ring(self, scope: str, key: str) -> None:
        """Tell the worker of a scope that a job has begun or ended."""
        events = self.path / "events" / scope_mark(scope)
        events.mkdir(mode=0o700, exist_ok=True)
        (events / key).touch()

    def rung(self, scope: str) -> frozenset[JobKey]:
        """The jobs of a scope that have begun or ended since the last call."""
        events = self.path / "events" / scope_mark(scope)
        try:
            keys = os.listdir(events)
        except OSError:  # none yet, or the file system's server is away: the jobs' notes stay
            return frozenset()
        for key in keys:
            with contextlib.suppress(OSError):
                (events / key).unlink()
        return frozenset(map(JobKey, keys))


def read(file: Path) -> dict[str, Any] | None:
    """The document in a file; None when there is none. EngineOutOfReach when it cannot be read at the moment, as when
    the server of the file system is away."""
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EngineOutOfReach(str(file), f"it cannot be read ({error.strerror})", _REMEDY) from error
    return found


def write(file: Path, document: dict[str, Any]) -> None:
    """Write a document whole, so that it is on the disk when this returns. FileNotFoundError without its folder,
    EngineOutOfReach when it cannot be written at the moment."""
    try:
        _write(file, json.dumps(document).encode())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise EngineOutOfReach(str(file), f"it cannot be written ({error.strerror})", _REMEDY) from error


def _write(file: Path, content: bytes) -> None:
    descriptor, draft = tempfile.mkstemp(prefix=".draft-", dir=file.parent)
    try:
        with open(descriptor, "wb") as new:
            new.write(content)
            new.flush()
            os.fsync(new.fileno())
        os.replace(draft, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
