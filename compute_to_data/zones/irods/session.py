"""One client user's session with an iRODS zone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from irods.connection import Connection

from compute_to_data.errors import AccessDenied, Code, ConfigurationError, NotFound, ZoneError, zone_error
from compute_to_data.irods_names import check_in_zone, is_broken_by_43
from compute_to_data.local_files import silent
from compute_to_data.model import (
    Access,
    Avu,
    Collection,
    DataObject,
    Entity,
    EntityKind,
    OwnerCount,
    Permission,
    Query,
    Registration,
    Resource,
    Row,
    User,
    UserKind,
    zone_of,
)
from compute_to_data.zones.irods import (
    accounts,
    avus,
    bulk,
    contents,
    environment,
    finding,
    lookup,
    older_servers,
    registration,
    replication,
    transfer,
    tree,
)
from compute_to_data.zones.irods.calls import Calls
from compute_to_data.zones.irods.connections import CALL_SECONDS, Connections
from compute_to_data.zones.irods.failures import about, shown

KEPT_BY_A_PERSON = 8
"""How many connections a user's own session keeps: clients transfer many files at the same time."""

_IN_TREE = (EntityKind.DATA_OBJECT, EntityKind.COLLECTION)

Result = TypeVar("Result")


class IrodsSession:
    """A :class:`~compute_to_data.ports.Catalog`; threads may share it.

    ``by_service``: the service account opened the session, on behalf of the user or for itself, so
    it may register files. ``home``: the home collection, if it is not the usual one.
    """

    def __init__(self, connections: Connections, user: User, by_service: bool = False, home: str = "") -> None:
        self.calls = Calls(connections)
        self._user = user
        self._by_service = by_service
        self._home = home or user.home_in(connections.account.proxy_zone)

    def _zone_path(self, logical_path: str) -> str:
        check_in_zone(logical_path, zone_of(self._home))
        if is_broken_by_43(logical_path):
            self.calls.ask(logical_path, older_servers.need_one_that_keeps, logical_path)
        return logical_path

    def _need_place(self, data_object: str, resource: str) -> None:
        """Refuse a place for content that the server would not refuse, or not in these words."""
        self._zone_path(data_object)
        if resource:
            self.calls.ask(resource, lookup.need_up, resource)

    def _need_here(self, logical_path: str) -> None:
        """NotFound for a path in another zone. A server would ask that one, but not for all that a task needs."""
        here, there = zone_of(self._home), zone_of(logical_path)
        if there and there != here:
            cause = f"is in the zone {there}, and only what is in {here} can be used here"
            remedy = f"Copy it into {here} first, with icp or irsync, or name a server of {there} in irods_host"
            raise zone_error(Code.USER_FILE_DOES_NOT_EXIST, shown(logical_path), cause, remedy)

    @property
    def home(self) -> str:
        return self._home

    @classmethod
    def open(cls, environment_file: str) -> IrodsSession:
        """A user's own session, with the environment and password that their ``iinit`` wrote.

        AccessDenied (-826000) when the user is not logged in, or the password is wrong; NotFound
        (-827000) when there is no such user; ZoneError (-305000) when the server cannot be reached.
        """
        try:
            account = accounts.from_environment(environment_file)
            home = accounts.home(environment_file)
        except ConfigurationError as error:
            if error.remedy not in (accounts.IINIT_AS_SERVICE, environment.AS_IINIT):
                raise  # iinit would not help
            cause = f"{error.subject}: {error.cause}"
            raise zone_error(Code.CAT_INVALID_AUTHENTICATION, "not logged in", cause, accounts.LOG_IN) from error
        user = User(account.client_user, account.client_zone)
        session = cls(Connections(account, str(user), KEPT_BY_A_PERSON), user, home=home)
        try:
            session.calls.ask(str(user), lambda connection: None)
        except (AccessDenied, NotFound) as error:
            raise zone_error(error.code, f"{user} on {account.host}", error.cause, accounts.LOG_IN) from error
        return session

    def put(
        self,
        file: str,
        data_object: str,
        *,
        resource: str = "",
        force: bool = False,
        moved: Callable[[int], None] | None = None,
    ) -> str:
        self._need_place(data_object, resource)
        target = transfer.Target(data_object, resource, force)
        with self._explaining_locks(data_object), about(data_object):
            return transfer.put(self.calls.connections, file, target, moved or silent)

    def put_all(
        self,
        files: Sequence[tuple[str, str]],
        *,
        resource: str = "",
        force: bool = False,
        moved: Callable[[int], None] | None = None,
    ) -> tuple[str, ...]:
        return tuple(
            self.put(file, data_object, resource=resource, force=force, moved=moved) for file, data_object in files
        )

    def get(self, data_object: str, file: str, *, moved: Callable[[int], None] | None = None) -> str:
        with self._explaining_locks(data_object), about(data_object):
            return transfer.get(self.calls.connections, data_object, file, moved or silent)

    def close(self) -> None:
        """Close the connections. Only for a session from :meth:`open`, which has its own ones."""
        self.calls.connections.close()

    @property
    def user(self) -> User:
        return self._user

    def stat(self, logical_path: str) -> Collection | DataObject:
        self._need_here(logical_path)
        return self.calls.ask(logical_path, lookup.stat, logical_path)

    def children(self, collection: str, most: int | None = None) -> tuple[Collection | DataObject, ...]:
        self._need_here(collection)
        return self.calls.ask(collection, lookup.children, collection, most)

    def access(self, logical_path: str) -> Access:
        self._need_here(logical_path)
        return self.calls.ask(logical_path, lookup.access, logical_path, self._user)

    def permissions(self, logical_path: str, most: int | None = None) -> tuple[Permission, ...]:
        self._need_here(logical_path)
        return self.calls.ask(logical_path, lookup.permissions, logical_path, most)

    def create_collection(self, collection: str, parents: bool = False) -> None:
        self._zone_path(collection)
        self.calls.make(collection, tree.create_collection, collection, parents, again=parents)

    def read(self, data_object: str, most_bytes: int) -> bytes:
        return self._with_replicas(data_object, contents.read, data_object, most_bytes, again=True)

    @contextmanager
    def open_to_read(self, data_object: str) -> Iterator[contents.OpenObject]:
        with (
            self._explaining_locks(data_object),
            about(data_object),
            self.calls.connections.lent() as connection,
            contents.OpenObject(connection, data_object) as found,
        ):
            yield found

    def _with_replicas(self, data_object: str, use: Callable[..., Result], *rest: Any, **options: Any) -> Result:
        """A call that needs a usable replica."""
        with self._explaining_locks(data_object):
            return self.calls.make(data_object, use, *rest, **options)

    @contextmanager
    def _explaining_locks(self, data_object: str) -> Iterator[None]:
        """Replace the server's "no resource" error when locked or intermediate replicas are the reason.

        NotFound for what is in another zone.
        """
        self._need_here(data_object)
        try:
            yield
        except ZoneError as error:
            if error.code is not Code.HIERARCHY_ERROR:
                raise
            code = self.calls.ask(data_object, lookup.at_work, data_object)
            if code is None:
                raise
            raise zone_error(code, shown(data_object), "something is at work on its replicas") from error

    def write(self, data_object: str, content: bytes, *, resource: str = "", force: bool = False) -> None:
        self._need_place(data_object, resource)
        self._with_replicas(data_object, contents.write, data_object, content, resource, force, again=force)

    def remove(self, logical_path: str, *, recursive: bool = False) -> None:
        self._need_here(logical_path)
        seconds = replication.TRANSFER_SECONDS if recursive else CALL_SECONDS
        self.calls.make(logical_path, tree.remove, logical_path, recursive, seconds=seconds)

    def rename(self, source: str, destination: str) -> None:
        self._need_here(source)
        self._zone_path(destination)
        self.calls.make(source, tree.rename, source, destination)

    def annotate(self, entity: Entity, *, add: Iterable[Avu] = (), remove: Iterable[Avu] = ()) -> None:
        self._need_own_access(entity)
        self.calls.ask(entity.name, avus.annotate, entity, list(add), list(remove))

    def _need_own_access(self, entity: Entity) -> None:
        """NotFound for what is in another zone; AccessDenied unless a user of another zone may modify the entity.

        iRODS's atomic call checks the user's name but not the zone, so such a user would get the
        rights of a local user of the same name.
        """
        if entity.kind not in _IN_TREE:
            return
        self._need_here(entity.name)
        if self._user.zone == zone_of(self._home):
            return
        if Access.NULL < self.access(entity.name) < Access.MODIFY_OBJECT:
            raise zone_error(Code.CAT_NO_ACCESS_PERMISSION, shown(entity.name), f"{self._user} may not modify it")

    def annotate_all(self, data_objects: Sequence[str], add: Sequence[Avu]) -> None:
        bulk.annotate_all(self.calls, self.annotate, data_objects, add)

    def set_avu(self, collection: str, avu: Avu) -> None:
        self._need_here(collection)
        self.calls.ask(collection, avus.set_one, collection, avu)

    def avus(self, entity: Entity, *attributes: str, most: int | None = None) -> tuple[Avu, ...]:
        if entity.kind in _IN_TREE:
            self._need_here(entity.name)
        return self.calls.ask(entity.name, avus.read, entity, attributes, most)

    def find(self, query: Query) -> tuple[str, ...]:
        return self.calls.ask(query.attribute, finding.find, query)

    def object_id(self, data_object: str) -> int:
        self._need_here(data_object)
        return self.calls.ask(data_object, lookup.object_id, data_object)

    def object_with_id(self, object_id: int) -> str:
        return self.calls.ask(f"id {object_id}", lookup.object_with_id, object_id)

    def query(self, query: Query) -> tuple[Row, ...]:
        return self.calls.ask(query.attribute, finding.rows, query)

    def avus_of(self, collections: Sequence[str], *attributes: str) -> Mapping[str, tuple[Avu, ...]]:
        return self.calls.ask(f"{len(collections)} collections", avus.read_many, collections, attributes)

    def count_by_owner(self, query: Query, *, most: int | None = None) -> tuple[OwnerCount, ...]:
        # the server counts all of them in any case
        return self.calls.ask(query.attribute, finding.by_owner, query)

    def resources(self) -> tuple[Resource, ...]:
        return self.calls.ask("resources", lookup.resources)

    def avus_of_resources(self, *attributes: str) -> Mapping[str, tuple[Avu, ...]]:
        return self.calls.ask("resources", avus.of_resources, attributes)

    def set_access(self, logical_path: str, user: User, access: Access, *, recursive: bool = False) -> None:
        self._need_here(logical_path)
        self.calls.ask(logical_path, tree.set_access, logical_path, user, access, recursive)

    def set_inheritance(self, collection: str, inherits: bool) -> None:
        self._need_here(collection)
        self.calls.ask(collection, tree.set_inheritance, collection, inherits)

    def replicate(self, data_object: str, resource: str) -> None:
        def use(connection: Connection) -> None:
            replication.replicate(connection, data_object, resource, administering=False)

        self._with_replicas(data_object, use, again=True, seconds=replication.TRANSFER_SECONDS)

    def trim(self, data_object: str, number: int) -> None:
        self._need_here(data_object)
        self.calls.make(data_object, replication.trim, data_object, number)

    def checksum(self, data_object: str) -> str:
        self._need_here(data_object)
        return self.calls.ask(data_object, contents.checksum, data_object, seconds=replication.TRANSFER_SECONDS)

    def register(self, resource: str, files: Sequence[Registration]) -> None:
        if not files:
            return
        for file in files:
            self._zone_path(file.logical_path)
        if not self._by_service:
            for file in files:
                self.calls.make(file.logical_path, registration.register_one, resource, file)
            return
        bulk.register(self.calls, self._user, resource, files)

    def unregister(self, data_objects: Sequence[str]) -> None:
        bulk.unregister(self.calls, data_objects)


def need_user(kind: UserKind | None, user: User) -> None:
    """NotFound (-827000) when there is no such user, or when the name is a group's."""
    if kind is None or kind is UserKind.RODSGROUP:
        cause = "a group, not a user" if kind else "no such user"
        raise zone_error(Code.CAT_INVALID_USER, str(user), cause)
