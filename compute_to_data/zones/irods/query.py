"""GenQuery: the rows of the catalog that a connection's client user may see."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Union

from irods.api_number import api_number
from irods.connection import Connection
from irods.message import GenQueryRequest, IntegerIntegerMap, IntegerStringMap, StringStringMap, _OrderedMultiMapping

from compute_to_data.errors import Code
from compute_to_data.zones.irods.wire import ServerError, ask, to_text

_PAGE = 256
"""The most rows in one answer; the server's own limit (MAX_SQL_ROWS)."""
_ORDERED = 0x400
_DESCENDING = 0x800
_PLAIN = 1
MINIMUM, MAXIMUM, COUNT = 2, 3, 6
"""Instead of a column's values, the least one, the greatest one or their number, for each combination of the other
columns' values."""
_COLUMN = re.compile(rb"<SqlResult_PI>(.*?)</SqlResult_PI>", re.DOTALL)
_VALUE = re.compile(rb"<value>(.*?)</value>", re.DOTALL)
_NUMBER = re.compile(rb"<(rowCnt|attriCnt|continueInx)>(-?\d+)<")


class Column:
    """Numbers of catalog columns (``rodsGenQuery.h``)."""

    USER_ID, USER_NAME, USER_TYPE, USER_ZONE = 201, 202, 203, 204
    RESC_ID, RESC_NAME, RESC_TYPE, RESC_LOC, RESC_VAULT = 301, 302, 304, 306, 307
    RESC_STATUS, RESC_PARENT = 313, 317
    DATA_ID, DATA_NAME, DATA_REPL_NUM, DATA_SIZE = 401, 403, 404, 407
    DATA_PATH, DATA_OWNER, DATA_OWNER_ZONE, DATA_STATUS = 410, 411, 412, 413
    DATA_STATUS_NOTE = 414
    DATA_CHECKSUM, DATA_CREATED, DATA_MODIFIED, DATA_HIERARCHY = 415, 419, 420, 422
    COLL_ID, COLL_NAME, COLL_PARENT, COLL_OWNER, COLL_OWNER_ZONE = 500, 501, 502, 503, 504
    COLL_INHERITANCE, COLL_CREATED = 506, 508
    DATA_ACCESS, DATA_ACCESS_USER = 700, 703
    COLL_ACCESS, COLL_ACCESS_USER = 710, 713
    GROUP_ID = 900
    QUOTA_USER_ID, QUOTA_RESC_ID, QUOTA_OVER = 2000, 2001, 2003
    META_DATA, META_COLL, META_RESC, META_USER = 600, 610, 630, 640
    """The columns of attributes; those of value and units are the next two numbers."""


@dataclass(frozen=True)
class Equals:
    """A condition: the column holds exactly this text."""

    column: int
    value: str

    def admits(self, text: str) -> bool:
        """Whether the condition is met."""
        return text == self.value

    @property
    def is_doubtful(self) -> bool:
        """Whether the rows of the answer must be compared again.

        The server takes the text between the first and the last quote literally, so a quote inside
        needs no escape, and there is none (``''`` means two quotes). Only together with ``||`` or
        ``&&`` would the server misread the condition. Then the query uses a wildcard for each quote.
        """
        return "'" in self.value and ("||" in self.value or "&&" in self.value)

    def render(self) -> str:
        """The condition in GenQuery's syntax."""
        if self.is_doubtful:
            return "like '" + re.sub(r"['\\]", "_", self.value) + "'"
        return f"= '{self.value}'"


@dataclass(frozen=True)
class Unindexed:
    """The same condition as :class:`Equals`, but one for which the database can use no index.

    A few rows of ``R_META_MAIN`` hold the state of all tasks of a zone. PostgreSQL does not know that, expects an AVU
    to be on few things, and so begins with the AVU and visits everything that has it. With this condition, it begins
    with the collections that the other conditions name.
    """

    column: int
    value: str

    is_doubtful = True

    def admits(self, text: str) -> bool:
        """Whether the condition is met."""
        return text == self.value

    def render(self) -> str:
        """The condition in GenQuery's syntax: a wildcard for the first character, unless it is the only one."""
        rest = self.value[1:] or self.value
        return "like '%" + re.sub(r"['\\%]", "_", rest) + "'"


@dataclass(frozen=True)
class Numbered:
    """A condition: the column's number compares in this way (``<`` or ``>=``) with another one."""

    column: int
    comparison: str
    number: int

    is_doubtful = False

    def render(self) -> str:
        """The condition in GenQuery's syntax."""
        return f"{self.comparison} '{self.number}'"


@dataclass(frozen=True)
class Differs:
    """A condition: the column holds another text."""

    column: int
    value: str

    def admits(self, text: str) -> bool:
        """Whether the condition is met."""
        return text != self.value

    @property
    def is_doubtful(self) -> bool:
        """Whether the rows of the answer must be compared again: as for :class:`Equals`."""
        return Equals(self.column, self.value).is_doubtful

    def render(self) -> str:
        """The condition in GenQuery's syntax; one for all rows if GenQuery would misread the text."""
        return "like '%'" if self.is_doubtful else f"!= '{self.value}'"


