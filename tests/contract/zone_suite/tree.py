"""Collections, data objects and their names."""

from __future__ import annotations

import base64
import contextlib
import hashlib

import pytest
from support.reading import ENOUGH

from compute_to_data import bounds
from compute_to_data.errors import AccessDenied, AlreadyExists, Code, NotFound, TooLarge, ZoneError
from compute_to_data.model import Access, Avu, Collection, DataObject, Query, ReplicaStatus, name_of, parent_of
from compute_to_data.ports.zone import Catalog, ClientCatalog
from zone_suite.zone_under_test import Contract, ZoneUnderTest, an_object, attempts, refused, stat_object


class CollectionsContract(Contract):
    def test_a_new_collection_is_its_makers(self, alice: Catalog, here: str) -> None:
        alice.create_collection(f"{here}/a")
        found = alice.stat(f"{here}/a")
        assert isinstance(found, Collection)
        assert (found.logical_path, found.owner, found.inherits) == (f"{here}/a", alice.user, False)
        assert alice.access(f"{here}/a") is Access.OWN

    def test_existing(self, alice: Catalog, here: str) -> None:
        alice.create_collection(f"{here}/a")
        with refused(AlreadyExists, Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME):
            alice.create_collection(f"{here}/a")
        alice.create_collection(f"{here}/a", parents=True)

    def test_without_a_parent(self, alice: Catalog, here: str) -> None:
        with refused(NotFound, Code.CAT_UNKNOWN_COLLECTION):
            alice.create_collection(f"{here}/a/b")
        alice.create_collection(f"{here}/a/b/c", parents=True)
        assert [child.logical_path for child in alice.children(f"{here}/a/b")] == [f"{here}/a/b/c"]

    def test_where_a_data_object_is(self, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"")
        for parents in (False, True):
            with refused(AlreadyExists, Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME, Code.CAT_NAME_EXISTS_AS_DATAOBJ):
                alice.create_collection(f"{here}/x", parents=parents)

    def test_members_come_by_name(self, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/m", b"12")
        for name in ("z", "a b", "B"):
            alice.create_collection(f"{here}/{name}")
        members = alice.children(here)
        assert [name_of(member.logical_path) for member in members] == ["B", "a b", "m", "z"]
        assert [type(member) for member in members] == [Collection, Collection, DataObject, Collection]
        assert members[2] == alice.stat(f"{here}/m")

    def test_members_of_nothing(self, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"")
        for missing in ("missing", "x"):
            with refused(NotFound, Code.CAT_UNKNOWN_COLLECTION):
                alice.children(f"{here}/{missing}")

    def test_nothing_there(self, alice: Catalog, here: str) -> None:
        with refused(NotFound, Code.USER_FILE_DOES_NOT_EXIST):
            alice.stat(f"{here}/missing")
        with refused(NotFound, Code.USER_FILE_DOES_NOT_EXIST):
            alice.permissions(f"{here}/missing")
        assert alice.access(f"{here}/missing") is Access.NULL

    def test_only_an_empty_one_goes_without_recursion(self, alice: Catalog, here: str) -> None:
        alice.create_collection(f"{here}/a/b", parents=True)
        alice.write(f"{here}/a/b/x", b"x")
        with refused(ZoneError, Code.CAT_COLLECTION_NOT_EMPTY):
            alice.remove(f"{here}/a")
        alice.remove(f"{here}/a", recursive=True)
        assert alice.children(here) == ()

    def test_no_more_is_read_than_the_reader_takes(self, zone: ZoneUnderTest, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"12345")
        assert alice.read(f"{here}/x", 5) == b"12345"
        with pytest.raises(TooLarge, match="has 5 bytes, and at most 4"):
            alice.read(f"{here}/x", 4)
        alice.write(f"{here}/empty", b"")
        assert alice.read(f"{here}/empty", 0) == b""

    def test_a_file_that_is_larger_than_the_catalog_says(self, zone: ZoneUnderTest, alice: Catalog, here: str) -> None:
        if not zone.physical_paths_are_local:
            pytest.skip("the test cannot change the file")
        alice.write(f"{here}/x", b"12345")
        with open(stat_object(alice, f"{here}/x").replicas[0].physical_path, "ab") as file:
            file.truncate(1 << 20)
        # An iRODS server itself ends at the size that the catalog has.
        with contextlib.suppress(TooLarge):
            assert alice.read(f"{here}/x", 5) == b"12345"

    def test_what_is_above_a_home_is_hidden(self, alice: Catalog) -> None:
        home = f"/{alice.user.zone}/home"
        assert isinstance(alice.stat(f"{home}/{alice.user.name}"), Collection)
        for above in (home, parent_of(home), "/"):
            assert alice.access(above) is Access.NULL
            with refused(NotFound, Code.CAT_UNKNOWN_COLLECTION):
                alice.children(above)


class DataObjectsContract(Contract):
    def test_what_is_written_is_read(self, alice: Catalog, here: str) -> None:
        content = bytes(range(256)) * 40
        alice.write(f"{here}/x", content)
        assert alice.read(f"{here}/x", ENOUGH) == content
        found = stat_object(alice, f"{here}/x")
        assert (found.owner, found.size, len(found.replicas)) == (alice.user, len(content), 1)
        assert found.replicas[0].status is ReplicaStatus.GOOD

    def test_its_checksum_is_recorded(self, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"abc")
        expected = "sha2:" + base64.b64encode(hashlib.sha256(b"abc").digest()).decode()
        assert stat_object(alice, f"{here}/x").replicas[0].checksum == expected == alice.checksum(f"{here}/x")

    def test_empty(self, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"")
        assert alice.read(f"{here}/x", ENOUGH) == b""
        assert stat_object(alice, f"{here}/x").size == 0

    def test_existing_needs_force(self, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"old")
        with refused(AlreadyExists, Code.OVERWRITE_WITHOUT_FORCE_FLAG):
            alice.write(f"{here}/x", b"new")
        assert alice.read(f"{here}/x", ENOUGH) == b"old"
        alice.write(f"{here}/x", b"newer", force=True)
        assert alice.read(f"{here}/x", ENOUGH) == b"newer"
        assert stat_object(alice, f"{here}/x").size == 5

    def test_overwriting_keeps_everything_else(self, alice: Catalog, bob: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"old")
        alice.annotate(an_object(f"{here}/x"), add=[Avu("a", "v")])
        alice.set_access(here, bob.user, Access.READ_OBJECT)
        alice.set_access(f"{here}/x", bob.user, Access.READ_OBJECT)
        alice.write(f"{here}/x", b"new", force=True)
        assert alice.avus(an_object(f"{here}/x")) == (Avu("a", "v"),)
        assert bob.read(f"{here}/x", ENOUGH) == b"new"

    def test_force_also_makes_a_new_one(self, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"new", force=True)
        assert alice.read(f"{here}/x", ENOUGH) == b"new"

    def test_where_a_collection_is(self, alice: Catalog, here: str) -> None:
        alice.create_collection(f"{here}/a")
        with pytest.raises(ZoneError):
            alice.write(f"{here}/a", b"", force=True)
        assert isinstance(alice.stat(f"{here}/a"), Collection)

    def test_without_a_parent(self, alice: Catalog, here: str) -> None:
        with refused(NotFound, Code.CAT_UNKNOWN_COLLECTION):
            alice.write(f"{here}/missing/x", b"")

    def test_reading_what_is_not_there(self, alice: Catalog, here: str) -> None:
        for path in (f"{here}/missing", here):
            with refused(NotFound, Code.OBJ_PATH_DOES_NOT_EXIST):
                alice.read(path, ENOUGH)

    def test_removed_with_its_files(self, zone: ZoneUnderTest, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"x")
        alice.replicate(f"{here}/x", zone.make_resource())
        files = [replica.physical_path for replica in stat_object(alice, f"{here}/x").replicas]
        alice.remove(f"{here}/x")
        assert alice.access(f"{here}/x") is Access.NULL
        if zone.physical_paths_are_local:
            assert [zone.read_file(file) for file in files] == [None, None]

    def test_one_removed_can_be_made_again(self, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"first")
        alice.annotate(an_object(f"{here}/x"), add=[Avu("a", "v")])
        alice.remove(f"{here}/x")
        alice.write(f"{here}/x", b"second")
        assert alice.read(f"{here}/x", ENOUGH) == b"second"
        assert alice.avus(an_object(f"{here}/x")) == ()

    def test_removing_what_is_not_there(self, alice: Catalog, here: str) -> None:
        with pytest.raises(NotFound):
            alice.remove(f"{here}/missing")

    def test_times(self, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"1")
        first = stat_object(alice, f"{here}/x")
        alice.write(f"{here}/x", b"2", force=True)
        second = stat_object(alice, f"{here}/x")
        assert second.created == first.created <= first.modified <= second.modified


class RenamingContract(Contract):
    def test_a_data_object(self, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"x")
        alice.annotate(an_object(f"{here}/x"), add=[Avu("a", "v")])
        alice.create_collection(f"{here}/to")
        alice.rename(f"{here}/x", f"{here}/to/y")
        assert alice.read(f"{here}/to/y", ENOUGH) == b"x"
        assert alice.avus(an_object(f"{here}/to/y")) == (Avu("a", "v"),)
        assert alice.access(f"{here}/x") is Access.NULL

    def test_a_collection_with_all_below(self, alice: Catalog, here: str) -> None:
        alice.create_collection(f"{here}/a/b/c", parents=True)
        alice.create_collection(f"{here}/ab")
        alice.write(f"{here}/a/b/x", b"x")
        alice.rename(f"{here}/a", f"{here}/z")
        assert alice.read(f"{here}/z/b/x", ENOUGH) == b"x"
        assert [child.logical_path for child in alice.children(f"{here}/z/b")] == [
            f"{here}/z/b/c",
            f"{here}/z/b/x",
        ]
        assert [child.logical_path for child in alice.children(here)] == [f"{here}/ab", f"{here}/z"]

    def test_the_old_name_is_free(self, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"old")
        alice.rename(f"{here}/x", f"{here}/y")
        alice.create_collection(f"{here}/x")
        alice.write(f"{here}/x/deep", b"new")
        alice.rename(f"{here}/x", f"{here}/w")
        alice.write(f"{here}/x", b"newest")
        read = [alice.read(f"{here}/{name}", ENOUGH) for name in ("y", "w/deep", "x")]
        assert read == [b"old", b"new", b"newest"]

    def test_two_change_places(self, alice: Catalog, here: str) -> None:
        for name in ("x", "y"):
            alice.write(f"{here}/{name}", name.encode())
        for source, destination in (("x", "other"), ("y", "x"), ("other", "y")):
            alice.rename(f"{here}/{source}", f"{here}/{destination}")
        assert (alice.read(f"{here}/x", ENOUGH), alice.read(f"{here}/y", ENOUGH)) == (b"y", b"x")

    def test_onto_something(self, alice: Catalog, here: str) -> None:
        for name in ("x", "y"):
            alice.write(f"{here}/{name}", name.encode())
        with pytest.raises(AlreadyExists):
            alice.rename(f"{here}/x", f"{here}/y")
        assert alice.read(f"{here}/y", ENOUGH) == b"y"

    def test_into_itself(self, alice: Catalog, here: str) -> None:
        alice.create_collection(f"{here}/a")
        with pytest.raises(ZoneError):
            alice.rename(f"{here}/a", f"{here}/a/b")
        assert isinstance(alice.stat(f"{here}/a"), Collection)

    def test_needs_own(self, alice: Catalog, bob: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"x")
        alice.set_access(here, bob.user, Access.MODIFY_OBJECT)
        alice.set_access(f"{here}/x", bob.user, Access.READ_OBJECT)
        with refused(AccessDenied, Code.CAT_NO_ACCESS_PERMISSION):
            bob.rename(f"{here}/x", f"{here}/y")

    def test_needs_a_parent_one_may_write_to(
        self, zone: ZoneUnderTest, alice: Catalog, bob: Catalog, here: str
    ) -> None:
        there = zone.scratch(bob.user)
        bob.set_access(there, alice.user, Access.READ_OBJECT)
        alice.write(f"{here}/x", b"x")
        with refused(AccessDenied, Code.CAT_NO_ACCESS_PERMISSION):
            alice.rename(f"{here}/x", f"{there}/x")
        with pytest.raises(NotFound):
            alice.rename(f"{here}/x", f"{here}/missing/x")
        assert alice.read(f"{here}/x", ENOUGH) == b"x"


GOOD_NAMES = [
    "two words",
    "it's",
    'say "so"',
    "100%",
    "under_score",
    "#1",
    "a;b",
    "a++++b",
    "Ångström.txt",
    "数据",
    "*?[x]",
    "back\\slash",
    "new\nline",
    "-rf",
    ".hidden",
    "$HOME",
    "x" * 200,
]
BAD_NAMES = ["", "a//b", "a/", "nul\0", "lone\ud800surrogate", "x" * 1020, "a' || 'b", "it's && that's"]


class NamesContract(Contract):
    @pytest.mark.parametrize("name", GOOD_NAMES, ids=ascii)
    def test_names_iRODS_holds(self, alice: Catalog, here: str, name: str) -> None:
        alice.create_collection(f"{here}/{name}")
        alice.write(f"{here}/{name}/{name}", b"content")
        alice.annotate(an_object(f"{here}/{name}/{name}"), add=[Avu("a", name)])
        assert alice.read(f"{here}/{name}/{name}", ENOUGH) == b"content"
        assert [child.logical_path for child in alice.children(f"{here}/{name}")] == [f"{here}/{name}/{name}"]
        assert alice.find(Query(an_object("").kind, "a", name, within=f"{here}/{name}")) == (f"{here}/{name}/{name}",)
        alice.rename(f"{here}/{name}", f"{here}/{name[:-1]}~")
        assert alice.read(f"{here}/{name[:-1]}~/{name}", ENOUGH) == b"content"

    def test_wildcards_are_letters(self, alice: Catalog, here: str) -> None:
        for name in ("a_c", "abc", "a%c"):
            alice.create_collection(f"{here}/{name}/below", parents=True)
        alice.remove(f"{here}/a_c", recursive=True)
        alice.rename(f"{here}/a%c", f"{here}/moved")
        left = [child.logical_path for child in alice.children(here)]
        assert left == [f"{here}/abc", f"{here}/moved"]
        assert isinstance(alice.stat(f"{here}/abc/below"), Collection)

    def test_case_matters(self, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"small")
        alice.write(f"{here}/X", b"capital")
        assert (alice.read(f"{here}/x", ENOUGH), alice.read(f"{here}/X", ENOUGH)) == (b"small", b"capital")

    @pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: ascii(name[:20]))
    def test_names_iRODS_cannot_hold(self, alice: Catalog, here: str, name: str) -> None:
        alice.create_collection(f"{here}/a")
        alice.write(f"{here}/x", b"x")
        for attempt in attempts(
            lambda: alice.create_collection(f"{here}/{name}"),
            lambda: alice.write(f"{here}/{name}", b""),
            lambda: alice.rename(f"{here}/x", f"{here}/{name}"),
        ):
            with refused(ZoneError, Code.USER_INPUT_PATH_ERR):
                attempt()
        assert [name_of(child.logical_path) for child in alice.children(here)] == ["a", "x"]

    @pytest.mark.parametrize("name", [".", "..", "../x", "a/../x", "a/./x"])
    def test_no_way_around(self, alice: Catalog, here: str, name: str) -> None:
        alice.create_collection(f"{here}/a")
        for attempt in attempts(
            lambda: alice.create_collection(f"{here}/{name}"),
            lambda: alice.write(f"{here}/{name}", b""),
        ):
            with refused(ZoneError, Code.SYS_INVALID_FILE_PATH, Code.USER_INPUT_PATH_ERR):
                attempt()
        assert alice.children(f"{here}/a") == ()

    def test_outside_the_zone(self, alice: Catalog) -> None:
        for path in ("relative/x", "", f"/{alice.user.zone}x/home/{alice.user.name}/x"):
            with refused(ZoneError, Code.USER_INPUT_PATH_ERR):
                alice.write(path, b"")
        with pytest.raises(ZoneError):
            alice.create_collection(f"/{alice.user.zone}/of_my_own")

    def test_a_deep_path_has_a_limit(self, alice: Catalog, here: str) -> None:
        deep = here
        with refused(ZoneError, Code.USER_INPUT_PATH_ERR):
            for _ in range(12):
                deep = f"{deep}/{'d' * 99}"
                alice.create_collection(deep)
        assert len(deep) > 1087
        assert isinstance(alice.stat(parent_of(deep)), Collection)


