"""The service account's side of an iRODS zone."""

from __future__ import annotations

import functools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from irods.account import iRODSAccount
from irods.connection import Connection

from compute_to_data.errors import Code, ConfigurationError, ZoneError, ZoneOutOfReach
from compute_to_data.model import Avu, DataObject, Entity, OwnerCount, Query, Replica, Row, User, UserKind
from compute_to_data.ports.zone import Catalog
from compute_to_data.zones.irods import accounts, avus, dead_transfers, finding, lookup, quotas, replication
from compute_to_data.zones.irods.calls import Calls
from compute_to_data.zones.irods.connections import Connections
from compute_to_data.zones.irods.failures import shown
from compute_to_data.zones.irods.session import IrodsSession, need_user

USERS_KEPT = 8
"""The number of users whose connections are kept. Those of the least recent user are closed first."""

_AT_WORK = frozenset({Code.HIERARCHY_ERROR, Code.LOCKED_DATA_OBJECT_ACCESS, Code.INTERMEDIATE_REPLICA_ACCESS})
"""What the server answers when a transfer locks the data object: the first one, too, where no replica can be used."""

Result = TypeVar("Result")


class IrodsStorage:
    """A :class:`~compute_to_data.ports.Storage` of a rodsadmin; threads may share it.

    It connects only when it needs to.
    """

    def __init__(self, account: iRODSAccount) -> None:
        self._account = User(account.client_user, account.client_zone)
        self.calls = Calls(Connections(account, str(self._account)))
        self._users: OrderedDict[User, Connections] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def open(cls, environment_file: str) -> IrodsStorage:
        """Open it with the service account's environment.

        ConfigurationError when the environment cannot be used, or is not a rodsadmin's; ZoneError
        when the server cannot be reached.
        """
        storage = cls(accounts.from_environment(environment_file))
        kind = storage.calls.ask(str(storage._account), lookup.find_user, storage._account)
        if kind is not UserKind.RODSADMIN:
            cause = f"{storage._account} is no rodsadmin, and cannot act on behalf of users"
            raise ConfigurationError(environment_file, cause, "Name the service account's environment")
        return storage

    @property
    def zone(self) -> str:
        return self._account.zone

    @property
    def catalog(self) -> Catalog:
        return IrodsSession(self.calls.connections, self._account, by_service=True)

    def on_behalf_of(self, user: User) -> Catalog:
        need_user(self.calls.ask(str(user), lookup.find_user, user), user)
        return IrodsSession(self._connections_for(user), user, by_service=True)

    def _connections_for(self, user: User) -> Connections:
        dropped = []
        with self._lock:
            if user not in self._users:
                account = accounts.on_behalf_of(self.calls.connections.account, user)
                self._users[user] = Connections(account, str(user))
            self._users.move_to_end(user)
            found = self._users[user]
            while len(self._users) > USERS_KEPT:
                dropped.append(self._users.popitem(last=False)[1])
            kept = list(self._users.values())
        for connections in dropped:
            connections.close()
        for connections in kept:
            connections.reap()
        return found

    def owner(self, data_object: str) -> User:
        return self.calls.ask(data_object, lookup.owner, data_object)

    def replicate(self, data_object: str, resource: str) -> Replica:
        def use(connection: Connection) -> DataObject:
            replication.replicate(connection, data_object, resource, administering=True)
            return replication.need_object(connection, data_object)

        found = self._at_rest(
            data_object, resource, lambda: self.calls.ask(data_object, use, seconds=replication.TRANSFER_SECONDS)
        )
        made = found.good_replica_on(resource)
        if made is None:
            cause = f"was replicated to {resource}, but has no good replica there"
            raise ZoneError(data_object, cause, code=Code.SYS_REPLICA_DOES_NOT_EXIST)
        return made

    def _at_rest(self, data_object: str, resource: str, use: Callable[[], Result]) -> Result:
        """Call ``use`` while no transfer writes to ``resource``, and once more if one began, or ended, since we looked.

        ZoneOutOfReach when one still locks the data object afterwards. The agent of a worker that was killed may begin
        the transfer, or go on with it, long after the worker's end.
        """
        self._end_dead_transfer(data_object, resource)
        try:
            return use()
        except ZoneError as error:
            if error.code not in _AT_WORK:
                raise
        self._end_dead_transfer(data_object, resource)
        try:
            return use()
        except ZoneError as error:
            code = self.calls.ask(data_object, lookup.at_work, data_object) if error.code in _AT_WORK else None
            if code is None:
                raise
            remedy = "If no transfer runs any more, correct the states of its replicas with: iadmin modrepl"
            raise ZoneOutOfReach(
                shown(data_object), "something is at work on its replicas", remedy, code=code
            ) from error

    def _end_dead_transfer(self, data_object: str, resource: str) -> None:
        """Unlock the data object if an agent was killed while it wrote a replica under ``resource``."""
        deadline = time.monotonic() + dead_transfers.QUIET_SECONDS
        while self.calls.ask(data_object, dead_transfers.is_left, data_object, resource):
            if time.monotonic() >= deadline:
                self.calls.ask(data_object, dead_transfers.put_to_rest, data_object, resource)
                return
            time.sleep(0.5)

    def trim(self, data_object: str, resource: str) -> None:
        self._at_rest(
            data_object, resource, lambda: self.calls.ask(data_object, replication.trim_from, data_object, resource)
        )

    def quota_left(self, user: User, resources: Sequence[str]) -> int | None:
        return self.calls.ask(str(user), quotas.left, user, resources)

    def verify(self, data_object: str, number: int) -> str:
        found = self.calls.ask(data_object, replication.need_object, data_object)
        replica = replication.need_replica(found, number)
        if self.calls.ask(data_object, lookup.is_here, replica.leaf):
            return replication.verify_here(replica, data_object)
        return self.calls.ask(
            data_object, replication.verify_there, replica, data_object, seconds=replication.TRANSFER_SECONDS
        )

    def annotate(self, entity: Entity, *, add: Iterable[Avu] = (), remove: Iterable[Avu] = ()) -> None:
        added, removed = list(add), list(remove)
        if added or removed:
            self.calls.ask(entity.name, functools.partial(avus.annotate, administering=True), entity, added, removed)

    def avus(self, entity: Entity, *attributes: str, most: int | None = None) -> tuple[Avu, ...]:
        return self.calls.ask(entity.name, avus.read, entity, attributes, most)

    def find(self, query: Query) -> tuple[str, ...]:
        return self.calls.ask(query.attribute, finding.find, query)

    def query(self, query: Query) -> tuple[Row, ...]:
        return self.calls.ask(query.attribute, finding.rows, query)

    def count_by_owner(self, query: Query, *, most: int | None = None) -> tuple[OwnerCount, ...]:
        # the server counts all of them in any case
        return self.calls.ask(query.attribute, finding.by_owner, query)

    def owners(self, query: Query) -> tuple[User, ...]:
        return self.calls.ask(query.attribute, finding.owners, query)

    def drop_idle(self) -> None:
        """Close all idle connections, because new ones read the current resources."""
        with self._lock:
            users = list(self._users.values())
        for connections in (*users, self.calls.connections):
            connections.drop_idle()

    def close(self) -> None:
        with self._lock:
            users, self._users = list(self._users.values()), OrderedDict()
        for connections in (*users, self.calls.connections):
            connections.close()
