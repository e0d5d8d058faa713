"""What only a real iRODS server can show of its adapter: connections, resources that change, zones.

``irods_zone.py`` says which environment variables name a server; without them its answers are those
that were recorded, see ``dialogues/``.
"""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.reading import ENOUGH
from zone_suite.zone_under_test import a_collection, an_object, refused, stat_object

from compute_to_data.configuration import ZoneSettings
from compute_to_data.errors import AccessDenied, Code, ConfigurationError, OutOfReach, TooLarge, ZoneError
from compute_to_data.model import Access, Avu, Collection, Entity, EntityKind, Query, Registration, ReplicaStatus, User
from compute_to_data.ports.zone import Catalog, ClientCatalog
from compute_to_data.zones import open_storage
from compute_to_data.zones.irods import dead_transfers, finding, newest

if TYPE_CHECKING:
    from irods_zone import IrodsZoneUnderTest


@pytest.fixture
def zone(irods_zone: IrodsZoneUnderTest) -> IrodsZoneUnderTest:
    return irods_zone


@pytest.fixture
def alice(zone: IrodsZoneUnderTest) -> Catalog:
    return zone.session(zone.make_user())


@pytest.fixture
def here(zone: IrodsZoneUnderTest, alice: Catalog) -> str:
    return zone.scratch(alice.user)


def cut(zone: IrodsZoneUnderTest, user: User) -> int:
    """End a user's idle connections as a server that goes away does; returns how many there were."""
    idle = zone.idle_connections(user)
    for connection in idle:
        connection.socket.shutdown(socket.SHUT_RDWR)
    return len(idle)


class TestConnections:
    def test_one_that_ended_meanwhile_is_not_used(self, zone: IrodsZoneUnderTest, alice: Catalog, here: str) -> None:
        assert cut(zone, alice.user) == 1
        alice.create_collection(f"{here}/a")
        assert cut(zone, alice.user) == 1
        alice.rename(f"{here}/a", f"{here}/b")

    def test_one_lost_on_the_way_is_replaced_where_that_is_harmless(
        self, zone: IrodsZoneUnderTest, alice: Catalog, here: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("compute_to_data.zones.irods.connections._is_dead", lambda connection: False)
        assert cut(zone, alice.user) == 1
        alice.annotate(a_collection(here), add=[Avu("a", "v")])
        assert cut(zone, alice.user) == 1
        assert alice.avus(a_collection(here)) == (Avu("a", "v"),)
        assert cut(zone, alice.user) == 1
        with refused(ZoneError, Code.USER_SOCK_CONNECT_ERR):
            alice.create_collection(f"{here}/a")
        alice.create_collection(f"{here}/a")

    def test_threads_share_a_session(self, alice: Catalog, here: str) -> None:
        def work(number: int) -> tuple[bytes, int]:
            path = f"{here}/x{number}"
            alice.write(path, str(number).encode())
            alice.annotate(an_object(path), add=[Avu("n", str(number))])
            return alice.read(path, ENOUGH), stat_object(alice, path).size

        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(work, range(24)))
        assert found == [(str(number).encode(), len(str(number))) for number in range(24)]

    def test_few_are_kept(self, zone: IrodsZoneUnderTest, alice: Catalog, here: str) -> None:
        from compute_to_data.zones.irods.connections import KEPT_IDLE

        with ThreadPoolExecutor(KEPT_IDLE + 2) as pool:
            list(pool.map(lambda _: alice.stat(here), range(30)))
        assert len(zone.idle_connections(alice.user)) <= KEPT_IDLE

    def test_what_is_too_large_costs_none(self, zone: IrodsZoneUnderTest, alice: Catalog, here: str) -> None:
        """A new one takes longer than many questions, and any user can make things too large."""
        alice.annotate(a_collection(here), add=[Avu("a", "1"), Avu("a", "2")])
        alice.write(f"{here}/x", b"content")
        before = zone.idle_connections(alice.user)
        with pytest.raises(TooLarge):
            alice.avus(a_collection(here), "a", most=1)
        with pytest.raises(TooLarge):
            alice.read(f"{here}/x", 1)
        with pytest.raises(TooLarge):
            alice.children(here, 0)
        assert zone.idle_connections(alice.user) == before
        assert len(alice.avus(a_collection(here), "a")) == 2

    def test_nobody_listens(self, tmp_path: object) -> None:
        from compute_to_data.zones.irods import IrodsStorage, environment

        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            keys = {"irods_host": "127.0.0.1", "irods_port": unused.getsockname()[1]}
            account = environment.account("irods_environment.json", keys, "rods", "tempZone", "x")
            with refused(ZoneError, Code.USER_SOCK_CONNECT_ERR):
                IrodsStorage(account).find(Query(EntityKind.COLLECTION, "a", "v", "u"))

    def test_an_ordinary_user_is_no_service_account(self, zone: IrodsZoneUnderTest, alice: Catalog) -> None:
        with pytest.raises(ConfigurationError, match="is no rodsadmin"):
            open_storage(ZoneSettings("irods", {"environment_file": zone.environment_of(alice.user)}))


