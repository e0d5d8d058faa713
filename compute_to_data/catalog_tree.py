"""Walks the tree below a collection, as the user of a session sees it."""

from __future__ import annotations

from collections.abc import Iterator

from compute_to_data.model import Collection, DataObject
from compute_to_data.ports.zone import Catalog


def walk(
    catalog: Catalog, top: str, most: int | None = None
) -> Iterator[tuple[str, list[Collection], list[DataObject]]]:
    """``top`` and each collection below it, with its direct subcollections and data objects by name.

    A collection comes before its subcollections. The walk asks the catalog once for each
    collection, when it reaches it. NotFound (-814000) when the collection is gone by then. TooLarge for a collection
    with more than ``most`` members, or replicas of them.
    """
    pile = [top]
    while pile:
        collection = pile.pop()
        members = catalog.children(collection, most)
        below = [member for member in members if isinstance(member, Collection)]
        pile += [member.logical_path for member in below]
        yield collection, below, [member for member in members if isinstance(member, DataObject)]


def data_objects(catalog: Catalog, top: str, most: int | None = None) -> Iterator[DataObject]:
    """All data objects below a collection; those directly in it come first, by name. ``most``: as for :func:`walk`."""
    for _, _, members in walk(catalog, top, most):
        yield from members
