"""Secrets: small values that a task's program reads as files, and that only their owner may read.

A secret is the data object ``<home>/.compute_to_data/secrets/<name>``. Only its owner is on the
access list. It is not encrypted: the zone's administrators, and people who can read the vault's
disks, can read it (docs/security.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from compute_to_data.client.given import need_bytes
from compute_to_data.errors import AlreadyExists, InvalidRequest, NotFound, Refused
from compute_to_data.model import Access, DataObject, name_of, parent_of
from compute_to_data.records import secret
from compute_to_data.records.task import timestamp

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench


@dataclass(frozen=True)
class Secret:
    """A secret without its value. ``created`` in ISO 8601, UTC; ``readers``: the users who may read it."""

    name: str
    data_object: str
    created: str
    readers: tuple[str, ...]


def path_of(workbench: Workbench, name: str) -> str:
    """The logical path of the secret with this name. InvalidRequest for a name that a secret cannot have."""
    return secret.path_of(workbench.user, workbench.zone, name)


def create(workbench: Workbench, name: str, value: bytes, *, force: bool = False) -> Secret:
    """Store a value of at most 64 KiB. AlreadyExists when the secret exists, unless ``force``, which
    replaces it. Refused when another user could read it.

    >>> from compute_to_data.client import secrets
    >>> with c2d.connect() as session:
    ...     print(secrets.create(session, "ARCHIVE_TOKEN", b"hidden").readers)
    ...     print([one.name for one in secrets.listed(session)])
    ...     secrets.delete(session, "ARCHIVE_TOKEN")
    ('alice#tempZone',)
    ['ARCHIVE_TOKEN']
    """
    path = path_of(workbench, name)
    need_bytes(value, f"secret {name}")
    if not 0 < len(value) <= secret.LONGEST:
        size = f"more than {secret.LONGEST}" if value else "0"
        raise InvalidRequest(f"secret {name}", f"has {size} bytes, expected 1 to {secret.LONGEST}")
    _make_private(workbench, parent_of(path))
    known = _names(workbench)
    if name in known and not force:
        raise AlreadyExists(f"secret {name}", "exists already", "Choose another name, or replace it with --force")
    if name in known:
        workbench.catalog.remove(path)  # with all its replicas, so that no replica keeps the old value
    workbench.catalog.write(path, value)
    readers = _keep_to_owner(workbench, path)
    if readers:
        workbench.catalog.remove(path)
        remedy = f"Ask an administrator why {parent_of(path)} gives others access"
        raise Refused(f"secret {name}", f"{', '.join(readers)} could read it, so it was not stored", remedy)
    return describe(workbench, name)


def _make_private(workbench: Workbench, folder: str) -> None:
    """Make the collection without inheritance, so that new data objects in it get no further access."""
    workbench.catalog.create_collection(folder, parents=True)
    for collection in (parent_of(folder), folder):
        workbench.catalog.set_inheritance(collection, False)
        _keep_to_owner(workbench, collection)


def _keep_to_owner(workbench: Workbench, path: str) -> tuple[str, ...]:
    """Remove all other users from the access list; returns those that could not be removed."""
    for row in workbench.catalog.permissions(path):
        if row.user != workbench.user:
            workbench.catalog.set_access(path, row.user, Access.NULL)
    return _others(workbench, path)


def _others(workbench: Workbench, path: str) -> tuple[str, ...]:
    return tuple(str(row.user) for row in workbench.catalog.permissions(path) if row.user != workbench.user)


def _names(workbench: Workbench) -> tuple[str, ...]:
    try:
        children = workbench.catalog.children(secret.collection_of(workbench.user, workbench.zone))
    except NotFound:
        return ()
    return tuple(name_of(child.logical_path) for child in children if isinstance(child, DataObject))


def listed(workbench: Workbench) -> tuple[Secret, ...]:
    """All secrets of the person, by name, without their values."""
    return tuple(describe(workbench, name) for name in _names(workbench))


def describe(workbench: Workbench, name: str) -> Secret:
    """One secret without its value. NotFound when it does not exist."""
    path = _known(workbench, name)
    found = workbench.catalog.stat(path)
    readers = tuple(str(row.user) for row in workbench.catalog.permissions(path))
    return Secret(name, path, timestamp(found.created), readers)


def delete(workbench: Workbench, name: str) -> None:
    """Delete a secret. NotFound when it does not exist."""
    workbench.catalog.remove(_known(workbench, name))


def _known(workbench: Workbench, name: str) -> str:
    path = path_of(workbench, name)
    if name not in _names(workbench):
        raise NotFound(f"secret {name}", "does not exist", "List your secrets: c2d secret list")
    return path
