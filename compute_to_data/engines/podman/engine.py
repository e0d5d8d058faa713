"""The Podman engine: a client of Podman's own interface, and the kernel's word about the ends of jobs."""

from __future__ import annotations

import os
import time
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

_SURE_SECONDS = 600.0
"""How long the kernel's word about a container with limits counts, if the account's systemd has not started again. To
get it takes longer than a small job does: Podman asks the host's package manager, and makes a container."""


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
        self._sure_of, self._sure_until = 0, 0.0

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
        """EngineError when Podman does not answer, or when the kernel does not hold the limits of its containers. It
        makes sure of the limits again after some minutes, or when the account's systemd has started again."""
        host.check_account()
        group = host.check_kernel()
        install(os.path.join(self._state_directory, "first-process"))
        is_sure = group == self._sure_of and time.monotonic() < self._sure_until
        self._sure_of = 0
        if not is_sure:
            forget(self._address)
        with asking_about(host.SUBJECT):
            client = cast(PodmanClient, self._docker())
            if is_sure:
                client.ping()
            else:
                self._make_sure(client)
        self._sure_of = group

    def _make_sure(self, client: PodmanClient) -> None:
        info = client.info()
        host.check_info(info, self._accounts.ids())
        self._groups.learn(info)
        host.check_limits(client, self._folder)
        self._sure_until = time.monotonic() + _SURE_SECONDS
