"""The boundary to the Python rule engine plugin: calls, queries, and the meaning of their answers.

Each attribute of ``callback`` calls the microservice of that name. An answer is
``{"code", "status", "arguments"}``. A failure is a RuntimeError whose text begins with
``[iRods__Error__Code:N]``, except "no rows" (-808000), which some microservices return instead.
Output arguments need a placeholder of the right type; otherwise the call fails after its effect.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import re
import select
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from compute_to_data.errors import Code, ZoneError, zone_error
from compute_to_data.irods_names import APPLICATION
from compute_to_data.model import User

_ADMINISTRATOR = 5
"""LOCAL_PRIV_USER_AUTH: the proxy user has authenticated as a rodsadmin of this zone."""
_CODE = re.compile(r"(?:\[iRods__Error__Code:|\n *code: )(-\d+)\b")
"""The two forms in which a server says why a microservice has failed. The second is that of iRODS 4.3."""


class Callback(Protocol):
    """What the plugin passes to a rule. It cannot be used after the rule has returned."""

    def __getattr__(self, microservice: str) -> Any: ...


class Agent:
    """Calls the server from one rule, with the client user's rights."""

    def __init__(self, callback: Callback, rei: Any) -> None:
        """ZoneError (SYS_NOT_SUPPORTED) without a rule engine plugin."""
        self._callback = callback
        try:
            session = importlib.import_module("session_vars").get_map(rei)
        except (ImportError, AttributeError):
            raise zone_error(
                Code.SYS_NOT_SUPPORTED,
                "compute_to_data",
                "this is neither an iRODS agent nor an embedded zone",
                "Call its rules through the Python rule engine plugin of an iRODS server",
            ) from None
        client = session["client_user"]
        self.user = User(client["user_name"], client["irods_zone"])
        connection = session["connection"] or {}
        self.client_program = str(connection.get("option", ""))
        self._socket = int(connection.get("socket", -1))
        proxy = session.get("proxy_user") or {}
        self._privilege = int(proxy.get("authentication_info", {}).get("privilege_level", 0))

    @property
    def by_service(self) -> bool:
        """Whether the client is this product's service account, for itself or on behalf of a user."""
        return self.client_program == APPLICATION and self._privilege == _ADMINISTRATOR

    def client_is_gone(self) -> bool:
        """Whether the client has disconnected. The server itself notices that only when the rule ends."""
        if self._socket < 0:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)
        return any(event & (select.POLLRDHUP | select.POLLHUP) for _, event in poll.poll(0))

    def call(self, microservice: str, *arguments: Any, subject: str) -> list[Any]:
        """Call a microservice; returns its arguments with the outputs filled in. ZoneError about ``subject``."""
        try:
            answer = getattr(self._callback, microservice)(*arguments)
        except RuntimeError as error:
            found = _CODE.search(str(error))
            if found is None:  # not an answer of iRODS; for example a placeholder of the wrong type
                raise
            number = int(found.group(1))
        else:
            number = int(answer["code"])
            if number >= 0:
                return list(answer["arguments"])
        raise self._error(number, microservice, subject) from None

    def run_there(self, host: str, text: str) -> None:
        """Run text in the rule language on another server of the zone, as this user. ZoneError."""
        self.call("remoteExec", host, "", text, "", subject=host)

    def _error(self, number: int, microservice: str, subject: str) -> ZoneError:
        code = _known(number)
        if code is None:
            return zone_error(Code.SYS_INTERNAL_ERR, subject, f"iRODS answered {microservice} with {number}")
        cause = _CAUSES.get(code, f"iRODS answered {microservice} with {number} ({code.name})")
        return zone_error(code, subject, cause.format(user=self.user))

    def select(
        self, columns: Sequence[str], where: Mapping[str, str], also: str = "", most: int | None = None
    ) -> list[tuple[str, ...]]:
        """The rows of a GenQuery whose columns have exactly the values of ``where``, at most ``most`` of them.

        ``also`` is a further condition, which must not contain text from a user. iRODS 4.3 cannot
        quote ``'``. For a value with a quote, the query uses a wildcard, and this method compares
        the rows again.
        """
        asked = [*columns, *(column for column in where if column not in columns)]
        conditions = [_condition(column, value) for column, value in where.items()] + ([also] if also else [])
        with self._queried(asked, conditions) as query:
            rows = _first(query, most)
        return list(_exact(rows, asked, columns, where))

    @contextlib.contextmanager
    def in_order(
        self, columns: Sequence[str], where: Mapping[str, str], newest_first: bool
    ) -> Iterator[Iterator[tuple[str, ...]]]:
        """The rows of a query as :meth:`select` gives them, in the order of the first column, while inside. The server
        is asked only for those that are read."""
        asked = [*columns, *(column for column in where if column not in columns)]
        ordered = [f"{'ORDER_DESC' if newest_first else 'ORDER'}({asked[0]})", *asked[1:]]
        with self._queried(ordered, [_condition(column, value) for column, value in where.items()]) as query:
            rows = iter(query)
            yield _exact(rows, asked, columns, where)
            if next(rows, None) is not None:
                query.close()

    @contextlib.contextmanager
    def _queried(self, columns: Sequence[str], conditions: Sequence[str]) -> Iterator[Any]:
        """A query of the plugin. ZoneError when the server refuses it."""
        genquery = importlib.import_module("genquery")
        try:
            yield genquery.Query(self._callback, list(columns), " and ".join(conditions), output=genquery.AS_LIST)
        except RuntimeError as error:
            found = _CODE.search(str(error))
            if found is None:
                raise
            raise self._error(int(found.group(1)), "a query", ", ".join(columns)) from None

    def buffer(self, content: bytes = b"") -> Any:
        """A BytesBuf. Free its memory with ``clear_buffer``, since Python's garbage collector does not."""
        made = importlib.import_module("irods_types").BytesBuf()
        if content:
            made.set_buffer(content)
        return made

    def write_line(self, where: str, text: str) -> None:
        """Write a line to the client (``stdout``, which the client gets when the rule ends) or ``serverLog``."""
        self._callback.writeLine(where, text)


