"""Podman's client in the form of ``docker/client.py``: requests become those of Podman's own interface, and answers
those of Docker's."""

from __future__ import annotations

import base64
import json
import math
import os
from contextlib import suppress
from typing import Any, NamedTuple

from docker.errors import NotFound
from requests.exceptions import ReadTimeout

from compute_to_data.engines.docker import seccomp
from compute_to_data.engines.job_ids import Account
from compute_to_data.engines.podman import inspection, sandbox
from compute_to_data.engines.podman.connection import Connection, PodmanRefused
from compute_to_data.engines.podman.ids import Ids
from compute_to_data.engines.podman.layers import Layers, Unclear
from compute_to_data.engines.podman.processes import wait_for_end
from compute_to_data.errors import EngineError

_ENDED = "exited"
_ENDING = "no such process"
"""In Podman's refusal to inspect a container whose first process ends at that moment: it looks for its group."""
_POLL = "20ms"
"""How often Podman looks whether a container has ended. We ask it only when the kernel says so already."""


class Made(NamedTuple):
    """A container on this host: its first process (0 for none), the file with its output, its labels."""

    process: int
    log: str
    labels: dict[str, str]


_SAID: dict[str, dict[str, Any]] = {}
"""What the Podman at an address has told this process about its host. Podman asks the host's package manager before it
answers, which takes longer than a small job, and what a client needs of it changes only with the account's setup."""


def forget(address: str) -> None:
    """Ask the Podman at an address about its host again, when that is needed next."""
    _SAID.pop(address, None)


