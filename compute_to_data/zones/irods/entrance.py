"""The sessions of an iRODS zone's users who sign in at a gateway."""

from __future__ import annotations

import socket
import threading
import weakref
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from irods.account import iRODSAccount

from compute_to_data.errors import Code, ConfigurationError, ZoneError, zone_error
from compute_to_data.model import Avu, Query, Row, User, UserKind
from compute_to_data.zones.entrance import GatewayCatalog
from compute_to_data.zones.irods import accounts, arriving, environment, lookup
from compute_to_data.zones.irods.connections import Connections
from compute_to_data.zones.irods.failures import translated
from compute_to_data.zones.irods.service import IrodsStorage
from compute_to_data.zones.irods.session import KEPT_BY_A_PERSON, IrodsSession, need_user
from compute_to_data.zones.irods.wire import ServerError, nominal

PAM_AUTH_PASSWORD_FAILED = -993000
_WRONG = frozenset(
    {
        int(Code.CAT_INVALID_AUTHENTICATION),
        int(Code.CAT_INVALID_USER),
        int(Code.CAT_PASSWORD_EXPIRED),
        PAM_AUTH_PASSWORD_FAILED,
    }
)
"""What a server answers to a wrong password, or to a user that it does not know."""
_CHECK_SECONDS = 5.0


class IrodsEntrance:
    """An :class:`~compute_to_data.zones.entrance.Entrance`.

    ``environment_file``: an ``irods_environment.json`` with the server, the zone, how to encrypt, and in
    ``irods_authentication_scheme`` how users authenticate: ``native`` or ``pam_password``, which needs TLS to the
    server. Sessions on behalf of users need the password of its account too, as ``iinit`` leaves it, and that account
    must be a rodsadmin's.
    """

    def __init__(self, environment_file: str) -> None:
        self._file = environment_file
        self._environment = environment.read(environment_file)
        self._service_user = environment.user(environment_file, self._environment)
        self._scheme = environment.login_scheme(environment_file, self._environment)
        if self._scheme not in (environment.NATIVE, environment.PAM):
            cause = f"irods_authentication_scheme: found {self._scheme!r}, by which nobody can sign in over HTTP"
            raise ConfigurationError(environment_file, cause, "Name native or pam_password")
        self._place = environment.account(environment_file, self._environment, *self._service_user, "")
        self._storage: IrodsStorage | None = None
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[Connections] = weakref.WeakSet()

    @property
    def zone(self) -> str:
        return self._service_user[1]

    def check(self) -> None:
        where = (self._place.host, self._place.port)
        try:
            socket.create_connection(where, _CHECK_SECONDS).close()
        except OSError as error:
            subject, cause = f"{where[0]}:{where[1]}", f"does not answer: {error}"
            raise zone_error(
                Code.USER_SOCK_CONNECT_ERR, subject, cause, "Check whether the iRODS server runs"
            ) from None

    def signed_in(self, user: User, password: str) -> GatewayCatalog:
        # Without a password, python-irodsclient would look for another way to authenticate.
        if not password:
            raise _wrong()
        connections = Connections(self._own_account(user, password), str(user), KEPT_BY_A_PERSON)
        try:
            connections.call(lambda connection: None, again=True)
        except ServerError as error:
            connections.close()
            if nominal(error.code) in _WRONG:
                raise _wrong() from error
            raise translated(error, str(user)) from error
        except RuntimeError as error:  # the scheme needs TLS, and the environment does not ask for it
            connections.close()
            raise ConfigurationError(
                self._file, str(error), "Set irods_client_server_policy to CS_NEG_REQUIRE"
            ) from None
        return self._session(connections, user)

    def _own_account(self, user: User, password: str) -> iRODSAccount:
        own = accounts.with_password(self._place, user, password)
        # The value itself looks for no password file of the account that runs this process; a session of the
        # library would.
        own.authentication_scheme = own._original_authentication_scheme = self._scheme
        return own

    def is_administrator(self, user: User) -> bool:
        kind = self._service().calls.ask(str(user), lookup.find_user, user)
        need_user(kind, user)
        return kind is UserKind.RODSADMIN

    def on_behalf_of(self, user: User) -> GatewayCatalog:
        storage = self._service()
        need_user(storage.calls.ask(str(user), lookup.find_user, user), user)
        account = accounts.on_behalf_of(storage.calls.connections.account, user)
        return self._session(Connections(account, str(user)), user)

    def query(self, query: Query) -> tuple[Row, ...]:
        return self._service().query(query)

    def avus_of_resources(self, *attributes: str) -> Mapping[str, tuple[Avu, ...]]:
        return self._service().catalog.avus_of_resources(*attributes)

    def _session(self, connections: Connections, user: User) -> GatewayCatalog:
        with self._lock:
            self._open.add(connections)
        return EntranceSession(connections, user, home=user.home_in(self.zone))

    def _service(self) -> IrodsStorage:
        with self._lock:
            if self._storage is None:
                self._storage = IrodsStorage.open(self._file)
            return self._storage

    def tend(self) -> None:
        with self._lock:
            known = list(self._open)
        for connections in known:
            connections.reap()

    def close(self) -> None:
        with self._lock:
            known = list(self._open)
            storage, self._storage = self._storage, None
        for connections in known:
            connections.close()
        if storage is not None:
            storage.close()


class EntranceSession(IrodsSession):
    """A session that registers nothing. On behalf of a user the server would allow it: it asks who connects."""

    def open_to_write(self, data_object: str, *, resource: str = "") -> AbstractContextManager[arriving.Arriving]:
        self._need_place(data_object, resource)
        return arriving.arriving(self.calls.connections, data_object, resource)

    def need_overwritable(self, data_object: str, *, resource: str = "") -> None:
        self._need_place(data_object, resource)
        self.calls.ask(data_object, lookup.need_overwritable, data_object, resource)

    def register(self, resource: str, files: Any) -> None:
        if files:
            cause = "files are registered by workers only"
            raise zone_error(Code.PATH_REG_NOT_ALLOWED, files[0].logical_path, cause)


def _wrong() -> ZoneError:
    cause = "no such user, or the password is wrong or has expired"
    return zone_error(Code.CAT_INVALID_AUTHENTICATION, "signing in", cause)
