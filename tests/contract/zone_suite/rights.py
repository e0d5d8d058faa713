"""Who may do what: access lists, groups, inheritance, sessions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.reading import ENOUGH

from compute_to_data.errors import AccessDenied, Code, NotFound, ZoneError
from compute_to_data.model import Access, Avu, Collection, EntityKind, Permission, Query, User, UserKind
from compute_to_data.ports.zone import Catalog
from zone_suite.zone_under_test import Contract, ZoneUnderTest, an_object, attempts, refused

READING: dict[str, Callable[[Catalog, str], object]] = {
    "stat": lambda catalog, path: catalog.stat(path),
    "read": lambda catalog, path: catalog.read(path, ENOUGH),
    "checksum": lambda catalog, path: catalog.checksum(path),
    "avus": lambda catalog, path: catalog.avus(an_object(path)),
    "permissions": lambda catalog, path: catalog.permissions(path),
}
CHANGING: dict[str, tuple[Access, Callable[[Catalog, str], object]]] = {
    "annotate": (
        Access.MODIFY_OBJECT,
        lambda catalog, path: catalog.annotate(an_object(path), add=[Avu("a", "v")]),
    ),
    "annotate_all": (
        Access.MODIFY_OBJECT,
        lambda catalog, path: catalog.annotate_all([path], [Avu("a", "v")]),
    ),
    "write": (Access.MODIFY_OBJECT, lambda catalog, path: catalog.write(path, b"new", force=True)),
    "remove": (Access.DELETE_OBJECT, lambda catalog, path: catalog.remove(path)),
    "rename": (Access.OWN, lambda catalog, path: catalog.rename(path, f"{path}2")),
    "set_access": (Access.OWN, lambda catalog, path: catalog.set_access(path, catalog.user, Access.OWN)),
    "unregister": (Access.DELETE_OBJECT, lambda catalog, path: catalog.unregister([path])),
}
LEVELS = [Access.READ_OBJECT, Access.DELETE_METADATA, Access.MODIFY_OBJECT, Access.DELETE_OBJECT, Access.OWN]


class RightsContract(Contract):
    @pytest.fixture
    def shared(self, alice: Catalog, bob: Catalog, here: str) -> str:
        """A data object of alice's; its collection is bob's to write to."""
        alice.set_access(here, bob.user, Access.MODIFY_OBJECT)
        alice.write(f"{here}/x", b"x")
        return f"{here}/x"

    @pytest.mark.parametrize("operation", READING)
    def test_what_one_may_not_read_is_not_there(self, bob: Catalog, shared: str, operation: str) -> None:
        with pytest.raises(NotFound):
            READING[operation](bob, shared)

    @pytest.mark.parametrize("operation", READING)
    def test_read_object_suffices_to_read(self, alice: Catalog, bob: Catalog, shared: str, operation: str) -> None:
        alice.set_access(shared, bob.user, Access.READ_OBJECT)
        assert READING[operation](bob, shared) == READING[operation](alice, shared)

    def test_below_read_object_is_hidden(self, alice: Catalog, bob: Catalog, here: str, shared: str) -> None:
        alice.set_access(shared, bob.user, Access.READ_METADATA)
        assert bob.access(shared) is Access.NULL
        assert bob.children(here) == ()
        with refused(NotFound, Code.USER_FILE_DOES_NOT_EXIST):
            bob.stat(shared)

    @pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
    @pytest.mark.parametrize("operation", CHANGING)
    def test_changing_needs_its_level(
        self, alice: Catalog, bob: Catalog, shared: str, operation: str, level: Access
    ) -> None:
        needed, change = CHANGING[operation]
        alice.set_access(shared, bob.user, level)
        if level >= needed:
            change(bob, shared)
        else:
            before = alice.stat(shared), alice.avus(an_object(shared)), alice.permissions(shared)
            with refused(AccessDenied, Code.CAT_NO_ACCESS_PERMISSION):
                change(bob, shared)
            assert (alice.stat(shared), alice.avus(an_object(shared)), alice.permissions(shared)) == before

    def test_making_needs_modify_object(self, zone: ZoneUnderTest, alice: Catalog, bob: Catalog, here: str) -> None:
        for visible in (False, True):
            alice.set_access(here, bob.user, Access.READ_OBJECT if visible else Access.NULL)
            is_told = visible or zone.tells_of_hidden_collections
            kind, code = (
                (AccessDenied, Code.CAT_NO_ACCESS_PERMISSION) if is_told else (NotFound, Code.CAT_UNKNOWN_COLLECTION)
            )
            with refused(kind, code):
                bob.create_collection(f"{here}/a")
        for attempt in attempts(lambda: bob.create_collection(f"{here}/a"), lambda: bob.write(f"{here}/x", b"")):
            with refused(AccessDenied, Code.CAT_NO_ACCESS_PERMISSION):
                attempt()
        alice.set_access(here, bob.user, Access.MODIFY_OBJECT)
        bob.create_collection(f"{here}/a")
        assert bob.access(f"{here}/a") is Access.OWN

    def test_each_thing_has_its_own_list(self, alice: Catalog, bob: Catalog, here: str) -> None:
        alice.create_collection(f"{here}/deep")
        alice.set_access(f"{here}/deep", bob.user, Access.READ_OBJECT)
        assert isinstance(bob.stat(f"{here}/deep"), Collection)
        assert bob.access(here) is Access.NULL

    def test_a_data_object_in_a_hidden_collection_is_hidden(self, alice: Catalog, bob: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"x")
        alice.set_access(f"{here}/x", bob.user, Access.OWN)
        for operation in READING.values():
            with pytest.raises(NotFound):
                operation(bob, f"{here}/x")
        with refused(ZoneError, Code.SYS_INVALID_INPUT_PARAM):
            bob.annotate(an_object(f"{here}/x"), add=[Avu("a", "v")])
        alice.annotate(an_object(f"{here}/x"), add=[Avu("only here", here)])
        assert bob.find(Query(EntityKind.DATA_OBJECT, "only here", here)) == ()
        assert bob.access(f"{here}/x") is Access.NULL
        alice.set_access(here, bob.user, Access.READ_OBJECT)
        assert bob.read(f"{here}/x", ENOUGH) == b"x"

    def test_the_list(self, alice: Catalog, bob: Catalog, here: str) -> None:
        alice.set_access(here, bob.user, Access.READ_OBJECT)
        rows = alice.permissions(here)
        assert set(rows) == {
            Permission(alice.user, UserKind.RODSUSER, Access.OWN),
            Permission(bob.user, UserKind.RODSUSER, Access.READ_OBJECT),
        }
        assert [row.user for row in rows] == sorted(row.user for row in rows)

    def test_one_row_a_user(self, alice: Catalog, bob: Catalog, here: str) -> None:
        for level in (Access.OWN, Access.READ_OBJECT):
            alice.set_access(here, bob.user, level)
        assert bob.access(here) is Access.READ_OBJECT
        alice.set_access(here, bob.user, Access.NULL)
        assert [row.user for row in alice.permissions(here)] == [alice.user]
        assert bob.access(here) is Access.NULL

    def test_recursion(self, alice: Catalog, bob: Catalog, here: str) -> None:
        alice.create_collection(f"{here}/a/b", parents=True)
        alice.write(f"{here}/a/b/x", b"x")
        alice.set_access(f"{here}/a", bob.user, Access.READ_OBJECT)
        assert bob.access(f"{here}/a/b") is Access.NULL
        alice.set_access(f"{here}/a", bob.user, Access.MODIFY_OBJECT, recursive=True)
        levels = {bob.access(f"{here}/{path}") for path in ("a", "a/b", "a/b/x")}
        assert levels == {Access.MODIFY_OBJECT}
        assert bob.access(here) is Access.NULL

    def test_nobody_of_that_name(self, alice: Catalog, bob: Catalog, here: str) -> None:
        for unknown in (User("nobody-has-this-name", alice.user.zone), User(bob.user.name, "elsewhere")):
            with refused(ZoneError, Code.CAT_INVALID_USER):
                alice.set_access(here, unknown, Access.READ_OBJECT)

    def test_nothing_of_that_name(self, alice: Catalog, bob: Catalog, here: str) -> None:
        with pytest.raises(NotFound):
            alice.set_access(f"{here}/missing", bob.user, Access.READ_OBJECT)

    def test_no_member_one_does_not_own_is_removed(
        self, zone: ZoneUnderTest, alice: Catalog, bob: Catalog, here: str
    ) -> None:
        alice.create_collection(f"{here}/a")
        alice.write(f"{here}/a/hers", b"")
        alice.set_access(f"{here}/a", bob.user, Access.MODIFY_OBJECT)
        bob.write(f"{here}/a/his", b"his")
        with refused(ZoneError, Code.CAT_COLLECTION_NOT_EMPTY, Code.CAT_NO_ACCESS_PERMISSION):
            alice.remove(f"{here}/a", recursive=True)
        assert bob.read(f"{here}/a/his", ENOUGH) == b"his"
        if zone.checks_all_members_before_removing:
            assert alice.read(f"{here}/a/hers", ENOUGH) == b""

    def test_a_hidden_name_is_taken_all_the_same(self, alice: Catalog, bob: Catalog, here: str, shared: str) -> None:
        for attempt in attempts(
            lambda: bob.write(shared, b"new"),
            lambda: bob.write(shared, b"new", force=True),
            lambda: bob.create_collection(shared),
        ):
            with pytest.raises(ZoneError):
                attempt()
        assert alice.read(shared, ENOUGH) == b"x"

    def test_an_administrator_sees_no_more_than_the_list_says(
        self, zone: ZoneUnderTest, alice: Catalog, here: str
    ) -> None:
        assert zone.storage().catalog.access(here) is Access.NULL


class GroupsContract(Contract):
    def test_a_group_gives_its_level(self, zone: ZoneUnderTest, alice: Catalog, bob: Catalog, here: str) -> None:
        group = zone.make_group(bob.user)
        alice.set_access(here, group, Access.READ_OBJECT)
        assert bob.access(here) is Access.READ_OBJECT
        assert Permission(group, UserKind.RODSGROUP, Access.READ_OBJECT) in alice.permissions(here)

    @pytest.mark.parametrize(("own", "group_s"), [(Access.READ_OBJECT, Access.OWN), (Access.OWN, Access.READ_OBJECT)])
    def test_the_highest_counts(
        self, zone: ZoneUnderTest, alice: Catalog, bob: Catalog, here: str, own: Access, group_s: Access
    ) -> None:
        alice.set_access(here, bob.user, own)
        alice.set_access(here, zone.make_group(bob.user), group_s)
        assert bob.access(here) is Access.OWN

    def test_leaving_counts_at_once(self, zone: ZoneUnderTest, alice: Catalog, bob: Catalog, here: str) -> None:
        group = zone.make_group(bob.user)
        alice.set_access(here, group, Access.READ_OBJECT)
        zone.leave_group(group, bob.user)
        assert bob.access(here) is Access.NULL

    def test_everybody_is_public(self, zone: ZoneUnderTest, alice: Catalog, bob: Catalog, here: str) -> None:
        alice.set_access(here, User("public", alice.user.zone), Access.READ_OBJECT)
        assert bob.access(here) is Access.READ_OBJECT

    def test_a_group_has_no_session(self, zone: ZoneUnderTest, bob: Catalog) -> None:
        with refused(ZoneError, Code.CAT_INVALID_USER):
            zone.storage().on_behalf_of(zone.make_group(bob.user))


class InheritanceContract(Contract):
    @pytest.fixture
    def group(self, zone: ZoneUnderTest, alice: Catalog, bob: Catalog, here: str) -> User:
        """bob may write to a collection of alice's that inherits, through a group only."""
        group = zone.make_group(bob.user)
        alice.set_access(here, group, Access.MODIFY_OBJECT)
        alice.set_inheritance(here, True)
        return group

    def test_the_parents_rows_and_no_others(self, alice: Catalog, bob: Catalog, here: str, group: User) -> None:
        bob.write(f"{here}/x", b"x")
        bob.create_collection(f"{here}/a")
        expected = {(alice.user, Access.OWN), (group, Access.MODIFY_OBJECT)}
        for path in (f"{here}/x", f"{here}/a"):
            assert {(row.user, row.access) for row in alice.permissions(path)} == expected
            assert bob.access(path) is Access.MODIFY_OBJECT, "the maker has no row of their own"
            assert alice.access(path) is Access.OWN
        assert alice.stat(f"{here}/x").owner == bob.user, "the owner is the maker all the same"

    def test_collections_pass_it_on(self, alice: Catalog, bob: Catalog, here: str, group: User) -> None:
        bob.create_collection(f"{here}/a/b", parents=True)
        below = alice.stat(f"{here}/a/b")
        assert isinstance(below, Collection)
        assert below.inherits

    def test_it_can_be_ended(self, alice: Catalog, bob: Catalog, here: str, group: User) -> None:
        alice.set_inheritance(here, False)
        bob.write(f"{here}/x", b"x")
        assert bob.access(f"{here}/x") is Access.OWN
        assert alice.access(f"{here}/x") is Access.NULL

    def test_what_is_there_keeps_its_list(self, alice: Catalog, bob: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"x")
        alice.set_access(here, bob.user, Access.READ_OBJECT)
        alice.set_inheritance(here, True)
        assert bob.access(f"{here}/x") is Access.NULL

    def test_needs_own(self, alice: Catalog, bob: Catalog, here: str) -> None:
        alice.set_access(here, bob.user, Access.MODIFY_OBJECT)
        with refused(AccessDenied, Code.CAT_NO_ACCESS_PERMISSION):
            bob.set_inheritance(here, True)


