"""Wakes a worker on this host, or starts one where the site configures that.

A rule wakes the worker from inside an agent, so this module needs the standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import subprocess
import sys

from compute_to_data.configuration import Configuration
from compute_to_data.coordination.lock import ResourceLock, state_file

TASKS, ARRIVAL = b"!", b"a"
"""For what a bell rings: anything that is wanted of tasks, or a data object that has arrived in a tagged collection."""
_LONGEST_SECONDS = 86_400.0
"""The longest that one call waits: the kernel takes no more milliseconds than an int holds."""


class Bell:
    """Wakes a waiting worker at once. Ringing never blocks, also when no worker listens."""

    def __init__(self, configuration: Configuration, zone: str, resource: str) -> None:
        self._path = state_file(configuration, zone, resource, "bell")
        self._descriptor: int | None = None

    def listen(self) -> None:
        """Start listening. The FIFO is open for reading and writing, so it never reports an end of file."""
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self._path, 0o600)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(self, seconds: float) -> frozenset[bytes]:
        """For what the bell rings within ``seconds``, or rang before; empty when it does not. Several rings for one
        thing count as one."""
        if self._descriptor is None:
            raise RuntimeError("listen first")
        poll = select.poll()  # unlike select, it takes any descriptor: a worker may have thousands
        poll.register(self._descriptor, select.POLLIN)
        if poll.poll(math.ceil(min(max(0.0, seconds), _LONGEST_SECONDS) * 1000)):
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # another reader was first
                rung = os.read(self._descriptor, 65536)
                return frozenset(ARRIVAL if one == ARRIVAL[0] else TASKS for one in set(rung))
        return frozenset()

    def ring(self, what: bytes = TASKS) -> None:
        """Wake the listening worker, if there is one."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENXIO):
                return
            raise
        try:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # full, or the worker has just gone
                os.write(descriptor, what)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Stop listening."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def call_worker(configuration: Configuration, zone: str, resource: str, what: bytes = TASKS) -> None:
    """Wake the resource's worker. If none runs and the configuration allows it, start one."""
    Bell(configuration, zone, resource).ring(what)
    if configuration.worker.on_demand and not ResourceLock(configuration, zone, resource).is_held():
        _start_worker(configuration, zone, resource)


def _start_worker(configuration: Configuration, zone: str, resource: str) -> None:
    """Start a worker in its own session.

    The shell exits at once, so that the worker is not the agent's child: it outlives the agent, and
    the agent has no zombie to collect. The shell gets the command as separate arguments and does
    not interpret them.
    """
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
