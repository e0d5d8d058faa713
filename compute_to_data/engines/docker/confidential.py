"""Secrets on their way into a container: files in the host's memory, for as long as it takes to start.

A bind mount keeps its file when the name is taken away. So the files are there while the container
is made and started, and no longer; what a worker killed just then has left is found by the job's key.
They lie below a directory that nobody but the worker's account (and root) can enter.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from typing import Any

from compute_to_data.engines import checks
from compute_to_data.errors import EngineError
from compute_to_data.job import SECRETS, Job, JobKey

MEMORY = "/dev/shm"


def put(job: Job, account: tuple[int, int]) -> list[dict[str, Any]]:
    """Write a job's secrets where only ``account`` (uid, gid) can read them; their mounts.

    EngineError when the place cannot be trusted or written.
    """
    discard(job.key)
    if not job.secrets:
        return []
    folder = os.path.join(_top(), f"{_mark(job.scope)}.{checks.key(job.key)}")
    checks.check_owner(folder, account)
    try:
        _make(_top())
        _make(folder)
        for name, value in job.secrets.items():
            _write(os.path.join(folder, name), value, account)
    except OSError as error:
        discard(job.key)
        raise EngineError(folder, f"the task's secrets cannot be put there ({error.strerror})") from None
    except EngineError:
        discard(job.key)
        raise
    return [
        {"Type": "bind", "Source": os.path.join(folder, name), "Target": f"{SECRETS}/{name}", "ReadOnly": True}
        for name in job.secrets
    ]


def discard(key: JobKey) -> None:
    """Nothing of a job's secrets is left on the host."""
    for name in _entries():
        if name.partition(".")[2] == checks.key(key):
            shutil.rmtree(os.path.join(_top(), name), ignore_errors=True)


def left(scope: str) -> list[JobKey]:
    """The jobs of a scope whose secrets lie there now."""
    return [JobKey(name.partition(".")[2]) for name in _entries() if name.partition(".")[0] == _mark(scope)]


def _top() -> str:
    return os.path.join(MEMORY, f"compute-to-data-{os.geteuid()}")


def _mark(scope: str) -> str:
    """Tells the jobs of one scope from others'; without a dot."""
    return hashlib.sha256(scope.encode()).hexdigest()[:20]


def _entries() -> list[str]:
    try:
        return sorted(os.listdir(_top()))
    except OSError:
        return []


def _make(directory: str) -> None:
    """Anybody may write in the host's shared memory: what is there already must be our own."""
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        status = os.lstat(directory)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise EngineError(directory, "is not the worker's own directory", "Find out whose it is") from None


def _write(path: str, value: bytes, account: tuple[int, int]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    with os.fdopen(descriptor, "wb") as file:
        file.write(value)
        checks.give(descriptor, account, path)
        os.fchmod(descriptor, 0o400)
