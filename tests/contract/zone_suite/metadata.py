"""AVUs, and finding things by them."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from compute_to_data import bounds
from compute_to_data.errors import AccessDenied, Code, NotFound, TooLarge, ZoneError
from compute_to_data.model import MOST_AMONG, Access, Avu, Collection, Entity, EntityKind, OwnerCount, Query
from compute_to_data.ports.zone import Catalog, ClientCatalog
from zone_suite.zone_under_test import Contract, ZoneUnderTest, a_collection, an_object, refused


class AvusContract(Contract):
    def test_the_four_kinds_bear_them(self, zone: ZoneUnderTest, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"")
        administrator = zone.storage().catalog
        bearers = [
            (alice, an_object(f"{here}/x")),
            (alice, a_collection(here)),
            (administrator, Entity(EntityKind.RESOURCE, zone.make_resource())),
            (administrator, Entity(EntityKind.USER, str(alice.user))),
        ]
        for catalog, entity in bearers:
            catalog.annotate(entity, add=[Avu("a", "v", "u")])
            assert alice.avus(entity) == (Avu("a", "v", "u"),)
            catalog.annotate(entity, remove=[Avu("a", "v", "u")])
            assert alice.avus(entity) == ()

    def test_adding_and_removing_again_is_harmless(self, alice: Catalog, here: str) -> None:
        for _ in range(2):
            alice.annotate(a_collection(here), add=[Avu("a", "v")])
        assert alice.avus(a_collection(here)) == (Avu("a", "v"),)
        for _ in range(2):
            alice.annotate(a_collection(here), remove=[Avu("a", "v")])
        assert alice.avus(a_collection(here)) == ()

    def test_only_those_of_named_attributes(self, alice: Catalog, here: str) -> None:
        """The catalog filters, so that a flood of others costs nothing."""
        odd = "it's || odd"
        avus = [Avu("a", "1"), Avu("a", "2"), Avu("b", "3"), Avu("b%", "4"), Avu(odd, "5"), Avu("c", "6")]
        alice.annotate(a_collection(here), add=avus)
        assert alice.avus(a_collection(here), "a") == (Avu("a", "1"), Avu("a", "2"))
        assert alice.avus(a_collection(here), "b", odd) == (Avu("b", "3"), Avu(odd, "5"))
        assert alice.avus(a_collection(here), "missing") == ()
        with refused(NotFound, Code.USER_FILE_DOES_NOT_EXIST, Code.CAT_UNKNOWN_COLLECTION):
            alice.avus(a_collection(f"{here}/missing"), "a")

    def test_a_flood_is_not_read(self, alice: Catalog, here: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bounds, "MOST_AVUS", 3)
        alice.annotate(a_collection(here), add=[Avu("a", str(number)) for number in range(4)] + [Avu("b", "1")])
        for attributes in ((), ("a",), ("a", "b")):
            with pytest.raises(TooLarge, match="has more than 3 AVUs"):
                alice.avus(a_collection(here), *attributes)
        assert alice.avus(a_collection(here), "b") == (Avu("b", "1"),)
        alice.annotate(a_collection(here), remove=[Avu("a", "3")])
        assert len(alice.avus(a_collection(here), "a")) == 3

    @pytest.mark.parametrize("name", ["it's", "'", "a'b'c", "rock and roll"])
    def test_below_a_name_with_a_quote(self, alice: Catalog, here: str, name: str) -> None:
        """iRODS 4.3's atomic call misreads some of these names."""
        alice.create_collection(f"{here}/{name}")
        for path in (f"{here}/{name}/x", f"{here}/{name}/{name}"):
            alice.write(path, b"")
            for entity in (an_object(path), a_collection(f"{here}/{name}")):
                alice.annotate(entity, add=[Avu("a", "it's", "u"), Avu("b", "1")])
                alice.annotate(entity, add=[Avu("a", "it's", "u"), Avu("c", "2")], remove=[Avu("b", "1")])
                alice.annotate(entity, add=[Avu("c", "2")], remove=[Avu("c", "2"), Avu("missing", "3")])
                assert alice.avus(entity) == (Avu("a", "it's", "u"), Avu("c", "2"))

    def test_no_more_are_read_than_the_caller_wants(self, alice: Catalog, here: str) -> None:
        alice.annotate(a_collection(here), add=[Avu("a", str(number)) for number in range(4)] + [Avu("b", "1")])
        for attributes in ((), ("a",), ("a", "b")):
            with pytest.raises(TooLarge, match="has more than 3 AVUs") as raised:
                alice.avus(a_collection(here), *attributes, most=3)
            assert len(raised.value.first) == 3
            assert {avu.attribute for avu in raised.value.first} <= {"a", "b"}
        assert len(alice.avus(a_collection(here), "a", most=4)) == 4
        assert alice.avus(a_collection(here), "b", most=3) == (Avu("b", "1"),)

    def test_one_in_the_place_of_all_with_its_attribute(self, alice: Catalog, bob: Catalog, here: str) -> None:
        others = [Avu("mine::b", "1", "u"), Avu("c", "2")]
        alice.annotate(a_collection(here), add=[Avu("mine::a", str(number), "u") for number in range(4)] + others)
        for avu in (Avu("mine::a", "it's", "x"), Avu("mine::a", "it's"), Avu("mine::a", "new", "u"), Avu("first", "v")):
            alice.set_avu(here, avu)
            assert alice.avus(a_collection(here), avu.attribute) == (avu,)
        assert set(alice.avus(a_collection(here))) == {*others, Avu("mine::a", "new", "u"), Avu("first", "v")}
        with refused(NotFound, Code.CAT_UNKNOWN_COLLECTION):
            alice.set_avu(f"{here}/missing", Avu("mine::a", "v"))
        with pytest.raises((AccessDenied, NotFound)):
            bob.set_avu(here, Avu("mine::a", "v"))
        alice.set_access(here, bob.user, Access.READ_OBJECT)
        with refused(AccessDenied, Code.CAT_NO_ACCESS_PERMISSION):
            bob.set_avu(here, Avu("mine::a", "v"))
        alice.set_access(here, bob.user, Access.MODIFY_OBJECT)
        bob.set_avu(here, Avu("mine::a", "bob's"))
        assert alice.avus(a_collection(here), "mine::a") == (Avu("mine::a", "bob's"),)

    def test_what_several_add_at_one_instant_can_be_taken_away(
        self, zone: ZoneUnderTest, alice: Catalog, here: str
    ) -> None:
        """Nobody has used the triple before: iRODS makes a row of it for each, and forgets which."""
        collections = [f"{here}/{number}" for number in range(4)]
        for collection in collections:
            alice.create_collection(collection)
        for _ in range(25):
            avu, together = Avu("state", uuid.uuid4().hex, "u"), threading.Barrier(len(collections))

            def add(collection: str, avu: Avu = avu, together: threading.Barrier = together) -> None:
                alice.avus(a_collection(collection))  # a connection is there
                together.wait(60)
                alice.annotate(a_collection(collection), add=[avu])

            with ThreadPoolExecutor(len(collections)) as pool:
                list(pool.map(add, collections))
            for collection in collections:
                alice.annotate(a_collection(collection), remove=[avu], add=[Avu("state", "next")])
                assert alice.avus(a_collection(collection)) == (Avu("state", "next"),)

    def test_removing_comes_first(self, alice: Catalog, here: str) -> None:
        alice.annotate(a_collection(here), add=[Avu("state", "QUEUED")])
        alice.annotate(a_collection(here), remove=[Avu("state", "QUEUED")], add=[Avu("state", "RUNNING")])
        alice.annotate(a_collection(here), remove=[Avu("state", "RUNNING")], add=[Avu("state", "RUNNING")])
        assert alice.avus(a_collection(here)) == (Avu("state", "RUNNING"),)

    def test_a_triple_is_one_thing(self, alice: Catalog, here: str) -> None:
        avus = [Avu("a", "v"), Avu("a", "v", "u"), Avu("a", "w"), Avu("b", "v")]
        alice.annotate(a_collection(here), add=reversed(avus))
        assert alice.avus(a_collection(here)) == tuple(avus)
        alice.annotate(a_collection(here), remove=[Avu("a", "v")])
        assert alice.avus(a_collection(here)) == tuple(avus[1:])

    @pytest.mark.parametrize(
        "bad", [Avu("", "v"), Avu("a", ""), Avu("a", "v" * 2701)], ids=["attribute", "value", "long"]
    )
    def test_all_or_nothing(self, alice: Catalog, here: str, bad: Avu) -> None:
        alice.annotate(a_collection(here), add=[Avu("kept", "v")])
        with refused(ZoneError, Code.SYS_INVALID_INPUT_PARAM):
            alice.annotate(a_collection(here), remove=[Avu("kept", "v")], add=[Avu("a", "v"), bad])
        assert alice.avus(a_collection(here)) == (Avu("kept", "v"),)

    @pytest.mark.parametrize("text", ["it's", "50%", "a_b", "two\nlines", "数据", "\U0001f4a7", '{"a": [1]}', " "])
    def test_any_text(self, alice: Catalog, here: str, text: str) -> None:
        avu = Avu(f"a{text}", f"v{text}", f"u{text}")
        alice.annotate(a_collection(here), add=[avu])
        assert alice.avus(a_collection(here)) == (avu,)
        query = Query(EntityKind.COLLECTION, avu.attribute, avu.value, avu.units, within=_above(here))
        assert alice.find(query) == (here,)

    def test_an_unknown_bearer(self, zone: ZoneUnderTest, alice: Catalog, here: str) -> None:
        administrator = zone.storage().catalog
        alice.write(f"{here}/x", b"")
        unknown = [
            (alice, an_object(f"{here}/missing")),
            (alice, an_object(here)),
            (alice, a_collection(f"{here}/x")),
            (administrator, Entity(EntityKind.RESOURCE, "no-such-resource")),
            (administrator, Entity(EntityKind.USER, f"no-such-user#{alice.user.zone}")),
        ]
        for catalog, entity in unknown:
            with refused(ZoneError, Code.SYS_INVALID_INPUT_PARAM):
                catalog.annotate(entity, add=[Avu("a", "v")])
            with pytest.raises(NotFound):
                catalog.avus(entity)

    def test_reading_rights_do_not_suffice(self, alice: Catalog, bob: Catalog, here: str) -> None:
        alice.set_access(here, bob.user, Access.CREATE_METADATA)
        with refused(AccessDenied, Code.CAT_NO_ACCESS_PERMISSION):
            bob.annotate(a_collection(here), add=[Avu("a", "v")])

    def test_hidden_bearers_stay_untouched(self, alice: Catalog, bob: Catalog, here: str) -> None:
        with refused(ZoneError, Code.SYS_INVALID_INPUT_PARAM, Code.CAT_NO_ACCESS_PERMISSION):
            bob.annotate(a_collection(here), add=[Avu("a", "v")])
        assert alice.avus(a_collection(here)) == ()

    def test_resources_and_users_are_the_administrators(self, zone: ZoneUnderTest, alice: Catalog) -> None:
        for entity in (
            Entity(EntityKind.RESOURCE, zone.make_resource()),
            Entity(EntityKind.USER, str(alice.user)),
        ):
            with refused(AccessDenied, Code.CAT_NO_ACCESS_PERMISSION):
                alice.annotate(entity, add=[Avu("a", "v")])

    def test_many_objects_at_once(self, alice: Catalog, here: str) -> None:
        paths = [f"{here}/x{number}" for number in range(5)]
        for path in paths:
            alice.write(path, b"")
        avus = [Avu("a", "v"), Avu("b", "w", "u")]
        alice.annotate_all(paths, avus)
        alice.annotate_all(paths[:2], avus)
        assert {alice.avus(an_object(path)) for path in paths} == {tuple(avus)}

    @pytest.mark.parametrize("other", [0, 1, 2])
    def test_many_objects_keep_what_they_have(self, alice: Catalog, here: str, other: int) -> None:
        paths = [f"{here}/x{number}" for number in range(4)]
        avus = [Avu("a", "v"), Avu("b", "w", "u")]
        for path in paths:
            alice.write(path, b"")
        alice.annotate(an_object(paths[other]), add=[Avu("other", "v")])
        alice.annotate(an_object(paths[3]), add=avus[:1])
        alice.annotate_all(paths, avus)
        for number, path in enumerate(paths):
            more = (Avu("other", "v"),) if number == other else ()
            assert alice.avus(an_object(path)) == (*avus, *more)

    def test_one_of_many_is_not_there(self, alice: Catalog, here: str) -> None:
        for name in ("x", "y"):
            alice.write(f"{here}/{name}", b"")
        with refused(ZoneError, Code.SYS_INVALID_INPUT_PARAM):
            alice.annotate_all([f"{here}/x", f"{here}/missing", f"{here}/y"], [Avu("a", "v")])


