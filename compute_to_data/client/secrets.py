"""Secrets: small values that a task's program reads as files, kept where only their owner may read.

A secret is the data object ``<home>/.compute_to_data/secrets/<name>``, with an access list of its
owner alone. It is not encrypted there: administrators of the zone, and whoever can read the vault's
disks, can read it (docs/security.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from compute_to_data.errors import AlreadyExists, InvalidRequest, NotFound, Refused
from compute_to_data.model import Access, DataObject, name_of, parent_of
from compute_to_data.records import secret
from compute_to_data.records.task import timestamp

if TYPE_CHECKING:
    from compute_to_data.client.session import Session


@dataclass(frozen=True)
class Secret:
    """A secret without its value. ``created`` in ISO 8601, UTC; ``readers``: who may read it."""

    name: str
    data_object: str
    created: str
    readers: tuple[str, ...]


def path_of(session: Session, name: str) -> str:
    """Where a secret of that name rests. InvalidRequest for what is no name of one."""
    return secret.path_of(session.user, session.zone, name)


def create(session: Session, name: str, value: bytes, *, force: bool = False) -> Secret:
    """Keep a value of at most 64 KiB. AlreadyExists unless ``force`` replaces it; Refused when
    somebody else could read it there.

    >>> from compute_to_data.client import secrets
    >>> with c2d.connect() as session:
    ...     print(secrets.create(session, "ARCHIVE_TOKEN", b"hidden").readers)
    ...     print([one.name for one in secrets.listed(session)])
    ...     secrets.delete(session, "ARCHIVE_TOKEN")
    ('alice#tempZone',)
    ['ARCHIVE_TOKEN']
    """
    path = path_of(session, name)
    if not 0 < len(value) <= secret.LONGEST:
        raise InvalidRequest(f"secret {name}", f"has {len(value)} bytes, expected 1 to {secret.LONGEST}")
    _make_private(session, parent_of(path))
    known = _names(session)
    if name in known and not force:
        raise AlreadyExists(f"secret {name}", "is there already", "Choose another name, or replace it with --force")
    if name in known:
        session.catalog.remove(path)  # all replicas: none of them keeps the old value
    session.catalog.write(path, value)
    readers = _keep_to_owner(session, path)
    if readers:
        session.catalog.remove(path)
        raise Refused(f"secret {name}", f"{', '.join(readers)} could read it there, so it was not kept")
    return describe(session, name)


def _make_private(session: Session, folder: str) -> None:
    """The collection, which hands no access on to what is put into it."""
    session.catalog.create_collection(folder, parents=True)
    for collection in (parent_of(folder), folder):
        session.catalog.set_inheritance(collection, False)
        _keep_to_owner(session, collection)


def _keep_to_owner(session: Session, path: str) -> tuple[str, ...]:
    """Take everybody else off the access list; returns who is left."""
    for row in session.catalog.permissions(path):
        if row.user != session.user:
            session.catalog.set_access(path, row.user, Access.NULL)
    return _others(session, path)


def _others(session: Session, path: str) -> tuple[str, ...]:
    return tuple(str(row.user) for row in session.catalog.permissions(path) if row.user != session.user)


def _names(session: Session) -> tuple[str, ...]:
    try:
        children = session.catalog.children(secret.collection_of(session.user, session.zone))
    except NotFound:
        return ()
    return tuple(name_of(child.logical_path) for child in children if isinstance(child, DataObject))


def listed(session: Session) -> tuple[Secret, ...]:
    """All of one's secrets, by name, without their values."""
    return tuple(describe(session, name) for name in _names(session))


def describe(session: Session, name: str) -> Secret:
    """One secret without its value. NotFound."""
    path = _known(session, name)
    found = session.catalog.stat(path)
    readers = tuple(str(row.user) for row in session.catalog.permissions(path))
    return Secret(name, path, timestamp(found.created), readers)


def delete(session: Session, name: str) -> None:
    """Forget a secret. NotFound."""
    session.catalog.remove(_known(session, name))


def _known(session: Session, name: str) -> str:
    path = path_of(session, name)
    if name not in _names(session):
        raise NotFound(f"secret {name}", "there is none of that name", "c2d secret list shows yours")
    return path
