"""A collection that is made for something which may still be refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from compute_to_data.errors import ComputeToDataError, NotFound
from compute_to_data.model import parent_of
from compute_to_data.ports.zone import ClientCatalog


@contextmanager
def made_for(catalog: ClientCatalog, collection: str) -> Iterator[None]:
    """Make a collection and its missing parents, or accept one that exists. When the ``with`` block raises, remove
    those that were made, unless they have members by then. Raises what ``create_collection`` does."""
    made = _missing(catalog, collection)
    catalog.create_collection(collection, parents=True)
    try:
        yield
    except BaseException:
        with suppress(ComputeToDataError):
            for one in made:
                catalog.remove(one)
        raise


def _missing(catalog: ClientCatalog, collection: str) -> list[str]:
    """Which of a collection and its parents do not exist, the lowest first."""
    missing: list[str] = []
    while collection != "/":
        try:
            catalog.stat(collection)
            break
        except NotFound:
            missing.append(collection)
            collection = parent_of(collection)
    return missing
