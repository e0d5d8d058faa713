"""Secrets: values that only their owner and the owner's tasks may read.

Each secret is a data object ``/<zone>/home/<user>/.compute_to_data/secrets/<NAME>`` that only its
owner has access to. A request names secrets. The worker reads their values in the owner's session
just before the job starts, and passes them only into the job's sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from compute_to_data.bounds import MOST_PERMISSIONS
from compute_to_data.errors import Code, InvalidRequest, NotFound, Refused, TooLarge
from compute_to_data.model import DataObject, User
from compute_to_data.ports.zone import Catalog

LONGEST = 64 * 1024
"""The most bytes that a value may have."""
_FOLDER = ".compute_to_data/secrets"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def collection_of(user: User, zone: str) -> str:
    """The collection of a user's secrets in a zone."""
    return f"{user.home_in(zone)}/{_FOLDER}"


def checked_name(name: str) -> str:
    """Return ``name`` if it is a valid name of a secret, else raise InvalidRequest."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        expected = "at most 64 letters (A-Z a-z), digits and _, not beginning with a digit"
        raise InvalidRequest("secret", f"found the name {str(name)[:80]!r}, expected {expected}")
    return name


def path_of(user: User, zone: str, name: str) -> str:
    """The logical path of a secret. InvalidRequest when ``name`` is not a valid name."""
    return f"{collection_of(user, zone)}/{checked_name(name)}"


def check(catalog: Catalog, zone: str, names: Iterable[str]) -> tuple[str, ...]:
    """Check that the session's user can use the named secrets; returns their logical paths.

    NotFound for a missing secret. Refused for one that others can read, that another user owns, or
    that is too long. No message contains any part of a value.
    """
    paths = tuple(path_of(catalog.user, zone, name) for name in names)
    for path in paths:
        _check(catalog, path)
    return paths


def _check(catalog: Catalog, path: str) -> None:
    subject = f"secret {path}"
    try:
        found = catalog.stat(path)
    except NotFound:
        raise NotFound(subject, "does not exist", "Make it with: c2d secret create") from None
    if not isinstance(found, DataObject):
        raise Refused(subject, "is a collection", "Remove it, and make the secret again")
    if found.owner != catalog.user:
        raise Refused(subject, f"belongs to {found.owner}", "Remove it, and make your own")
    others = [str(row.user) for row in catalog.permissions(path, MOST_PERMISSIONS) if row.user != catalog.user]
    if others:
        raise Refused(
            subject,
            f"can be read by others ({', '.join(others)[:200]})",
            f"Remove their access with: ichmod null {others[0].partition('#')[0]} {path}. "
            "They may have read the value, so change it",
            code=Code.CAT_NO_ACCESS_PERMISSION,
        )
    largest = max(replica.size for replica in found.replicas) if found.replicas else 0
    if largest > LONGEST:
        raise _too_long(subject, largest)


def read(catalog: Catalog, zone: str, names: Iterable[str]) -> dict[str, bytes]:
    """The values by name, read with the session user's own rights. Errors as for :func:`check`."""
    names = tuple(names)
    return {name: _read(catalog, path) for name, path in zip(names, check(catalog, zone, names))}


def _read(catalog: Catalog, path: str) -> bytes:
    try:
        return catalog.read(path, LONGEST)
    except TooLarge as error:
        raise Refused(f"secret {path}", error.cause, "Use an input for more") from None


def _too_long(subject: str, size: int) -> Refused:
    return Refused(subject, f"has {size} bytes, and a secret may have at most {LONGEST}", "Use an input for more")
