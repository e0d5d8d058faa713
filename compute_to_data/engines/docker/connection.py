"""The connection to the Docker daemon: one pool of open sockets for all threads and calls."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any

from docker import APIClient
from docker.errors import APIError, NotFound
from docker.transport import UnixHTTPAdapter

_CONNECTIONS = 64  # sockets kept open; with more threads, some must connect anew
DEFAULT_SOCKET = "unix:///var/run/docker.sock"


class _OnePool(UnixHTTPAdapter):
    """Docker's own adapter keeps a pool per URL, which contains the container's name: every call would connect
    anew, and drop the sockets of another pool. There is one daemon, so one pool is enough."""

    def get_connection(self, url: str | bytes, proxies: Any = None) -> Any:
        return super().get_connection("http+docker://localhost", proxies)


def connect(address: str, timeout: int) -> APIClient:
    """A client of the daemon at ``address``, else at $DOCKER_HOST, else at Docker's default socket.

    OSError or a DockerException when no daemon answers there.
    """
    address = address or os.environ.get("DOCKER_HOST") or DEFAULT_SOCKET
    _try_to_connect(address, timeout)
    client = APIClient(address, timeout=timeout, max_pool_size=_CONNECTIONS)
    client.trust_env = False  # the way to the daemon's socket has no proxy
    scheme, _, path = address.partition("://")
    if scheme == "unix":
        adapter = _OnePool(f"http+unix://{path}", timeout, max_pool_size=_CONNECTIONS)
        client.get_adapter("http+docker://").close()
        client.mount("http+docker://", adapter)
    return client


def remove_container(docker: APIClient, name: str, seconds: float) -> None:
    """Kill and remove a container with its volumes. Does nothing when there is none."""
    with suppress(NotFound):
        try:
            docker.remove_container(name, force=True, v=True)
        except APIError as error:
            if error.status_code != 409:
                raise
            # Another caller is removing it already: wait until it is gone.
            docker.wait(name, timeout=seconds, condition="removed")  # type: ignore[arg-type]  # floats are taken


def _try_to_connect(address: str, timeout: float) -> None:
    """Raise OSError when the daemon's socket refuses. Docker's client leaks an open socket when it cannot connect."""
    scheme, _, path = address.partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as trial:
            trial.settimeout(timeout)
            trial.connect(path)