@dataclass(frozen=True)
class Begins:
    """A condition: the column's text begins with this."""

    column: int
    value: str

    def admits(self, text: str) -> bool:
        """Whether the condition is met."""
        return text.startswith(self.value)

    @property
    def is_doubtful(self) -> bool:
        """Whether the rows must be compared again, since the text has characters that LIKE treats specially."""
        return re.search(r"['\\%_]", self.value) is not None

    def render(self) -> str:
        """The condition in GenQuery's syntax."""
        return "like '" + re.sub(r"['\\%]", "_", self.value) + "%'"


@dataclass(frozen=True)
class Among:
    """A condition: the column holds one of these numbers, or of these texts.

    GenQuery cannot express a text with a quote, ``||`` or ``&&`` in a list: see :meth:`can_hold`.
    """

    column: int
    values: Sequence[int | str]

    is_doubtful = False

    @staticmethod
    def can_hold(text: str) -> bool:
        """Whether a list may have this text."""
        return not any(sign in text for sign in ("'", "||", "&&"))

    def render(self) -> str:
        """The condition in GenQuery's syntax."""
        return "in (" + ",".join(f"'{value}'" for value in self.values) + ")"


Condition = Union[Equals, Unindexed, Numbered, Differs, Begins, Among]
Row = tuple[str, ...]


def select(
    connection: Connection,
    columns: Sequence[int],
    conditions: Sequence[Condition],
    *,
    order_by: int | None = None,
    descending: bool = False,
    limit: int | None = None,
    offset: int = 0,
    summing: Mapping[int, int] | None = None,
) -> list[Row]:
    """All distinct rows without the first ``offset``, or the first ``limit`` of these.

    The values are in the order of ``columns``. ``summing``: columns of which the server returns
    :data:`MINIMUM`, :data:`MAXIMUM` or :data:`COUNT`; only without conditions that are doubtful.
    """
    if limit == 0:
        return []
    options = {**(summing or {}), **({order_by: _DESCENDING if descending else _ORDERED} if order_by else {})}
    doubted = [
        test for test in conditions if isinstance(test, (Equals, Unindexed, Differs, Begins)) and test.is_doubtful
    ]
    asked = [*columns, *(condition.column for condition in doubted if condition.column not in columns)]
    rows: list[Row] = []
    if doubted and offset:  # the server would also count rows that do not match
        found = select(
            connection, columns, conditions, order_by=order_by, descending=descending, limit=limit and limit + offset
        )
        return found[offset:]
    page, more = _ask(connection, _request(asked, conditions, options, 0, _page_size(limit, 0, doubted), offset))
    while True:
        rows += [row[: len(columns)] for row in page if all(d.admits(row[asked.index(d.column)]) for d in doubted)]
        if len(asked) > len(columns):  # the additional columns can split a row into several
            rows = list(dict.fromkeys(rows))
        if more <= 0:
            return rows if limit is None else rows[:limit]
        if limit is not None and len(rows) >= limit:
            _ask(connection, _request(asked, conditions, options, more, 0))  # closes the query on the server
            return rows[:limit]
        size = _page_size(limit, len(rows), doubted)
        page, more = _ask(connection, _request(asked, conditions, options, more, size))


def _page_size(limit: int | None, found: int, doubted: Sequence[object]) -> int:
    return _PAGE if limit is None or doubted else min(_PAGE, limit - found)


def _request(
    columns: Sequence[int],
    conditions: Sequence[Condition],
    options: Mapping[int, int],
    resumed: int,
    maximum: int,
    offset: int = 0,
) -> GenQueryRequest:
    return GenQueryRequest(
        maxRows=maximum,
        continueInx=resumed,
        partialStartIndex=offset,
        options=0,
        KeyValPair_PI=StringStringMap({}),
        InxIvalPair_PI=IntegerIntegerMap({column: options.get(column, _PLAIN) for column in columns}),
        InxValPair_PI=IntegerStringMap(
            _OrderedMultiMapping([(condition.column, condition.render()) for condition in conditions])
        ),
    )


def _ask(connection: Connection, request: GenQueryRequest) -> tuple[list[Row], int]:
    """One page, and the number under which the server keeps the rest (0 when there is none)."""
    try:
        body = ask(connection, api_number["GEN_QUERY_AN"], request).body
    except ServerError as error:
        if error.code == Code.CAT_NO_ROWS_FOUND:
            return [], 0
        raise
    head, _, _ = body.partition(b"<SqlResult_PI>")
    numbers = {name: int(value) for name, value in _NUMBER.findall(head)}
    found = _COLUMN.findall(body)[: numbers[b"attriCnt"]]
    values = [[to_text(value) for value in _VALUE.findall(column)] for column in found]
    return list(zip(*values)), numbers[b"continueInx"]
