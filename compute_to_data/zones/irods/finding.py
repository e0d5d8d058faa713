"""Finds entities by their AVUs."""

from __future__ import annotations

from collections.abc import Sequence

from irods.connection import Connection

from compute_to_data import bounds
from compute_to_data.model import EntityKind, OwnerCount, Query, Row, User
from compute_to_data.zones.irods import newest
from compute_to_data.zones.irods.bearers import NAMES, OWNERS, among, of_avu, of_place
from compute_to_data.zones.irods.query import COUNT, MINIMUM, Column, select

_BETWEEN = {EntityKind.DATA_OBJECT: "/", EntityKind.USER: "#"}


def find(connection: Connection, query: Query) -> tuple[str, ...]:
    """As ``Catalog.find``. Orders by id, since ids grow with time and times have only whole seconds."""
    found = _select(connection, bounds.bounded(query), NAMES[query.kind])
    return bounds.check_found(query, [_BETWEEN.get(query.kind, "").join(row[1:]) for row in found])


def rows(connection: Connection, query: Query) -> tuple[Row, ...]:
    """As ``ClientCatalog.query``."""
    query.need_collections()
    value, units = Column.META_COLL + 1, Column.META_COLL + 2
    names, owners = NAMES[EntityKind.COLLECTION], OWNERS[EntityKind.COLLECTION]
    found = _select(connection, bounds.bounded(query), (*names, *owners, Column.COLL_CREATED, value, units))
    rows = [Row(name, User(owner, zone), float(created), *rest) for _, name, owner, zone, created, *rest in found]
    return bounds.check_found(query, rows)


def by_owner(connection: Connection, query: Query) -> tuple[OwnerCount, ...]:
    """As ``ClientCatalog.count_by_owner``: the database counts, and answers with a row for each owner and units."""
    query.need_countable()
    columns = (*OWNERS[EntityKind.COLLECTION], Column.META_COLL + 2, Column.COLL_ID, Column.COLL_CREATED)
    how = {Column.COLL_ID: COUNT, Column.COLL_CREATED: MINIMUM}
    found = select(connection, columns, [*of_avu(query), *of_place(query)], summing=how)
    return tuple(
        OwnerCount(User(name, zone), units, int(count), float(oldest)) for name, zone, units, count, oldest in found
    )


def owners(connection: Connection, query: Query) -> tuple[User, ...]:
    """As ``Storage.owners``: the server merges equal rows."""
    query.need_owned()
    here = [*of_avu(query), *of_place(query)]
    named = [[]] if query.among is None else among(Column.COLL_NAME, query.among)
    found = {row for names in named for row in select(connection, OWNERS[query.kind], [*here, *names])}
    return tuple(sorted(User(*row) for row in found))


def _select(connection: Connection, query: Query, columns: Sequence[int]) -> list[tuple[str, ...]]:
    """The rows of a query. The first of ``columns`` must be the entity's id."""
    if query.among is not None:
        # A request can name few collections, and a collection with a quote in its name needs one of its own.
        found = [
            row
            for conditions in among(Column.COLL_NAME, query.among)
            for row in newest.bearing(connection, query, columns, conditions)
        ]
        return sorted(found, key=lambda row: int(row[0]), reverse=query.newest_first)[: query.limit]
    page = newest.page(connection, query, columns) if newest.applies(query) else None
    if page is not None:
        return page
    return select(
        connection,
        columns,
        [*of_avu(query), *of_place(query)],
        order_by=columns[0],
        descending=query.newest_first,
        limit=query.limit,
        offset=query.offset,
    )