class IdsContract(Contract):
    def test_a_data_object_keeps_its_id_when_it_is_renamed_or_overwritten(
        self, alice: ClientCatalog, here: str
    ) -> None:
        alice.write(f"{here}/x", b"1")
        known = alice.object_id(f"{here}/x")
        assert alice.object_with_id(known) == f"{here}/x"
        alice.create_collection(f"{here}/a b")
        alice.rename(f"{here}/x", f"{here}/a b/y")
        alice.write(f"{here}/a b/y", b"22", force=True)
        assert alice.object_with_id(known) == f"{here}/a b/y"
        assert alice.object_id(f"{here}/a b/y") == known

    def test_no_other_data_object_gets_an_id_again(self, alice: ClientCatalog, here: str) -> None:
        alice.write(f"{here}/x", b"1")
        known = alice.object_id(f"{here}/x")
        alice.remove(f"{here}/x")
        alice.write(f"{here}/x", b"1")
        assert alice.object_id(f"{here}/x") != known
        with refused(NotFound, Code.USER_FILE_DOES_NOT_EXIST):
            alice.object_with_id(known)

    def test_a_hidden_one_is_not_found(self, alice: ClientCatalog, bob: ClientCatalog, here: str) -> None:
        alice.write(f"{here}/x", b"1")
        known = alice.object_id(f"{here}/x")
        for ask in (lambda: bob.object_id(f"{here}/x"), lambda: bob.object_with_id(known)):
            with refused(NotFound, Code.USER_FILE_DOES_NOT_EXIST):
                ask()
        alice.set_access(here, bob.user, Access.READ_OBJECT)
        alice.set_access(f"{here}/x", bob.user, Access.READ_OBJECT)
        assert bob.object_with_id(bob.object_id(f"{here}/x")) == f"{here}/x"

    def test_what_has_no_id(self, alice: ClientCatalog, here: str) -> None:
        for missing in (here, f"{here}/missing"):
            with refused(NotFound, Code.USER_FILE_DOES_NOT_EXIST):
                alice.object_id(missing)
        for number in (-1, 0, 1 << 62, 1 << 63, 1 << 80):
            with refused(NotFound, Code.USER_FILE_DOES_NOT_EXIST):
                alice.object_with_id(number)


