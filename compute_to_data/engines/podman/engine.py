"""The Podman engine: a client of Podman's own interface, and the kernel's word about the ends of jobs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

from compute_to_data.engines.docker.containers import ContainerEngine
from compute_to_data.engines.docker.first_process import install
from compute_to_data.engines.docker.messages import asking_about
from compute_to_data.engines.job_ids import Account
from compute_to_data.engines.podman import host
from compute_to_data.engines.podman import settings as podman_settings
from compute_to_data.engines.podman.client import PodmanClient, forget
from compute_to_data.engines.podman.connection import Connection, default_address
from compute_to_data.engines.podman.ends import ProcessEnds
from compute_to_data.engines.podman.logs import PodmanLogs


class PodmanEngine(ContainerEngine):
    """Rootless Podman of the worker's own account. ConfigurationError for a wrong setting."""

    name = "podman"
    pulling = "podman pull, as the worker's account,"

    def __init__(
        self, settings: Mapping[str, Any], state_directory: str, known_paths: dict[str, dict[str, str]] | None = None
    ) -> None:
        """``known_paths``: see :class:`ImagePaths`."""
        read = podman_settings.read(settings)
        connection = Connection(read.socket or default_address(), read.timeout_seconds)
        self._address = connection.address
        self._folder = os.path.join(state_directory, "podman")
        self._state_directory = state_directory

        def client() -> PodmanClient:
            return cast(PodmanClient, self._docker())

        ends = ProcessEnds(client)
        super().__init__(
            read,
            state_directory,
            lambda: PodmanClient(connection, self._folder),
            PodmanLogs(connection, client, ends),
            ends,
            host.own_group(),
            known_paths,
        )

    def _seen(self, account: Account) -> Account:
        return cast(PodmanClient, self._docker()).seen(account)

    def check(self) -> None:
        """EngineError when Podman does not answer, or when the kernel does not hold the limits of its containers."""
        host.check_account()
        host.check_kernel()
        install(os.path.join(self._state_directory, "first-process"))
        forget(self._address)
        with asking_about(host.SUBJECT):
            client = cast(PodmanClient, self._docker())
            info = client.info()
            host.check_info(info, self._accounts.ids())
            self._groups.learn(info)
            host.check_limits(client, self._folder)
