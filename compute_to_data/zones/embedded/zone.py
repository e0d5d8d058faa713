"""Opens, makes and administers an embedded zone."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from compute_to_data.errors import Code, zone_error
from compute_to_data.irods_names import check_name
from compute_to_data.model import ReplicaStatus, User, UserKind
from compute_to_data.ports.zone import ClientCatalog, Storage
from compute_to_data.zones.embedded import creation, disk, nodes, resources, rights
from compute_to_data.zones.embedded.passwords import Passwords, need_length
from compute_to_data.zones.embedded.service import EmbeddedStorage
from compute_to_data.zones.embedded.session import EmbeddedSession
from compute_to_data.zones.embedded.store import Store

_STATUSES = ("", "up", "down", "auto-up", "auto-down")


class EmbeddedZone:
    """A zone in a directory, which must exist: see :meth:`create`. ConfigurationError otherwise.

    The methods of this class are for administrators (``iadmin``). Users have a :meth:`session`, the
    service account its :meth:`storage`. Threads and processes may use one directory at the same time.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._store = Store(os.fspath(directory))

    @classmethod
    def create(cls, directory: str | os.PathLike[str], zone: str = "tempZone", admin: str = "rods") -> EmbeddedZone:
        """Make a zone, with the rodsadmin ``admin``, the group ``public``, their home and the
        storage resource ``demoResc``, the default. AlreadyExists when the directory holds one."""
        for name in (zone, admin):
            check_name(name, name)
        creation.create(os.fspath(directory), zone, admin)
        opened = cls(directory)
        disk.make_directories(os.path.join(opened.directory, "vaults", creation.FIRST_RESOURCE))
        return opened

    @property
    def directory(self) -> str:
        """The physical path of the zone's directory."""
        return self._store.directory

    @property
    def name(self) -> str:
        """The zone's name."""
        return self._store.zone

    @property
    def admin(self) -> User:
        """The service account, a rodsadmin."""
        return User(self._store.admin, self._store.zone)

    def session(self, user: User) -> ClientCatalog:
        """A user's own session, as a client opens it. NotFound (-827000) for no such user."""
        return EmbeddedSession(self._store, user)

    def storage(self) -> Storage:
        """The service account, with its own connections. Close it after use."""
        return EmbeddedStorage(Store(self._store.directory))

    def add_user(
        self, name: str, kind: UserKind = UserKind.RODSUSER, zone: str = "", password: str | None = None
    ) -> User:
        """Add a user with a home collection; a user of this zone unless another one is given. ``password``: for signing
        in over HTTP; ZoneError (-816000), before anything is made, for one that is too short or too long."""
        user = User(name, zone or self.name)
        if password is not None:
            need_length(user, password)
        with self._adding(str(user), name) as connection:
            identity = creation.insert_principal(connection, user, kind)
            creation.make_home(connection, user, identity)
        if password is not None:
            self.set_password(user, password)
        return user

    def users(self) -> tuple[User, ...]:
        """The users of this zone without groups and administrators, by name."""
        with self._store.database.reading() as connection:
            found = connection.execute(
                "SELECT name, zone FROM user WHERE kind IN ('rodsuser', 'groupadmin') ORDER BY name"
            )
            return tuple(User(*row) for row in found)

    def set_password(self, user: User, password: str | None) -> bool:
        """Set the password for signing in over HTTP, or take it away with None. Returns whether the user had one.
        NotFound (-827000); ZoneError (-816000) for a password that is too short or too long."""
        with self._store.database.reading() as connection:
            rights.find_user(connection, user)
        return Passwords(self.directory).change(user, password)

    def add_group(self, name: str) -> User:
        """Add a group without members."""
        group = User(name, self.name)
        with self._adding(str(group), name) as connection:
            creation.insert_principal(connection, group, UserKind.RODSGROUP)
        return group

    def add_to_group(self, group: User, user: User) -> None:
        """Add a user to a group, if the user is not a member yet. NotFound (-827000)."""
        with self._store.database.writing() as connection:
            members = (rights.find_user(connection, user).id, _find_group(connection, group))
            connection.execute("INSERT OR IGNORE INTO membership VALUES (?, ?)", members)

    def remove_from_group(self, group: User, user: User) -> None:
        """Remove a user from a group, if the user is a member. NotFound (-827000)."""
        with self._store.database.writing() as connection:
            members = (rights.find_user(connection, user).id, _find_group(connection, group))
            connection.execute("DELETE FROM membership WHERE member = ? AND principal = ?", members)

    def remove_user(self, user: User) -> None:
        """Remove a user or group, with their rows in access lists and their home.

        ZoneError -821000 when the home is not empty. What they own elsewhere keeps their name.
        """
        with self._store.database.writing() as connection:
            actor = rights.find_principal(connection, user)
            home = user.home_in(self.name)
            node = nodes.find(connection, actor, home)
            if node is not None and actor.kind is not UserKind.RODSGROUP:
                if len(nodes.subtree(connection, node.id)) > 1:
                    cause = "the home collection of a user to be removed is not empty"
                    raise zone_error(Code.CAT_COLLECTION_NOT_EMPTY, home, cause, "Empty it first")
                nodes.delete(connection, [node.id])
            connection.execute("DELETE FROM entity WHERE id = ?", (actor.id,))

    def add_resource(
        self,
        name: str,
        kind: str = resources.STORAGE,
        parent: str = "",
        vault: str = "",
        host: str = "localhost",
    ) -> None:
        """Add a resource: a ``unixfilesystem`` with a vault (by default in the zone's directory), with or
        without a parent; or a ``replication`` or ``passthru``, which can be parents."""
        if kind not in (resources.STORAGE, "replication", "passthru"):
            cause = f"'{kind}' is no kind of resource here"
            raise zone_error(Code.CAT_INVALID_ARGUMENT, name, cause, "Use unixfilesystem, replication or passthru")
        has_vault = kind == resources.STORAGE
        vault = os.path.abspath(vault or os.path.join(self.directory, "vaults", name))
        if has_vault:
            disk.make_directories(vault)
        place = (host, vault) if has_vault else (resources.NO_HOST, resources.NO_VAULT)
        with self._adding(name, name) as connection:
            above = resources.parent_for(connection, parent, name, has_vault) if parent else None
            creation.insert_resource(connection, name, kind, *place, above)

    def set_resource_status(self, name: str, status: str) -> None:
        """Mark a resource '', up, down, auto-up or auto-down. NotFound (-78000)."""
        if status not in _STATUSES:
            cause = f"'{status}' is no status"
            raise zone_error(Code.CAT_INVALID_ARGUMENT, name, cause, "Use up, down, auto-up or auto-down")
        with self._store.database.writing() as connection:
            identity = resources.identity(connection, name)
            connection.execute("UPDATE resource SET status = ? WHERE id = ?", (status, identity))

    @property
    def default_resource(self) -> str:
        """The default resource for new data objects."""
        with self._store.database.reading() as connection:
            return resources.default(connection)

    def set_default_resource(self, name: str) -> None:
        """Set the default resource, which must be a root. NotFound (-78000)."""
        with self._store.database.writing() as connection:
            resources.leaves(connection, name)
            identity = resources.identity(connection, name)
            connection.execute("UPDATE zone SET default_resource = ?", (identity,))

    def set_replica_status(self, data_object: str, number: int, status: ReplicaStatus) -> None:
        """Set the status of a replica, as ``iadmin modrepl`` does. NotFound (-817000, -164000)."""
        with self._store.database.writing() as connection:
            node = nodes.find(connection, rights.find_user(connection, self.admin), data_object)
            if node is None or node.is_collection:
                raise zone_error(Code.CAT_UNKNOWN_FILE, data_object, "no such data object")
            statement = "UPDATE replica SET status = ? WHERE node = ? AND number = ?"
            if connection.execute(statement, (int(status), node.id, number)).rowcount == 0:
                raise zone_error(Code.SYS_REPLICA_DOES_NOT_EXIST, data_object, f"there is no replica {number}")

    def sweep(self) -> int:
        """Delete the vault files that killed processes left half made or half removed; returns how many.

        A worker may call this when it starts.
        """
        return self._store.files.sweep()

    def close(self) -> None:
        """Close all connections, including those of sessions."""
        self._store.close()

    def __enter__(self) -> EmbeddedZone:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _adding(self, shown: str, name: str) -> Iterator[sqlite3.Connection]:
        """A transaction that adds something new under a name."""
        check_name(name, name)
        if "/" in name or "#" in name or ";" in name:
            raise zone_error(Code.CAT_INVALID_ARGUMENT, name, "'/', '#' and ';' cannot be in this name")
        with self._store.database.writing() as connection:
            try:
                yield connection
            except sqlite3.IntegrityError as error:
                code = Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME
                raise zone_error(code, shown, "it is there already") from error


def _find_group(connection: sqlite3.Connection, group: User) -> int:
    actor = rights.find_principal(connection, group)
    if actor.kind is not UserKind.RODSGROUP:
        raise zone_error(Code.CAT_INVALID_USER, str(group), "a user, not a group")
    return actor.id
