"""What the engines of containers need of what runs the containers. Docker's own client has this form; Podman's client
of ours has it, too: requests and answers are those of Docker's HTTP API.

https://docs.docker.com/reference/api/engine/version/v1.41/
"""

from __future__ import annotations

import socket
from typing import Any, Protocol

from docker.errors import DockerException

from compute_to_data.engines.changes import Changes
from compute_to_data.job import JobKey

MOST_BYTES = 8 * 1024 * 1024
"""The most bytes of an answer. A list of 5,000 images or of 10,000 containers fits."""


class AnswerTooLarge(DockerException):
    """The daemon's answer to one request is larger than the worker reads."""

    def __init__(self) -> None:
        super().__init__(f"the answer has more than {MOST_BYTES} bytes")


class Client(Protocol):
    """The requests. They raise OSError, or docker's DockerException: NotFound for what is not there, APIError with
    status 409 for a name that is taken."""

    def ping(self) -> Any:
        """Nothing, but that it answers."""

    def info(self) -> Any:
        """What there is to know about the host."""

    def inspect_image(self, image: str) -> Any:
        """An image's identity and settings."""

    def images(self) -> Any:
        """The list of images."""

    def create_container_from_config(self, config: Any, name: str) -> Any:
        """Make a container."""

    def start(self, container: str) -> Any:
        """Start a container."""

    def stop(self, container: str, timeout: float) -> Any:
        """SIGTERM, and SIGKILL after ``timeout`` seconds (or a little more). Returns when the container has ended."""

    def wait(self, container: str, timeout: Any = None, condition: Any = None) -> Any:
        """Wait for a container's end. A requests exception for a time-out when it has not ended."""

    def inspect_container(self, container: str) -> Any:
        """A container's state and settings."""

    def containers(self, *, all: bool = False, filters: Any = None) -> Any:
        """The containers with certain labels, running or not (``all``)."""

    def remove_container(self, container: str, *, v: bool = False, force: bool = False) -> Any:
        """Remove a container, with its volumes (``v``), also if it runs (``force``)."""

    def path_in(self, container: str, path: str) -> dict[str, Any] | None:
        """What a container's file system has at a path: its ``mode`` as in Go's io/fs, and ``linkTarget``; None when
        there is nothing."""


class LogStreams(Protocol):
    """Where the output of containers comes from: connections that carry Docker's frames. The calls raise OSError, or
    ValueError for an answer that makes no sense."""

    def idle(self) -> socket.socket:
        """A connection to the daemon, on which nothing is asked."""

    def attach(self, container: str) -> tuple[socket.socket, bytes]:
        """All that a container will write, which was made and not started."""

    def beside(self, container: str) -> tuple[socket.socket, bytes] | None:
        """All that a running container writes from now on, where what the host keeps may lack the end of it; None
        where it never does."""

    def stored(self, container: str, *, follow: bool = False) -> tuple[socket.socket, bytes]:
        """What the host has kept of a container's output. ``follow``: and what it writes from now on."""

    def is_whole(self, container: str, size: int, bound: int) -> bool:
        """Whether the host has kept all. ``size``: that of what was read, with :data:`backlog.ENTRY` bytes for each
        frame. ``bound``: the size of each part of the log."""


class Ends(Protocol):
    """Reports ends of jobs. One thread waits for them; others may wake it."""

    changes: Changes
    """Ends that are reported by others: those of jobs in warm sandboxes."""

    def wait(self, scope: str, timeout: float) -> frozenset[JobKey] | None:
        """As :meth:`~compute_to_data.ports.Engine.wait_for_change`."""
