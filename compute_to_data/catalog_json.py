"""The values of ``model`` as JSON, for the catalog over HTTP. Each function ``..._of`` reads what :func:`plain` made.

They raise KeyError, TypeError or ValueError when the document does not describe such a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from compute_to_data.model import (
    Access,
    Avu,
    Collection,
    DataObject,
    Entity,
    EntityKind,
    OwnerCount,
    Permission,
    Query,
    Registration,
    Replica,
    ReplicaStatus,
    Resource,
    Row,
    User,
    UserKind,
)

LARGEST = (1 << 62) - 1
"""A number that every database takes."""


def plain(value: Any) -> Any:
    """A value as JSON: users as ``name#zone``, other values as objects with their fields' names."""
    if isinstance(value, User):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    return value


def text_of(value: Any) -> str:
    """A text. TypeError for anything else."""
    if not isinstance(value, str):
        raise TypeError(f"found {type(value).__name__}, expected a text")
    return value


def user_of(value: Any) -> User:
    """A user."""
    return User.parse(text_of(value))


def access_of(value: Any) -> Access:
    """An access level."""
    return Access(value)


def avu_of(value: Mapping[str, Any]) -> Avu:
    """An AVU."""
    return Avu(text_of(value["attribute"]), text_of(value["value"]), text_of(value["units"]))


def avus_of(value: Any) -> tuple[Avu, ...]:
    """A list of AVUs."""
    return tuple(avu_of(one) for one in value)


def entity_of(value: Mapping[str, Any]) -> Entity:
    """What bears AVUs."""
    return Entity(EntityKind(value["kind"]), text_of(value["name"]))


def query_of(value: Mapping[str, Any]) -> Query:
    """A query. Another program may have written it: TypeError or ValueError for what is none."""
    found = dict(value)
    found["kind"] = EntityKind(found["kind"])
    if found["owner"] is not None:
        found["owner"] = user_of(found["owner"])
    for name in ("attribute", "beginning", "within"):
        found[name] = text_of(found[name])
    for name in ("value", "units"):
        if found[name] is not None and not isinstance(found[name], list):
            found[name] = text_of(found[name])
    for name in ("units", "among", "excluding"):
        if isinstance(found[name], list):
            found[name] = tuple(text_of(one) for one in found[name])
    for name in ("limit", "offset"):
        is_number = type(found[name]) is int and 0 <= found[name] <= LARGEST
        if not is_number and (name, found[name]) != ("limit", None):
            raise ValueError(f"{name}: expected a number from 0 to {LARGEST}")
    if type(found["newest_first"]) is not bool or type(found["excluding"]) is not tuple:
        raise TypeError("newest_first: expected true or false; excluding: expected a list")
    if type(found["among"]) not in (tuple, type(None)) or type(found["value"]) not in (str, type(None)):
        raise TypeError("among: expected a list or null; value: expected a text or null")
    return Query(**found)


def member_of(value: Mapping[str, Any]) -> Collection | DataObject:
    """A collection or a data object."""
    owner, created = user_of(value["owner"]), float(value["created"])
    if "replicas" not in value:
        return Collection(value["logical_path"], owner, bool(value["inherits"]), created)
    replicas = tuple(_replica_of(one) for one in value["replicas"])
    return DataObject(value["logical_path"], owner, replicas, created, float(value["modified"]))


def _replica_of(value: Mapping[str, Any]) -> Replica:
    return Replica(**{**value, "status": ReplicaStatus(value["status"])})


def permission_of(value: Mapping[str, Any]) -> Permission:
    """A row of an access list."""
    return Permission(user_of(value["user"]), UserKind(value["kind"]), Access(value["access"]))


def resource_of(value: Mapping[str, Any]) -> Resource:
    """A resource."""
    return Resource(**value)


def row_of(value: Mapping[str, Any]) -> Row:
    """A row of a query."""
    return Row(**{**value, "owner": user_of(value["owner"])})


def count_of(value: Mapping[str, Any]) -> OwnerCount:
    """A count of an owner's collections."""
    return OwnerCount(**{**value, "owner": user_of(value["owner"])})


def registration_of(value: Mapping[str, Any]) -> Registration:
    """A file that is to be registered."""
    return Registration(**{**value, "logical_path": text_of(value["logical_path"])})