def _first(query: Any, most: int | None) -> list[Any]:
    """The first rows of a query. The plugin fetches rows as they are asked for, and keeps the rest until it is
    closed."""
    rows = list(itertools.islice(query, most))
    if most is not None and len(rows) == most:
        query.close()
    return rows


def _exact(
    rows: Iterable[Sequence[str]], asked: Sequence[str], columns: Sequence[str], where: Mapping[str, str]
) -> Iterator[tuple[str, ...]]:
    """The columns of the rows that have exactly the values of ``where``."""
    for row in rows:
        named = dict(zip(asked, row))
        if all(named[column] == value for column, value in where.items()):
            yield tuple(named[column] for column in columns)


def _condition(column: str, value: str) -> str:
    if "'" not in value:
        return f"{column} = '{value}'"
    # Besides the quote, only the backslash has another meaning for LIKE than for the later comparison.
    pattern = value.replace("'", "_").replace("\\", "_")
    return f"{column} like '{pattern}'"


def _known(number: int) -> Code | None:
    """The code of a number, without the errno that storage errors have in the last digits."""
    for candidate in (number, -(-number // 1000) * 1000):
        if candidate in Code.__members__.values():
            return Code(candidate)
    return None


_MISSING = "does not exist, or {user} may not read it"
_CAUSES = {
    Code.USER_FILE_DOES_NOT_EXIST: _MISSING,
    Code.OBJ_PATH_DOES_NOT_EXIST: _MISSING,
    Code.CAT_UNKNOWN_FILE: _MISSING,
    Code.CAT_UNKNOWN_COLLECTION: "no such collection, or {user} may not read it",
    Code.CAT_NO_ROWS_FOUND: _MISSING,
    Code.CAT_NO_ACCESS_PERMISSION: "{user} lacks the access that this needs",
    Code.SYS_USER_NO_PERMISSION: "{user} lacks the access that this needs",
    Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME: "something of that name is there already",
    Code.CAT_NAME_EXISTS_AS_DATAOBJ: "a data object of that name is there already",
    Code.CAT_NAME_EXISTS_AS_COLLECTION: "a collection of that name is there already",
    Code.CAT_INVALID_USER: "no such user or group",
    Code.SYS_RESC_IS_DOWN: "its resource is marked down",
    Code.HIERARCHY_ERROR: "no resource that is up can serve it",
    Code.SYS_RESC_QUOTA_EXCEEDED: "the quota of {user} does not allow it",
}