class TestNewResources:
    """A server's process knows the resources as they were when it began."""

    def test_known_to_a_kept_connection(self, zone: IrodsZoneUnderTest, alice: Catalog, here: str) -> None:
        assert zone.idle_connections(alice.user)
        resource = zone.make_resource(seen_by_all=False)
        alice.write(f"{here}/x", b"x", resource=resource)
        assert stat_object(alice, f"{here}/x").replicas[0].hierarchy == resource

    def test_registering_there(self, zone: IrodsZoneUnderTest, alice: Catalog, here: str) -> None:
        on_behalf = zone.storage().on_behalf_of(alice.user)
        assert isinstance(on_behalf.stat(here), Collection)
        resource = zone.make_resource(seen_by_all=False)
        path = zone.place_file(resource, f"{here}/x", b"x")
        on_behalf.register(resource, [Registration(f"{here}/x", path, 1, "")])
        (replica,) = stat_object(alice, f"{here}/x").replicas
        assert (replica.hierarchy, replica.physical_path) == (resource, path)


class TestNames:
    @pytest.mark.parametrize("name", ["it's", "'", "''", "a||b", "a && b", "a\r\nb", "\x01", "<x>&amp;", "]]>"])
    def test_in_questions(self, alice: Catalog, here: str, name: str) -> None:
        alice.create_collection(f"{here}/{name}")
        for other in (name.replace("'", "_"), name.replace("'", "x")):
            if other != name:
                alice.create_collection(f"{here}/{other}")
                alice.annotate(a_collection(f"{here}/{other}"), add=[Avu("a", "v")])
        assert alice.stat(f"{here}/{name}").logical_path == f"{here}/{name}"
        assert alice.access(f"{here}/{name}") is Access.OWN
        assert alice.children(f"{here}/{name}") == ()
        assert alice.avus(a_collection(f"{here}/{name}")) == ()
        alice.remove(f"{here}/{name}")
        assert alice.access(f"{here}/{name}") is Access.NULL


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """This host goes by another name than its resources' host."""
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere.example.org")
    monkeypatch.setattr(socket, "getfqdn", lambda name="": "elsewhere.example.org")


class TestOtherZones:
    def test_a_namesake_is_another_user(self, zone: IrodsZoneUnderTest, alice: Catalog, here: str) -> None:
        namesake = zone.make_namesake(alice.user)
        foreign = zone.storage().on_behalf_of(namesake)
        assert (foreign.user, foreign.access(here)) == (namesake, Access.NULL)
        alice.set_access(here, namesake, Access.READ_OBJECT)
        assert foreign.access(here) is Access.READ_OBJECT
        assert {(row.user, row.access) for row in alice.permissions(here)} == {
            (alice.user, Access.OWN),
            (namesake, Access.READ_OBJECT),
        }
        with refused(AccessDenied, Code.CAT_NO_ACCESS_PERMISSION):
            foreign.annotate(a_collection(here), add=[Avu("a", "v")])
        assert alice.avus(a_collection(here)) == ()


