"""Makes, moves and removes collections and data objects, and changes access lists."""

from __future__ import annotations

from typing import Final

from irods.api_number import api_number
from irods.connection import Connection
from irods.message import CollectionRequest, ModAclRequest, ObjCopyRequest, StringStringMap

from compute_to_data.errors import Code, zone_error
from compute_to_data.model import Access, Collection, User
from compute_to_data.zones.irods import lookup, older_servers
from compute_to_data.zones.irods.failures import about
from compute_to_data.zones.irods.wire import about_object, ask, receive

_RENAME_OBJECT: Final = 11
_RENAME_COLLECTION: Final = 12
_PROGRESS: Final = 99999996
"""The server sends ``_PROGRESS`` while it removes a large collection, and expects ``_GO_ON``."""
_GO_ON: Final = 99999997


def create_collection(connection: Connection, collection: str, parents: bool) -> None:
    """As ``Catalog.create_collection``."""
    # If the user sees none of the collections above, the server searches up to the root and says the zone is wrong.
    unseen = {Code.SYS_INVALID_INPUT_PARAM: Code.CAT_UNKNOWN_COLLECTION} if parents else {}
    with about(collection, unseen):
        _collection_call(connection, "COLL_CREATE_AN", collection, {"recursiveOpr": ""} if parents else {})


def _collection_call(connection: Connection, api: str, collection: str, options: dict[str, str]) -> None:
    request = CollectionRequest(collName=collection, flags=0, oprType=0, KeyValPair_PI=StringStringMap(options))
    answer = ask(connection, api_number[api], request)
    while answer.info == _PROGRESS:
        connection.reply(_GO_ON)
        answer = receive(connection)


def remove(connection: Connection, logical_path: str, recursive: bool) -> None:
    """As ``Catalog.remove``."""
    found = lookup.stat(connection, logical_path)
    with about(logical_path):
        if isinstance(found, Collection):
            options = {"forceFlag": "", **({"recursiveOpr": ""} if recursive else {})}
            _collection_call(connection, "RM_COLL_AN", logical_path, options)
        else:
            older_servers.need_one_that_uses(connection, logical_path)
            ask(connection, api_number["DATA_OBJ_UNLINK_AN"], about_object(logical_path, {"forceFlag": ""}))


def rename(connection: Connection, source: str, destination: str) -> None:
    """As ``Catalog.rename``."""
    is_collection = isinstance(lookup.stat(connection, source), Collection)
    if is_collection:
        older_servers.need_one_that_keeps_members(connection, source, destination)
    operation = _RENAME_COLLECTION if is_collection else _RENAME_OBJECT
    request = ObjCopyRequest(
        srcDataObjInp_PI=about_object(source, operation=operation, size=0),
        destDataObjInp_PI=about_object(destination, operation=operation, size=0),
    )
    with about(f"{source} to {destination}"):
        ask(connection, api_number["DATA_OBJ_RENAME_AN"], request)


def set_access(connection: Connection, logical_path: str, user: User, access: Access, recursive: bool) -> None:
    """As ``Catalog.set_access``."""
    if lookup.find_user(connection, user) is None:
        raise zone_error(Code.CAT_INVALID_USER, str(user), "no such user")
    lookup.stat(connection, logical_path)
    with about(logical_path):
        _change_access(connection, logical_path, access.name.lower(), user, recursive)


def set_inheritance(connection: Connection, collection: str, inherits: bool) -> None:
    """As ``Catalog.set_inheritance``."""
    with about(collection):
        _change_access(connection, collection, "inherit" if inherits else "noinherit", None, False)


def _change_access(connection: Connection, logical_path: str, word: str, user: User | None, recursive: bool) -> None:
    request = ModAclRequest(
        recursiveFlag=int(recursive),
        accessLevel=word,
        userName=user.name if user else "",
        zone=user.zone if user else "",
        path=logical_path,
    )
    ask(connection, api_number["MOD_ACCESS_CONTROL_AN"], request)
