"""The connection to the Docker daemon: one pool of open sockets for all threads and calls."""

from __future__ import annotations

import base64
import json
import math
import os
import socket
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from docker import APIClient
from docker.errors import APIError, NotFound
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool
from requests import PreparedRequest, Response
from requests.exceptions import RequestException

from compute_to_data.engines.docker.client import MOST_BYTES, AnswerTooLarge, Client
from compute_to_data.engines.docker.messages import timed_out
from compute_to_data.errors import EngineError

_CONNECTIONS = 64  # sockets kept open; with more threads, some must connect anew
_URL = "http+docker://localhost"
DEFAULT_SOCKET = "unix:///var/run/docker.sock"


class _Connection(UnixHTTPConnection):
    """Docker's own leaves a socket open when it cannot connect, which happens each second while no daemon runs."""

    def connect(self) -> None:
        made = socket.socket(socket.AF_UNIX)
        try:
            made.settimeout(self.timeout)
            made.connect(self.unix_socket)
        except BaseException:
            made.close()
            raise
        self.sock = made


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> Any:
        seconds: Any = self.timeout  # a number, which urllib3 takes for more
        return _Connection(self.base_url, self.socket_path, seconds)


class _OnePool(UnixHTTPAdapter):
    """Docker's own adapter keeps a pool per URL, which contains the container's name: every call would connect
    anew, and drop the sockets of another pool. There is one daemon, so one pool is enough."""

    def get_connection(self, url: str | bytes, proxies: Any = None) -> Any:
        with self.pools.lock:
            if not self.pools.get(_URL):
                self.pools[_URL] = _Pool(_URL, self.socket_path, self.timeout, maxsize=self.max_pool_size)
            return self.pools[_URL]


class DockerClient(APIClient):
    """Docker's client, which reads a bounded answer: images and their labels may be anybody's."""

    def send(self, request: PreparedRequest, **options: Any) -> Response:
        response = super().send(request, **{**options, "stream": True})
        if not options.get("stream"):
            try:
                response._content = _content(response)  # as its property ``content`` does
            except BaseException:
                response.close()  # else its socket stays open
                raise
        return response

    def stop(self, container: Any, timeout: Any = None) -> None:
        """As :class:`~compute_to_data.engines.docker.client.Client` says. Docker's own request takes whole seconds."""
        if timeout < 1:
            # With no time, Docker would first start a program that sends SIGTERM: meanwhile, the job writes.
            if timeout and _ends_by(self, container, "SIGTERM", timeout):
                return
            if _ends_by(self, container, "SIGKILL", self.timeout):
                return
        super().stop(container, timeout=math.ceil(timeout) if timeout >= 1 else 0)

    def path_in(self, container: str, path: str) -> dict[str, Any] | None:
        """As :class:`~compute_to_data.engines.docker.client.Client` says."""
        url = f"{self.base_url}/v{self.api_version}/containers/{container}/archive"
        answer = self.head(f"{url}?path={quote(path, safe='')}")
        if answer.status_code == 404:
            self.inspect_container(container)  # raises NotFound if it is the container that is gone
            return None
        if answer.status_code != 200:  # for example a link that leads to itself
            raise EngineError(f"path {path} of the image", f"Docker cannot look at it ({answer.text or answer.reason})")
        found: dict[str, Any] = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
        return found


def _ends_by(docker: DockerClient, container: str, signal: str, seconds: Any) -> bool:
    """Send a signal; whether the container runs, and ends within so many seconds."""
    try:
        docker.kill(container, signal)
        docker.wait(container, timeout=seconds)
    except APIError as error:
        if error.status_code != 409:
            raise
        return False  # it does not run
    except RequestException as error:
        if not timed_out(error):
            raise
        return False
    return True


def _content(response: Response) -> bytes:
    content = bytearray()
    for block in response.iter_content(1 << 16):
        content += block
        if len(content) > MOST_BYTES:
            raise AnswerTooLarge
    return bytes(content)


def connect(address: str, timeout: int) -> DockerClient:
    """A client of the daemon at ``address``, else at $DOCKER_HOST, else at Docker's default socket.

    OSError or a DockerException when no daemon answers there.
    """
    address = address or os.environ.get("DOCKER_HOST") or DEFAULT_SOCKET
    _try_to_connect(address, timeout)
    client = DockerClient(address, timeout=timeout, max_pool_size=_CONNECTIONS)
    client.trust_env = False  # the way to the daemon's socket has no proxy
    scheme, _, path = address.partition("://")
    if scheme == "unix":
        adapter = _OnePool(f"http+unix://{path}", timeout, max_pool_size=_CONNECTIONS)
        client.get_adapter("http+docker://").close()
        client.mount("http+docker://", adapter)
    return client


def remove_container(docker: Client, name: str, seconds: float) -> None:
    """Kill and remove a container with its volumes. Does nothing when there is none."""
    with suppress(NotFound):
        try:
            docker.remove_container(name, force=True, v=True)
        except APIError as error:
            if error.status_code != 409:
                raise
            # Another caller is removing it already: wait until it is gone.
            docker.wait(name, timeout=seconds, condition="removed")


def _try_to_connect(address: str, timeout: float) -> None:
    """Raise OSError when the daemon's socket refuses. Docker's client leaks an open socket when it cannot connect."""
    scheme, _, path = address.partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as trial:
            trial.settimeout(timeout)
            trial.connect(path)
