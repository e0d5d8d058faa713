"""The Docker engine: a client of the daemon, and the daemon's events and streams."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from compute_to_data.engines.docker import settings as docker_settings
from compute_to_data.engines.docker.client import Client
from compute_to_data.engines.docker.connection import connect
from compute_to_data.engines.docker.containers import ContainerEngine
from compute_to_data.engines.docker.ends import DaemonEnds
from compute_to_data.engines.docker.host import check_host
from compute_to_data.engines.docker.messages import asking_about
from compute_to_data.engines.docker.stream import DaemonLogs


class DockerEngine(ContainerEngine):
    """Docker on this host, with the settings of :class:`settings.DockerSettings`. ConfigurationError for a wrong
    setting."""

    name = "docker"
    pulling = "docker pull"

    def __init__(
        self, settings: Mapping[str, Any], state_directory: str, known_paths: dict[str, dict[str, str]] | None = None
    ) -> None:
        """``known_paths``: see :class:`ImagePaths`."""
        read = docker_settings.read(settings)
        seconds = math.ceil(read.timeout_seconds)

        def client() -> Client:
            return connect(read.socket, seconds)

        logs, ends = DaemonLogs(read.socket, seconds), DaemonEnds(read.socket, seconds)
        super().__init__(read, state_directory, client, logs, ends, known_paths=known_paths)

    def check(self) -> None:
        """EngineError when the daemon does not answer or cannot isolate jobs as the sandbox requires."""
        with asking_about("the Docker engine"):
            info = self._docker().info()
            check_host(info, self._settings.runtime)
            self._groups.learn(info)
