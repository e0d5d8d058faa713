"""What a zone's tests supply, and what the contract's tests begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import pytest

from compute_to_data.errors import Code, ZoneError
from compute_to_data.model import DataObject, Entity, EntityKind, ReplicaStatus, User, UserKind
from compute_to_data.ports.zone import Catalog, ClientCatalog, Storage
from compute_to_data.zones.entrance import GatewayCatalog


class ZoneUnderTest(Protocol):
    """A running zone and its administrator. Each call makes something new, never used before."""

    physical_paths_are_local: bool
    """Whether the test may open the files that the catalog names."""

    registers_on_children: bool
    """Whether a storage resource below a coordinating one can be named for registering."""

    checks_all_members_before_removing: bool
    """Whether a recursive removal that meets a foreign member changes nothing."""

    tells_of_hidden_collections: bool
    """Whether who wants to make something in a collection that they may not see hears that they lack a right there, and
    so that it exists."""

    def storage(self) -> Storage:
        """The service account's."""

    def session(self, user: User) -> ClientCatalog:
        """A client's own session."""

    def at_a_gateway(self, user: User) -> GatewayCatalog:
        """A session of a user who signed in at a gateway of this zone."""

    def make_user(self, kind: UserKind = UserKind.RODSUSER) -> User:
        """A new user with a home collection."""

    def make_group(self, *members: User) -> User:
        """A new group."""

    def remove_user(self, user: User) -> None:
        """``iadmin rmuser``."""

    def leave_group(self, group: User, user: User) -> None:
        """``iadmin rfg``."""

    def make_resource(self, kind: str = "unixfilesystem", parent: str = "") -> str:
        """A new resource, up and empty."""

    def set_resource_status(self, resource: str, status: str) -> None:
        """``iadmin modresc NAME status STATUS``."""

    def set_replica_status(self, data_object: str, number: int, status: ReplicaStatus) -> None:
        """``iadmin modrepl``."""

    def scratch(self, owner: User) -> str:
        """A new, empty collection of a user's."""

    def place_file(self, resource: str, logical_path: str, content: bytes) -> str:
        """Put a file, without telling the catalog, where a vault would keep that data object;
        returns its physical path."""

    def read_file(self, physical_path: str) -> bytes | None:
        """A file's bytes, None when there is none. Needs ``physical_paths_are_local``."""


class Contract:
    """Two users who share nothing, and a place for the first."""

    @pytest.fixture
    def alice(self, zone: ZoneUnderTest) -> ClientCatalog:
        return zone.session(zone.make_user())

    @pytest.fixture
    def bob(self, zone: ZoneUnderTest) -> ClientCatalog:
        return zone.session(zone.make_user())

    @pytest.fixture
    def here(self, zone: ZoneUnderTest, alice: Catalog) -> str:
        return zone.scratch(alice.user)


@contextmanager
def refused(kind: type[ZoneError], *codes: Code) -> Iterator[None]:
    """What is done inside fails with that error and one of these codes."""
    with pytest.raises(kind) as caught:
        yield
    assert caught.value.code in codes, str(caught.value)
    assert caught.value.subject, "an error names its object"


def attempts(*calls: Callable[[], object]) -> tuple[Callable[[], object], ...]:
    """Calls that should all be refused alike."""
    return calls


def stat_object(catalog: Catalog, logical_path: str) -> DataObject:
    """``stat`` of what must be a data object."""
    found = catalog.stat(logical_path)
    assert isinstance(found, DataObject)
    return found


def statuses(catalog: Catalog, logical_path: str) -> dict[str, ReplicaStatus]:
    """The status of each replica, by its leaf."""
    return {replica.leaf: replica.status for replica in stat_object(catalog, logical_path).replicas}


def an_object(logical_path: str) -> Entity:
    """A data object as a bearer of AVUs."""
    return Entity(EntityKind.DATA_OBJECT, logical_path)


def a_collection(logical_path: str) -> Entity:
    """A collection as a bearer of AVUs."""
    return Entity(EntityKind.COLLECTION, logical_path)