class TestDeadTransfers:
    """A server that is killed while it writes a replica leaves it intermediate, and all others locked."""

    @pytest.fixture
    def left(self, zone: IrodsZoneUnderTest, alice: Catalog, here: str) -> tuple[str, str]:
        """A data object, and the resource where its replica was being written."""
        origin, resource, path = zone.make_resource(), zone.make_resource(), f"{here}/x"
        alice.write(path, b"whole", resource=origin)
        replica = zone.storage().replicate(path, resource)
        Path(replica.physical_path).write_bytes(b"ha")
        zone.set_replica_status(path, 1, ReplicaStatus.INTERMEDIATE)
        zone.set_replica_status(path, 0, ReplicaStatus.WRITE_LOCKED, note='{"original_status":"1"}')
        with refused(ZoneError, Code.LOCKED_DATA_OBJECT_ACCESS):
            alice.write(path, b"other", force=True)
        return path, resource

    def test_it_is_written_anew(self, zone: IrodsZoneUnderTest, alice: Catalog, left: tuple[str, str]) -> None:
        path, resource = left
        made = zone.storage().replicate(path, resource)
        assert Path(made.physical_path).read_bytes() == b"whole"
        assert [one.status for one in stat_object(alice, path).replicas] == [ReplicaStatus.GOOD, ReplicaStatus.GOOD]
        alice.write(path, b"other", force=True)

    def test_one_that_begins_and_ends_after_the_look(
        self, zone: IrodsZoneUnderTest, alice: Catalog, here: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As the agent of a worker that was killed does: the next worker's first request finds no usable replica."""
        origin, resource, path = zone.make_resource(), zone.make_resource(), f"{here}/x"
        alice.write(path, b"whole", resource=origin)
        looks: list[str] = []

        def is_left(*_: object) -> bool:
            zone.set_replica_status(path, 0, ReplicaStatus.GOOD if looks else ReplicaStatus.READ_LOCKED)
            looks.append(path)
            return False

        monkeypatch.setattr(dead_transfers, "is_left", is_left)
        made = zone.storage().replicate(path, resource)
        assert Path(made.physical_path).read_bytes() == b"whole"
        assert len(looks) == 2

    @pytest.mark.parametrize("status", [ReplicaStatus.READ_LOCKED, ReplicaStatus.WRITE_LOCKED])
    def test_one_to_another_resource_is_waited_for(
        self, zone: IrodsZoneUnderTest, alice: Catalog, here: str, status: ReplicaStatus
    ) -> None:
        origin, resource, path = zone.make_resource(), zone.make_resource(), f"{here}/x"
        alice.write(path, b"whole", resource=origin)
        zone.set_replica_status(path, 0, status)
        with pytest.raises(OutOfReach, match="something is at work on its replicas"):
            zone.storage().replicate(path, resource)
        zone.set_replica_status(path, 0, ReplicaStatus.GOOD)
        assert Path(zone.storage().replicate(path, resource).physical_path).read_bytes() == b"whole"

    def test_it_is_trimmed(self, zone: IrodsZoneUnderTest, alice: Catalog, left: tuple[str, str]) -> None:
        path, resource = left
        zone.storage().trim(path, resource)
        (replica,) = stat_object(alice, path).replicas
        assert replica.status is ReplicaStatus.GOOD
        assert alice.read(path, ENOUGH) == b"whole"

    def test_one_that_goes_on_is_left_alone(
        self, zone: IrodsZoneUnderTest, alice: Catalog, left: tuple[str, str]
    ) -> None:
        path, resource = left
        before = stat_object(alice, path).replicas
        with open(before[1].physical_path, "ab"):
            for operation in (zone.storage().replicate, zone.storage().trim):
                with pytest.raises(OutOfReach, match="is still being written"):
                    operation(path, resource)
        assert stat_object(alice, path).replicas == before

    def test_one_on_another_host_is_left_alone(
        self, zone: IrodsZoneUnderTest, alice: Catalog, left: tuple[str, str], elsewhere: None
    ) -> None:
        """Nobody can see from here whether it is still being written."""
        path, resource = left
        before = stat_object(alice, path).replicas
        with pytest.raises(OutOfReach, match="is still being written"):
            zone.storage().replicate(path, resource)
        assert stat_object(alice, path).replicas == before


class TestReplicasOnAnotherHost:
    """What is read there is read by the server there."""

    def test_verifying(self, zone: IrodsZoneUnderTest, alice: Catalog, here: str, elsewhere: None) -> None:
        alice.write(f"{here}/x", b"content", resource=zone.make_resource())
        (replica,) = stat_object(alice, f"{here}/x").replicas
        assert zone.storage().verify(f"{here}/x", 0) == replica.checksum != ""
        for damage in (b"other!!", b"short"):
            Path(replica.physical_path).write_bytes(damage)
            with refused(ZoneError, Code.USER_CHKSUM_MISMATCH):
                zone.storage().verify(f"{here}/x", 0)
        Path(replica.physical_path).unlink()
        with refused(ZoneError, Code.USER_CHKSUM_MISMATCH):
            zone.storage().verify(f"{here}/x", 0)
        with refused(ZoneError, Code.SYS_REPLICA_DOES_NOT_EXIST):
            zone.storage().verify(f"{here}/x", 7)


def test_a_query_among_many_collections_is_asked_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server limits how long a statement is, and a quote in a list cannot be expressed."""
    asked: list[list[str]] = []

    def answer(connection: object, columns: object, conditions: list[Any], **more: object) -> list[tuple[str, ...]]:
        asked.append([condition.render() for condition in conditions])
        return [(str(100 - len(asked)), f"/z/{len(asked)}", "value", "units")]

    monkeypatch.setattr(newest, "select", answer)
    long = tuple(f"/z/{number}{'x' * 1000}" for number in range(8))
    names = (*(f"/z/{number}" for number in range(120)), "/z/it's", *long)
    found = finding.find(None, Query(EntityKind.COLLECTION, "a", among=names))  # type: ignore[arg-type]
    lists = [parts[0] for parts in asked]
    assert lists[0] == "= '/z/it's'"
    assert all(part.startswith("in ('/z/") and len(part) < 4300 for part in lists[1:])
    assert sorted(name for part in lists[1:] for name in part[4:-1].replace("'", "").split(",")) == sorted(
        name for name in names if "'" not in name
    )
    assert len(lists) == 1 + 3 + 2
    assert list(found) == [f"/z/{number}" for number in range(len(lists), 0, -1)], "by their ids"
    assert finding.find(None, Query(EntityKind.COLLECTION, "a", among=())) == ()  # type: ignore[arg-type]


class TestTheNewest:
    """A page is found from the newest collections on, in ranges of ids."""

    @pytest.fixture
    def pages(self, monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[str, ...]] | None]:
        """What was found so; None for each question that was then asked in the other way."""
        found: list[list[tuple[str, ...]] | None] = []
        page = newest.page

        def noted(*given: Any) -> list[tuple[str, ...]] | None:
            found.append(page(*given))
            return found[-1]

        monkeypatch.setattr(newest, "page", noted)
        return found

    @pytest.fixture
    def made(self, zone: IrodsZoneUnderTest, alice: Catalog, here: str) -> list[str]:
        """Collections that bear an AVU, newest first, between others that do not, and gaps in the ids."""
        bob = zone.session(zone.make_user())
        elsewhere = zone.scratch(bob.user)
        made = []
        for number in range(9):
            path = f"{here}/t{number}"
            alice.create_collection(path)
            alice.annotate(Entity(EntityKind.COLLECTION, path), add=[Avu(here, "a" if number % 3 else "b", "r")])
            made.append(path)
            if number in (3, 4):
                alice.create_collection(f"{path}/below")
            if number == 6:
                others = [Avu(f"{here}{value}", "x") for value in range(12)]
                bob.annotate(Entity(EntityKind.COLLECTION, elsewhere), add=others)
        return made[::-1]

    @pytest.mark.parametrize("place", ["owner", "within", "anywhere"])
    def test_each_page(
        self,
        alice: ClientCatalog,
        here: str,
        made: list[str],
        pages: list[object],
        place: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for name, number in {"_FIRST_RANGE": 4, "_FEWEST": 2, "_AT_ONCE": 3}.items():
            monkeypatch.setattr(newest, name, number)
        where = {"owner": {"owner": alice.user}, "within": {"within": here}, "anywhere": {}}[place]
        query = Query(EntityKind.COLLECTION, here, newest_first=True, **where)  # type: ignore[arg-type]
        for offset, limit in ((0, 1), (0, 4), (3, 4), (8, 2), (9, 1), (0, 0)):
            page = replace(query, offset=offset, limit=limit)
            assert [row.collection for row in alice.query(page)] == made[offset : offset + limit]
        assert alice.find(replace(query, value="b", offset=1, limit=5)) == tuple(made[5::3])
        assert alice.find(replace(query, value="b", units="r", beginning="b", limit=2)) == tuple(made[2:6:3])
        assert alice.find(replace(query, value="c", limit=2)) == ()
        assert place == "anywhere" or None not in pages, "of everybody's, there is an end to looking"

    def test_where_few_match_the_avu_is_asked_for(
        self,
        alice: ClientCatalog,
        here: str,
        made: list[str],
        pages: list[list[tuple[str, ...]] | None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        query = Query(EntityKind.COLLECTION, here, "b", owner=alice.user, newest_first=True, limit=2, offset=1)
        assert alice.find(query) == tuple(made[5::3])
        assert pages[-1] is not None
        limits = (
            (alice.user, {"_LEAST_LOOKED_AT": 0, "_LOOKED_AT_FOR_EACH": 0}),
            (alice.user, {"_MOST_NEEDED": 2}),
            (None, {"_MOST_IDS_OF_ALL": 1}),
        )
        for name, number in {"_FEWEST": 3, "_AT_ONCE": 3, "_FIRST_RANGE": 2}.items():
            monkeypatch.setattr(newest, name, number)
        for owner, bounds in limits:
            with monkeypatch.context() as limited:
                for name, number in bounds.items():
                    limited.setattr(newest, name, number)
                assert alice.find(replace(query, owner=owner)) == tuple(made[5::3])
                assert pages[-1] is None, bounds


class TestQuotas:
    """Quotas of groups: iRODS 5 has no others."""

    def test_the_quota_with_the_least_room_counts(self, zone: IrodsZoneUnderTest) -> None:
        user, other = zone.make_user(), zone.make_user()
        group = zone.make_group(user)
        resource, elsewhere = zone.make_resource(), zone.make_resource()
        zone.set_quota(group, resource, 1000)
        assert zone.storage().quota_left(user, [resource]) == 1000
        assert zone.storage().quota_left(user, [elsewhere]) is None
        assert zone.storage().quota_left(other, [resource]) is None
        zone.set_quota(group, "total", 300)
        assert zone.storage().quota_left(user, [resource]) == 300
        assert zone.storage().quota_left(user, [elsewhere]) == 300

    def test_what_the_users_have_counts(self, zone: IrodsZoneUnderTest) -> None:
        user = zone.make_user()
        resource = zone.make_resource()
        here = zone.scratch(user)
        zone.session(user).write(f"{here}/a", b"x" * 600, resource=resource)
        zone.set_quota(zone.make_group(user), resource, 500)
        assert zone.storage().quota_left(user, [resource]) == -100
