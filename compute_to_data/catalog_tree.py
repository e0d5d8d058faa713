"""What lies below a collection, at any depth, as the user of a session sees it."""

from __future__ import annotations

from collections.abc import Iterator

from compute_to_data.model import Collection, DataObject
from compute_to_data.ports import Catalog


def walk(catalog: Catalog, top: str) -> Iterator[tuple[str, list[Collection], list[DataObject]]]:
    """A collection and each one below it, with the collections and the data objects directly in it,
    by name. A collection comes before those that it holds.

    The catalog is asked once for each collection, when its turn comes. NotFound (-814000) when
    one is missing by then.
    """
    pile = [top]
    while pile:
        collection = pile.pop()
        members = catalog.children(collection)
        below = [one for one in members if isinstance(one, Collection)]
        pile += [one.logical_path for one in below]
        yield collection, below, [one for one in members if isinstance(one, DataObject)]


def data_objects(catalog: Catalog, top: str) -> Iterator[DataObject]:
    """All data objects below a collection; those directly in it come first, by name."""
    for _, _, members in walk(catalog, top):
        yield from members
