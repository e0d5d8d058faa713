"""The embedded zone keeps the contract of every zone."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from zone_suite import arriving, metadata, tree
from zone_suite.every_zone import *  # noqa: F403

from compute_to_data.model import ReplicaStatus, User, UserKind
from compute_to_data.ports.zone import Catalog, Storage
from compute_to_data.zones.embedded import EmbeddedZone
from compute_to_data.zones.embedded.entrance import EmbeddedEntrance
from compute_to_data.zones.entrance import GatewayCatalog

_numbers = itertools.count(1)


class EmbeddedZoneUnderTest:
    physical_paths_are_local = True
    registers_on_children = True
    checks_all_members_before_removing = True
    tells_of_hidden_collections = True

    def __init__(self, directory: Path) -> None:
        self.embedded = EmbeddedZone.create(directory)
        self._storage = self.embedded.storage()
        self._entrance = EmbeddedEntrance(self.embedded.directory)

    def storage(self) -> Storage:
        return self._storage

    def session(self, user: User) -> Catalog:
        return self.embedded.session(user)

    def at_a_gateway(self, user: User) -> GatewayCatalog:
        return self._entrance.on_behalf_of(user)

    def make_user(self, kind: UserKind = UserKind.RODSUSER) -> User:
        return self.embedded.add_user(f"user{next(_numbers)}", kind)

    def make_group(self, *members: User) -> User:
        group = self.embedded.add_group(f"group{next(_numbers)}")
        for member in members:
            self.embedded.add_to_group(group, member)
        return group

    def remove_user(self, user: User) -> None:
        self.embedded.remove_user(user)

    def leave_group(self, group: User, user: User) -> None:
        self.embedded.remove_from_group(group, user)

    def make_resource(self, kind: str = "unixfilesystem", parent: str = "") -> str:
        name = f"resource{next(_numbers)}"
        self.embedded.add_resource(name, kind, parent)
        return name

    def set_resource_status(self, resource: str, status: str) -> None:
        self.embedded.set_resource_status(resource, status)

    def set_replica_status(self, data_object: str, number: int, status: ReplicaStatus) -> None:
        self.embedded.set_replica_status(data_object, number, status)

    def scratch(self, owner: User) -> str:
        path = f"/{owner.zone}/home/{owner.name}/scratch{next(_numbers)}"
        self.session(owner).create_collection(path)
        return path

    def place_file(self, resource: str, logical_path: str, content: bytes) -> str:
        file = Path(self.embedded.directory, "vaults", resource, *logical_path.split("/")[2:])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return str(file)

    def read_file(self, physical_path: str) -> bytes | None:
        return Path(physical_path).read_bytes() if os.path.exists(physical_path) else None


@pytest.fixture(scope="module")
def _zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedZoneUnderTest]:
    under_test = EmbeddedZoneUnderTest(tmp_path_factory.mktemp("zone") / "zone")
    yield under_test
    under_test.embedded.close()
    under_test.storage().close()


@pytest.fixture
def zone(_zone: EmbeddedZoneUnderTest) -> EmbeddedZoneUnderTest:
    return _zone


class TestOwners(metadata.OwnersContract):
    pass


class TestAmong(metadata.AmongContract):
    pass


class TestArriving(arriving.ArrivingContract):
    pass


class TestIds(tree.IdsContract):
    pass