def _above(collection: str) -> str:
    return collection.rpartition("/")[0]


class FindContract(Contract):
    @pytest.fixture
    def attribute(self) -> str:
        """One nothing else in the zone bears."""
        return f"a{uuid.uuid4().hex}"

    @pytest.fixture
    def tasks(self, alice: Catalog, here: str, attribute: str) -> list[str]:
        """Six collections, the oldest first, whose names run the other way."""
        made = []
        for number in range(6):
            path = f"{here}/t{9 - number}"
            alice.create_collection(path)
            alice.annotate(a_collection(path), add=[Avu(attribute, "even" if number % 2 == 0 else "odd", "r1")])
            made.append(path)
        return made

    def test_the_oldest_first(self, alice: Catalog, tasks: list[str], attribute: str) -> None:
        assert alice.find(Query(EntityKind.COLLECTION, attribute)) == tuple(tasks)
        assert alice.find(Query(EntityKind.COLLECTION, attribute, "even")) == tuple(tasks[::2])
        assert alice.find(Query(EntityKind.COLLECTION, attribute, "odd", "r1")) == tuple(tasks[1::2])
        assert alice.find(Query(EntityKind.COLLECTION, attribute, units="r1")) == tuple(tasks)

    def test_an_annotation_does_not_change_the_age(self, alice: Catalog, tasks: list[str], attribute: str) -> None:
        for avu in (Avu(attribute, "other", "r1"), Avu(attribute, "even", "r1")):
            alice.annotate(a_collection(tasks[0]), remove=alice.avus(a_collection(tasks[0])), add=[avu])
        assert alice.find(Query(EntityKind.COLLECTION, attribute, "even", "r1", limit=1)) == (tasks[0],)

    @pytest.mark.parametrize("limit", [0, 1, 2, 6, 100])
    def test_limit(self, alice: Catalog, tasks: list[str], attribute: str, limit: int) -> None:
        assert alice.find(Query(EntityKind.COLLECTION, attribute, limit=limit)) == tuple(tasks[:limit])

    def test_no_match(self, alice: Catalog, tasks: list[str], attribute: str) -> None:
        assert alice.find(Query(EntityKind.COLLECTION, attribute, "ev%")) == ()
        assert alice.find(Query(EntityKind.COLLECTION, attribute, "EVEN")) == ()
        assert alice.find(Query(EntityKind.COLLECTION, attribute, "even", "")) == ()
        assert alice.find(Query(EntityKind.DATA_OBJECT, attribute)) == ()

    def test_each_once(self, alice: Catalog, tasks: list[str], attribute: str) -> None:
        alice.annotate(a_collection(tasks[0]), add=[Avu(attribute, "odd", "r1"), Avu(attribute, "even", "r2")])
        assert alice.find(Query(EntityKind.COLLECTION, attribute)) == tuple(tasks)

    def test_only_what_one_may_read(self, alice: Catalog, bob: Catalog, tasks: list[str], attribute: str) -> None:
        assert bob.find(Query(EntityKind.COLLECTION, attribute)) == ()
        alice.set_access(tasks[2], bob.user, Access.READ_OBJECT)
        alice.set_access(tasks[3], bob.user, Access.READ_METADATA)
        assert bob.find(Query(EntityKind.COLLECTION, attribute, limit=1)) == (tasks[2],)

    def test_within_one_collection(self, alice: Catalog, here: str, attribute: str) -> None:
        alice.create_collection(f"{here}/a/b", parents=True)
        for path in (f"{here}/a/x", f"{here}/a/b/y", f"{here}/z"):
            alice.write(path, b"")
            alice.annotate(an_object(path), add=[Avu(attribute, "v")])
        assert alice.find(Query(EntityKind.DATA_OBJECT, attribute, within=f"{here}/a")) == (f"{here}/a/x",)
        assert alice.find(Query(EntityKind.DATA_OBJECT, attribute, within=f"{here}/missing")) == ()

    def test_resources_and_users(self, zone: ZoneUnderTest, alice: Catalog, attribute: str) -> None:
        resource = zone.make_resource()
        bearers = [Entity(EntityKind.RESOURCE, resource), Entity(EntityKind.USER, str(alice.user))]
        for entity in bearers:
            zone.storage().catalog.annotate(entity, add=[Avu(attribute, "v")])
        for entity in bearers:
            assert alice.find(Query(entity.kind, attribute, "v")) == (entity.name,)

    def test_the_avus_of_all_resources(
        self, zone: ZoneUnderTest, alice: Catalog, attribute: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second = sorted(zone.make_resource() for _ in range(2))
        several = (Avu(attribute, "it's", "u"), Avu(attribute, "v"))
        for resource, avus in ((first, (*several, Avu("other", "1"), Avu("third", "1"))), (second, several[:1])):
            zone.storage().catalog.annotate(Entity(EntityKind.RESOURCE, resource), add=avus)
        assert alice.avus_of_resources(attribute) == {first: several, second: several[:1]}
        assert alice.avus_of_resources(attribute, "other")[first] == (*several, Avu("other", "1"))
        assert alice.avus_of_resources(f"{attribute}x") == {}
        with pytest.raises(ValueError, match="no attribute"):
            alice.avus_of_resources()
        monkeypatch.setattr(bounds, "MOST_FOUND", 2)
        with pytest.raises(TooLarge, match="more than 2 such AVUs together"):
            alice.avus_of_resources(attribute)

    def test_the_queue_is_everybodys(self, zone: ZoneUnderTest, bob: Catalog, tasks: list[str], attribute: str) -> None:
        his = f"{zone.scratch(bob.user)}/task"
        bob.create_collection(his)
        bob.annotate(a_collection(his), add=[Avu(attribute, "even", "r1")])
        storage = zone.storage()
        assert storage.find(Query(EntityKind.COLLECTION, attribute, "even", "r1")) == (*tasks[::2], his)
        assert storage.find(Query(EntityKind.COLLECTION, attribute, "even", "r1", limit=2)) == tuple(tasks[:3:2])
        assert storage.find(Query(EntityKind.COLLECTION, attribute, "even", "r2")) == ()

    @pytest.mark.parametrize("name", ["w", "it's", "a||b", "100%_"])
    def test_the_queue_besides_what_some_collections_hold(
        self, zone: ZoneUnderTest, alice: Catalog, here: str, attribute: str, name: str
    ) -> None:
        avu = Avu(attribute, "v", "r1")
        paths = [f"{here}/{name}/1", f"{here}/{name}/2", f"{here}/{name}/2/deeper", f"{here}/{name}x/3", f"{here}/4"]
        for path in paths:
            alice.create_collection(path, parents=True)
            alice.annotate(a_collection(path), add=[avu])
        storage = zone.storage()
        queue = Query(EntityKind.COLLECTION, attribute, "v", "r1", excluding=(f"{here}/{name}", f"{here}/missing"))
        assert storage.find(queue) == tuple(paths[2:])
        assert storage.find(replace(queue, limit=2)) == tuple(paths[2:4])
        assert storage.find(replace(queue, excluding=(*queue.excluding, here))) == tuple(paths[2:4])

    def test_a_page_of_names_the_newest_first(self, alice: Catalog, tasks: list[str], attribute: str) -> None:
        query = Query(EntityKind.COLLECTION, attribute, newest_first=True)
        assert alice.find(query) == tuple(tasks[::-1])
        assert alice.find(replace(query, limit=2, offset=1)) == (tasks[4], tasks[3])
        assert alice.find(replace(query, limit=2, offset=5)) == (tasks[0],)
        assert alice.find(replace(query, newest_first=False, offset=4)) == tuple(tasks[4:])

    @pytest.mark.parametrize("beginning", ["x", "10%", "it's", "a_"])
    def test_each_once_by_the_beginning_of_a_value(
        self, alice: Catalog, tasks: list[str], attribute: str, beginning: str
    ) -> None:
        for task in tasks[:3]:
            values = (f"{beginning}1", f"{beginning}2", f"-{beginning}", beginning.replace("_", "b"))
            alice.annotate(a_collection(task), add=[Avu(attribute, value) for value in values])
        query = Query(EntityKind.COLLECTION, attribute, beginning=beginning)
        assert alice.find(query) == tuple(tasks[:3])
        assert alice.find(replace(query, limit=2)) == tuple(tasks[:2])
        assert alice.find(replace(query, limit=2, offset=1)) == tuple(tasks[1:3])

    def test_data_objects_by_place_and_owner(self, alice: Catalog, bob: Catalog, here: str, attribute: str) -> None:
        alice.create_collection(f"{here}/a")
        alice.set_access(here, bob.user, Access.READ_OBJECT)
        alice.set_access(f"{here}/a", bob.user, Access.OWN)
        alice.set_inheritance(f"{here}/a", True)
        for owner, path in ((alice, f"{here}/a/x"), (bob, f"{here}/a/y"), (alice, f"{here}/z")):
            owner.write(path, b"")
            owner.annotate(an_object(path), add=[Avu(attribute, "v")])
        query = Query(EntityKind.DATA_OBJECT, attribute)
        assert alice.find(replace(query, owner=alice.user)) == (f"{here}/a/x", f"{here}/z")
        assert bob.find(replace(query, owner=alice.user, within=f"{here}/a")) == (f"{here}/a/x",)
        assert bob.find(replace(query, owner=bob.user, within=f"{here}/a")) == (f"{here}/a/y",)
        assert bob.find(replace(query, owner=bob.user, within=here)) == ()
        assert alice.find(replace(query, excluding=(f"{here}/a",))) == (f"{here}/z",)
        assert alice.find(replace(query, excluding=(here, f"{here}/missing"))) == (f"{here}/a/x", f"{here}/a/y")

    def test_the_administrators_queries_see_what_is_hidden(
        self, zone: ZoneUnderTest, alice: Catalog, bob: Catalog, tasks: list[str], attribute: str
    ) -> None:
        query = Query(EntityKind.COLLECTION, attribute, beginning="ev", owner=alice.user, newest_first=True, limit=2)
        assert bob.find(query) == ()
        assert zone.storage().find(query) == (tasks[4], tasks[2])


def _newest(attribute: str, *rest: Any, **more: Any) -> Query:
    return Query(EntityKind.COLLECTION, attribute, *rest, **{"newest_first": True, **more})


class _WithTasks(Contract):
    @pytest.fixture
    def attribute(self) -> str:
        """One nothing else in the zone bears."""
        return f"a{uuid.uuid4().hex}"

    @pytest.fixture
    def tasks(self, alice: ClientCatalog, here: str, attribute: str) -> list[str]:
        """Six collections, the oldest first, whose names run the other way."""
        made = []
        for number in range(6):
            path = f"{here}/t{9 - number}"
            alice.create_collection(path)
            value = "even" if number % 2 == 0 else "odd_100%"
            alice.annotate(a_collection(path), add=[Avu(attribute, value, f"r{number // 3}")])
            made.append(path)
        return made


class QueryContract(_WithTasks):
    """``ClientCatalog.query``: what a person's listing of tasks asks."""

    def test_the_newest_first_with_what_it_bears(self, alice: ClientCatalog, tasks: list[str], attribute: str) -> None:
        found = alice.query(_newest(attribute))
        assert [one.collection for one in found] == tasks[::-1]
        assert [(one.value, one.units) for one in found[:2]] == [("odd_100%", "r1"), ("even", "r1")]
        assert {one.owner for one in found} == {alice.user}
        made = alice.stat(tasks[0])
        assert isinstance(made, Collection)
        assert found[-1].created == made.created
        assert [one.collection for one in alice.query(_newest(attribute, newest_first=False))] == tasks

    @pytest.mark.parametrize(("offset", "limit"), [(0, 2), (2, 2), (5, 2), (6, 2), (1, None), (0, 0)])
    def test_a_page(
        self, alice: ClientCatalog, tasks: list[str], attribute: str, offset: int, limit: int | None
    ) -> None:
        end = None if limit is None else offset + limit
        found = alice.query(_newest(attribute, limit=limit, offset=offset))
        assert [one.collection for one in found] == tasks[::-1][offset:end]

    def test_by_value_units_and_beginning(self, alice: ClientCatalog, tasks: list[str], attribute: str) -> None:
        def found(*args: object, **options: object) -> list[str]:
            return [one.collection for one in alice.query(_newest(attribute, *args, newest_first=False, **options))]

        assert found("even") == tasks[::2]
        assert found("even", "r0") == [tasks[0], tasks[2]]
        assert found(units="r1") == tasks[3:]
        assert found(beginning="od") == tasks[1::2]
        assert found(beginning="odd_100%", limit=1, offset=1) == [tasks[3]]
        assert found(beginning="odd1") == found(beginning="%") == found(beginning="e_") == found(beginning="'") == []

    def test_a_row_for_each_value(self, alice: ClientCatalog, tasks: list[str], attribute: str) -> None:
        alice.annotate(a_collection(tasks[5]), add=[Avu(attribute, "another", "")])
        newest = alice.query(_newest(attribute, limit=2))
        assert {(one.collection, one.value) for one in newest} == {(tasks[5], "another"), (tasks[5], "odd_100%")}

    def test_only_what_one_may_read_and_only_an_owners(
        self, alice: ClientCatalog, bob: ClientCatalog, tasks: list[str], attribute: str
    ) -> None:
        assert bob.query(_newest(attribute)) == ()
        alice.set_access(tasks[2], bob.user, Access.READ_OBJECT)
        alice.set_access(tasks[3], bob.user, Access.READ_METADATA)
        assert [one.collection for one in bob.query(_newest(attribute))] == [tasks[2]]
        assert bob.query(_newest(attribute, owner=bob.user)) == ()
        assert len(bob.query(_newest(attribute, owner=alice.user))) == 1

    def test_within_one_collection(self, alice: ClientCatalog, here: str, tasks: list[str], attribute: str) -> None:
        below = f"{tasks[0]}/below"
        alice.create_collection(below)
        alice.annotate(a_collection(below), add=[Avu(attribute, "even")])
        assert [one.collection for one in alice.query(_newest(attribute, within=tasks[0]))] == [below]
        assert len(alice.query(_newest(attribute, within=here))) == 6
        assert alice.query(_newest(attribute, within=f"{here}/missing")) == ()

    def test_the_avus_of_many_collections(
        self,
        alice: ClientCatalog,
        bob: ClientCatalog,
        here: str,
        tasks: list[str],
        attribute: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        odd = f"{here}/it's"
        alice.create_collection(odd)
        alice.annotate(a_collection(odd), add=[Avu(attribute, "it's", "u"), Avu("other", "1"), Avu("third", "2")])
        asked = (*tasks[:2], f"{here}/missing", odd, here)
        expected = {
            tasks[0]: (Avu(attribute, "even", "r0"),),
            tasks[1]: (Avu(attribute, "odd_100%", "r0"),),
            odd: tuple(sorted([Avu(attribute, "it's", "u"), Avu("other", "1")])),
        }
        assert alice.avus_of(asked, attribute, "other") == expected
        assert alice.avus_of(asked, "other") == {odd: (Avu("other", "1"),)}
        assert alice.avus_of((), attribute) == bob.avus_of(asked, attribute) == {}
        monkeypatch.setattr(bounds, "MOST_AVUS", 2)
        assert alice.avus_of(asked, attribute, "other") == expected, "no one of them has more"
        monkeypatch.setattr(bounds, "MOST_FOUND", 3)
        with pytest.raises(TooLarge, match="more than 3 such AVUs together"):
            alice.avus_of(asked, attribute, "other")
        monkeypatch.setattr(bounds, "MOST_AVUS", 1)
        with pytest.raises(TooLarge, match="has more than 1 AVUs"):
            alice.avus_of(asked, attribute, "other")

    def test_rows_are_of_collections(self, alice: ClientCatalog) -> None:
        with pytest.raises(ValueError, match="returns names, not rows"):
            alice.query(Query(EntityKind.DATA_OBJECT, "a"))


class AmongContract(_WithTasks):
    """What a worker asks about the tasks for which others wait."""

    def test_among_named_collections(
        self, alice: ClientCatalog, zone: ZoneUnderTest, here: str, tasks: list[str], attribute: str
    ) -> None:
        odd = [f"{here}/it's", f"{here}/a||b", f"{here}/a, b && c", f"{here}/in (1)", f"{here}/100%_"]
        for path in odd:
            alice.create_collection(path)
            alice.annotate(a_collection(path), add=[Avu(attribute, "odd")])
        missing = tuple(f"{here}/missing{number:03}" for number in range(400))
        query = _newest(attribute, newest_first=False, among=(*odd, tasks[3], tasks[0], *missing))
        expected = [tasks[0], tasks[3], *odd]
        assert [one.collection for one in alice.query(query)] == expected
        assert [one.collection for one in zone.storage().query(query)] == expected
        assert zone.storage().find(query) == alice.find(query) == tuple(expected)
        assert alice.find(replace(query, value="odd", newest_first=True)) == tuple(reversed(odd))
        assert alice.find(replace(query, among=())) == ()

    def test_a_query_among_collections_has_no_offset_and_a_bounded_size(self, attribute: str) -> None:
        for more in ({"offset": 1}, {"among": tuple(map(str, range(MOST_AMONG + 1)))}):
            with pytest.raises(ValueError, match="at most 500 names"):
                _newest(attribute, **{"among": (), **more})
        with pytest.raises(ValueError, match="returns names, not rows"):
            Query(EntityKind.DATA_OBJECT, attribute, among=())

    def test_the_service_account_sees_all_rows(
        self, zone: ZoneUnderTest, alice: ClientCatalog, tasks: list[str], attribute: str
    ) -> None:
        found = zone.storage().query(_newest(attribute, "even"))
        assert [one.collection for one in found] == tasks[::2][::-1]


class OwnersContract(_WithTasks):
    """Who owns what matches, from the catalog's own record of the owner."""

    def test_the_owners_of_data_objects(
        self, zone: ZoneUnderTest, alice: Catalog, bob: Catalog, here: str, attribute: str
    ) -> None:
        query = Query(EntityKind.DATA_OBJECT, attribute, "v")
        assert zone.storage().owners(query) == ()
        alice.set_access(here, bob.user, Access.MODIFY_OBJECT)
        for catalog, name, value in ((bob, "b", "v"), (alice, "a", "v"), (alice, "c", "v"), (bob, "d", "w")):
            catalog.write(f"{here}/{name}", b"")
            catalog.annotate(an_object(f"{here}/{name}"), add=[Avu(attribute, value, f"units of {name}")])
        assert zone.storage().owners(query) == (alice.user, bob.user)
        assert zone.storage().owners(replace(query, units="units of b")) == (bob.user,)
        assert zone.storage().owners(replace(query, value=None, owner=bob.user)) == (bob.user,)
        bob.set_access(f"{here}/b", alice.user, Access.OWN)
        alice.rename(f"{here}/b", f"{here}/moved")
        alice.remove(f"{here}/a")
        alice.remove(f"{here}/c")
        assert zone.storage().owners(query) == (bob.user,), "who may write there changes no owner"

    def test_the_owners_of_collections(self, zone: ZoneUnderTest, alice: Catalog, here: str, attribute: str) -> None:
        alice.annotate(a_collection(here), add=[Avu(attribute, "v")])
        assert zone.storage().owners(Query(EntityKind.COLLECTION, attribute)) == (alice.user,)

    def test_only_all_owners_are_listed(self, zone: ZoneUnderTest, attribute: str) -> None:
        for query in (
            Query(EntityKind.DATA_OBJECT, attribute, limit=3),
            Query(EntityKind.DATA_OBJECT, attribute, offset=3),
            Query(EntityKind.USER, attribute),
        ):
            with pytest.raises(ValueError, match="have owners"):
                zone.storage().owners(query)


class CountByOwnerContract(_WithTasks):
    """The owners of the collections that match, each with a number, from the catalog's own record of the owner."""

    def test_each_owner_and_units(self, alice: ClientCatalog, bob: ClientCatalog, here: str, attribute: str) -> None:
        alice.set_access(here, bob.user, Access.MODIFY_OBJECT)
        made = {}
        for catalog, name, units in (
            (alice, "a", "one"),
            (bob, "b", "one"),
            (alice, "c", "two"),
            (bob, "d", "one"),
            (alice, "e", "other"),
        ):
            catalog.create_collection(f"{here}/{name}")
            catalog.annotate(a_collection(f"{here}/{name}"), add=[Avu(attribute, "v", units)])
            found = catalog.stat(f"{here}/{name}")
            assert isinstance(found, Collection)
            made[name] = found.created
        query = Query(EntityKind.COLLECTION, attribute, "v", ("one", "two", "three"))
        by_alice = {OwnerCount(alice.user, "one", 1, made["a"]), OwnerCount(alice.user, "two", 1, made["c"])}
        assert set(alice.count_by_owner(query)) == by_alice
        assert set(alice.count_by_owner(replace(query, units="two", owner=alice.user))) == {
            OwnerCount(alice.user, "two", 1, made["c"])
        }
        assert alice.count_by_owner(replace(query, owner=bob.user)) == ()
        assert bob.count_by_owner(replace(query, owner=bob.user)) == (OwnerCount(bob.user, "one", 2, made["b"]),)

    def test_the_administrators_count_all(
        self, zone: ZoneUnderTest, alice: Catalog, bob: Catalog, here: str, attribute: str
    ) -> None:
        alice.set_access(here, bob.user, Access.MODIFY_OBJECT)
        for catalog, name in ((alice, "a"), (bob, "b"), (alice, "c")):
            catalog.create_collection(f"{here}/{name}")
            catalog.annotate(a_collection(f"{here}/{name}"), add=[Avu(attribute, "v", "u")])
        found = zone.storage().count_by_owner(Query(EntityKind.COLLECTION, attribute, "v", "u"))
        assert {one.owner: one.count for one in found} == {alice.user: 2, bob.user: 1}

    def test_an_avu_that_names_another_user_changes_no_owner(
        self, zone: ZoneUnderTest, alice: Catalog, bob: Catalog, here: str, attribute: str
    ) -> None:
        alice.set_access(here, bob.user, Access.OWN)
        alice.set_inheritance(here, True)
        bob.create_collection(f"{here}/of-bob")
        bob.annotate(a_collection(f"{here}/of-bob"), add=[Avu(attribute, "v", "u"), Avu("owner", str(alice.user))])
        bob.rename(f"{here}/of-bob", f"{here}/moved")
        (found,) = zone.storage().count_by_owner(Query(EntityKind.COLLECTION, attribute, "v", "u"))
        assert (found.owner, found.count) == (bob.user, 1)

    def test_what_changes_is_seen(self, alice: ClientCatalog, here: str, attribute: str) -> None:
        query = Query(EntityKind.COLLECTION, attribute, "v", "u")
        for name in ("a", "b"):
            alice.create_collection(f"{here}/{name}")
            alice.annotate(a_collection(f"{here}/{name}"), add=[Avu(attribute, "v", "u")])
        alice.annotate(a_collection(f"{here}/a"), add=[Avu(attribute, "w", "u")], remove=[Avu(attribute, "v", "u")])
        assert [one.count for one in alice.count_by_owner(query)] == [1]
        alice.remove(f"{here}/b", recursive=True)
        assert alice.count_by_owner(query) == ()

    def test_only_an_exact_query_is_counted(self, alice: ClientCatalog, attribute: str) -> None:
        for query in (
            Query(EntityKind.DATA_OBJECT, attribute, "v", "u"),
            Query(EntityKind.COLLECTION, attribute, "v"),
            Query(EntityKind.COLLECTION, attribute, units="u"),
            Query(EntityKind.COLLECTION, attribute, "v", "u", limit=3),
        ):
            with pytest.raises(ValueError, match=r"counted by owner|names, not rows"):
                alice.count_by_owner(query)

    def test_several_units_in_other_queries(self, alice: ClientCatalog, here: str, attribute: str) -> None:
        for name, units in (("a", "one"), ("b", "two"), ("c", "three")):
            alice.create_collection(f"{here}/{name}")
            alice.annotate(a_collection(f"{here}/{name}"), add=[Avu(attribute, "v", units)])
        query = Query(EntityKind.COLLECTION, attribute, units=("one", "three"))
        assert alice.find(query) == (f"{here}/a", f"{here}/c")
        assert [one.units for one in alice.query(replace(query, newest_first=True))] == ["three", "one"]
