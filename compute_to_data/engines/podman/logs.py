"""The output of Podman's containers: attached while the worker runs, and a file of Podman's for the rest.

Podman's monitor of each container (conmon) writes lines ``TIME STREAM F|P TEXT`` into a file: F ends a line of the
program, P does not. When the file has its size, an empty one replaces it. The first file keeps a second name, so that
who reads later knows whether that has happened. https://github.com/containers/conmon
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO

from docker.errors import DockerException

from compute_to_data.engines.docker.sandbox import RESOURCE_LABEL, TASK_LABEL
from compute_to_data.engines.podman.client import Made, PodmanClient
from compute_to_data.engines.podman.connection import Connection
from compute_to_data.engines.podman.ends import ProcessEnds
from compute_to_data.engines.podman.sandbox import first_log
from compute_to_data.job import JobKey

_STREAMS = {b"stdout": 1, b"stderr": 2}
_FRAME = struct.Struct(">B3xL")
_BLOCK = 1 << 18
_LOOK_SECONDS = 0.1
"""How often a file that another program writes is looked at, only for jobs that an earlier worker started."""


class PodmanLogs:
    """Where the output of one engine's containers comes from. Threads may share it."""

    def __init__(self, connection: Connection, client: Callable[[], PodmanClient], ends: ProcessEnds) -> None:
        """``ends`` learns of each container that is attached."""
        self._connection = connection
        self._client = client
        self._ends = ends

    def idle(self) -> socket.socket:
        """As :class:`~compute_to_data.engines.docker.client.LogStreams` says."""
        return self._connection.idle()

    def attach(self, container: str) -> tuple[socket.socket, bytes]:
        """As :class:`~compute_to_data.engines.docker.client.LogStreams` says. Podman makes the container's first
        process for it, but starts no program."""
        path = f"/containers/{container}/attach"
        attached = self._connection.stream("POST", path, stream=1, stdout=1, stderr=1)
        try:
            found = self._look(container)
            with suppress(FileExistsError):
                os.link(found.log, first_log(found.log))
            labels = found.labels
            self._ends.watch(JobKey(labels[TASK_LABEL]), labels[RESOURCE_LABEL], found.process)
        except BaseException:
            attached[0].close()
            raise
        return attached

    def _look(self, container: str) -> Made:
        try:
            return self._client().made(container)
        except DockerException as error:
            raise OSError(f"Podman does not say where it keeps the output of {container} ({error})") from error

    def _path(self, container: str) -> str:
        return self._look(container).log

    def beside(self, container: str) -> tuple[socket.socket, bytes] | None:
        """As :class:`~compute_to_data.engines.docker.client.LogStreams` says: conmon writes all into its file."""
        return None

    def stored(self, container: str, *, follow: bool = False) -> tuple[socket.socket, bytes]:
        """As :class:`~compute_to_data.engines.docker.client.LogStreams` says."""
        file = open(self._path(container), "rb")  # noqa: SIM115 - the thread closes it
        ours, theirs = socket.socketpair()
        reader = _Reader(file, theirs, (lambda: self._runs(container)) if follow else None)
        threading.Thread(target=reader.run, name=f"podman-log-{container}", daemon=True).start()
        return ours, b""

    def _runs(self, container: str) -> bool:
        with suppress(DockerException):
            return bool(self._client().inspect_container(container)["State"]["Running"])
        return False

    def is_whole(self, container: str, size: int, bound: int) -> bool:
        """As :class:`~compute_to_data.engines.docker.client.LogStreams` says."""
        path = self._path(container)
        try:
            return os.path.samefile(path, first_log(path))
        except OSError:
            return False


class _Reader:
    """Sends what a file of Podman's has, as Docker's frames, to a socket."""

    def __init__(self, file: BinaryIO, target: socket.socket, runs: Callable[[], bool] | None) -> None:
        """``runs``: whether more may come; None for only what is there now."""
        self._file = file
        self._rest = b""
        self._target = target
        self._runs = runs

    def run(self) -> None:
        """Send until the output ends, or until the receiver closes its end."""
        with self._target, suppress(OSError):
            try:
                self._send()
                while self._runs is not None:
                    runs = self._runs()
                    self._send()
                    while self._next_file():
                        self._send()
                    if not runs:
                        return
                    time.sleep(_LOOK_SECONDS)
            finally:
                self._file.close()

    def _next_file(self) -> bool:
        """Go on with the file that has replaced this one, which is read to its end. Returns whether there is one."""
        try:
            following = open(self._file.name, "rb")  # noqa: SIM115 - run closes it
        except FileNotFoundError:
            return False
        if os.path.sameopenfile(following.fileno(), self._file.fileno()):
            following.close()
            return False
        self._send()  # what came before it was replaced
        self._file.close()
        self._file, self._rest = following, b""
        return True

    def _send(self) -> None:
        """Send the whole lines from here on, and keep the beginning of one that is not whole."""
        while block := self._file.read(_BLOCK):
            *lines, self._rest = (self._rest + block).split(b"\n")
            self._target.sendall(b"".join(_frames(lines)))


def _frames(lines: list[bytes]) -> Iterator[bytes]:
    for line in lines:
        parts = line.split(b" ", 3)
        if len(parts) != 4 or parts[1] not in _STREAMS:
            continue
        text = parts[3] + (b"\n" if parts[2] == b"F" else b"")
        yield _FRAME.pack(_STREAMS[parts[1]], len(text))
        yield text
