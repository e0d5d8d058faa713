"""One worker a resource on a host: a lock in the state directory that says who holds the resource.

The lock is the kernel's (``flock``): it is free the instant its holder dies. A rule looks at it from
inside an agent, so this needs the standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import time

from compute_to_data.configuration import Configuration
from compute_to_data.coordination.pauses import step_back
from compute_to_data.errors import ComputeToDataError

with contextlib.suppress(ModuleNotFoundError):  # Windows, where clients run, and no worker
    import fcntl

_ATTEMPTS = 1000
"""So often, over some 10 s, a lock is tried that no worker has."""


class Held(ComputeToDataError):
    """Another worker serves the resource."""


def scope(configuration: Configuration, zone: str, resource: str) -> str:
    """What tells this installation's work on a resource from any other's on the same host:
    two zones may have the same name, and share an engine."""
    place = os.path.realpath(configuration.worker.state_directory)
    return f"{zone}/{resource}@{hashlib.sha256(place.encode()).hexdigest()[:16]}"


def state_file(configuration: Configuration, zone: str, resource: str, kind: str) -> str:
    """The file of one kind (``lock``, ``bell``, ``log``) that a resource's worker keeps; its directory is made."""
    directory = configuration.worker.state_directory
    os.makedirs(directory, mode=0o700, exist_ok=True)
    readable = "".join(c if c.isalnum() or c in "-_" else "_" for c in f"{zone}-{resource}")
    distinct = hashlib.sha256(f"{zone}/{resource}".encode()).hexdigest()[:8]
    return os.path.join(directory, f"{readable[:80]}-{distinct}.{kind}")


class ResourceLock:
    """One worker a resource. The file keeps who holds it, for the message to a second one."""

    def __init__(self, configuration: Configuration, zone: str, resource: str) -> None:
        self._path = state_file(configuration, zone, resource, "lock")
        self._resource = resource
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, or raise Held naming who has it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if not _locked(descriptor):
            holder = os.read(descriptor, 4096).decode(errors="replace")
            os.close(descriptor)
            raise Held(
                f"resource {self._resource}",
                f"is served by another worker ({_described(holder)})",
                "Stop that one first, or leave it to its work",
            )
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": int(time.time())}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(about).encode(), 0)
        self._descriptor = descriptor

    @property
    def is_ours(self) -> bool:
        """Whether it was taken here, and not released."""
        return self._descriptor is not None

    def release(self) -> None:
        """Let others serve the resource."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def is_held(self) -> bool:
        """Whether some worker has the lock now."""
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
    """Whether the lock could be taken. Whoever asks ``is_held`` shares it for an instant (a long one,
    on a busy host), and so do two who start at a time; where it can be shared, no worker has it."""
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
        return "which has not said who it is yet"