class PodmanClient:
    """A rootless Podman on this host. Threads may share it."""

    def __init__(self, connection: Connection, folder: str) -> None:
        """``folder``: where Podman finds the seccomp profile, and keeps the output of containers. OSError when it
        cannot be made; DockerException when Podman does not answer."""
        profile, log_folder = sandbox.write_profile(folder, seccomp.text()), os.path.join(folder, "logs")
        os.makedirs(log_folder, mode=0o700, exist_ok=True)
        self._ask = connection.ask
        self._connection = connection
        self._profile = profile
        self._log_folder = log_folder
        self._host = self._info()
        self._ids = Ids.of(self._host)
        options = (self._host.get("store") or {}).get("graphOptions") or {}
        self._joins_by_program = "overlay.mount_program" in options
        self._looked_at = "", Layers(())
        self._processes: dict[str, int] = {}
        """The first process of each container that has not ended yet, as far as we know."""

    def ping(self) -> None:
        """Nothing, but that it answers."""
        self._connection.head("/_ping", "Libpod-API-Version", {})

    def info(self) -> dict[str, Any]:
        """What there is to know about the host: Podman's answer, and the names that Docker has for its groups."""
        host = self._info()
        version = str(host["host"]["cgroupVersion"]).lstrip("v")
        return {**host, "CgroupVersion": version, "CgroupDriver": host["host"]["cgroupManager"]}

    def _info(self) -> dict[str, Any]:
        host = _SAID.get(self._connection.address)
        if host is None:
            host = _SAID[self._connection.address] = self._ask("GET", "/info")[1]
        return host

    def seen(self, account: Account) -> Account:
        """The numbers that a container's process sees as its own, for an account of the host."""
        user = "{}:{}".format(*account)
        if self._ids.is_shared(user):
            return account
        uid, gid = map(int, self._ids.inside(user).split(":"))
        return uid, gid

    def inspect_image(self, image: str) -> dict[str, Any]:
        """An image's identity and settings. NotFound."""
        last: NotFound | None = None
        for name in inspection.full_names(image):
            try:
                return inspection.image(self._ask("GET", f"/images/{name}/json")[1], name)
            except NotFound as error:
                last = error
        assert last is not None
        raise last

    def images(self) -> list[dict[str, Any]]:
        """The list of images."""
        return [inspection.listed_image(one) for one in self._ask("GET", "/images/json")[1]]

    def create_container_from_config(self, config: Any, name: str) -> None:
        """Make a container."""
        spec = sandbox.written(config, name, self._ids, self._profile, self._log_folder, self._controllers)
        self._ask("POST", "/containers/create", spec)

    @property
    def _controllers(self) -> frozenset[str]:
        return frozenset(self._host["host"].get("cgroupControllers") or ())

    def initialize(self, container: str) -> None:
        """Make a container's first process and its control group, and do not start the program."""
        self._ask("POST", f"/containers/{container}/init")

    def create_from_specification(self, specification: dict[str, Any]) -> None:
        """Make a container from a body in Podman's own form."""
        self._ask("POST", "/containers/create", specification)

    def start(self, container: str) -> None:
        """Start a container."""
        self._ask("POST", f"/containers/{container}/start")

    def stop(self, container: str, timeout: float) -> None:
        """SIGTERM, and SIGKILL after ``timeout`` seconds, rounded up. Returns when the container has ended."""
        grace = math.ceil(timeout)
        seconds = self._connection.seconds + grace
        self._ask("POST", f"/containers/{container}/stop", seconds=seconds, query={"timeout": grace})

    def wait(self, container: str, timeout: Any = None, condition: Any = None) -> None:
        """Wait for a container's end. ReadTimeout when it has not ended after ``timeout`` seconds (None: never)."""
        process = self._inspected(container)["State"]["Pid"]
        if process and not wait_for_end(process, timeout):
            raise ReadTimeout("the container runs")
        self._noticed(container)

    def _noticed(self, container: str) -> None:
        """Wait until Podman has noticed the end of a container's first process."""
        self._processes.pop(container, None)
        query = {"condition": _ENDED, "interval": _POLL}
        self._ask("POST", f"/containers/{container}/wait", query=query)

    def _inspected(self, container: str) -> dict[str, Any]:
        path = f"/containers/{container}/json"
        found: dict[str, Any]
        try:
            found = self._ask("GET", path)[1]
        except PodmanRefused as error:
            if _ENDING not in str(error):
                raise
            self._noticed(container)
            found = self._ask("GET", path)[1]
        return found

    def inspect_container(self, container: str) -> dict[str, Any]:
        """A container's state and settings. NotFound."""
        process = self._processes.get(container)
        if process is not None and wait_for_end(process, 0.0):
            self._noticed(container)
        found = self._inspected(container)
        state = found["State"]
        if state["Running"] and state["Pid"] and wait_for_end(state["Pid"], 0.0):
            self._noticed(container)
            found = self._inspected(container)
        return inspection.container(found, self._ids)

    def made(self, container: str) -> Made:
        """What Podman has made for a container. NotFound."""
        found = self._inspected(container)
        labels, process = found["Config"].get("Labels") or {}, found["State"]["Pid"]
        if process:
            self._processes[container] = process
        return Made(process, found["HostConfig"]["LogConfig"]["Path"], labels)

    def containers(self, *, all: bool = False, filters: Any = None) -> list[dict[str, Any]]:
        """The containers with certain labels."""
        given = {key: [value] if isinstance(value, str) else value for key, value in (filters or {}).items()}
        query = {"all": str(all).lower(), "filters": json.dumps(given)}
        return [
            {**one, "Labels": one["Labels"] or {}} for one in self._ask("GET", "/containers/json", query=query)[1] or ()
        ]

    def remove_container(self, container: str, *, v: bool = False, force: bool = False) -> None:
        """Remove a container, given by its name, and what Podman keeps of its output. NotFound."""
        query = {"v": str(v).lower(), "force": str(force).lower(), **({"timeout": 0} if force else {})}
        self._processes.pop(container, None)
        self._ask("DELETE", f"/containers/{container}", query=query)
        sandbox.remove_log(self._log_folder, container)

    def _layers_of(self, container: str) -> Layers:
        """The layers of a container's image. Unclear when Podman does not let the kernel join them."""
        if self._joins_by_program:
            raise Unclear("fuse-overlayfs has marks of its own")
        name, layers = self._looked_at
        if name != container:
            layers = Layers.of(self._inspected(container))
            self._looked_at = container, layers
        return layers

    def path_in(self, container: str, path: str) -> dict[str, Any] | None:
        """What a container's file system has at a path; None when there is nothing. Asks Podman only about what the
        layers of its image do not show."""
        with suppress(Unclear):
            try:
                return self._layers_of(container).at(path)
            except OSError as error:
                raise EngineError(f"path {path} of the image", f"it cannot be read ({error.strerror})") from error
        status, header = self._connection.head(
            f"/containers/{container}/archive", "X-Docker-Container-Path-Stat", {"path": path}
        )
        if header:  # also with 404, for a link that leads nowhere
            found: dict[str, Any] = json.loads(base64.b64decode(header))
            return found
        if status == 404:
            self._inspected(container)  # raises NotFound if it is the container that is gone
            return None
        raise EngineError(f"path {path} of the image", f"Podman cannot look at it (status {status})")
