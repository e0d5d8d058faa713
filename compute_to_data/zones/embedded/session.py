"""One client user's session with an embedded zone."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import BinaryIO

from compute_to_data import bounds
from compute_to_data.errors import Code
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
)
from compute_to_data.zones.embedded import (
    avus,
    nodes,
    registration,
    renaming,
    replicas,
    replication,
    resources,
    rights,
    transfer,
    tree,
    writing,
)
from compute_to_data.zones.embedded.database import PAUSE_SECONDS
from compute_to_data.zones.embedded.rights import Actor
from compute_to_data.zones.embedded.store import Store


class EmbeddedSession:
    """A :class:`~compute_to_data.ports.Catalog`; threads may share it.

    ``by_service``: the service account opened the session, on behalf of the user or for itself, so
    it may register files. A rodsadmin's session may, too.
    """

    def __init__(self, store: Store, user: User, by_service: bool = False) -> None:
        self._store = store
        self._user = user
        self._by_service = by_service
        with store.database.reading() as connection:
            self._who(connection)

    def _who(self, connection: sqlite3.Connection) -> Actor:
        return rights.find_user(connection, self._user)

    @property
    def user(self) -> User:
        return self._user

    @property
    def home(self) -> str:
        return self._user.home_in(self._store.zone)

    def stat(self, logical_path: str) -> Collection | DataObject:
        with self._store.database.reading() as connection:
            node = nodes.see(connection, self._who(connection), logical_path, Code.USER_FILE_DOES_NOT_EXIST)
            return nodes.describe(connection, node)

    def children(self, collection: str, most: int | None = None) -> tuple[Collection | DataObject, ...]:
        with self._store.database.reading() as connection:
            actor = self._who(connection)
            return nodes.members(connection, actor, nodes.see_collection(connection, actor, collection), most)

    def access(self, logical_path: str) -> Access:
        with self._store.database.reading() as connection:
            node = nodes.find(connection, self._who(connection), logical_path)
            return node.level if node is not None and node.is_visible else Access.NULL

    def permissions(self, logical_path: str, most: int | None = None) -> tuple[Permission, ...]:
        with self._store.database.reading() as connection:
            node = nodes.see(connection, self._who(connection), logical_path, Code.USER_FILE_DOES_NOT_EXIST)
            found = rights.permissions(connection, node.id, most)
        bounds.check_permissions(logical_path, len(found), most)
        return found

    def create_collection(self, collection: str, parents: bool = False) -> None:
        tree.create_collection(self._store, self._who, collection, parents)

    def read(self, data_object: str, most_bytes: int) -> bytes:
        with self._opened(data_object) as (copy, file):
            bounds.check_size(data_object, copy.shown.size, most_bytes)
            return transfer.OpenFile(file, copy.shown.physical_path).whole(data_object, most_bytes)

    @contextmanager
    def open_to_read(self, data_object: str) -> Iterator[transfer.OpenFile]:
        with self._opened(data_object) as (copy, file):
            yield transfer.OpenFile(file, copy.shown.physical_path)

    def _opened(self, data_object: str) -> AbstractContextManager[tuple[replicas.Copy, BinaryIO]]:
        def find(connection: sqlite3.Connection) -> replicas.Copy:
            actor = self._who(connection)
            node = nodes.see_object(connection, actor, data_object, Code.OBJ_PATH_DOES_NOT_EXIST)
            return replicas.readable(replicas.copies_of(connection, node.id), data_object)

        return replicas.opened(self._store.database, find)

    def write(self, data_object: str, content: bytes, *, resource: str = "", force: bool = False) -> None:
        writing.write(self._store, self._who, data_object, content, resource, force)

    def remove(self, logical_path: str, *, recursive: bool = False) -> None:
        tree.remove(self._store, self._who, logical_path, recursive)

    def rename(self, source: str, destination: str) -> None:
        renaming.rename(self._store, self._who, source, destination)

    def annotate(self, entity: Entity, *, add: Iterable[Avu] = (), remove: Iterable[Avu] = ()) -> None:
        added, removed = list(add), list(remove)
        with self._store.database.writing() as connection:
            avus.annotate(connection, self._who(connection), [entity], added, removed)

    def annotate_all(self, data_objects: Sequence[str], add: Sequence[Avu]) -> None:
        entities = [Entity(EntityKind.DATA_OBJECT, data_object) for data_object in data_objects]
        for some in self._store.database.turns(entities, len(add)):
            with self._store.database.writing() as connection:
                avus.annotate(connection, self._who(connection), some, add, ())

    def set_avu(self, collection: str, avu: Avu) -> None:
        with self._store.database.writing() as connection:
            avus.set_one(connection, self._who(connection), collection, avu)

    def avus(self, entity: Entity, *attributes: str, most: int | None = None) -> tuple[Avu, ...]:
        with self._store.database.reading() as connection:
            return avus.read(connection, self._who(connection), entity, attributes, most)

    def find(self, query: Query) -> tuple[str, ...]:
        with self._store.database.reading() as connection:
            return avus.find(connection, self._who(connection), query)

    def object_id(self, data_object: str) -> int:
        with self._store.database.reading() as connection:
            return nodes.see_object(connection, self._who(connection), data_object, Code.USER_FILE_DOES_NOT_EXIST).id

    def object_with_id(self, object_id: int) -> str:
        with self._store.database.reading() as connection:
            return nodes.path_of(connection, self._who(connection), object_id)

    def query(self, query: Query) -> tuple[Row, ...]:
        with self._store.database.reading() as connection:
            return avus.rows(connection, self._who(connection), query)

    def avus_of(self, collections: Sequence[str], *attributes: str) -> Mapping[str, tuple[Avu, ...]]:
        with self._store.database.reading() as connection:
            return avus.read_many(connection, self._who(connection), collections, attributes)

    def count_by_owner(self, query: Query, *, most: int | None = None) -> tuple[OwnerCount, ...]:
        with self._store.database.reading() as connection:
            return avus.by_owner(connection, self._who(connection), query, most)

    def resources(self) -> tuple[Resource, ...]:
        with self._store.database.reading() as connection:
            return resources.list_all(connection)

    def avus_of_resources(self, *attributes: str) -> Mapping[str, tuple[Avu, ...]]:
        with self._store.database.reading() as connection:
            return avus.of_resources(connection, attributes)

    def set_access(self, logical_path: str, user: User, access: Access, *, recursive: bool = False) -> None:
        tree.set_access(self._store, self._who, logical_path, user, access, recursive)

    def set_inheritance(self, collection: str, inherits: bool) -> None:
        tree.set_inheritance(self._store, self._who, collection, inherits)

    def replicate(self, data_object: str, resource: str) -> None:
        replication.replicate(self._store, self._who, data_object, resource)

    def trim(self, data_object: str, number: int) -> None:
        replication.trim(self._store, self._who, data_object, number)

    def checksum(self, data_object: str) -> str:
        return replication.checksum(self._store, self._who, data_object)

    def register(self, resource: str, files: Sequence[Registration]) -> None:
        if not files:
            return
        with self._store.database.writing() as connection:
            actor = self._who(connection)
            if not self._by_service and actor.kind is not UserKind.RODSADMIN:
                raise registration.refusal(connection, actor, files)
            registration.register(connection, actor, self._store.zone, resource, files)

    def unregister(self, data_objects: Sequence[str]) -> None:
        done = 0
        while done < len(data_objects):
            if done:
                time.sleep(PAUSE_SECONDS)
            with self._store.database.writing() as connection:
                done += registration.unregister(connection, self._who(connection), data_objects[done : done + 1000])

    def put(
        self,
        file: str,
        data_object: str,
        *,
        resource: str = "",
        force: bool = False,
        moved: Callable[[int], None] | None = None,
    ) -> str:
        (checksum,) = self.put_all([(file, data_object)], resource=resource, force=force, moved=moved)
        return checksum

    def put_all(
        self,
        files: Sequence[tuple[str, str]],
        *,
        resource: str = "",
        force: bool = False,
        moved: Callable[[int], None] | None = None,
    ) -> tuple[str, ...]:
        return transfer.put_all(self._store, self._who, files, resource, force, moved or silent)

    def get(self, data_object: str, file: str, *, moved: Callable[[int], None] | None = None) -> str:
        return transfer.get(self._store, self._who, data_object, file, moved or silent)

    def close(self) -> None:
        """Close the connections. Only for a session from :func:`~compute_to_data.zones.open_session`."""
        self._store.close()
