"""Makes and removes collections and data objects, and changes their access lists."""

from __future__ import annotations

import sqlite3

from compute_to_data.errors import Code, zone_error
from compute_to_data.irods_names import check_in_zone
from compute_to_data.model import Access, User, name_of, parent_of
from compute_to_data.zones.embedded import disk, nodes, replicas, resources, rights
from compute_to_data.zones.embedded.nodes import Node
from compute_to_data.zones.embedded.rights import Actor
from compute_to_data.zones.embedded.store import Store, Who


def create_collection(store: Store, who: Who, collection: str, parents: bool) -> None:
    """As ``Catalog.create_collection``."""
    check_in_zone(collection, store.zone)
    with store.database.writing() as connection:
        _create(connection, who(connection), collection, parents)


def _create(connection: sqlite3.Connection, actor: Actor, collection: str, parents: bool) -> None:
    node = nodes.find(connection, actor, collection)
    if node is not None:
        if parents and node.is_collection and node.is_visible:
            return
        code = Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME if node.is_collection else Code.CAT_NAME_EXISTS_AS_DATAOBJ
        raise zone_error(code, collection, "something of that name is there already")
    above = parent_of(collection)
    if parents and nodes.find(connection, actor, above) is None:
        _create(connection, actor, above, parents)
    parent = nodes.parent_for_creation(connection, actor, collection)
    nodes.insert(connection, actor, parent, name_of(collection), collection=True)


def remove(store: Store, who: Who, logical_path: str, recursive: bool) -> None:
    """As ``Catalog.remove``."""
    check_in_zone(logical_path, store.zone)
    with store.files.stage() as stage, store.database.writing() as connection:
        actor = who(connection)
        node = nodes.see(connection, actor, logical_path, Code.CAT_UNKNOWN_FILE)
        nodes.need(node, actor, Access.DELETE_OBJECT)
        doomed = nodes.subtree(connection, node.id)
        if len(doomed) > 1 and not recursive:
            cause = "the collection is not empty"
            raise zone_error(Code.CAT_COLLECTION_NOT_EMPTY, logical_path, cause, "Remove it recursively")
        _need_delete_below(connection, actor, node)
        files = replicas.files_below(connection, node.id, logical_path)
        directories = nodes.directories_below(connection, node.id, resources.vaults(connection))
        stage.discard(connection, [file.physical_path for file in files])
        nodes.delete(connection, doomed)
    disk.remove_empty(directories)


def _need_delete_below(connection: sqlite3.Connection, actor: Actor, top: Node) -> None:
    """All or nothing: an error when there is one member that the actor may not delete."""
    query = f"{nodes.BELOW} SELECT min({rights.LEVEL}) FROM below JOIN node n ON n.id = below.id"
    lowest = connection.execute(query, {"me": actor.id, "top": top.id}).fetchone()[0]
    if actor.administers or lowest >= Access.DELETE_OBJECT:
        return
    if lowest < Access.READ_OBJECT:
        cause = f"it holds something that {actor.user} cannot see"
        raise zone_error(Code.CAT_COLLECTION_NOT_EMPTY, top.logical_path, cause)
    subject = f"{top.logical_path}, something below it"
    raise rights.denied(Code.CAT_NO_ACCESS_PERMISSION, subject, Access.DELETE_OBJECT, Access(lowest), actor.user)


def set_access(store: Store, who: Who, logical_path: str, user: User, access: Access, recursive: bool) -> None:
    """As ``Catalog.set_access``."""
    with store.database.writing() as connection:
        node = _owned(connection, who(connection), logical_path)
        principal = rights.find_principal(connection, user)
        changed = nodes.subtree(connection, node.id) if recursive else [node.id]
        rights.put(connection, changed, principal.id, access)


def set_inheritance(store: Store, who: Who, collection: str, inherits: bool) -> None:
    """As ``Catalog.set_inheritance``."""
    with store.database.writing() as connection:
        actor = who(connection)
        nodes.see_collection(connection, actor, collection)
        node = _owned(connection, actor, collection)
        connection.execute("UPDATE node SET inherits = ? WHERE id = ?", (int(inherits), node.id))


def _owned(connection: sqlite3.Connection, actor: Actor, logical_path: str) -> Node:
    node = nodes.see(connection, actor, logical_path, Code.CAT_UNKNOWN_COLLECTION)
    nodes.need(node, actor, Access.OWN)
    return node
