"""A page of the newest collections that bear an AVU, without a look at all the others that bear it.

The server knows no limit in GenQuery: its database finds and sorts all rows, and then the server sends the first ones.
Nor does the database expect that thousands of collections share one AVU, as tasks share their state. So this first
asks for collections by their ids, in ranges from the newest on, and then which of these bear the AVU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from irods.connection import Connection

from compute_to_data.model import EntityKind, Query
from compute_to_data.zones.irods.bearers import admits, of_place
from compute_to_data.zones.irods.query import MAXIMUM, Among, Column, Condition, Numbered, Unindexed, select

_FEWEST, _AT_ONCE = 64, 256
"""How many collections one question names."""
_FIRST_RANGE, _GROWTH = 1024, 4
"""How many ids the first range has, and how much longer the next one is than one with few collections. A task takes up
some 50 to 300 ids, with its AVUs and outputs."""
_MOST_NEEDED = 4000
"""From so many rows on, one question for all is cheaper."""
_LEAST_LOOKED_AT, _LOOKED_AT_FOR_EACH = 2000, 4
"""How many collections are looked at, and how many more for each row that is needed. If there are still too few that
match, few will, and then it is cheaper to begin with what the AVU is on."""
_MOST_IDS_OF_ALL = 1 << 20
"""How many ids are looked at for collections of any owner, where the database checks the access to each."""


def page(connection: Connection, query: Query, columns: Sequence[int]) -> list[tuple[str, ...]] | None:
    """The rows of a query for collections with a limit, newest first; None where this would take too long, because
    few of the newest collections match. The first of ``columns`` must be the collection's id."""
    if query.limit is None or query.offset + query.limit > _MOST_NEEDED:
        return None
    needed = query.offset + query.limit
    found: list[tuple[str, ...]] = []
    looked, most = 0, _LEAST_LOOKED_AT + _LOOKED_AT_FOR_EACH * needed
    for identities in _newest(connection, query, needed) if query.limit else ():
        if looked > most or not identities:
            return None
        found += bearing(connection, query, columns, [Among(Column.COLL_ID, identities)])
        looked += len(identities)
        if len(found) >= needed:
            break
    return found[query.offset : needed]


def applies(query: Query) -> bool:
    """Whether :func:`page` may answer a query."""
    return query.kind is EntityKind.COLLECTION and query.newest_first and query.among is None


def bearing(
    connection: Connection, query: Query, columns: Sequence[int], which: Sequence[Condition]
) -> list[tuple[str, ...]]:
    """The rows of a query for those collections that a few conditions name, in the query's order."""
    attribute, value, units = Column.META_COLL, Column.META_COLL + 1, Column.META_COLL + 2
    asked = [*columns, *(one for one in (value, units) if one not in columns)]
    conditions = [*which, Unindexed(attribute, query.attribute), *of_place(query)]
    rows = select(connection, asked, conditions, order_by=columns[0], descending=query.newest_first)
    places = asked.index(value), asked.index(units)
    found = (row[: len(columns)] for row in rows if admits(query, *(row[place] for place in places)))
    return list(dict.fromkeys(found))


def _newest(connection: Connection, query: Query, needed: int) -> Iterator[list[int]]:
    """The ids of collections at the place of a query, newest first, some at a time; an empty list where it gives up."""
    place = of_place(query)
    is_narrow = bool(query.owner or query.within)
    top = above = _next(connection, place, None)
    size, batch = _FIRST_RANGE, max(_FEWEST, min(needed, _AT_ONCE))
    while above:
        low = max(0, above - size)
        here = [*place, Numbered(Column.COLL_ID, ">=", low), Numbered(Column.COLL_ID, "<", above)]
        rows = select(connection, [Column.COLL_ID], here, order_by=Column.COLL_ID, descending=True, limit=batch)
        found = [int(row[0]) for row in rows]
        if found:
            yield found
        if len(found) == batch:
            above, batch = found[-1], min(2 * batch, _AT_ONCE)
            continue
        above = low if found or not is_narrow else _next(connection, place, low)
        size *= _GROWTH if found or not is_narrow else 1
        if not is_narrow and top - above > _MOST_IDS_OF_ALL:
            yield []


def _next(connection: Connection, place: Sequence[Condition], above: int | None) -> int:
    """One more than the greatest id below ``above`` at a place; 0 when there is none."""
    below = [] if above is None else [Numbered(Column.COLL_ID, "<", above)]
    rows = select(connection, [Column.COLL_ID], [*place, *below], summing={Column.COLL_ID: MAXIMUM})
    return int(rows[0][0]) + 1 if rows and rows[0][0] else 0
