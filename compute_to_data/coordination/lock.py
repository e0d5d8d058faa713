"""A lock in the state directory, so that only one worker on a host serves a resource.

The kernel holds the lock (``flock``) and frees it the moment the worker dies. A rule checks the lock
from inside an agent, so this module needs the standard library only.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import socket
import time

from compute_to_data.configuration import Configuration
from compute_to_data.coordination.pauses import step_back
from compute_to_data.errors import ComputeToDataError

with contextlib.suppress(ModuleNotFoundError):  # Windows, where clients run but no workers
    import fcntl

_ATTEMPTS = 1000
"""How often to try for a lock that no worker holds; takes about 10 s in all."""


class AlreadyServed(ComputeToDataError):
    """Another worker serves the resource."""


def scope(configuration: Configuration, zone: str, resource: str) -> str:
    """A label for this installation's work on a resource.

    It differs from other installations' labels on the same host, because two zones may have the
    same name and share an engine.
    """
    place = os.path.realpath(configuration.worker.state_directory)
    return f"{zone}/{resource}@{hashlib.sha256(place.encode()).hexdigest()[:16]}"


def state_file(configuration: Configuration, zone: str, resource: str, kind: str) -> str:
    """The path of a file that a resource's worker keeps (kind: ``lock``, ``bell``, ``log``).

    Makes the state directory if it is missing.
    """
    directory = configuration.worker.state_directory
    if not os.path.isdir(directory):  # one call, where makedirs would make five
        os.makedirs(directory, mode=0o700, exist_ok=True)
    return os.path.join(directory, f"{_file_name(zone, resource)}.{kind}")


@functools.lru_cache(maxsize=64)
def _file_name(zone: str, resource: str) -> str:
    readable = "".join(c if c.isalnum() or c in "-_" else "_" for c in f"{zone}-{resource}")
    distinct = hashlib.sha256(f"{zone}/{resource}".encode()).hexdigest()[:8]
    return f"{readable[:80]}-{distinct}"


class ResourceLock:
    """The lock of one resource. The file names its holder, for the error that a second worker gets."""

    def __init__(self, configuration: Configuration, zone: str, resource: str) -> None:
        self._path = state_file(configuration, zone, resource, "lock")
        self._resource = resource
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock. AlreadyServed, naming the holder, when another worker has it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if not _locked(descriptor):
            holder = os.read(descriptor, 4096).decode(errors="replace")
            os.close(descriptor)
            raise AlreadyServed(
                f"resource {self._resource}",
                f"is served by another worker ({_described(holder)})",
                "Stop that worker first, or let it serve the resource",
            )
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": int(time.time())}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(about).encode(), 0)
        self._descriptor = descriptor

    @property
    def is_ours(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def release(self) -> None:
        """Free the lock, so that another worker can serve the resource."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def is_held(self) -> bool:
        """Whether a worker holds the lock now."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False


def _locked(descriptor: int) -> bool:
    """Try to take the lock; returns whether this succeeded.

    ``is_held`` takes a shared lock for a moment (a long one on a busy host), and so does this
    function in another starting worker. While a shared lock is possible, no worker holds the
    exclusive one, so try again.
    """
    for _ in range(_ATTEMPTS):
        for how in (fcntl.LOCK_EX, fcntl.LOCK_SH):
            try:
                fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            except OSError:
                if how == fcntl.LOCK_SH:
                    return False
            else:
                if how == fcntl.LOCK_EX:
                    return True
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        step_back()
    return False


def _described(holder: str) -> str:
    try:
        about = json.loads(holder)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(about["since"]))
        return f"process {about['pid']} on {about['host']} since {since}"
    except (ValueError, KeyError, TypeError):
        return "it has not written its process id yet"
