"""How a worker is found on its own host: a lock that says who holds a resource, and a bell.

Both live in the state directory and need no more than the standard library, so a rule can ring
from inside an agent. The lock is the kernel's (``flock``): it is free the instant its holder dies.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import random
import select
import socket
import subprocess
import sys
import time

from compute_to_data.configuration import Configuration
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


def _file(configuration: Configuration, zone: str, resource: str, kind: str) -> str:
    directory = configuration.worker.state_directory
    os.makedirs(directory, mode=0o700, exist_ok=True)
    readable = "".join(c if c.isalnum() or c in "-_" else "_" for c in f"{zone}-{resource}")
    distinct = hashlib.sha256(f"{zone}/{resource}".encode()).hexdigest()[:8]
    return os.path.join(directory, f"{readable[:80]}-{distinct}.{kind}")


class ResourceLock:
    """One worker a resource. The file keeps who holds it, for the message to a second one."""

    def __init__(self, configuration: Configuration, zone: str, resource: str) -> None:
        self._path = _file(configuration, zone, resource, "lock")
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
        time.sleep(random.uniform(0.001, 0.02))
    return False


def _described(holder: str) -> str:
    try:
        about = json.loads(holder)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(about["since"]))
        return f"process {about['pid']} on {about['host']} since {since}"
    except (ValueError, KeyError, TypeError):
        return "which has not said who it is yet"


class Bell:
    """Wakes a waiting worker at once. Ringing never blocks, and needs no one to listen."""

    def __init__(self, configuration: Configuration, zone: str, resource: str) -> None:
        self._path = _file(configuration, zone, resource, "bell")
        self._descriptor: int | None = None

    def listen(self) -> None:
        """Begin to hear; a FIFO opened for both ends never reports its last writer's leaving."""
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self._path, 0o600)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(self, seconds: float) -> bool:
        """True when it rang within ``seconds``; many rings before that count as one."""
        if self._descriptor is None:
            raise RuntimeError("listen first")
        ready, _, _ = select.select([self._descriptor], [], [], max(0.0, seconds))
        if ready:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # full, or it stops just now
                os.read(self._descriptor, 65536)
        return bool(ready)

    def ring(self) -> None:
        """Wake the listener, if there is one."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENXIO):
                return
            raise
        try:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # it rings already, or nobody is left
                os.write(descriptor, b"!")
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Hear no more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def call_worker(configuration: Configuration, zone: str, resource: str) -> None:
    """Wake the resource's worker; start one where the configuration allows it and none runs."""
    Bell(configuration, zone, resource).ring()
    if configuration.worker.on_demand and not ResourceLock(configuration, zone, resource).is_held():
        _start_worker(configuration, zone, resource)


def _start_worker(configuration: Configuration, zone: str, resource: str) -> None:
    """A process in its own session that is nobody's child: it must outlive the agent that asked
    for it, and leave it no zombie. The shell that starts it sees its words, never reads them."""
    command = configuration.worker.command or (sys.executable, "-m", "compute_to_data.worker")
    arguments = ["--configuration", configuration.source, "--resource", resource, "--on-demand"]
    with open(_file(configuration, zone, resource, "log"), "ab") as log:
        subprocess.run(
            ["/bin/sh", "-c", '"$@" &', "sh", *command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            check=True,
        )
