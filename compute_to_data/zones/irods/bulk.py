"""Calls on many data objects: register them, unregister them, and put the same AVUs on all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compute_to_data.errors import Code, ZoneError, zone_error
from compute_to_data.model import Avu, Entity, EntityKind, Registration, User
from compute_to_data.zones.irods import avus, lookup, registration
from compute_to_data.zones.irods.calls import Calls, each
from compute_to_data.zones.irods.failures import shown, translated
from compute_to_data.zones.irods.wire import ServerError


def register(calls: Calls, user: User, resource: str, files: Sequence[Registration]) -> None:
    """Register files in the vault of a resource for a user, by the service account; all of them or none."""
    calls.ask(resource, registration.need_room, user, files)
    identity = _storage_resource(calls, resource)
    for last in (False, True):
        try:
            _register_batches(calls, resource, identity, files)
            known = calls.ask(resource, registration.present, files, resource)
            if len(known) == len(files):
                return
            if last:
                cause = f"{len(files) - len(known)} of {len(files)} files were not registered correctly"
                raise zone_error(Code.SYS_INTERNAL_ERR, shown(resource), cause)
        except BaseException as error:
            _forget(calls, files)
            if last or type(error) is not ZoneError:
                raise
        else:
            _forget(calls, files)
        # A server process that is older than the resource fails after it has registered the files.


def _forget(calls: Calls, files: Sequence[Registration]) -> None:
    """Unregister those of these files that are registered, on new connections."""
    calls.connections.drop_idle()
    unregister(calls, [file.logical_path for file in calls.ask("registration", registration.present, files)])


def _storage_resource(calls: Calls, resource: str) -> int:
    found = calls.ask(resource, lookup.need_up, resource)
    if not found.is_storage:
        cause = f"a {found.kind} resource has no vault"
        raise zone_error(Code.HIERARCHY_ERROR, resource, cause, "Name the storage resource of the files")
    return calls.ask(resource, lookup.resource_id, resource)


def _register_batches(calls: Calls, resource: str, identity: int, files: Sequence[Registration]) -> None:
    def one(batch: Sequence[Registration]) -> None:
        subject = batch[0].logical_path
        try:
            calls.connections.call(lambda connection: registration.register(connection, resource, identity, batch))
        except ServerError as error:
            if not registration.is_refusal(error):
                raise translated(error, subject) from error
            for file in batch:
                calls.make(file.logical_path, registration.register_one, resource, file)

    each(one, list(registration.batches(files)))


def unregister(calls: Calls, data_objects: Sequence[str]) -> None:
    """Remove data objects from the catalog, and leave their files."""
    each(lambda path: calls.ask(path, registration.unregister, path), data_objects)


def annotate_all(calls: Calls, annotate: Callable[..., None], data_objects: Sequence[str], add: Sequence[Avu]) -> None:
    """Put the AVUs on the first data object with the atomic call, and copy them to the others.

    Copies only when the first one has no other AVUs. ``annotate``: the session's own atomic call.
    """
    entities = [Entity(EntityKind.DATA_OBJECT, data_object) for data_object in data_objects]
    first, rest = entities[:1], entities[1:]
    each(lambda entity: annotate(entity, add=add), first)
    if not rest:
        return
    if not add or _avus(calls, first[0]) != set(add):
        each(lambda entity: annotate(entity, add=add), rest)
        return
    copied: list[Entity] = []

    def copy(entity: Entity) -> None:
        try:
            calls.connections.call(lambda connection: avus.copy(connection, first[0].name, entity.name))
            copied.append(entity)
        except (ServerError, ZoneError):
            annotate(entity, add=add)  # it has some AVUs already, or this gives the better error

    each(copy, rest)
    found = _avus(calls, first[0])
    if found != set(add):  # another session has changed the first one in the meantime: correct the copies
        each(lambda entity: annotate(entity, add=add, remove=found - set(add)), copied)


def _avus(calls: Calls, entity: Entity) -> set[Avu]:
    return set(calls.ask(entity.name, avus.read, entity, (), None))
