"""Stored process definitions: data objects in their owners' collections, found by an AVU with their name.

Whoever may read the data object may use the definition, by its logical path. A name stands only for a definition of
the user's own, which nobody else can write: any user can give a definition any name, and share it with all others.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from compute_to_data.bounds import MOST_PERMISSIONS
from compute_to_data.configuration import Attributes
from compute_to_data.documents import process_definition
from compute_to_data.documents.json_text import read_json
from compute_to_data.errors import InvalidRequest, NotFound, TooLarge
from compute_to_data.model import DataObject, Entity, EntityKind, Query, name_of
from compute_to_data.ports.zone import Catalog
from compute_to_data.records.access import refuse_displaced, refuse_tampering
from compute_to_data.similar_names import nearest
from compute_to_data.task import StoredDefinition

LARGEST = 256 * 1024
"""The most bytes of a definition. Its task.json, which holds it, may have 1 MiB."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,62}")
"""A number is an id."""
_SHOWN = 5


@dataclass(frozen=True)
class Definition:
    """A stored definition as it was read: its document, and where it comes from."""

    document: dict[str, Any]
    stored: StoredDefinition


def attribute(attributes: Attributes) -> str:
    """The attribute of the AVU on a definition's data object. The value is the definition's name."""
    return attributes.named("process")


def checked_name(name: str) -> str:
    """Return ``name`` if a definition can have it, else raise InvalidRequest."""
    if not NAME.fullmatch(name):
        expected = "1 to 63 letters, digits and . _ -, beginning with a letter or _"
        raise InvalidRequest("process definition", f"found the name {name[:80]!r}, expected {expected}")
    return name


def parsed(content: bytes, subject: str, *, needs_image: bool = False) -> dict[str, Any]:
    """The document of a definition. InvalidRequest, which lists all problems, unless it is a valid one."""
    if len(content) > LARGEST:
        raise InvalidRequest(subject, f"has more bytes than a definition may have, at most {LARGEST}")
    document = read_json(content, subject)
    try:
        process_definition.check(document, needs_image=needs_image)
    except InvalidRequest as error:
        at = error.subject if error.subject.startswith("/") else ""
        raise InvalidRequest(f"{subject}{f'#{at}' if at else ''}", error.cause, error.remedy) from None
    return dict(document)


def checksum_of(content: bytes) -> str:
    """The checksum of a data object with this content, as iRODS writes it."""
    return f"sha2:{base64.b64encode(hashlib.sha256(content).digest()).decode()}"


def own(catalog: Catalog, attributes: Attributes, name: str | None = None) -> tuple[str, ...]:
    """The logical paths of the user's own definitions, or of those with this name."""
    return catalog.find(Query(EntityKind.DATA_OBJECT, attribute(attributes), name, owner=catalog.user))


def find(catalog: Catalog, attributes: Attributes, given: str) -> str:
    """The logical path of a definition, given the name of one of the user's own, or a logical path.

    NotFound; InvalidRequest for a name that several have; Refused when another user can write to a definition that is
    given by its name.
    """
    if given.startswith("/"):
        return given.rstrip("/")
    found = own(catalog, attributes, checked_name(given))
    if not found:
        raise NotFound(f"process definition {given}", "is none of your own", _remedy(catalog, attributes, given))
    if len(found) > 1:
        cause = f"is the name of {len(found)} of your definitions: {_listed(found)}"
        raise InvalidRequest(f"process definition {given}", cause, "Give the logical path of one")
    _need_untouched(catalog, found[0])
    return found[0]


def _remedy(catalog: Catalog, attributes: Attributes, given: str) -> str:
    shared = catalog.find(Query(EntityKind.DATA_OBJECT, attribute(attributes), given, limit=_SHOWN))
    if shared:
        return f"Others share one of that name. To use it, give its logical path: {_listed(shared)}"
    near = nearest(given, names(catalog, attributes))
    return f"Did you mean {near}? Else: c2d process list" if near else "List them with: c2d process list"


def names(catalog: Catalog, attributes: Attributes) -> Iterator[str]:
    """The names of the user's own definitions."""
    for path in own(catalog, attributes):
        yield name_at(catalog, attributes, path)


def name_at(catalog: Catalog, attributes: Attributes, logical_path: str) -> str:
    """The name of the definition at a path: its AVU's, else the data object's without ``.json``."""
    avus = catalog.avus(Entity(EntityKind.DATA_OBJECT, logical_path), attribute(attributes))
    names = sorted(avu.value for avu in avus if NAME.fullmatch(avu.value))
    return names[0] if names else as_name(name_of(logical_path).removesuffix(".json"))


def as_name(text: str) -> str:
    """A valid name that is like the last part of ``text``."""
    letters = re.sub(r"[^A-Za-z0-9._-]", "_", text.rpartition("/")[2])
    return (letters if letters[:1].isalpha() or letters[:1] == "_" else f"_{letters}")[:63]


def _need_untouched(catalog: Catalog, logical_path: str) -> None:
    found = catalog.stat(logical_path)
    if isinstance(found, DataObject):
        refuse_tampering(logical_path, catalog.permissions(logical_path, MOST_PERMISSIONS), found.owner)
        refuse_displaced(catalog, found)


def read(catalog: Catalog, attributes: Attributes, logical_path: str) -> Definition:
    """The definition in a data object. NotFound; InvalidRequest when it is no valid definition."""
    content = content_of(catalog, logical_path)
    stored = StoredDefinition(name_at(catalog, attributes, logical_path), logical_path, checksum_of(content))
    return Definition(parsed(content, logical_path), stored)


def content_of(catalog: Catalog, logical_path: str) -> bytes:
    """The bytes of a definition's data object. NotFound; InvalidRequest for a collection, and for too many bytes."""
    if not isinstance(catalog.stat(logical_path), DataObject):
        raise InvalidRequest(logical_path, "is a collection, expected a process definition")
    try:
        return catalog.read(logical_path, LARGEST)
    except TooLarge as error:
        raise InvalidRequest(logical_path, error.cause, "A process definition is a small JSON document") from None


def _listed(paths: Sequence[str]) -> str:
    return f"{', '.join(paths[:_SHOWN])}{f' and {len(paths) - _SHOWN} more' if len(paths) > _SHOWN else ''}"
