"""Connections to an iRODS server for one client user: opened when needed, kept, shared by threads.

A new connection needs an authentication and an agent process on the server (measured: 129 ms). A
query on a kept connection takes 2 ms.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from irods.account import iRODSAccount
from irods.connection import Connection
from irods.exception import NetworkException, iRODSException
from irods.pool import Pool

from compute_to_data.errors import Code, TooLarge, ZoneDistrusted, ZoneError, zone_error
from compute_to_data.irods_names import APPLICATION
from compute_to_data.zones.irods import tls
from compute_to_data.zones.irods.wire import ServerError, nominal

CALL_SECONDS = 120.0
"""How long a server may take to answer an ordinary call, or to authenticate us."""
KEPT_IDLE = 4
KEPT_SECONDS = 60.0
"""A connection is replaced after this time, used or not. Each one is a process on the server that read
the resources only when it started. It also holds a session of the database, which allows few
(PostgreSQL: 100 by default)."""
_OUTDATED = frozenset(
    {
        Code.SYS_RESC_DOES_NOT_EXIST,
        Code.SYS_RESC_IS_DOWN,
        Code.SYS_REPLICA_INACCESSIBLE,
        Code.HIERARCHY_ERROR,
    }
)
"""The answers of a server process that has outdated knowledge of a resource. It has then done nothing."""

Result = TypeVar("Result")


class _Outdated(Exception):
    """The server process of a kept connection has outdated knowledge of the resources."""


class Connections:
    """The connections of one account. Threads may share the object; each call gets its own connection."""

    def __init__(self, account: iRODSAccount, name: str, kept: int = KEPT_IDLE) -> None:
        self._pool = Pool(account, application_name=APPLICATION)
        self._pool.connection_timeout = CALL_SECONDS
        self._name = name
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Connection]] = []  # when each was made
        self._kept = kept
        self._closed = False

    @property
    def account(self) -> Any:
        """The account, its server and its client user, as python-irodsclient's value."""
        return self._pool.account

    def call(
        self, use: Callable[[Connection], Result], *, again: bool = False, seconds: float = CALL_SECONDS
    ) -> Result:
        """Call ``use`` with a connection that no other call uses; returns its result.

        ``again``: ``use`` is idempotent, so call it a second time on a new connection when the first
        one is lost, as when the server restarts. ``seconds``: the longest wait for each answer.
        ZoneError -305000 when the server cannot be reached or does not answer.
        """
        try:
            return self._once(use, seconds)
        except _Outdated:
            self.drop_idle()
        except (OSError, NetworkException) as error:
            self.drop_idle()
            if not again:
                raise self._lost(error) from error
        try:
            return self._once(use, seconds)
        except (OSError, NetworkException) as error:
            raise self._lost(error) from error

    @contextmanager
    def lent(self) -> Iterator[Connection]:
        """A connection for a caller that keeps something open on the server. It is closed after an error.

        ZoneError -305000 when the connection cannot be made, or is lost.
        """
        try:
            made, connection = self._take() or (time.monotonic(), self._open())
            try:
                connection.socket.settimeout(CALL_SECONDS)
                yield connection
            except BaseException:
                _close(connection)
                raise
        except (OSError, NetworkException) as error:
            raise self._lost(error) from error
        self._give_back(made, connection)

    def _once(self, use: Callable[[Connection], Result], seconds: float) -> Result:
        kept = self._take()
        made, connection = kept or (time.monotonic(), self._open())
        try:
            connection.socket.settimeout(seconds)
            result = use(connection)
        except (ZoneError, TooLarge) as error:
            # Our own error, raised between two answers: the server has refused nothing. A new connection takes longer
            # than many questions, so what users can make too large must not cost one each time.
            if error.__cause__ is None:
                self._give_back(made, connection)
                raise
            _close(connection)
            self._raise_outdated(kept is not None, error.__cause__)
            raise
        except BaseException as error:
            # The connection may be in the middle of an answer. After a refusal, iRODS does not always
            # roll back, so this connection could see, or commit, half a renaming. See the documentation.
            _close(connection)
            self._raise_outdated(kept is not None, error)
            raise
        self._give_back(made, connection)
        return result

    @staticmethod
    def _raise_outdated(kept: bool, error: BaseException) -> None:
        if kept and isinstance(error, ServerError) and nominal(error.code) in _OUTDATED:
            raise _Outdated from error

    def _lost(self, error: Exception) -> ZoneError:
        found = tls.explained(error, self.account)
        place = f"{self.account.host}:{self.account.port}"
        if found is not None:
            return ZoneDistrusted(place, *found)
        cause = f"the connection for {self._name} does not work: {error or type(error).__name__}"
        return zone_error(Code.USER_SOCK_CONNECT_ERR, place, cause, "Check whether the iRODS server runs")

    def _open(self) -> Connection:
        disagreement: NetworkException | None = None
        for attempt in tls.attempts(self.account):
            try:
                connection = self._connected(attempt)
            except NetworkException as error:
                if not tls.is_disagreement(error):
                    raise
                disagreement = error
            else:
                tls.remember(self.account, attempt)
                return connection
        raise disagreement or NetworkException("no policy to try")

    def _connected(self, account: iRODSAccount) -> Connection:
        connection = _Connection.__new__(_Connection)
        try:
            Connection.__init__(connection, self._pool, account)
        except iRODSException as error:
            _close(connection)
            code = getattr(error, "code", None)
            raise ServerError(int(code) if code else int(Code.SYS_INTERNAL_ERR), "") from error
        except BaseException:
            _close(connection)
            raise
        # Copying a large object takes long. Keepalive packets show whether the host is still there.
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        return connection

    def _take(self) -> tuple[float, Connection] | None:
        """A kept connection that is alive, preferably the most recent one."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                made, connection = self._idle.pop()
            if time.monotonic() - made < KEPT_SECONDS and not _is_dead(connection):
                return made, connection
            _close(connection)

    def _give_back(self, made: float, connection: Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < self._kept:
                self._idle.append((made, connection))
                return
        _close(connection)

    def reap(self) -> None:
        """Close idle connections that are older than :data:`KEPT_SECONDS`."""
        self._close_older_than(time.monotonic() - KEPT_SECONDS)

    def drop_idle(self) -> None:
        """Close all idle connections."""
        self._close_older_than(time.monotonic())

    def _close_older_than(self, moment: float) -> None:
        with self._lock:
            old = [kept for kept in self._idle if kept[0] <= moment]
            self._idle = [kept for kept in self._idle if kept[0] > moment]
        for _, connection in old:
            _close(connection)

    def close(self) -> None:
        """Close idle connections, and those in use when their call ends."""
        self._closed = True
        self.drop_idle()


class _Connection(Connection):  # type: ignore[misc]  # the library has no type hints
    """One whose server has not refused it before asking who it is, which the library does not look at."""

    def _connect(self) -> Any:
        version = super()._connect()
        if tls.is_required(int(version.status), self.account):
            raise tls.Required
        return version


def _is_dead(connection: Connection) -> bool:
    """Whether the server has closed the connection: an idle server sends nothing else."""
    with selectors.DefaultSelector() as selector:  # it takes any descriptor, and exists on every system
        selector.register(connection.socket, selectors.EVENT_READ)
        return bool(selector.select(0))


def _close(connection: Connection) -> None:
    """Disconnect if the server still listens, and close the socket in any case."""
    used = getattr(connection, "socket", None)
    if used is None:
        return
    with suppress(OSError, NetworkException, ValueError):
        used.settimeout(1.0)
        connection.disconnect()
    used.close()
    connection.socket = None
