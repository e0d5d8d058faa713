"""The sessions of an embedded zone's users who sign in at a gateway."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

from compute_to_data.errors import Code, NotFound, zone_error
from compute_to_data.model import Avu, Query, Row, User, UserKind
from compute_to_data.zones.embedded import arriving, rights
from compute_to_data.zones.embedded.passwords import Passwords
from compute_to_data.zones.embedded.service import EmbeddedStorage
from compute_to_data.zones.embedded.session import EmbeddedSession
from compute_to_data.zones.embedded.store import Store
from compute_to_data.zones.entrance import GatewayCatalog


class EmbeddedEntrance:
    """An :class:`~compute_to_data.zones.entrance.Entrance`. All its sessions share the connections to the catalog."""

    def __init__(self, directory: str) -> None:
        self._store = Store(directory)
        self._passwords = Passwords(self._store.directory)

    @property
    def zone(self) -> str:
        return self._store.zone

    def check(self) -> None:
        with self._store.database.reading() as connection:
            connection.execute("SELECT name FROM zone")

    def signed_in(self, user: User, password: str) -> GatewayCatalog:
        if self._passwords.is_right(user, password):
            try:
                return self.on_behalf_of(user)
            except NotFound:
                pass  # a user who was removed since they got their password
        cause, remedy = "no such user, or the password is wrong", f"c2d zone password {user.name} sets one"
        raise zone_error(Code.CAT_INVALID_AUTHENTICATION, "signing in", cause, remedy)

    def is_administrator(self, user: User) -> bool:
        with self._store.database.reading() as connection:
            return rights.find_user(connection, user).kind is UserKind.RODSADMIN

    def on_behalf_of(self, user: User) -> GatewayCatalog:
        return _Session(self._store, user)

    def query(self, query: Query) -> tuple[Row, ...]:
        return EmbeddedStorage(self._store).query(query)

    def avus_of_resources(self, *attributes: str) -> Mapping[str, tuple[Avu, ...]]:
        return EmbeddedStorage(self._store).catalog.avus_of_resources(*attributes)

    def tend(self) -> None:
        """Do nothing: a thread's connection closes with the thread."""

    def close(self) -> None:
        self._store.close()


class _Session(EmbeddedSession):
    """One of many sessions with the same catalog."""

    def open_to_write(self, data_object: str, *, resource: str = "") -> AbstractContextManager[arriving.Arriving]:
        return arriving.arriving(self._store, self._who, data_object, resource)

    def need_overwritable(self, data_object: str, *, resource: str = "") -> None:
        arriving.plan(self._store, self._who, data_object, resource, force=True)

    def close(self) -> None:
        """Leave the connections to the other sessions."""
