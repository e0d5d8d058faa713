"""Reading parts of a data object that stays open, and whose file may grow or change meanwhile."""

from __future__ import annotations

import os

import pytest

from compute_to_data.errors import Code, NotFound
from compute_to_data.model import Access, Registration
from compute_to_data.ports.zone import Catalog, ClientCatalog
from zone_suite.zone_under_test import Contract, ZoneUnderTest, refused


class OpeningContract(Contract):
    def test_any_part_can_be_read(self, alice: ClientCatalog, here: str) -> None:
        content = bytes(range(256)) * 40
        alice.write(f"{here}/x", content)
        with alice.open_to_read(f"{here}/x") as found:
            for offset, size in ((0, 10), (5000, 300), (0, 1), (10_000, 1000), (10_239, 10)):
                assert found.read(offset, size) == content[offset : offset + size]
            assert found.read(len(content), 10) == b""

    def test_what_is_not_there_or_hidden(self, alice: ClientCatalog, bob: ClientCatalog, here: str) -> None:
        alice.write(f"{here}/x", b"abc")
        for catalog, name in ((alice, "missing"), (bob, "x")):
            with refused(NotFound, Code.OBJ_PATH_DOES_NOT_EXIST), catalog.open_to_read(f"{here}/{name}"):
                pytest.fail("it was opened")

    def test_a_reader_may_open_it(self, alice: ClientCatalog, bob: ClientCatalog, here: str) -> None:
        alice.write(f"{here}/x", b"abc")
        alice.set_access(here, bob.user, Access.READ_OBJECT)
        alice.set_access(f"{here}/x", bob.user, Access.READ_OBJECT)
        with bob.open_to_read(f"{here}/x") as found:
            assert found.read(1, 2) == b"bc"

    def test_a_file_that_changes_in_place(self, zone: ZoneUnderTest, alice: ClientCatalog, here: str) -> None:
        """As the log of a task does: a reader sees each change, also after the data object is unregistered."""
        if not zone.physical_paths_are_local:
            pytest.skip("the test cannot change the file")
        resource = zone.make_resource()
        on_behalf: Catalog = zone.storage().on_behalf_of(alice.user)
        physical_path = zone.place_file(resource, f"{here}/log", b"-" * 10_000)
        on_behalf.register(resource, [Registration(f"{here}/log", physical_path, 10_000, "")])
        with alice.open_to_read(f"{here}/log") as found, open(physical_path, "r+b", buffering=0) as file:
            assert found.read(0, 4) == b"----"
            os.pwrite(file.fileno(), b"head", 0)
            os.pwrite(file.fileno(), b"tail", 9_996)
            assert (found.read(0, 4), found.read(9_996, 4)) == (b"head", b"tail")
            on_behalf.unregister([f"{here}/log"])
            os.pwrite(file.fileno(), b"more", 5_000)
            os.unlink(physical_path)
            assert (found.read(5_000, 4), found.read(0, 5)) == (b"more", b"head-")
        with refused(NotFound, Code.OBJ_PATH_DOES_NOT_EXIST), alice.open_to_read(f"{here}/log"):
            pytest.fail("it was opened")
