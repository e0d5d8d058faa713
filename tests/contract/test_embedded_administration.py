"""What is the embedded zone's own: its directory, its administrator's calls, where files lie."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.reading import ENOUGH
from zone_suite.zone_under_test import refused, stat_object

from compute_to_data.errors import AlreadyExists, Code, ConfigurationError, NotFound, ZoneError
from compute_to_data.model import Access, Avu, Entity, EntityKind, Query, Registration, User, UserKind
from compute_to_data.zones.embedded import EmbeddedZone
from compute_to_data.zones.embedded.audit import audit
from compute_to_data.zones.embedded.schema import VERSION

HOME = "/tempZone/home/alice"


@pytest.fixture
def zone(tmp_path: Path) -> Iterator[EmbeddedZone]:
    with EmbeddedZone.create(tmp_path / "zone") as zone:
        zone.add_user("alice")
        yield zone
    assert audit(str(tmp_path / "zone")) == []


def _file(zone: EmbeddedZone, logical_path: str) -> Path:
    """The file of replica 0."""
    alice = zone.session(User("alice", zone.name))
    return Path(stat_object(alice, logical_path).replicas[0].physical_path)


class TestOpening:
    def test_what_was_made_is_there_again(self, zone: EmbeddedZone) -> None:
        zone.session(User("alice", "tempZone")).write(f"{HOME}/x", b"x")
        with EmbeddedZone(zone.directory) as again:
            assert (again.name, again.admin) == ("tempZone", User("rods", "tempZone"))
            assert again.session(User("alice", "tempZone")).read(f"{HOME}/x", ENOUGH) == b"x"

    def test_names_can_be_chosen(self, tmp_path: Path) -> None:
        with EmbeddedZone.create(tmp_path / "z", zone="north", admin="root") as zone:
            assert zone.storage().zone == "north"
            assert zone.storage().catalog.user == User("root", "north")

    def test_nothing_is_made_by_opening(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="create"):
            EmbeddedZone(tmp_path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("content", [b"", b"no database at all, but long enough to look at" * 9])
    def test_no_catalog(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "zone.db").write_bytes(content)
        with pytest.raises(ConfigurationError, match="catalog"):
            EmbeddedZone(tmp_path)
        assert (tmp_path / "zone.db").read_bytes() == content

    def test_a_catalog_of_another_release(self, zone: EmbeddedZone) -> None:
        zone.close()
        connection = sqlite3.connect(os.path.join(zone.directory, "zone.db"))
        connection.execute("PRAGMA user_version = 99")
        with pytest.raises(ConfigurationError, match="version 99"):
            EmbeddedZone(zone.directory)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.close()

    def test_a_catalog_of_the_first_version_is_upgraded(self, zone: EmbeddedZone) -> None:
        catalog = zone.storage().catalog
        home = f"{catalog.user.home_in(zone.storage().zone)}/x"
        catalog.create_collection(home)
        avu = Avu("a", "v", "u")
        catalog.annotate(Entity(EntityKind.COLLECTION, home), add=[avu])
        zone.close()
        connection = sqlite3.connect(os.path.join(zone.directory, "zone.db"))
        connection.executescript("""
            CREATE TABLE earlier AS SELECT entity, attribute, value, units FROM avu;
            DROP TABLE avu;
            CREATE TABLE avu (entity INTEGER, attribute TEXT, value TEXT, units TEXT,
                              PRIMARY KEY (entity, attribute, value, units)) WITHOUT ROWID;
            INSERT INTO avu SELECT * FROM earlier;
            PRAGMA user_version = 1;
        """)
        connection.close()
        storage = EmbeddedZone(zone.directory).storage()
        assert storage.avus(Entity(EntityKind.COLLECTION, home)) == (avu,)
        query = Query(EntityKind.COLLECTION, "a", "v", "u")
        assert [one.owner for one in storage.count_by_owner(query)] == [storage.catalog.user]

    def test_a_catalog_of_the_second_version_is_upgraded(self, zone: EmbeddedZone) -> None:
        zone.close()
        connection = sqlite3.connect(os.path.join(zone.directory, "zone.db"))
        connection.executescript("DROP INDEX avu_of_owner; PRAGMA user_version = 2;")
        EmbeddedZone(zone.directory).close()
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'avu_of_owner'").fetchone()
        connection.close()

    def test_a_listing_and_a_queue_read_their_index_and_sort_nothing(self, zone: EmbeddedZone) -> None:
        """However many tasks there are, a page and the next task need only their first rows."""
        alice = User("alice", "tempZone")
        state = Query(EntityKind.COLLECTION, "state", owner=alice, limit=50)
        plans = {
            "avu_of_owner": replace(state, newest_first=True),
            "avu_by_owner": replace(state, value="v", units="u"),
        }
        session = zone.session(alice)
        seen: list[str] = []
        zone._store.database.connection().set_trace_callback(seen.append)
        for index, query in plans.items():
            seen.clear()
            session.query(query)
            (statement,) = [one for one in seen if "CROSS JOIN" in one]
            plan = zone._store.database.connection().execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
            assert f"SEARCH v USING INDEX {index}" in str(plan).replace("COVERING INDEX", "INDEX"), plan
            assert "USE TEMP B-TREE FOR ORDER BY" not in str(plan), plan

    def test_making_one_over_another(self, zone: EmbeddedZone) -> None:
        with pytest.raises(AlreadyExists):
            EmbeddedZone.create(zone.directory)


class TestFiles:
    def test_they_lie_where_the_logical_path_says(self, zone: EmbeddedZone) -> None:
        zone.session(User("alice", "tempZone")).write(f"{HOME}/x", b"x")
        assert _file(zone, f"{HOME}/x") == Path(zone.directory, "vaults", "demoResc", "home", "alice", "x")

    def test_the_directory_keeps_others_out_and_a_job_may_read_its_input(self, tmp_path: Path) -> None:
        before = os.umask(0o077)
        try:
            with EmbeddedZone.create(tmp_path / "z") as zone:
                zone.add_user("alice")
                zone.session(User("alice", "tempZone")).write(f"{HOME}/x", b"x")
                file = _file(zone, f"{HOME}/x")
        finally:
            os.umask(before)
        assert stat.S_IMODE(os.stat(tmp_path / "z").st_mode) == 0o700
        assert stat.S_IMODE(file.stat().st_mode) == 0o644
        for directory in list(file.parents)[:4]:
            assert stat.S_IMODE(directory.stat().st_mode) == 0o755, directory

    def test_they_follow_a_renaming(self, zone: EmbeddedZone) -> None:
        alice = zone.session(User("alice", "tempZone"))
        alice.create_collection(f"{HOME}/a")
        alice.write(f"{HOME}/a/x", b"x")
        alice.rename(f"{HOME}/a", f"{HOME}/b")
        vault = Path(zone.directory, "vaults", "demoResc", "home", "alice")
        assert _file(zone, f"{HOME}/b/x") == vault / "b" / "x"
        assert [path.name for path in vault.iterdir()] == ["b"]

    def test_those_outside_the_vaults_stay(self, zone: EmbeddedZone, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").write_bytes(b"x")
        on_behalf = zone.storage().on_behalf_of(User("alice", "tempZone"))
        on_behalf.register("demoResc", [Registration(f"{HOME}/x", str(tmp_path / "elsewhere"), 1, "")])
        on_behalf.rename(f"{HOME}/x", f"{HOME}/y")
        assert _file(zone, f"{HOME}/y") == tmp_path / "elsewhere"

    def test_a_strangers_file_is_never_touched(self, zone: EmbeddedZone) -> None:
        """A job's output may lie where a new data object's file would go."""
        vault = Path(zone.directory, "vaults", "demoResc", "home", "alice")
        (vault / "a").mkdir(parents=True)
        for name in ("x", "a/x"):
            (vault / name).write_bytes(b"stranger")
        alice = zone.session(User("alice", "tempZone"))
        alice.create_collection(f"{HOME}/a")
        alice.write(f"{HOME}/x", b"mine")
        alice.rename(f"{HOME}/x", f"{HOME}/a/x")
        assert alice.read(f"{HOME}/a/x", ENOUGH) == b"mine"
        alice.remove(f"{HOME}/a", recursive=True)
        assert zone.sweep() == 0
        assert [(vault / name).read_bytes() for name in ("x", "a/x")] == [b"stranger"] * 2

    def test_a_missing_file_is_said_to_be_missing(self, zone: EmbeddedZone) -> None:
        alice = zone.session(User("alice", "tempZone"))
        alice.write(f"{HOME}/x", b"x")
        _file(zone, f"{HOME}/x").unlink()
        with refused(ZoneError, Code.UNIX_FILE_OPEN_ERR):
            alice.read(f"{HOME}/x", ENOUGH)
        alice.remove(f"{HOME}/x")

    def test_a_name_too_long_for_the_file_system(self, zone: EmbeddedZone) -> None:
        alice = zone.session(User("alice", "tempZone"))
        path = f"{HOME}/{'x' * 300}"
        alice.write(path, b"x")
        assert alice.read(path, ENOUGH) == b"x"
        assert zone.sweep() == 0, "its file has another name"


class TestAdministration:
    def test_names_are_given_once(self, zone: EmbeddedZone) -> None:
        zone.add_resource("r")
        for again in (
            lambda: zone.add_user("alice"),
            lambda: zone.add_group("alice"),
            lambda: zone.add_resource("r"),
        ):
            with refused(AlreadyExists, Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME):
                again()

    def test_a_user_of_another_zone_is_another_user(self, zone: EmbeddedZone) -> None:
        other = zone.add_user("alice", zone="elsewhere")
        assert other == User("alice", "elsewhere")
        alice = zone.session(User("alice", "tempZone"))
        alice.write(f"{HOME}/x", b"x")
        assert zone.session(other).access(f"{HOME}/x") is Access.NULL
        assert zone.session(other).access(f"{HOME}#elsewhere") is Access.OWN

    def test_a_home_with_something_in_it_stays(self, zone: EmbeddedZone) -> None:
        alice = zone.session(User("alice", "tempZone"))
        alice.write(f"{HOME}/x", b"x")
        with refused(ZoneError, Code.CAT_COLLECTION_NOT_EMPTY):
            zone.remove_user(alice.user)
        alice.remove(f"{HOME}/x")
        zone.remove_user(alice.user)
        with refused(NotFound, Code.CAT_INVALID_USER):
            alice.stat("/tempZone/home")

    def test_a_rodsadmin_may_register(self, zone: EmbeddedZone) -> None:
        session = zone.session(zone.add_user("boss", UserKind.RODSADMIN))
        session.register("demoResc", [Registration("/tempZone/home/boss/x", "/nowhere/x", 1, "")])
        session.unregister(["/tempZone/home/boss/x"])

    def test_the_default_resource(self, zone: EmbeddedZone) -> None:
        zone.add_resource("other")
        assert zone.default_resource == "demoResc"
        zone.set_default_resource("other")
        zone.session(User("alice", "tempZone")).write(f"{HOME}/x", b"x")
        assert "/vaults/other/" in str(_file(zone, f"{HOME}/x"))

    def test_a_vault_can_be_anywhere(self, zone: EmbeddedZone, tmp_path: Path) -> None:
        zone.add_resource("far", vault=str(tmp_path / "far away"), host="storage.example.org")
        zone.session(User("alice", "tempZone")).write(f"{HOME}/x", b"x", resource="far")
        assert _file(zone, f"{HOME}/x") == tmp_path / "far away" / "home" / "alice" / "x"

    def test_a_hierarchy_has_two_levels(self, zone: EmbeddedZone) -> None:
        zone.add_resource("one", "passthru")
        zone.add_resource("leaf", parent="one")
        for name, kind, parent in (
            ("a", "unixfilesystem", "one"),
            ("b", "replication", "one"),
            ("c", "unixfilesystem", "leaf"),
            ("d", "tape", ""),
        ):
            with refused(ZoneError, Code.CAT_INVALID_ARGUMENT):
                zone.add_resource(name, kind, parent)
        zone.add_resource("empty", "replication")
        with refused(ZoneError, Code.HIERARCHY_ERROR):
            zone.session(User("alice", "tempZone")).write(f"{HOME}/x", b"x", resource="empty")
