"""New data objects whose content arrives in pieces, as a gateway receives it."""

from __future__ import annotations

import hashlib
from contextlib import suppress

import pytest

from compute_to_data.errors import AlreadyExists, Code, NotFound, ZoneError
from compute_to_data.model import Access, ReplicaStatus
from compute_to_data.ports.zone import ClientCatalog
from zone_suite.transfers import checksum_of, pattern
from zone_suite.zone_under_test import Contract, ZoneUnderTest, refused, stat_object

CONTENT = pattern(9_000_000)


class Interrupted(Exception):
    pass


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


class ArrivingContract(Contract):
    def test_it_is_there_when_it_is_finished(self, zone: ZoneUnderTest, alice: ClientCatalog, here: str) -> None:
        with zone.at_a_gateway(alice.user).open_to_write(f"{here}/x") as arriving:
            arriving.write([CONTENT[:10], memoryview(CONTENT)[10:5_000_000]])
            arriving.write([CONTENT[5_000_000:]])
            with pytest.raises(ZoneError):
                alice.read(f"{here}/x", 1 << 30)
            assert arriving.finish(sha256(CONTENT)) == checksum_of(CONTENT)
        assert alice.read(f"{here}/x", 1 << 30) == CONTENT
        (replica,) = stat_object(alice, f"{here}/x").replicas
        assert (replica.status, replica.checksum) == (ReplicaStatus.GOOD, checksum_of(CONTENT))
        assert replica.size == len(CONTENT)
        alice.remove(f"{here}/x")

    @pytest.mark.parametrize("end", ["error", "given up", "another checksum"])
    def test_nothing_is_left_of_half(self, zone: ZoneUnderTest, alice: ClientCatalog, here: str, end: str) -> None:
        catalog = zone.at_a_gateway(alice.user)
        with suppress(Interrupted), catalog.open_to_write(f"{here}/x") as arriving:
            arriving.write([CONTENT])
            if end == "error":
                raise Interrupted
            if end == "another checksum":
                with refused(ZoneError, Code.USER_CHKSUM_MISMATCH):
                    arriving.finish(sha256(b"something else"))
        with pytest.raises(NotFound):
            alice.stat(f"{here}/x")
        alice.write(f"{here}/x", b"again")

    def test_what_cannot_be_written(
        self, zone: ZoneUnderTest, alice: ClientCatalog, bob: ClientCatalog, here: str
    ) -> None:
        alice.write(f"{here}/x", b"content")
        alice.set_access(here, bob.user, Access.READ_OBJECT)
        mine, another = zone.at_a_gateway(alice.user), zone.at_a_gateway(bob.user)
        for catalog, name in ((mine, "x"), (mine, "missing/x"), (another, "y")):
            with pytest.raises(ZoneError) as caught, catalog.open_to_write(f"{here}/{name}"):
                pytest.fail("it was opened")
            assert isinstance(caught.value, AlreadyExists) == (name == "x"), str(caught.value)
        broken = zone.make_resource()
        zone.set_resource_status(broken, "down")
        child = zone.make_resource(parent=zone.make_resource("passthru"))
        for resource, code in (
            (broken, Code.SYS_RESC_IS_DOWN), ("no-such-resource", Code.SYS_RESC_DOES_NOT_EXIST),
            (child, Code.DIRECT_CHILD_ACCESS),
        ):  # fmt: skip
            with refused(ZoneError, code), mine.open_to_write(f"{here}/y", resource=resource):
                pytest.fail("it was opened")
        with refused(ZoneError, Code.USER_INPUT_PATH_ERR), mine.open_to_write("/elsewhere/home/x"):
            pytest.fail("it was opened")
        assert alice.read(f"{here}/x", 100) == b"content"
        assert [one.logical_path for one in alice.children(here)] == [f"{here}/x"]

    def test_what_cannot_be_overwritten(
        self, zone: ZoneUnderTest, alice: ClientCatalog, bob: ClientCatalog, here: str
    ) -> None:
        """What can be known before the content is there, is: as ``write`` would say it."""
        own, broken, other = (zone.make_resource() for _ in range(3))
        child = zone.make_resource(parent=zone.make_resource("passthru"))
        for name, resource in (("x", own), ("shut", broken), ("busy", own)):
            alice.write(f"{here}/{name}", b"content", resource=resource)
        zone.set_resource_status(broken, "down")
        zone.set_replica_status(f"{here}/busy", 0, ReplicaStatus.WRITE_LOCKED)
        catalog = zone.at_a_gateway(alice.user)
        for resource in ("", own):
            catalog.need_overwritable(f"{here}/x", resource=resource)
        for name, resource, codes in (
            ("x", broken, (Code.SYS_RESC_IS_DOWN,)),
            ("x", "no-such-resource", (Code.SYS_RESC_DOES_NOT_EXIST,)),
            ("x", child, (Code.DIRECT_CHILD_ACCESS, Code.HIERARCHY_ERROR)),
            ("x", other, (Code.HIERARCHY_ERROR,)),
            ("shut", "", (Code.SYS_RESC_IS_DOWN, Code.HIERARCHY_ERROR)),
            ("busy", "", (Code.LOCKED_DATA_OBJECT_ACCESS,)),
        ):
            with refused(ZoneError, *codes):
                catalog.need_overwritable(f"{here}/{name}", resource=resource)
            with refused(ZoneError, *codes):
                alice.write(f"{here}/{name}", b"newer", resource=resource, force=True)
        assert alice.read(f"{here}/x", 100) == b"content"
        zone.set_replica_status(f"{here}/busy", 0, ReplicaStatus.GOOD)
