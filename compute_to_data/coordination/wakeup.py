"""Waking a worker on this host, and starting one where a site wants it started on demand.

A rule wakes the worker from inside an agent, so this needs the standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import subprocess
import sys

from compute_to_data.configuration import Configuration
from compute_to_data.coordination.lock import ResourceLock, state_file


class Bell:
    """Wakes a waiting worker at once. Ringing never blocks, and needs no one to listen."""

    def __init__(self, configuration: Configuration, zone: str, resource: str) -> None:
        self._path = state_file(configuration, zone, resource, "bell")
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
    with open(state_file(configuration, zone, resource, "log"), "ab") as log:
        subprocess.run(
            ["/bin/sh", "-c", '"$@" &', "sh", *command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            check=True,
        )
