"""The service account's side of an embedded zone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace

from compute_to_data.errors import Code
from compute_to_data.model import Avu, Entity, OwnerCount, Query, Replica, Row, User
from compute_to_data.ports.zone import Catalog
from compute_to_data.zones.embedded import avus, nodes, replication, rights
from compute_to_data.zones.embedded.rights import Actor
from compute_to_data.zones.embedded.session import EmbeddedSession
from compute_to_data.zones.embedded.store import Store


class EmbeddedStorage:
    """A :class:`~compute_to_data.ports.Storage` of the zone's first rodsadmin."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._account = User(store.admin, store.zone)

    def _administering(self, connection: sqlite3.Connection) -> Actor:
        return replace(rights.find_user(connection, self._account), administers=True)

    @property
    def zone(self) -> str:
        return self._store.zone

    @property
    def catalog(self) -> Catalog:
        return EmbeddedSession(self._store, self._account, by_service=True)

    def on_behalf_of(self, user: User) -> Catalog:
        return EmbeddedSession(self._store, user, by_service=True)

    def owner(self, data_object: str) -> User:
        with self._store.database.reading() as connection:
            actor = self._administering(connection)
            return nodes.see_object(connection, actor, data_object, Code.USER_FILE_DOES_NOT_EXIST).owner

    def replicate(self, data_object: str, resource: str) -> Replica:
        return replication.replicate(self._store, self._administering, data_object, resource)

    def trim(self, data_object: str, resource: str) -> None:
        replication.trim_from(self._store, self._administering, data_object, resource)

    def quota_left(self, user: User, resources: Sequence[str]) -> int | None:
        return None  # this zone has no quotas

    def verify(self, data_object: str, number: int) -> str:
        return replication.verify(self._store, self._administering, data_object, number)

    def annotate(self, entity: Entity, *, add: Iterable[Avu] = (), remove: Iterable[Avu] = ()) -> None:
        with self._store.database.writing() as connection:
            avus.annotate(connection, self._administering(connection), [entity], list(add), list(remove))

    def avus(self, entity: Entity, *attributes: str, most: int | None = None) -> tuple[Avu, ...]:
        with self._store.database.reading() as connection:
            return avus.read(connection, self._administering(connection), entity, attributes, most)

    def find(self, query: Query) -> tuple[str, ...]:
        with self._store.database.reading() as connection:
            return avus.find(connection, self._administering(connection), query)

    def query(self, query: Query) -> tuple[Row, ...]:
        with self._store.database.reading() as connection:
            return avus.rows(connection, self._administering(connection), query)

    def count_by_owner(self, query: Query, *, most: int | None = None) -> tuple[OwnerCount, ...]:
        with self._store.database.reading() as connection:
            return avus.by_owner(connection, self._administering(connection), query, most)

    def owners(self, query: Query) -> tuple[User, ...]:
        with self._store.database.reading() as connection:
            return avus.owners(connection, self._administering(connection), query)

    def close(self) -> None:
        self._store.close()