class BoundsContract(Contract):
    def test_members_are_read_up_to_a_bound(self, alice: Catalog, here: str) -> None:
        for name in ("a", "b"):
            alice.write(f"{here}/{name}", b"x")
        alice.create_collection(f"{here}/c")
        assert len(alice.children(here, 3)) == 3
        for most in (0, 1, 2):
            with pytest.raises(TooLarge, match=f"more than {most} members"):
                alice.children(here, most)

    def test_replicas_of_members_count(self, zone: ZoneUnderTest, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/a", b"x")
        alice.replicate(f"{here}/a", zone.make_resource())
        assert len(alice.children(here, 2)) == 1
        with pytest.raises(TooLarge, match="members and replicas"):
            alice.children(here, 1)

    def test_access_lists_are_read_up_to_a_bound(self, zone: ZoneUnderTest, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/a", b"x")
        for path in (here, f"{here}/a"):
            alice.set_access(path, zone.make_user(), Access.READ_OBJECT)
            assert len(alice.permissions(path, 2)) == 2
            with pytest.raises(TooLarge, match="more than 1 entries"):
                alice.permissions(path, 1)

    def test_ones_own_access_is_found_in_a_list_of_any_length(
        self, zone: ZoneUnderTest, alice: Catalog, bob: Catalog, here: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bounds, "MOST_PERMISSIONS", 2)
        group = zone.make_group(bob.user)
        alice.write(f"{here}/a", b"x")
        for path in (here, f"{here}/a"):
            for user in (zone.make_user(), zone.make_user()):
                alice.set_access(path, user, Access.MODIFY_OBJECT)
            assert bob.access(path) is Access.NULL
            alice.set_access(path, group, Access.READ_OBJECT)
            assert bob.access(path) is Access.READ_OBJECT
            assert alice.access(path) is Access.OWN
