"""Replicas, resources and their hierarchies."""

from __future__ import annotations

import pytest
from support.reading import ENOUGH

from compute_to_data.errors import AccessDenied, Code, NotFound, ZoneError
from compute_to_data.model import Access, Replica, ReplicaStatus
from compute_to_data.ports.zone import Catalog
from zone_suite.zone_under_test import (
    Contract,
    ZoneUnderTest,
    attempts,
    refused,
    stat_object,
    statuses,
)

GOOD, STALE = ReplicaStatus.GOOD, ReplicaStatus.STALE
AT_WORK = [
    (ReplicaStatus.INTERMEDIATE, Code.INTERMEDIATE_REPLICA_ACCESS),
    (ReplicaStatus.READ_LOCKED, Code.LOCKED_DATA_OBJECT_ACCESS),
    (ReplicaStatus.WRITE_LOCKED, Code.LOCKED_DATA_OBJECT_ACCESS),
]


class ReplicasContract(Contract):
    @pytest.fixture
    def first(self, zone: ZoneUnderTest) -> str:
        return zone.make_resource()

    @pytest.fixture
    def second(self, zone: ZoneUnderTest) -> str:
        return zone.make_resource()

    @pytest.fixture
    def x(self, alice: Catalog, here: str, first: str) -> str:
        alice.write(f"{here}/x", b"content", resource=first)
        return f"{here}/x"

    def test_replicating(self, zone: ZoneUnderTest, alice: Catalog, x: str, first: str, second: str) -> None:
        alice.replicate(x, second)
        found = stat_object(alice, x)
        assert [(copy.number, copy.hierarchy, copy.size, copy.status) for copy in found.replicas] == [
            (0, first, 7, GOOD),
            (1, second, 7, GOOD),
        ]
        assert len({copy.physical_path for copy in found.replicas}) == 2
        if zone.physical_paths_are_local:
            assert [zone.read_file(copy.physical_path) for copy in found.replicas] == [b"content"] * 2

    def test_one_there_already(self, alice: Catalog, x: str, first: str) -> None:
        before = alice.stat(x)
        alice.replicate(x, first)
        assert alice.stat(x) == before

    def test_overwriting_makes_the_others_stale(self, alice: Catalog, x: str, first: str, second: str) -> None:
        alice.replicate(x, second)
        alice.write(x, b"newer", resource=second, force=True)
        assert statuses(alice, x) == {first: STALE, second: GOOD}
        assert alice.read(x, ENOUGH) == b"newer"
        assert stat_object(alice, x).size == 5

    def test_replicating_mends_a_stale_one(self, alice: Catalog, x: str, first: str, second: str) -> None:
        alice.replicate(x, second)
        alice.write(x, b"newer", resource=second, force=True)
        alice.replicate(x, first)
        found = stat_object(alice, x)
        assert statuses(alice, x) == {first: GOOD, second: GOOD}
        assert [(copy.number, copy.size) for copy in found.replicas] == [(0, 5), (1, 5)]
        alice.trim(x, 1)
        assert alice.read(x, ENOUGH) == b"newer"

    def test_overwriting_where_there_is_no_replica(self, alice: Catalog, x: str, first: str, second: str) -> None:
        with pytest.raises(ZoneError):
            alice.write(x, b"newer", resource=second, force=True)
        assert (alice.read(x, ENOUGH), statuses(alice, x)) == (b"content", {first: GOOD})

    def test_needs_modify_object(self, alice: Catalog, bob: Catalog, here: str, x: str, second: str) -> None:
        alice.set_access(here, bob.user, Access.READ_OBJECT)
        with pytest.raises(NotFound):
            bob.replicate(x, second)
        alice.set_access(x, bob.user, Access.READ_OBJECT)
        with refused(AccessDenied, Code.SYS_USER_NO_PERMISSION):
            bob.replicate(x, second)
        alice.set_access(x, bob.user, Access.MODIFY_OBJECT)
        bob.replicate(x, second)
        assert set(statuses(alice, x).values()) == {GOOD}

    def test_the_service_account_needs_no_row(
        self, zone: ZoneUnderTest, alice: Catalog, x: str, first: str, second: str
    ) -> None:
        made = zone.storage().replicate(x, second)
        assert isinstance(made, Replica)
        assert made == stat_object(alice, x).good_replica_on(second)
        assert zone.storage().replicate(x, second) == made
        assert made.checksum == zone.storage().verify(x, made.number)
        zone.storage().trim(x, second)
        zone.storage().trim(x, second)
        assert statuses(alice, x) == {first: GOOD}
        with refused(ZoneError, Code.USER_INCOMPATIBLE_PARAMS):
            zone.storage().trim(x, first)

    def test_nothing_to_replicate(self, zone: ZoneUnderTest, alice: Catalog, here: str, second: str) -> None:
        with pytest.raises(NotFound):
            alice.replicate(f"{here}/missing", second)
        with pytest.raises(NotFound):
            zone.storage().replicate(f"{here}/missing", second)

    def test_trimming_keeps_the_last_good_one(self, alice: Catalog, x: str, first: str, second: str) -> None:
        with refused(ZoneError, Code.USER_INCOMPATIBLE_PARAMS):
            alice.trim(x, 0)
        alice.replicate(x, second)
        alice.trim(x, 0)
        with refused(ZoneError, Code.USER_INCOMPATIBLE_PARAMS):
            alice.trim(x, 1)
        assert statuses(alice, x) == {second: GOOD}
        assert alice.read(x, ENOUGH) == b"content"

    def test_a_stale_one_is_no_last_resort(
        self, zone: ZoneUnderTest, alice: Catalog, x: str, first: str, second: str
    ) -> None:
        alice.replicate(x, second)
        zone.set_replica_status(x, 0, STALE)
        with refused(ZoneError, Code.USER_INCOMPATIBLE_PARAMS):
            alice.trim(x, 1)
        alice.trim(x, 0)
        assert statuses(alice, x) == {second: GOOD}

    def test_trimming_takes_the_file(self, zone: ZoneUnderTest, alice: Catalog, x: str, second: str) -> None:
        alice.replicate(x, second)
        file = stat_object(alice, x).replicas[1].physical_path
        alice.trim(x, 1)
        if zone.physical_paths_are_local:
            assert zone.read_file(file) is None

    def test_trimming_needs_modify_object(self, alice: Catalog, bob: Catalog, here: str, x: str, second: str) -> None:
        alice.replicate(x, second)
        alice.set_access(here, bob.user, Access.READ_OBJECT)
        alice.set_access(x, bob.user, Access.READ_OBJECT)
        with pytest.raises(AccessDenied):
            bob.trim(x, 1)

    def test_trimming_a_number_that_is_not_there(self, alice: Catalog, x: str) -> None:
        with refused(ZoneError, Code.SYS_REPLICA_DOES_NOT_EXIST):
            alice.trim(x, 7)

    @pytest.mark.parametrize(("status", "code"), AT_WORK)
    def test_at_work(
        self, zone: ZoneUnderTest, alice: Catalog, x: str, second: str, status: ReplicaStatus, code: Code
    ) -> None:
        zone.set_replica_status(x, 0, status)
        for attempt in attempts(
            lambda: alice.read(x, ENOUGH),
            lambda: alice.write(x, b"newer", force=True),
            lambda: alice.replicate(x, second),
        ):
            with refused(ZoneError, code):
                attempt()
        zone.set_replica_status(x, 0, GOOD)
        assert alice.read(x, ENOUGH) == b"content"

    def test_a_good_one_is_read(self, zone: ZoneUnderTest, alice: Catalog, x: str, second: str) -> None:
        alice.replicate(x, second)
        for status in (STALE, ReplicaStatus.INTERMEDIATE, ReplicaStatus.WRITE_LOCKED):
            zone.set_replica_status(x, 0, status)
            assert alice.read(x, ENOUGH) == b"content"
            assert stat_object(alice, x).good_replica_on(second) is not None

    def test_verifying(self, zone: ZoneUnderTest, alice: Catalog, x: str) -> None:
        replica = stat_object(alice, x).replicas[0]
        assert zone.storage().verify(x, 0) == replica.checksum == alice.checksum(x)
        zone.place_file(replica.leaf, x, b"other!!")
        with refused(ZoneError, Code.USER_CHKSUM_MISMATCH):
            zone.storage().verify(x, 0)

    def test_damage_is_not_replicated(
        self, zone: ZoneUnderTest, alice: Catalog, x: str, first: str, second: str
    ) -> None:
        for damaged in (b"other!!", b"short"):
            zone.place_file(first, x, damaged)
            with refused(ZoneError, Code.USER_CHKSUM_MISMATCH, Code.SYS_COPY_LEN_ERR):
                alice.replicate(x, second)
        assert statuses(alice, x).get(second) is not GOOD


