"""A person's files into data objects and back."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import pytest
from support.reading import ENOUGH

from compute_to_data.client import datasets
from compute_to_data.client.session import Session
from compute_to_data.client.this_computer.settings import Settings
from compute_to_data.configuration import Attributes, ZoneSettings
from compute_to_data.errors import AccessDenied, AlreadyExists, Code, NotFound, ZoneError
from compute_to_data.model import Access, ReplicaStatus
from compute_to_data.ports.zone import ClientCatalog
from zone_suite.zone_under_test import Contract, ZoneUnderTest, refused, stat_object, statuses

LARGE = 40 * 1024 * 1024 + 12345
"""More than goes in one piece, or in an even number of them."""


RACING = pytest.mark.live_zone(reason="how far another connection has come is not the same twice")


def checksum_of(content: bytes) -> str:
    return "sha2:" + base64.b64encode(hashlib.sha256(content).digest()).decode()


def pattern(size: int) -> bytes:
    """Bytes of which no two blocks are alike."""
    return b"".join(number.to_bytes(8, "big") for number in range(-(-size // 8)))[:size]


class Interrupted(Exception):
    pass


class TransfersContract(Contract):
    @pytest.mark.parametrize("size", [0, 1, 1_000_000, LARGE], ids=["empty", "byte", "small", "large"])
    def test_there_and_back(self, alice: ClientCatalog, here: str, tmp_path: Path, size: int) -> None:
        content = pattern(size)
        (tmp_path / "a").write_bytes(content)
        told: list[int] = []
        assert alice.put(str(tmp_path / "a"), f"{here}/a", moved=told.append) == checksum_of(content)
        assert sum(told) == size
        (replica,) = stat_object(alice, f"{here}/a").replicas
        assert (replica.status, replica.size) == (ReplicaStatus.GOOD, size)
        assert replica.checksum == checksum_of(content)
        told.clear()
        assert alice.get(f"{here}/a", str(tmp_path / "b"), moved=told.append) == checksum_of(content)
        assert sum(told) == size
        assert (tmp_path / "b").read_bytes() == content
        assert sorted(os.listdir(tmp_path)) == ["a", "b"]

    def test_names(self, alice: ClientCatalog, here: str, tmp_path: Path) -> None:
        for name in ("a b", "it's", "%_*?[]", "größe", '&<>"', "-r"):
            (tmp_path / name).write_bytes(name.encode())
            alice.put(str(tmp_path / name), f"{here}/{name}")
            alice.get(f"{here}/{name}", str(tmp_path / f"{name}.back"))
            assert (tmp_path / f"{name}.back").read_bytes() == name.encode()

    def test_a_resource_may_be_named(
        self, zone: ZoneUnderTest, alice: ClientCatalog, here: str, tmp_path: Path
    ) -> None:
        resource = zone.make_resource()
        for size in (10, LARGE):
            (tmp_path / "a").write_bytes(pattern(size))
            alice.put(str(tmp_path / "a"), f"{here}/{size}", resource=resource)
            assert statuses(alice, f"{here}/{size}") == {resource: ReplicaStatus.GOOD}
            with refused(NotFound, Code.SYS_RESC_DOES_NOT_EXIST):
                alice.put(str(tmp_path / "a"), f"{here}/b", resource="noSuchResource")

    @pytest.mark.parametrize("size", [10, LARGE], ids=["small", "large"])
    def test_nothing_is_overwritten_unasked(self, alice: ClientCatalog, here: str, tmp_path: Path, size: int) -> None:
        (tmp_path / "a").write_bytes(pattern(size))
        alice.write(f"{here}/a", b"before")
        with refused(AlreadyExists, Code.OVERWRITE_WITHOUT_FORCE_FLAG):
            alice.put(str(tmp_path / "a"), f"{here}/a")
        assert alice.read(f"{here}/a", ENOUGH) == b"before"
        alice.put(str(tmp_path / "a"), f"{here}/a", force=True)
        assert alice.checksum(f"{here}/a") == checksum_of(pattern(size))
        (tmp_path / "b").write_bytes(b"before")
        with refused(AlreadyExists, Code.OVERWRITE_WITHOUT_FORCE_FLAG):
            alice.get(f"{here}/a", str(tmp_path / "b"))
        assert (tmp_path / "b").read_bytes() == b"before"
        assert sorted(os.listdir(tmp_path)) == ["a", "b"]

    def test_a_name_taken_while_bytes_come(self, alice: ClientCatalog, here: str, tmp_path: Path) -> None:
        alice.write(f"{here}/a", b"from the zone")
        with refused(AlreadyExists, Code.OVERWRITE_WITHOUT_FORCE_FLAG):
            alice.get(f"{here}/a", str(tmp_path / "a"), moved=lambda _: (tmp_path / "a").write_bytes(b"mine"))
        assert (tmp_path / "a").read_bytes() == b"mine"
        assert os.listdir(tmp_path) == ["a"]

    def test_a_link_is_not_followed(self, alice: ClientCatalog, here: str, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"secret")
        (tmp_path / "link").symlink_to("secret")
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "folder").mkdir()
        for name in ("link", "pipe", "folder"):
            with refused(ZoneError, Code.USER_INPUT_PATH_ERR):
                alice.put(str(tmp_path / name), f"{here}/a")
        with refused(NotFound, Code.USER_FILE_DOES_NOT_EXIST):
            alice.put(str(tmp_path / "missing"), f"{here}/a")
        assert alice.children(here) == ()
        alice.write(f"{here}/a", b"from the zone")
        (tmp_path / "dangling").symlink_to("made")
        for name in ("link", "dangling"):
            with refused(AlreadyExists, Code.OVERWRITE_WITHOUT_FORCE_FLAG):
                alice.get(f"{here}/a", str(tmp_path / name))
        assert (tmp_path / "secret").read_bytes() == b"secret"
        assert not (tmp_path / "made").exists()

    @pytest.mark.parametrize("size", [10, LARGE], ids=["small", "large"])
    def test_rights(self, alice: ClientCatalog, bob: ClientCatalog, here: str, tmp_path: Path, size: int) -> None:
        (tmp_path / "a").write_bytes(pattern(size))
        with refused(ZoneError, Code.CAT_NO_ACCESS_PERMISSION, Code.CAT_UNKNOWN_COLLECTION):
            bob.put(str(tmp_path / "a"), f"{here}/a")
        alice.put(str(tmp_path / "a"), f"{here}/a")
        with refused(NotFound, Code.OBJ_PATH_DOES_NOT_EXIST):
            bob.get(f"{here}/a", str(tmp_path / "b"))
        alice.set_access(here, bob.user, Access.READ_OBJECT)
        alice.set_access(f"{here}/a", bob.user, Access.READ_OBJECT)
        bob.get(f"{here}/a", str(tmp_path / "b"))
        with refused(AccessDenied, Code.CAT_NO_ACCESS_PERMISSION):
            bob.put(str(tmp_path / "a"), f"{here}/a", force=True)
        with refused(AccessDenied, Code.CAT_NO_ACCESS_PERMISSION):
            bob.put(str(tmp_path / "a"), f"{here}/c")
        assert alice.checksum(f"{here}/a") == checksum_of(pattern(size))

    def test_without_a_place(self, alice: ClientCatalog, here: str, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"a")
        with refused(NotFound, Code.CAT_UNKNOWN_COLLECTION):
            alice.put(str(tmp_path / "a"), f"{here}/missing/a")
        with refused(ZoneError, Code.SYS_INVALID_FILE_PATH):
            alice.put(str(tmp_path / "a"), f"{here}/../a")
        with refused(NotFound, Code.OBJ_PATH_DOES_NOT_EXIST):
            alice.get(f"{here}/missing", str(tmp_path / "b"))
        assert os.listdir(tmp_path) == ["a"]

    def test_a_file_that_changes_meanwhile(self, alice: ClientCatalog, here: str, tmp_path: Path) -> None:
        file = tmp_path / "a"
        file.write_bytes(pattern(LARGE))

        def change(count: int) -> None:
            with open(file, "r+b") as changed:
                changed.write(b"changed")
            os.utime(file, ns=(1, 1))

        with refused(ZoneError, Code.USER_CHKSUM_MISMATCH):
            alice.put(str(file), f"{here}/a", moved=change)
        self._need_nothing_good(alice, here, tmp_path)

    @RACING
    def test_a_file_that_becomes_shorter_meanwhile(self, alice: ClientCatalog, here: str, tmp_path: Path) -> None:
        file = tmp_path / "a"
        file.write_bytes(pattern(LARGE))
        with refused(ZoneError, Code.USER_CHKSUM_MISMATCH):
            alice.put(str(file), f"{here}/a", moved=lambda count: os.truncate(file, 1))
        self._need_nothing_good(alice, here, tmp_path)

    @RACING
    def test_an_interrupted_put_leaves_nothing_that_looks_good(
        self, alice: ClientCatalog, here: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "a"
        file.write_bytes(pattern(LARGE))

        def interrupt(count: int) -> None:
            raise Interrupted

        with pytest.raises(Interrupted):
            alice.put(str(file), f"{here}/a", moved=interrupt)
        self._need_nothing_good(alice, here, tmp_path)

    def _need_nothing_good(self, alice: ClientCatalog, here: str, tmp_path: Path) -> None:
        """And putting it again mends it."""
        for member in alice.children(here):
            assert ReplicaStatus.GOOD not in statuses(alice, member.logical_path).values()
        alice.put(str(tmp_path / "a"), f"{here}/a", force=True)
        assert set(statuses(alice, f"{here}/a").values()) == {ReplicaStatus.GOOD}

    @pytest.mark.parametrize("size", [10, pytest.param(LARGE, marks=RACING)], ids=["small", "large"])
    def test_an_interrupted_get_leaves_nothing(
        self, alice: ClientCatalog, here: str, tmp_path: Path, size: int
    ) -> None:
        (tmp_path / "a").write_bytes(pattern(size))
        alice.put(str(tmp_path / "a"), f"{here}/a")

        def interrupt(count: int) -> None:
            raise Interrupted

        with pytest.raises(Interrupted):
            alice.get(f"{here}/a", str(tmp_path / "b"), moved=interrupt)
        assert os.listdir(tmp_path) == ["a"]

    @pytest.mark.parametrize("size", [10, LARGE], ids=["small", "large"])
    def test_rotten_bytes_do_not_arrive(
        self, zone: ZoneUnderTest, alice: ClientCatalog, here: str, tmp_path: Path, size: int
    ) -> None:
        if not zone.physical_paths_are_local:
            pytest.skip("the vault is elsewhere")
        (tmp_path / "a").write_bytes(pattern(size))
        alice.put(str(tmp_path / "a"), f"{here}/a")
        with open(stat_object(alice, f"{here}/a").replicas[0].physical_path, "r+b") as rotten:
            rotten.write(b"R")
        with refused(ZoneError, Code.USER_CHKSUM_MISMATCH):
            alice.get(f"{here}/a", str(tmp_path / "b"))
        assert os.listdir(tmp_path) == ["a"]

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (ReplicaStatus.STALE, Code.SYS_REPLICA_DOES_NOT_EXIST),
            (ReplicaStatus.INTERMEDIATE, Code.INTERMEDIATE_REPLICA_ACCESS),
            (ReplicaStatus.WRITE_LOCKED, Code.LOCKED_DATA_OBJECT_ACCESS),
        ],
    )
    def test_only_a_good_replica_is_read(
        self, zone: ZoneUnderTest, alice: ClientCatalog, here: str, tmp_path: Path, status: ReplicaStatus, code: Code
    ) -> None:
        alice.write(f"{here}/a", b"a")
        zone.set_replica_status(f"{here}/a", 0, status)
        with refused(ZoneError, code):
            alice.get(f"{here}/a", str(tmp_path / "a"))
        assert os.listdir(tmp_path) == []

    def test_a_stale_data_object_is_put_again(
        self, zone: ZoneUnderTest, alice: ClientCatalog, here: str, tmp_path: Path
    ) -> None:
        """As a put leaves one whose connection was lost."""
        (tmp_path / "a").write_bytes(b"new")
        alice.write(f"{here}/a", b"old")
        zone.set_replica_status(f"{here}/a", 0, ReplicaStatus.STALE)
        alice.put(str(tmp_path / "a"), f"{here}/a", force=True)
        assert alice.read(f"{here}/a", ENOUGH) == b"new"


class DatasetsContract(Contract):
    @pytest.mark.live_zone(reason="when the folder's files were written goes to the zone, too")
    def test_a_folder_there_and_back(self, alice: ClientCatalog, here: str, tmp_path: Path) -> None:
        top = tmp_path / "data"
        for name in ("a b/it's.txt", "a b/größe/x.dat", "y.dat"):
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_bytes(pattern(100_000))
        (top / "empty").mkdir()
        for number in range(40):
            (top / f"many{number}").write_bytes(b"x" * number)
        session = Session(alice, Settings(ZoneSettings("unused"), attributes=Attributes()), project=here)
        done = datasets.upload(session, str(top))
        assert (done.files, done.sent) == (43, 43)
        (top / "y.dat").write_bytes(b"changed")
        assert datasets.upload(session, str(top), dataset=done.dataset).sent == 1
        datasets.download(session, done.dataset, str(tmp_path / "back"))
        assert self.tree(tmp_path / "back") == self.tree(top)
        (listed,) = datasets.listed(session)
        assert (listed.is_complete, listed.files, listed.folders) == (True, 43, 3)
        found = datasets.describe(session, done.dataset)
        assert (found.tasks, found.workloads) == ({}, ())
        datasets.remove(session, done.dataset)
        assert datasets.listed(session) == []

    @staticmethod
    def tree(top: Path) -> dict[str, tuple[bytes | None, int]]:
        return {
            str(path.relative_to(top)): (path.read_bytes() if path.is_file() else None, path.stat().st_mtime_ns)
            for path in top.rglob("*")
        }
