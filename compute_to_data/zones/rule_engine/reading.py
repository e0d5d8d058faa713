"""Reads the catalog from inside a rule: makes queries and turns their rows into values.

iRODS shows a client user only what they may read (strict ACLs, always on in 5.0). In a zone of 4.3
without strict ACLs, users also see names that they may not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from compute_to_data import bounds
from compute_to_data.errors import Code, TooLarge, ZoneError, zone_error
from compute_to_data.model import (
    Access,
    Avu,
    Collection,
    DataObject,
    Entity,
    EntityKind,
    Permission,
    Query,
    Replica,
    ReplicaStatus,
    Resource,
    User,
    UserKind,
    name_of,
    parent_of,
)
from compute_to_data.zones.rule_engine.agent import Agent
from compute_to_data.zones.rule_engine.paths import checked

_COLLECTION = ("COLL_NAME", "COLL_OWNER_NAME", "COLL_OWNER_ZONE", "COLL_INHERITANCE", "COLL_CREATE_TIME")
_REPLICA = (
    "DATA_NAME",
    "DATA_REPL_NUM",
    "DATA_RESC_HIER",
    "DATA_REPL_STATUS",
    "DATA_SIZE",
    "DATA_PATH",
    "DATA_CHECKSUM",
    "DATA_OWNER_NAME",
    "DATA_OWNER_ZONE",
    "DATA_CREATE_TIME",
    "DATA_MODIFY_TIME",
)
_RESOURCE = ("RESC_ID", "RESC_NAME", "RESC_TYPE_NAME", "RESC_LOC", "RESC_VAULT_PATH", "RESC_PARENT", "RESC_STATUS")
_PREFIXES = {
    EntityKind.DATA_OBJECT: "DATA",
    EntityKind.COLLECTION: "COLL",
    EntityKind.RESOURCE: "RESC",
    EntityKind.USER: "USER",
}
_NAMES = {
    EntityKind.DATA_OBJECT: ("COLL_NAME", "DATA_NAME"),
    EntityKind.COLLECTION: ("COLL_NAME",),
    EntityKind.RESOURCE: ("RESC_NAME",),
    EntityKind.USER: ("USER_NAME", "USER_ZONE"),
}
_IDS_A_QUERY = 50


def missing(agent: Agent, logical_path: str, code: Code = Code.USER_FILE_DOES_NOT_EXIST) -> ZoneError:
    """The error for a path that is missing or hidden; iRODS does not say which."""
    return zone_error(code, logical_path, f"does not exist, or {agent.user} may not read it")


def of_object(logical_path: str) -> dict[str, str]:
    """The conditions that select one data object."""
    return {"COLL_NAME": parent_of(logical_path), "DATA_NAME": name_of(logical_path)}


def find_object(agent: Agent, logical_path: str) -> DataObject | None:
    """A data object; None when it is missing or hidden."""
    checked(logical_path)
    rows = agent.select(_REPLICA, of_object(logical_path))
    return _data_object(logical_path, rows) if rows else None


def find_collection(agent: Agent, logical_path: str) -> Collection | None:
    """A collection; None when it is missing or hidden."""
    rows = agent.select(_COLLECTION, {"COLL_NAME": checked(logical_path)})
    return _collection(rows[0]) if rows else None


def members(agent: Agent, collection: str, most: int | None = None) -> tuple[Collection | DataObject, ...]:
    """As ``Catalog.children``."""
    at_most = None if most is None else most + 1
    if find_collection(agent, collection) is None:
        raise missing(agent, collection, Code.CAT_UNKNOWN_COLLECTION)
    found: list[Collection | DataObject] = [
        _collection(row)
        for row in agent.select(_COLLECTION, {"COLL_PARENT_NAME": collection}, most=at_most)
        if row[0] != collection  # "/" is its own parent
    ]
    bounds.check_members(collection, len(found), most)
    objects: dict[str, list[tuple[str, ...]]] = {}
    replicas = agent.select(_REPLICA, {"COLL_NAME": collection}, most=at_most)
    bounds.check_members(collection, len(replicas), most)
    for row in replicas:
        objects.setdefault(row[0], []).append(row)
    above = collection.rstrip("/")
    found += [_data_object(f"{above}/{name}", rows) for name, rows in objects.items()]
    bounds.check_members(collection, len(found), most)
    return tuple(sorted(found, key=lambda member: name_of(member.logical_path)))


def has_members(agent: Agent, collection: str) -> bool:
    """Whether the user sees anything in a collection."""
    below = agent.select(("COLL_NAME",), {"COLL_PARENT_NAME": collection}, most=1)
    return bool(below or agent.select(("DATA_NAME",), {"COLL_NAME": collection}, most=1))


def _collection(row: Sequence[str]) -> Collection:
    path, owner, zone, inherits, created = row
    return Collection(path, User(owner, zone), inherits == "1", float(created))


def _data_object(logical_path: str, rows: Iterable[Sequence[str]]) -> DataObject:
    ordered = sorted(rows, key=lambda row: int(row[1]))
    replicas = tuple(
        Replica(int(number), hierarchy, ReplicaStatus(int(status)), int(size), physical_path, checksum)
        for _, number, hierarchy, status, size, physical_path, checksum, *_ in ordered
    )
    owner = User(ordered[0][7], ordered[0][8])
    created = min(float(row[9]) for row in ordered)
    modified = max(float(row[10]) for row in ordered)
    return DataObject(logical_path, owner, replicas, created, modified)


def access_rows(agent: Agent, logical_path: str, most: int | None = None) -> list[tuple[Access, str]]:
    """The access list, as levels and ids of users and groups; empty when the path is missing or hidden. TooLarge for
    more than ``most`` rows."""
    checked(logical_path)
    at_most = None if most is None else most + 1
    rows = agent.select(("DATA_ACCESS_TYPE", "DATA_ACCESS_USER_ID"), of_object(logical_path), most=at_most)
    rows = rows or agent.select(("COLL_ACCESS_TYPE", "COLL_ACCESS_USER_ID"), {"COLL_NAME": logical_path}, most=at_most)
    bounds.check_permissions(logical_path, len(rows), most)
    return [(_level(int(level)), identity) for level, identity in rows]


def _rows_of(agent: Agent, logical_path: str, identities: Sequence[str]) -> list[tuple[Access, str]]:
    """As :func:`access_rows`, only the rows of users and groups with these ids."""
    found: list[tuple[str, ...]] = []
    for start in range(0, len(identities), _IDS_A_QUERY):
        listed = ", ".join(f"'{one}'" for one in identities[start : start + _IDS_A_QUERY] if one.isdigit())
        for kind, where in (("DATA", of_object(logical_path)), ("COLL", {"COLL_NAME": logical_path})):
            columns = (f"{kind}_ACCESS_TYPE", f"{kind}_ACCESS_USER_ID")
            found += agent.select(columns, where, f"{columns[1]} in ({listed})")
    return [(_level(int(level)), identity) for level, identity in found]


def _level(number: int) -> Access:
    """The highest of our levels that a level number of the catalog includes."""
    return max((level for level in Access if level <= number), default=Access.NULL)


def effective_access(agent: Agent, logical_path: str) -> Access:
    """As ``Catalog.access``."""
    held = {"USER_NAME": agent.user.name, "USER_ZONE": agent.user.zone}
    groups = {identity for (identity,) in agent.select(("USER_GROUP_ID",), held)}
    try:
        rows = access_rows(agent, logical_path, bounds.MOST_PERMISSIONS)
    except TooLarge:
        rows = _rows_of(agent, logical_path, sorted(groups))
    levels = [level for level, identity in rows if identity in groups]
    highest = max(levels, default=Access.NULL)
    return highest if highest >= Access.READ_OBJECT else Access.NULL


def permissions(agent: Agent, logical_path: str, most: int | None = None) -> tuple[Permission, ...]:
    """As ``Catalog.permissions``."""
    rows = access_rows(agent, logical_path, most)
    if not rows:
        raise missing(agent, logical_path)
    people: dict[str, tuple[User, UserKind]] = {}
    identities = [identity for _, identity in rows if identity.isdigit()]
    for start in range(0, len(identities), _IDS_A_QUERY):
        listed = ", ".join(f"'{identity}'" for identity in identities[start : start + _IDS_A_QUERY])
        columns = ("USER_ID", "USER_NAME", "USER_ZONE", "USER_TYPE")
        for identity, name, zone, kind in agent.select(columns, {}, f"USER_ID in ({listed})"):
            people[identity] = (User(name, zone), UserKind(kind))
    found = [Permission(*people[identity], level) for level, identity in rows if identity in people]
    return tuple(sorted(found, key=lambda row: row.user))


def avus(agent: Agent, entity: Entity, attributes: Sequence[str], most: int | None = None) -> tuple[Avu, ...]:
    """As ``Catalog.avus``. Asks once for each attribute."""
    where = _where(entity)
    columns = _avu_columns(entity.kind)
    rows: list[tuple[str, ...]] = []
    for named in [{columns[0]: attribute} for attribute in attributes] or [{}]:
        rows += agent.select(columns, {**where, **named}, most=bounds.most_avus(most) + 1 - len(rows))
    if not rows and not agent.select(_NAMES[entity.kind], where):
        code = {
            EntityKind.COLLECTION: Code.CAT_UNKNOWN_COLLECTION,
            EntityKind.RESOURCE: Code.SYS_RESC_DOES_NOT_EXIST,
            EntityKind.USER: Code.CAT_INVALID_USER,
        }.get(entity.kind, Code.USER_FILE_DOES_NOT_EXIST)
        raise missing(agent, entity.name, code)
    return bounds.check_avus(entity.name, attributes, sorted(Avu(*row) for row in rows), most)


def avus_of_resources(agent: Agent, attributes: Sequence[str]) -> dict[str, tuple[Avu, ...]]:
    """As ``Catalog.avus_of_resources``. Asks once for each attribute."""
    bounds.need_attributes(attributes)
    columns = _avu_columns(EntityKind.RESOURCE)
    found: dict[str, list[Avu]] = {}
    together = 0
    for attribute in attributes:
        rows = agent.select(("RESC_NAME", *columns), {columns[0]: attribute}, most=bounds.MOST_FOUND + 1)
        together += len(rows)
        bounds.check_together(together, attributes)
        for name, *avu in rows:
            found.setdefault(name, []).append(Avu(*avu))
    return {name: tuple(sorted(some)) for name, some in sorted(found.items())}


def _avu_columns(kind: EntityKind) -> tuple[str, str, str]:
    prefix = f"META_{_PREFIXES[kind]}_ATTR"
    return f"{prefix}_NAME", f"{prefix}_VALUE", f"{prefix}_UNITS"


def _where(entity: Entity) -> dict[str, str]:
    if entity.kind is EntityKind.DATA_OBJECT:
        return of_object(checked(entity.name))
    if entity.kind is EntityKind.COLLECTION:
        return {"COLL_NAME": checked(entity.name)}
    if entity.kind is EntityKind.RESOURCE:
        return {"RESC_NAME": entity.name}
    name, _, zone = entity.name.rpartition("#")
    return {"USER_NAME": name, "USER_ZONE": zone}


def find(agent: Agent, query: Query) -> tuple[str, ...]:
    """As ``Catalog.find``: one query, or one for each of the collections that it names."""
    is_short = query.limit is not None and query.among is None
    enough = query.offset + (query.limit or 0) if is_short else bounds.MOST_FOUND + 1
    found: dict[int, str] = {}
    for also in ({},) if query.among is None else ({"COLL_NAME": checked(name)} for name in query.among):
        _find(agent, query, also, enough, found)
    ordered = sorted(found.items(), reverse=query.newest_first)
    return bounds.check_found(query, [name for _, name in ordered][query.offset :][: query.limit])


def _find(agent: Agent, query: Query, also: Mapping[str, str], enough: int, found: dict[int, str]) -> None:
    """Add what one query finds until there is enough. Checks the conditions here that a query cannot express."""
    attribute, value, units = _avu_columns(query.kind)
    one = query.units if isinstance(query.units, str) else None
    asked = {attribute: query.attribute, value: query.value, units: one, **_in_tree(query), **also}
    where = {column: text for column, text in asked.items() if text is not None}
    # Select values and units only where they are needed, because the server merges equal rows.
    several = isinstance(query.units, tuple)
    columns = (f"{_PREFIXES[query.kind]}_ID", *([value] * bool(query.beginning)), *([units] * several))
    separator = "#" if query.kind is EntityKind.USER else "/"
    with agent.in_order((*columns, *_NAMES[query.kind]), where, query.newest_first) as rows:
        for row in rows if len(found) < enough else ():
            name = separator.join(row[len(columns) :])
            if (
                (not query.beginning or row[1].startswith(query.beginning))
                and (not several or row[len(columns) - 1] in query.units_listed)
                and parent_of(name) not in query.excluding
            ):
                found[int(row[0])] = name
                if len(found) >= enough:
                    break


def _in_tree(query: Query) -> dict[str, str]:
    """The conditions about an entity's collection and owner."""
    where = {}
    if query.within:
        column = "COLL_NAME" if query.kind is EntityKind.DATA_OBJECT else "COLL_PARENT_NAME"
        where[column] = checked(query.within)
    if query.owner is not None:
        prefix = f"{_PREFIXES[query.kind]}_OWNER"
        where.update({f"{prefix}_NAME": query.owner.name, f"{prefix}_ZONE": query.owner.zone})
    return where


def resources(agent: Agent) -> tuple[Resource, ...]:
    """As ``Catalog.resources``."""
    rows = agent.select(_RESOURCE, {})
    names = {row[0]: row[1] for row in rows}
    found = [
        Resource(name, kind, host, vault, names.get(parent, ""), status)
        for _, name, kind, host, vault, parent, status in rows
    ]
    return tuple(sorted(found, key=lambda resource: resource.name))
