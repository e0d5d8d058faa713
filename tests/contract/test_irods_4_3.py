"""Where an iRODS 4.3 server needs another treatment than one of 5.0. The recorded answers are those of 4.3.5.

``irods_zone.py`` says which environment variables name a server.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.reading import ENOUGH
from zone_suite.zone_under_test import a_collection, an_object, refused

from compute_to_data.errors import Code, ZoneError
from compute_to_data.irods_names import is_broken_by_43
from compute_to_data.model import Access, Avu
from compute_to_data.ports.zone import Catalog
from compute_to_data.zones.irods import older_servers

if TYPE_CHECKING:
    from irods_zone import IrodsZoneUnderTest

BROKEN = ["it's and x", "it's AND x", "a' and 'b", "o'brien/salt and pepper"]
TAKEN = ["a'b'c and x", "x and it's", "salt and pepper/it's", "a'b'c/salt and pepper", "it's/x", "h#sh"]
"""Seen on 4.3.5."""


@pytest.fixture
def zone(irods_zone: IrodsZoneUnderTest) -> IrodsZoneUnderTest:
    return irods_zone


@pytest.fixture
def alice(zone: IrodsZoneUnderTest) -> Catalog:
    return zone.session(zone.make_user())


@pytest.fixture
def here(zone: IrodsZoneUnderTest, alice: Catalog) -> str:
    if zone.server_version >= (5,):
        pytest.skip("this zone is of iRODS 5.0 or later; a dialogue of 4.3.5 is replayed without a zone")
    return zone.scratch(alice.user)


def test_the_names_are_told_apart() -> None:
    assert [name for name in (*BROKEN, *TAKEN) if is_broken_by_43(f"/tempZone/home/alice/{name}")] == BROKEN


@pytest.mark.parametrize("name", BROKEN)
def test_a_name_that_the_server_breaks_is_refused(alice: Catalog, here: str, name: str) -> None:
    """Before, a stale data object or a collection stayed that the server could not remove."""
    beyond, _, _ = name.partition("/")
    if beyond != name:
        alice.create_collection(f"{here}/{beyond}")
    for make in (lambda: alice.write(f"{here}/{name}", b"x"), lambda: alice.create_collection(f"{here}/{name}")):
        with refused(ZoneError, Code.USER_INPUT_PATH_ERR):
            make()
    assert alice.access(f"{here}/{name}") is Access.NULL


@pytest.mark.parametrize("name", TAKEN)
def test_a_name_that_the_server_takes(alice: Catalog, here: str, name: str) -> None:
    beyond, _, _ = name.partition("/")
    if beyond != name:
        alice.create_collection(f"{here}/{beyond}")
    path = f"{here}/{name}"
    alice.write(path, b"x")
    for entity in (an_object(path), a_collection(path.rpartition("/")[0])):
        alice.annotate(entity, add=[Avu("a", "it's", "u"), Avu("b", "1")])
        alice.annotate(entity, add=[Avu("c", "2")], remove=[Avu("b", "1")])
        assert alice.avus(entity) == (Avu("a", "it's", "u"), Avu("c", "2"))
    assert alice.read(path, ENOUGH) == b"x"
    alice.remove(path)
    assert alice.access(path) is Access.NULL


@pytest.mark.parametrize("member", ["salt and pepper", "salt and pepper/x"])
def test_a_renamed_collection_breaks_no_name_of_a_member(alice: Catalog, here: str, member: str) -> None:
    alice.create_collection(f"{here}/plain/{member}".rpartition("/")[0], parents=True)
    alice.write(f"{here}/plain/{member}", b"x")
    with refused(ZoneError, Code.USER_INPUT_PATH_ERR):
        alice.rename(f"{here}/plain", f"{here}/it's")
    alice.rename(f"{here}/plain", f"{here}/a'b'c")
    assert alice.read(f"{here}/a'b'c/{member}", ENOUGH) == b"x"


def test_a_name_that_imv_has_broken(
    zone: IrodsZoneUnderTest, alice: Catalog, here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, reading it ended the agent, and the error said that the server does not run."""
    resource, path = zone.make_resource(), f"{here}/it's/salt and pepper"
    alice.create_collection(f"{here}/plain")
    alice.write(f"{here}/plain/salt and pepper", b"x")
    monkeypatch.setattr(older_servers, "need_one_that_keeps_members", lambda *_: None)
    alice.rename(f"{here}/plain", f"{here}/it's")
    session = zone.at_a_gateway(alice.user)
    uses = [
        lambda: alice.read(path, ENOUGH),
        lambda: session.get(path, str(tmp_path / "got")),
        lambda: session.open_to_read(path).__enter__(),
        lambda: alice.write(path, b"y", force=True),
        lambda: alice.replicate(path, resource),
        lambda: zone.storage().replicate(path, resource),
        lambda: alice.remove(path),
    ]
    for use in uses:
        with refused(ZoneError, Code.USER_INPUT_PATH_ERR):
            use()
    alice.annotate(an_object(path), add=[Avu("a", "1")])
    assert alice.checksum(path).startswith("sha2:")
    alice.rename(path, f"{here}/it's/salt")
    assert alice.read(f"{here}/it's/salt", ENOUGH) == b"x"
    assert alice.avus(an_object(f"{here}/it's/salt")) == (Avu("a", "1"),)
