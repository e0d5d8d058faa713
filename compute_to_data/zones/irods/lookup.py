"""Reads the catalog: collections and data objects, access lists, resources and users.

On a user's connection the server itself leaves out what the user may not read (strict access
control), so a missing path and a hidden one look the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from irods.connection import Connection

from compute_to_data import bounds
from compute_to_data.errors import Code, TooLarge, zone_error
from compute_to_data.model import (
    Access,
    Collection,
    DataObject,
    Permission,
    Replica,
    ReplicaStatus,
    Resource,
    User,
    UserKind,
    name_of,
    parent_of,
)
from compute_to_data.zones.irods.failures import shown
from compute_to_data.zones.irods.query import Among, Column, Condition, Equals, Row, select
from compute_to_data.zones.irods.wire import ServerError

_COLLECTION = (
    Column.COLL_NAME,
    Column.COLL_OWNER,
    Column.COLL_OWNER_ZONE,
    Column.COLL_INHERITANCE,
    Column.COLL_CREATED,
)
_REPLICA = (
    Column.DATA_NAME,
    Column.DATA_REPL_NUM,
    Column.DATA_HIERARCHY,
    Column.DATA_STATUS,
    Column.DATA_SIZE,
    Column.DATA_PATH,
    Column.DATA_CHECKSUM,
    Column.DATA_OWNER,
    Column.DATA_OWNER_ZONE,
    Column.DATA_CREATED,
    Column.DATA_MODIFIED,
)
_AT_ONCE = 100
"""The most numbers in one ``in (...)``."""


def stat(connection: Connection, logical_path: str) -> Collection | DataObject:
    """As ``Catalog.stat``."""
    found = find_collection(connection, logical_path) or find_object(connection, logical_path)
    if found is None:
        raise missing(logical_path)
    return found


def missing(logical_path: str, code: Code = Code.USER_FILE_DOES_NOT_EXIST) -> Exception:
    """The error for a path that is missing or hidden."""
    return zone_error(code, shown(logical_path), "not there, or the user may not read it")


def find_collection(connection: Connection, logical_path: str) -> Collection | None:
    """The collection at a path; None when it is missing or hidden."""
    rows = select(connection, _COLLECTION, [Equals(Column.COLL_NAME, logical_path)])
    return _collection(rows[0]) if rows else None


def _collection(row: Row) -> Collection:
    name, owner, zone, inherits, created = row
    return Collection(name, User(owner, zone), inherits == "1", float(created))


def find_object(connection: Connection, logical_path: str) -> DataObject | None:
    """The data object at a path; None when it is missing, or when it or its collection is hidden."""
    found = objects_in(connection, parent_of(logical_path), name_of(logical_path))
    return found[0] if found else None


def object_id(connection: Connection, data_object: str) -> int:
    """As ``ClientCatalog.object_id``."""
    at = [Equals(Column.COLL_NAME, parent_of(data_object)), Equals(Column.DATA_NAME, name_of(data_object))]
    rows = select(connection, [Column.DATA_ID], at)
    if not rows:
        raise missing(data_object)
    return int(rows[0][0])


def object_with_id(connection: Connection, object_id: int) -> str:
    """As ``ClientCatalog.object_with_id``."""
    known = 0 < object_id < 1 << 63  # what the column can hold
    columns = [Column.COLL_NAME, Column.DATA_NAME]
    rows = select(connection, columns, [Equals(Column.DATA_ID, str(object_id))]) if known else []
    if not rows:
        raise missing(f"id {object_id}")
    return f"{rows[0][0].rstrip('/')}/{rows[0][1]}"


def objects_in(
    connection: Connection, collection: str, name: str | None = None, most: int | None = None
) -> list[DataObject]:
    """The data objects of a collection by name, or only the one called ``name``. TooLarge for more than ``most``
    replicas of them."""
    conditions = [Equals(Column.COLL_NAME, collection)]
    conditions += [Equals(Column.DATA_NAME, name)] if name is not None else []
    replicas: dict[str, list[Row]] = {}
    rows = select(connection, _REPLICA, conditions, limit=_one_more(most))
    bounds.check_members(collection, len(rows), most)
    for row in rows:
        if not row[2]:
            raise ServerError(Code.SYS_RESC_DOES_NOT_EXIST, "a replica on a resource this connection does not know")
        replicas.setdefault(row[0], []).append(row)
    above = collection.rstrip("/")
    return [_object(f"{above}/{each}", rows) for each, rows in sorted(replicas.items())]


def _object(logical_path: str, rows: Sequence[Row]) -> DataObject:
    replicas = [
        Replica(int(number), hierarchy, ReplicaStatus(int(status)), int(size), path, checksum)
        for _, number, hierarchy, status, size, path, checksum, *_ in rows
    ]
    first = min(rows, key=lambda row: int(row[1]))
    return DataObject(
        logical_path=logical_path,
        owner=User(first[7], first[8]),
        replicas=tuple(sorted(replicas, key=lambda replica: replica.number)),
        created=min(float(row[9]) for row in rows),
        modified=max(float(row[10]) for row in rows),
    )


def _one_more(most: int | None) -> int | None:
    """How many rows to ask for, to know whether there are more than ``most``."""
    return None if most is None else most + 1


def children(connection: Connection, collection: str, most: int | None = None) -> tuple[Collection | DataObject, ...]:
    """As ``Catalog.children``."""
    if find_collection(connection, collection) is None:
        raise missing(collection, Code.CAT_UNKNOWN_COLLECTION)
    below = select(connection, _COLLECTION, [Equals(Column.COLL_PARENT, collection)], limit=_one_more(most))
    members: list[Collection | DataObject] = [_collection(row) for row in below if row[0] != collection]
    bounds.check_members(collection, len(members), most)
    members += objects_in(connection, collection, most=most)
    bounds.check_members(collection, len(members), most)
    return tuple(sorted(members, key=lambda member: member.logical_path))


def access_rows(connection: Connection, logical_path: str, most: int | None = None) -> dict[int, Access]:
    """The access list by the ids of users and groups; empty when the path is missing or hidden. TooLarge for more than
    ``most`` rows."""
    columns, limit = [Column.COLL_ACCESS_USER, Column.COLL_ACCESS], _one_more(most)
    rows = select(connection, columns, [Equals(Column.COLL_NAME, logical_path)], limit=limit)
    if not rows:
        at = [Equals(Column.COLL_NAME, parent_of(logical_path)), Equals(Column.DATA_NAME, name_of(logical_path))]
        rows = select(connection, [Column.DATA_ACCESS_USER, Column.DATA_ACCESS], at, limit=limit)
    bounds.check_permissions(logical_path, len(rows), most)
    found: dict[int, Access] = {}
    for user, level in rows:
        found[int(user)] = max(_level(int(level)), found.get(int(user), Access.NULL))
    return found


def _level(number: int) -> Access:
    """The level of a number. For a level of iRODS that :class:`Access` lacks, the next lower one."""
    return max((level for level in Access if level <= number), default=Access.NULL)


def access(connection: Connection, logical_path: str, user: User) -> Access:
    """As ``Catalog.access``, for any user."""
    try:
        rows = access_rows(connection, logical_path, bounds.MOST_PERMISSIONS)
        mine = set(memberships(connection, user)) if rows else set()
    except TooLarge:
        mine = set(memberships(connection, user))
        rows = _rows_of(connection, logical_path, sorted(mine))
    level = max((level for principal, level in rows.items() if principal in mine), default=Access.NULL)
    return level if level >= Access.READ_OBJECT else Access.NULL


def _rows_of(connection: Connection, logical_path: str, principals: Sequence[int]) -> dict[int, Access]:
    """As :func:`access_rows`, only the rows of these users and groups."""
    at = [Equals(Column.COLL_NAME, parent_of(logical_path)), Equals(Column.DATA_NAME, name_of(logical_path))]
    found: dict[int, Access] = {}
    for start in range(0, len(principals), _AT_ONCE):
        some = principals[start : start + _AT_ONCE]
        on_collection: list[Condition] = [Equals(Column.COLL_NAME, logical_path), Among(Column.COLL_ACCESS_USER, some)]
        rows = select(connection, [Column.COLL_ACCESS_USER, Column.COLL_ACCESS], on_collection)
        if not rows:
            on_object: list[Condition] = [*at, Among(Column.DATA_ACCESS_USER, some)]
            rows = select(connection, [Column.DATA_ACCESS_USER, Column.DATA_ACCESS], on_object)
        for user, level in rows:
            found[int(user)] = max(_level(int(level)), found.get(int(user), Access.NULL))
    return found


def memberships(connection: Connection, user: User) -> list[int]:
    """The ids of a user's groups, and the user's own."""
    conditions = [Equals(Column.USER_NAME, user.name), Equals(Column.USER_ZONE, user.zone)]
    return [int(row[0]) for row in select(connection, [Column.GROUP_ID], conditions)]


def permissions(connection: Connection, logical_path: str, most: int | None = None) -> tuple[Permission, ...]:
    """As ``Catalog.permissions``."""
    rows = access_rows(connection, logical_path, most)
    if not rows:
        stat(connection, logical_path)
    named = _users(connection, rows)
    found = [Permission(*named[user], level) for user, level in rows.items() if user in named]
    return tuple(sorted(found, key=lambda permission: permission.user))


def _users(connection: Connection, ids: Iterable[int]) -> dict[int, tuple[User, UserKind]]:
    ordered = sorted(ids)
    columns = [Column.USER_ID, Column.USER_NAME, Column.USER_ZONE, Column.USER_TYPE]
    found = {}
    for start in range(0, len(ordered), _AT_ONCE):
        for identity, name, zone, kind in select(
            connection, columns, [Among(Column.USER_ID, ordered[start : start + _AT_ONCE])]
        ):
            found[int(identity)] = User(name, zone), UserKind(kind)
    return found


def find_user(connection: Connection, user: User) -> UserKind | None:
    """The type of a user or group; None when there is no such user or group."""
    conditions = [Equals(Column.USER_NAME, user.name), Equals(Column.USER_ZONE, user.zone)]
    rows = select(connection, [Column.USER_TYPE], conditions)
    return UserKind(rows[0][0]) if rows else None


def owner(connection: Connection, data_object: str) -> User:
    """As ``Storage.owner``."""
    found = find_object(connection, data_object)
    if found is None:
        raise missing(data_object)
    return found.owner


def resources(connection: Connection) -> tuple[Resource, ...]:
    """As ``Catalog.resources``, without the bundle resource, which holds nothing."""
    columns = [
        Column.RESC_ID,
        Column.RESC_NAME,
        Column.RESC_TYPE,
        Column.RESC_LOC,
        Column.RESC_VAULT,
        Column.RESC_PARENT,
        Column.RESC_STATUS,
    ]
    rows = select(connection, columns, [])
    names = {row[0]: row[1] for row in rows}
    found = [
        Resource(name, kind, host, vault, names.get(parent, ""), status)
        for _, name, kind, host, vault, parent, status in rows
        if name != "bundleResc"
    ]
    return tuple(sorted(found, key=lambda resource: resource.name))


def is_here(connection: Connection, leaf: str) -> bool:
    """Whether a storage resource is on this host."""
    return any(resource.name == leaf and resource.is_here for resource in resources(connection))


def need_up(connection: Connection, resource: str) -> Resource:
    """The resource, if it is up. NotFound (-78000), ZoneError (-105000).

    The server itself would write to another resource when the named one is down.
    """
    for found in resources(connection):
        if found.name == resource:
            break
    else:
        raise zone_error(Code.SYS_RESC_DOES_NOT_EXIST, shown(resource), "no such resource")
    if not found.is_up:
        raise zone_error(Code.SYS_RESC_IS_DOWN, resource, "the resource is down")
    return found


def need_overwritable(connection: Connection, data_object: str, resource: str) -> None:
    """Refuse what the server would refuse only once it has the content. For a ``resource`` that is up, if any."""
    found = find_object(connection, data_object)
    if found is None:
        raise missing(data_object, Code.OBJ_PATH_DOES_NOT_EXIST)
    code = at_work(connection, data_object)
    if code is not None:
        raise zone_error(code, shown(data_object), "something is at work on its replicas", "Try again later")
    known = {one.name: one for one in resources(connection)}
    if resource and not known[resource].is_root:
        cause, remedy = "a child resource cannot be written to by name", "Name the root of its hierarchy"
        raise zone_error(Code.DIRECT_CHILD_ACCESS, resource, cause, remedy)
    if resource and not any(replica.root == resource for replica in found.replicas):
        cause = f"it has no replica on {resource} to overwrite"
        raise zone_error(Code.HIERARCHY_ERROR, shown(data_object), cause, "Replicate it there, or name no resource")
    names = sorted({replica.leaf for replica in found.replicas if resource in ("", replica.root)})
    if not any(known[name].is_up for name in names if name in known):
        cause = f"each resource with a replica of it is down: {', '.join(names)}"
        raise zone_error(Code.SYS_RESC_IS_DOWN, shown(data_object), cause, "Have one brought up")


def at_work(connection: Connection, data_object: str) -> Code | None:
    """Why no replica can be used, if their states are the reason: -406000 for a locked one, else -405000
    for an intermediate one. The server itself only reports that it found no resource."""
    found = find_object(connection, data_object)
    statuses = {replica.status for replica in found.replicas} if found is not None else set()
    if ReplicaStatus.GOOD in statuses:
        return None
    if statuses & {ReplicaStatus.READ_LOCKED, ReplicaStatus.WRITE_LOCKED}:
        return Code.LOCKED_DATA_OBJECT_ACCESS
    return Code.INTERMEDIATE_REPLICA_ACCESS if ReplicaStatus.INTERMEDIATE in statuses else None


def resource_id(connection: Connection, name: str) -> int:
    """The id of a resource in the catalog. NotFound (-78000)."""
    rows = select(connection, [Column.RESC_ID], [Equals(Column.RESC_NAME, name)])
    if not rows:
        raise zone_error(Code.SYS_RESC_DOES_NOT_EXIST, shown(name), "no such resource")
    return int(rows[0][0])