class ResourcesContract(Contract):
    def test_they_are_listed_for_everybody(self, zone: ZoneUnderTest, alice: Catalog) -> None:
        root = zone.make_resource("replication")
        leaf = zone.make_resource(parent=root)
        listed = {resource.name: resource for resource in alice.resources()}
        assert (listed[root].kind, listed[root].is_storage, listed[root].parent) == ("replication", False, "")
        assert (listed[root].host, listed[root].vault) == ("EMPTY_RESC_HOST", "EMPTY_RESC_PATH")
        assert (listed[leaf].is_storage, listed[leaf].is_up, listed[leaf].parent) == (True, True, root)
        assert listed[leaf].vault.startswith("/")
        assert list(listed) == sorted(listed)

    @pytest.mark.parametrize(
        ("status", "is_up"), [("down", False), ("auto-down", False), ("up", True), ("auto-up", True)]
    )
    def test_status(self, zone: ZoneUnderTest, alice: Catalog, status: str, is_up: bool) -> None:
        name = zone.make_resource()
        zone.set_resource_status(name, status)
        (found,) = [resource for resource in alice.resources() if resource.name == name]
        assert (found.status, found.is_up) == (status, is_up)

    def test_replication_writes_to_all_its_leaves(self, zone: ZoneUnderTest, alice: Catalog, here: str) -> None:
        root = zone.make_resource("replication")
        leaves = [zone.make_resource(parent=root) for _ in range(3)]
        alice.write(f"{here}/x", b"x", resource=root)
        assert statuses(alice, f"{here}/x") == dict.fromkeys(leaves, GOOD)
        assert {copy.hierarchy for copy in stat_object(alice, f"{here}/x").replicas} == {
            f"{root};{leaf}" for leaf in leaves
        }
        alice.write(f"{here}/x", b"newer", resource=root, force=True)
        assert statuses(alice, f"{here}/x") == dict.fromkeys(leaves, GOOD)
        assert {copy.size for copy in stat_object(alice, f"{here}/x").replicas} == {5}

    def test_passthru_writes_to_its_one(self, zone: ZoneUnderTest, alice: Catalog, here: str) -> None:
        root = zone.make_resource("passthru")
        leaf = zone.make_resource(parent=root)
        alice.write(f"{here}/x", b"x", resource=root)
        (replica,) = stat_object(alice, f"{here}/x").replicas
        assert (replica.root, replica.leaf) == (root, leaf)
        alice.write(f"{here}/y", b"y")
        alice.replicate(f"{here}/y", root)
        assert statuses(alice, f"{here}/y")[leaf] is GOOD

    def test_a_child_is_not_named(self, zone: ZoneUnderTest, alice: Catalog, here: str) -> None:
        child = zone.make_resource(parent=zone.make_resource("passthru"))
        alice.write(f"{here}/x", b"x")
        for attempt in attempts(
            lambda: alice.replicate(f"{here}/x", child),
            lambda: zone.storage().replicate(f"{here}/x", child),
            lambda: alice.write(f"{here}/y", b"y", resource=child),
        ):
            with refused(ZoneError, Code.DIRECT_CHILD_ACCESS):
                attempt()

    def test_unknown(self, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"x")
        for attempt in attempts(
            lambda: alice.replicate(f"{here}/x", "no-such-resource"),
            lambda: alice.write(f"{here}/y", b"y", resource="no-such-resource"),
        ):
            with refused(NotFound, Code.SYS_RESC_DOES_NOT_EXIST):
                attempt()

    def test_down(self, zone: ZoneUnderTest, alice: Catalog, here: str) -> None:
        broken = zone.make_resource()
        alice.write(f"{here}/x", b"x", resource=broken)
        alice.write(f"{here}/y", b"y")
        zone.set_resource_status(broken, "down")
        with refused(ZoneError, Code.SYS_REPLICA_INACCESSIBLE):
            alice.replicate(f"{here}/y", broken)
        with refused(ZoneError, Code.SYS_RESC_IS_DOWN, Code.HIERARCHY_ERROR):
            alice.write(f"{here}/z", b"z", resource=broken)
        with refused(ZoneError, Code.HIERARCHY_ERROR, Code.SYS_RESC_IS_DOWN):
            alice.read(f"{here}/x", ENOUGH)
        zone.set_resource_status(broken, "up")
        assert alice.read(f"{here}/x", ENOUGH) == b"x"

    def test_the_default_resource_is_down(self, zone: ZoneUnderTest, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"x")
        (replica,) = stat_object(alice, f"{here}/x").replicas
        zone.set_resource_status(replica.root, "down")
        try:
            with pytest.raises(ZoneError, match=replica.root) as caught:
                alice.write(f"{here}/y", b"y")
            assert caught.value.code is Code.SYS_RESC_IS_DOWN
            with refused(ZoneError, Code.SYS_RESC_IS_DOWN), zone.at_a_gateway(alice.user).open_to_write(f"{here}/y"):
                pytest.fail("it was opened")
        finally:
            zone.set_resource_status(replica.root, "up")

    def test_a_replica_elsewhere_is_read_when_one_is_down(self, zone: ZoneUnderTest, alice: Catalog, here: str) -> None:
        broken = zone.make_resource()
        alice.write(f"{here}/x", b"x", resource=broken)
        alice.replicate(f"{here}/x", zone.make_resource())
        zone.set_resource_status(broken, "down")
        assert alice.read(f"{here}/x", ENOUGH) == b"x"

    def test_without_quotas_nothing_is_bounded(self, zone: ZoneUnderTest) -> None:
        resource, user = zone.make_resource(), zone.make_user()
        assert zone.storage().quota_left(user, [resource]) is None
