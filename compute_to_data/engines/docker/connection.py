"""The connection to the daemon: one pool of open sockets for all threads and calls."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any

from docker import APIClient
from docker.errors import APIError, NotFound
from docker.transport import UnixHTTPAdapter

_CONNECTIONS = 64  # kept open for as many threads; more of them is slower, not wrong
DEFAULT_SOCKET = "unix:///var/run/docker.sock"


class _OnePool(UnixHTTPAdapter):
    """Docker's own adapter keeps a pool for each address, which names the container: every call
    would connect anew, and drop the sockets of another. There is one daemon, so one pool."""

    def get_connection(self, url: str | bytes, proxies: Any = None) -> Any:
        return super().get_connection("http+docker://localhost", proxies)


def connect(address: str, timeout: int) -> APIClient:
    """A client of the daemon at ``address``, or at $DOCKER_HOST, or at its usual socket.

    OSError or a DockerException when nothing answers there.
    """
    address = address or os.environ.get("DOCKER_HOST") or DEFAULT_SOCKET
    _knock(address, timeout)
    client = APIClient(address, timeout=timeout, max_pool_size=_CONNECTIONS)
    client.trust_env = False  # no proxy stands between us and the daemon's socket
    scheme, _, path = address.partition("://")
    if scheme == "unix":
        adapter = _OnePool(f"http+unix://{path}", timeout, max_pool_size=_CONNECTIONS)
        client.get_adapter("http+docker://").close()
        client.mount("http+docker://", adapter)
    return client


def remove_container(docker: APIClient, name: str, seconds: float) -> None:
    """Kill and remove a container with its volumes; afterwards it is gone, or never was there."""
    with suppress(NotFound):
        try:
            docker.remove_container(name, force=True, v=True)
        except APIError as error:
            if error.status_code != 409:
                raise
            # Somebody is removing it already: it is gone when this answers.
            docker.wait(name, timeout=seconds, condition="removed")  # type: ignore[arg-type]  # floats are taken


def _knock(address: str, timeout: float) -> None:
    """Docker's client forgets an open socket each time it cannot connect: see whether it can."""
    scheme, _, path = address.partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as knock:
            knock.settimeout(timeout)
            knock.connect(path)
