"""Lets other users read a dataset, a task or a workload, with the catalog's own access lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from compute_to_data.catalog_tree import walk
from compute_to_data.client import datasets
from compute_to_data.client.kinds import Kind, Named
from compute_to_data.client.naming import named
from compute_to_data.errors import Code, InvalidRequest, NotFound, Refused, ZoneError
from compute_to_data.model import Access, User, UserKind

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench

LEVELS = {"read": Access.READ_OBJECT, "none": Access.NULL}
"""The access that a person can give, by the word for it."""


@dataclass(frozen=True)
class Reader:
    """A user or group that can read something. ``access``: ``own``, ``read_object`` or between."""

    user: str
    kind: str
    access: str


def readers(workbench: Workbench, given: str) -> tuple[Reader, ...]:
    """The users and groups that can read a dataset, task or workload, by name.

    >>> from compute_to_data.client import datasets, sharing
    >>> with c2d.connect() as session:
    ...     sent = datasets.upload(session, folder)
    ...     print([one.user for one in sharing.share(session, sent.dataset, "bob", "read")])
    ...     print([one.user for one in sharing.share(session, sent.dataset, "bob", "none")])
    ...     removed = datasets.remove(session, sent.dataset)
    ['alice#tempZone', 'bob#tempZone']
    ['alice#tempZone']
    """
    return _readers(workbench, named(workbench, given))


def _readers(workbench: Workbench, found: Named) -> tuple[Reader, ...]:
    rows = workbench.catalog.permissions(found.collection)
    return tuple(
        Reader(str(row.user), "group" if row.kind is UserKind.RODSGROUP else "user", row.access.name.lower())
        for row in rows
        if row.access >= Access.READ_OBJECT
    )


def share(workbench: Workbench, given: str, user: str, access: str) -> tuple[Reader, ...]:
    """Give a user or group (``name`` or ``name#zone``) the access ``read`` or ``none`` to a dataset, task or
    workload, with all that is in it now and later. Returns who can read it then.

    It changes only what the owner may change, and never the owner's own access. InvalidRequest, NotFound
    for a user who does not exist, AccessDenied.
    """
    found, level = named(workbench, given), LEVELS.get(access)
    if level is None:
        raise InvalidRequest("access", f"found {access!r}, expected {' or '.join(LEVELS)}")
    if found.kind is Kind.COLLECTION:
        remedy = "Share another collection with ichmod"
        raise InvalidRequest(given, "is no dataset, task or workload", remedy)
    other = _user(workbench, user)
    _need_not_owner(workbench, found, other)
    if found.kind is Kind.DATASET and level is not Access.NULL:
        datasets.make_findable(workbench, found.collection)
    if level is not Access.NULL:
        for collection, _, _ in walk(workbench.catalog, found.collection):
            workbench.catalog.set_inheritance(collection, True)
    try:
        workbench.catalog.set_access(found.collection, other, level, recursive=True)
    except ZoneError as error:
        if error.code is not Code.CAT_INVALID_USER:
            raise
        cause = "is not a user or group of the zone"
        remedy = "Write a user of another zone as NAME#ZONE"
        raise NotFound(f"user {other}", cause, remedy, code=error.code) from None
    return _readers(workbench, found)


def _user(workbench: Workbench, text: str) -> User:
    """The user that a person names: of the zone, unless they name another."""
    name, hash_sign, zone = text.partition("#")
    if not name or (hash_sign and not zone):
        raise InvalidRequest("user", f"found {text!r}, expected NAME or NAME#ZONE")
    return User(name, zone or workbench.zone)


def _need_not_owner(workbench: Workbench, found: Named, other: User) -> None:
    if other in (workbench.user, workbench.catalog.stat(found.collection).owner):
        raise Refused(str(found), f"{other} owns it or is yourself, and keeps the access", "Name another user")
