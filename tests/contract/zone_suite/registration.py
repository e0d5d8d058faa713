"""Making files known where they lie, and forgetting them."""

from __future__ import annotations

import pytest
from support.reading import ENOUGH

from compute_to_data.errors import AccessDenied, AlreadyExists, Code, NotFound, ZoneError
from compute_to_data.model import Access, Avu, Registration, Replica, ReplicaStatus
from compute_to_data.ports.zone import Catalog
from zone_suite.zone_under_test import (
    Contract,
    ZoneUnderTest,
    an_object,
    refused,
    stat_object,
)


class RegistrationContract(Contract):
    @pytest.fixture
    def resource(self, zone: ZoneUnderTest) -> str:
        return zone.make_resource()

    @pytest.fixture
    def on_behalf(self, zone: ZoneUnderTest, alice: Catalog) -> Catalog:
        return zone.storage().on_behalf_of(alice.user)

    @staticmethod
    def files(zone: ZoneUnderTest, resource: str, here: str, *names: str) -> list[Registration]:
        placed = []
        for name in names:
            physical_path = zone.place_file(resource, f"{here}/{name}", name.encode())
            placed.append(Registration(f"{here}/{name}", physical_path, len(name.encode()), f"sha2:{name}"))
        return placed

    def test_files_become_data_objects_where_they_lie(
        self, zone: ZoneUnderTest, alice: Catalog, on_behalf: Catalog, here: str, resource: str
    ) -> None:
        alice.create_collection(f"{here}/a")
        files = self.files(zone, resource, here, "one", "two words", "a/three")
        on_behalf.register(resource, files)
        for file in files:
            found = stat_object(alice, file.logical_path)
            assert found.owner == alice.user
            assert found.replicas == (
                Replica(0, resource, ReplicaStatus.GOOD, file.size, file.physical_path, file.checksum),
            )
            assert alice.read(file.logical_path, ENOUGH) == file.logical_path[len(here) + 1 :].encode()
            assert alice.access(file.logical_path) is Access.OWN

    def test_many(self, zone: ZoneUnderTest, alice: Catalog, on_behalf: Catalog, here: str, resource: str) -> None:
        names = [f"f{number:03}" for number in range(120)]
        on_behalf.register(resource, self.files(zone, resource, here, *names))
        assert [child.logical_path for child in alice.children(here)] == [f"{here}/{name}" for name in names]

    def test_none(self, on_behalf: Catalog, resource: str) -> None:
        on_behalf.register(resource, [])

    @pytest.mark.parametrize("taken", ["two", "one"])
    def test_all_or_none(
        self, zone: ZoneUnderTest, alice: Catalog, on_behalf: Catalog, here: str, resource: str, taken: str
    ) -> None:
        alice.write(f"{here}/{taken}", b"there")
        before = alice.children(here)
        with refused(AlreadyExists, Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME):
            on_behalf.register(resource, self.files(zone, resource, here, "one", "two"))
        assert alice.children(here) == before

    def test_a_name_twice(
        self, zone: ZoneUnderTest, alice: Catalog, on_behalf: Catalog, here: str, resource: str
    ) -> None:
        (file,) = self.files(zone, resource, here, "one")
        with refused(AlreadyExists, Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME):
            on_behalf.register(resource, [file, file])
        assert alice.children(here) == ()

    def test_collections_must_be_there(
        self, zone: ZoneUnderTest, alice: Catalog, on_behalf: Catalog, here: str, resource: str
    ) -> None:
        with refused(NotFound, Code.CAT_UNKNOWN_COLLECTION):
            on_behalf.register(resource, self.files(zone, resource, here, "one", "missing/two"))
        assert alice.children(here) == ()

    def test_the_users_rights_count(
        self, zone: ZoneUnderTest, alice: Catalog, bob: Catalog, here: str, resource: str
    ) -> None:
        on_behalf = zone.storage().on_behalf_of(bob.user)
        files = self.files(zone, resource, here, "one")
        with refused(ZoneError, Code.CAT_UNKNOWN_COLLECTION, Code.CAT_NO_ACCESS_PERMISSION):
            on_behalf.register(resource, files)
        alice.set_access(here, bob.user, Access.READ_OBJECT)
        with refused(AccessDenied, Code.CAT_NO_ACCESS_PERMISSION):
            on_behalf.register(resource, files)
        assert alice.children(here) == ()

    def test_a_client_may_not(self, zone: ZoneUnderTest, alice: Catalog, here: str, resource: str) -> None:
        files = self.files(zone, resource, here, "one")
        with refused(AccessDenied, Code.CANT_REG_IN_VAULT_FILE, Code.PATH_REG_NOT_ALLOWED):
            alice.register(resource, files)
        with refused(AccessDenied, Code.PATH_REG_NOT_ALLOWED):
            alice.register(resource, [Registration(f"{here}/passwd", "/etc/passwd", 1, "")])
        assert alice.children(here) == ()

    def test_inheritance(
        self, zone: ZoneUnderTest, alice: Catalog, bob: Catalog, on_behalf: Catalog, here: str, resource: str
    ) -> None:
        alice.set_access(here, bob.user, Access.READ_OBJECT)
        alice.set_inheritance(here, True)
        on_behalf.register(resource, self.files(zone, resource, here, "one"))
        assert bob.read(f"{here}/one", ENOUGH) == b"one"
        assert alice.permissions(f"{here}/one") == alice.permissions(here)

    def test_names(self, zone: ZoneUnderTest, on_behalf: Catalog, here: str, resource: str) -> None:
        for name in ("..", ".", "", "nul\0", "lone\ud800"):
            with refused(ZoneError, Code.SYS_INVALID_FILE_PATH, Code.USER_INPUT_PATH_ERR):
                on_behalf.register(resource, [Registration(f"{here}/{name}", f"/{here}/x", 1, "")])

    def test_resources(self, zone: ZoneUnderTest, alice: Catalog, on_behalf: Catalog, here: str, resource: str) -> None:
        files = self.files(zone, resource, here, "one")
        with refused(NotFound, Code.SYS_RESC_DOES_NOT_EXIST):
            on_behalf.register("no-such-resource", files)
        zone.set_resource_status(resource, "down")
        with refused(ZoneError, Code.SYS_RESC_IS_DOWN, Code.HIERARCHY_ERROR):
            on_behalf.register(resource, files)
        assert alice.children(here) == ()

    def test_below_a_coordinating_resource(
        self, zone: ZoneUnderTest, alice: Catalog, on_behalf: Catalog, here: str
    ) -> None:
        root = zone.make_resource("passthru")
        leaf = zone.make_resource(parent=root)
        files = self.files(zone, leaf, here, "one")
        if zone.registers_on_children:
            on_behalf.register(leaf, files)
            (replica,) = stat_object(alice, f"{here}/one").replicas
            assert replica.hierarchy == f"{root};{leaf}"

    def test_forgetting_leaves_the_files(
        self, zone: ZoneUnderTest, alice: Catalog, on_behalf: Catalog, here: str, resource: str
    ) -> None:
        files = self.files(zone, resource, here, "one", "two")
        on_behalf.register(resource, files)
        alice.annotate(an_object(f"{here}/one"), add=[Avu("a", "v")])
        on_behalf.unregister([f"{here}/one", f"{here}/missing", f"{here}/two"])
        assert alice.children(here) == ()
        on_behalf.register(resource, files)
        assert alice.read(f"{here}/one", ENOUGH) == b"one"
        assert alice.avus(an_object(f"{here}/one")) == ()

    def test_removing_takes_them(
        self, zone: ZoneUnderTest, alice: Catalog, on_behalf: Catalog, here: str, resource: str
    ) -> None:
        (file,) = self.files(zone, resource, here, "one")
        on_behalf.register(resource, [file])
        alice.remove(file.logical_path)
        if zone.physical_paths_are_local:
            assert zone.read_file(file.physical_path) is None

    def test_a_registered_one_is_replicated_and_moved(
        self, zone: ZoneUnderTest, alice: Catalog, on_behalf: Catalog, here: str, resource: str
    ) -> None:
        (file,) = self.files(zone, resource, here, "one")
        on_behalf.register(resource, [Registration(file.logical_path, file.physical_path, 3, "")])
        alice.replicate(file.logical_path, zone.make_resource())
        alice.rename(file.logical_path, f"{here}/moved")
        assert alice.read(f"{here}/moved", ENOUGH) == b"one"
        assert alice.checksum(f"{here}/moved").startswith("sha2:")
