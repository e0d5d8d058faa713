"""The bounds of what this product reads from a catalog that strangers fill.

The size of a data object and the number of AVUs are a user's choice. So every read has a bound, which its
caller states, and the adapters of a zone apply it before they read and while they read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from compute_to_data.errors import TooLarge
from compute_to_data.model import Avu, Query

_Found = TypeVar("_Found")

MOST_AVUS = 8192
"""How many AVUs of one entity are read at once. A task with the most inputs, parameters and metadata that a request
can have has fewer. A worker asks for those that it uses, by their attributes."""

MOST_MEMBERS = 32_768
"""How many members of one collection, with their replicas, the worker and the rules read at once."""
MOST_PERMISSIONS = 1024
"""How many rows of one access list they read."""

MOST_FOUND = 131_072
"""How many entities, or rows of AVUs, a session finds with one question that names no limit."""

_REMEDY = "Make it smaller, or name the data object that was meant"


def check_size(logical_path: str, size: int, most_bytes: int) -> None:
    """TooLarge for a data object of more than ``most_bytes`` bytes."""
    if size > most_bytes:
        raise TooLarge(
            logical_path,
            f"has {size} bytes, and at most {most_bytes} bytes are read here",
            _REMEDY,
        )


def check_growing(logical_path: str, read: int, most_bytes: int) -> None:
    """TooLarge when more bytes were read than the bound, because the catalog's size was wrong or the file grew."""
    if read > most_bytes:
        raise TooLarge(
            logical_path,
            f"has more than the {most_bytes} bytes that are read here, although the catalog has a smaller size for it",
            _REMEDY,
        )


def check_members(collection: str, found: int, most: int | None) -> None:
    """TooLarge for a collection in which a session has found more than ``most`` members, or replicas of them."""
    if most is not None and found > most:
        raise TooLarge(
            collection,
            f"has more than {most} members and replicas, and no more are read here",
            "Divide it into several collections",
        )


def check_permissions(logical_path: str, found: int, most: int | None) -> None:
    """TooLarge for an access list of which a session has found more than ``most`` rows."""
    if most is not None and found > most:
        raise TooLarge(
            logical_path,
            f"has more than {most} entries in its access list, and no more are read here",
            "Give access to a group instead of to each of its members",
        )


def bounded(query: Query) -> Query:
    """The query that a session asks: one without a limit gets one more than :data:`MOST_FOUND`, to know."""
    return replace(query, limit=MOST_FOUND + 1) if query.limit is None else query


def check_found(query: Query, found: Sequence[_Found]) -> tuple[_Found, ...]:
    """Return what a query has found. TooLarge for more than :data:`MOST_FOUND` when the query names no limit."""
    if query.limit is None and len(found) > MOST_FOUND:
        raise TooLarge(
            query.within or query.attribute,
            f"more than {MOST_FOUND} AVUs {query.attribute} match, and no more are read at once",
            "Ask for fewer: by an owner, a collection or a limit",
        )
    return tuple(found)


def check_together(found: int, attributes: Sequence[str]) -> None:
    """TooLarge for more than :data:`MOST_FOUND` AVUs of several collections or resources."""
    if found > MOST_FOUND:
        raise TooLarge(
            ", ".join(attributes[:3]),
            f"those asked for have more than {MOST_FOUND} such AVUs together, and no more are read at once",
            "Ask for fewer",
        )


def need_attributes(attributes: Sequence[str]) -> None:
    """ValueError without an attribute: a session does not read all AVUs of all resources."""
    if not attributes:
        raise ValueError("no attribute is named")


def most_avus(most: int | None) -> int:
    """How many AVUs of one entity a session reads, when the caller's own bound is ``most``."""
    return MOST_AVUS if most is None else min(most, MOST_AVUS)


def check_avus(name: str, attributes: Sequence[str], found: Sequence[Avu], most: int | None = None) -> tuple[Avu, ...]:
    """Return what was found on an entity with these attributes (none named: with any).

    TooLarge for more than :func:`most_avus`. A session asks for one more, to know.
    """
    if len(found) > most_avus(most):
        shown = ", ".join(attributes[:3]) + (", ..." if len(attributes) > 3 else "")
        raise TooLarge(
            name,
            f"has more than {most_avus(most)} AVUs{f' of {shown}' if shown else ''}, and no more are read here",
            "Remove those that are not needed, with imeta rmw",
            first=tuple(found[: most_avus(most)]),
        )
    return tuple(found)
