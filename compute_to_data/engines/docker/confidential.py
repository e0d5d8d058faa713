"""Secrets of a container: files in the host's memory that exist only until the container has started.

A bind mount keeps its file when the name is removed. So the engine writes the files before it makes the
container, and removes them when the container has started. If the worker is killed in between, the next one
finds the files by the job's key. Only the worker's account and root can enter the directory above them.
"""

from __future__ import annotations

import os
import shutil
import stat
from typing import Any

from compute_to_data.engines import checks, ownership
from compute_to_data.errors import EngineError
from compute_to_data.job import SECRETS, Job, JobKey, scope_mark

MEMORY = "/dev/shm"


def put(job: Job, account: tuple[int, int]) -> list[dict[str, Any]]:
    """Write a job's secrets to files that only ``account`` (uid, gid) can read. Returns their mounts.

    EngineError when the directory is another account's, or the worker cannot write there.
    """
    discard(job.key)
    if not job.secrets:
        return []
    folder = os.path.join(_top(), f"{scope_mark(job.scope)}.{checks.key(job.key)}")
    ownership.check_owner(folder, account)
    try:
        _make(_top())
        _make(folder)
        for name, value in job.secrets.items():
            _write(os.path.join(folder, name), value, account)
    except OSError as error:
        discard(job.key)
        raise EngineError(folder, f"the worker cannot write the task's secrets there ({error.strerror})") from None
    except EngineError:
        discard(job.key)
        raise
    return [
        {"Type": "bind", "Source": os.path.join(folder, name), "Target": f"{SECRETS}/{name}", "ReadOnly": True}
        for name in job.secrets
    ]


def discard(key: JobKey) -> None:
    """Remove all files of a job's secrets."""
    for name in _entries():
        if name.partition(".")[2] == checks.key(key):
            shutil.rmtree(os.path.join(_top(), name), ignore_errors=True)


def left(scope: str) -> list[JobKey]:
    """The jobs of a scope with files of secrets on the host."""
    return [JobKey(name.partition(".")[2]) for name in _entries() if name.partition(".")[0] == scope_mark(scope)]


def _top() -> str:
    return os.path.join(MEMORY, f"compute-to-data-{os.geteuid()}")


def _entries() -> list[str]:
    try:
        return sorted(os.listdir(_top()))
    except OSError:
        return []


def _make(directory: str) -> None:
    """Make a directory. Every account can write in the host's shared memory, so one that exists must be ours."""
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        status = os.lstat(directory)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise EngineError(
                directory, "is not the worker's own directory", "Find out who made it, and remove it"
            ) from None


def _write(path: str, value: bytes, account: tuple[int, int]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o400)
        file.write(value)
        ownership.give(descriptor, account, path)
