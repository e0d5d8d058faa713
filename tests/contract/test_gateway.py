"""A zone behind a gateway keeps the contract of every zone, over a real socket. The zone behind it is embedded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.test_embedded import EmbeddedZoneUnderTest
from support.gateways import running
from zone_suite import metadata
from zone_suite.every_zone import *  # noqa: F403

from compute_to_data.configuration import ZoneSettings
from compute_to_data.gateway.gateway import Gateway
from compute_to_data.gateway.settings import GatewaySettings, Listen
from compute_to_data.model import User
from compute_to_data.ports.zone import ClientCatalog
from compute_to_data.zones.gateway import GatewaySession


class ZoneBehindGateway(EmbeddedZoneUnderTest):
    """Users' sessions come through the gateway; administrators have the zone itself."""

    tells_of_hidden_collections = False

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.url = ""
        self.gateway: Gateway
        self._sessions: dict[User, GatewaySession] = {}

    def session(self, user: User) -> ClientCatalog:
        if user not in self._sessions:
            token = self.gateway.people.tokens.give(self.gateway.people.on_behalf_of(user))
            self._sessions[user] = GatewaySession(self.url, f"Bearer {token}")
        return self._sessions[user]

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()
        self.embedded.close()
        self.storage().close()


@pytest.fixture(scope="module")
def _zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZoneBehindGateway]:
    under_test = ZoneBehindGateway(tmp_path_factory.mktemp("zone") / "zone")
    settings = GatewaySettings(
        ZoneSettings("embedded", {"directory": under_test.embedded.directory}), listen=Listen(port=0)
    )
    with running(settings) as gateway:
        under_test.url, under_test.gateway = gateway.url, gateway.gateway
        yield under_test
        under_test.close()


@pytest.fixture
def zone(_zone: ZoneBehindGateway) -> ZoneBehindGateway:
    return _zone


class TestAmong(metadata.AmongContract):
    pass