class SessionsContract(Contract):
    def test_on_behalf_has_exactly_the_users_rights(
        self, zone: ZoneUnderTest, alice: Catalog, bob: Catalog, here: str
    ) -> None:
        on_behalf = zone.storage().on_behalf_of(bob.user)
        assert on_behalf.user == bob.user
        with pytest.raises(NotFound):
            on_behalf.stat(here)
        alice.set_access(here, bob.user, Access.MODIFY_OBJECT)
        on_behalf.write(f"{here}/x", b"x")
        assert bob.stat(f"{here}/x").owner == bob.user

    def test_nobody_of_that_name(self, zone: ZoneUnderTest, alice: Catalog) -> None:
        for unknown in (
            User("nobody-has-this-name", zone.storage().zone),
            User(alice.user.name, "elsewhere"),
        ):
            with refused(NotFound, Code.CAT_INVALID_USER):
                zone.storage().on_behalf_of(unknown)

    def test_what_a_removed_user_owned_keeps_the_name(self, zone: ZoneUnderTest, alice: Catalog, here: str) -> None:
        gone = zone.make_user()
        alice.set_access(here, gone, Access.MODIFY_OBJECT)
        zone.session(gone).write(f"{here}/x", b"x")
        zone.session(gone).set_access(f"{here}/x", alice.user, Access.OWN)
        zone.remove_user(gone)
        assert alice.stat(f"{here}/x").owner == gone
        assert [row.user for row in alice.permissions(f"{here}/x")] == [alice.user]
        with refused(NotFound, Code.CAT_INVALID_USER):
            zone.storage().on_behalf_of(gone)

    def test_the_owner_is_known_whatever_the_list_says(self, zone: ZoneUnderTest, alice: Catalog, here: str) -> None:
        alice.write(f"{here}/x", b"x")
        assert zone.storage().owner(f"{here}/x") == alice.user
        with refused(NotFound, Code.USER_FILE_DOES_NOT_EXIST):
            zone.storage().owner(f"{here}/missing")

    def test_the_service_account_is_of_the_zone(self, zone: ZoneUnderTest, alice: Catalog) -> None:
        assert zone.storage().catalog.user.zone == zone.storage().zone == alice.user.zone
