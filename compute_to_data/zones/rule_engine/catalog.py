"""``ports.Catalog`` for a rule: one client user's session, inside an iRODS agent."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from compute_to_data import bounds
from compute_to_data.errors import Code, ZoneError, zone_error
from compute_to_data.irods_names import check_avus, is_misread_by_43
from compute_to_data.model import (
    Access,
    Avu,
    Collection,
    DataObject,
    Entity,
    EntityKind,
    Permission,
    Query,
    Registration,
    ReplicaStatus,
    Resource,
    User,
)
from compute_to_data.zones.rule_engine import reading
from compute_to_data.zones.rule_engine.agent import Agent
from compute_to_data.zones.rule_engine.paths import makeable, need_usable

_CHUNK = 1024 * 1024
_LARGEST = 16 * _CHUNK
"""The most bytes to read or write: an agent handles documents, the worker handles data."""
_OPTIONS = {EntityKind.DATA_OBJECT: "-d", EntityKind.COLLECTION: "-C"}
"""Kinds of entities, as ``imeta`` names them."""


class AgentCatalog:
    """A :class:`~compute_to_data.ports.Catalog` that lives as long as its rule."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    @property
    def user(self) -> User:
        """The client user, by name and zone."""
        return self._agent.user

    def stat(self, logical_path: str) -> Collection | DataObject:
        """As the port says."""
        found = reading.find_object(self._agent, logical_path) or reading.find_collection(self._agent, logical_path)
        if found is None:
            raise reading.missing(self._agent, logical_path)
        return found

    def children(self, collection: str, most: int | None = None) -> tuple[Collection | DataObject, ...]:
        """As the port says."""
        return reading.members(self._agent, collection, most)

    def access(self, logical_path: str) -> Access:
        """As the port says."""
        return reading.effective_access(self._agent, logical_path)

    def permissions(self, logical_path: str, most: int | None = None) -> tuple[Permission, ...]:
        """As the port says."""
        return reading.permissions(self._agent, logical_path, most)

    def avus(self, entity: Entity, *attributes: str, most: int | None = None) -> tuple[Avu, ...]:
        """As the port says."""
        return reading.avus(self._agent, entity, attributes, most)

    def find(self, query: Query) -> tuple[str, ...]:
        """As the port says."""
        return reading.find(self._agent, query)

    def resources(self) -> tuple[Resource, ...]:
        """As the port says."""
        return reading.resources(self._agent)

    def avus_of_resources(self, *attributes: str) -> Mapping[str, tuple[Avu, ...]]:
        """As the port says."""
        return reading.avus_of_resources(self._agent, attributes)

    def create_collection(self, collection: str, parents: bool = False) -> None:
        """As the port says."""
        makeable(collection)
        self._agent.call("msiCollCreate", collection, "1" if parents else "0", 0, subject=collection)

    def read(self, data_object: str, most_bytes: int) -> bytes:
        """As the port says. SYS_NOT_SUPPORTED for more than 16 MiB, since an agent does not move data."""
        found = reading.find_object(self._agent, data_object)
        if found is None:
            raise reading.missing(self._agent, data_object, Code.OBJ_PATH_DOES_NOT_EXIST)
        _check_readable(found)
        bounds.check_size(data_object, found.size, most_bytes)
        if found.size > _LARGEST:
            raise _not_an_agents(data_object, f"reading {found.size} bytes")
        need_usable(data_object)
        most = min(most_bytes, _LARGEST)
        content = bytearray()
        with self._opened("msiDataObjOpen", f"objPath={data_object}++++openFlags=O_RDONLY", data_object) as descriptor:
            while chunk := self._read(descriptor, min(_CHUNK, most + 1 - len(content)), data_object):
                content += chunk
                bounds.check_growing(data_object, len(content), most)
        return bytes(content)

    def _read(self, descriptor: int, size: int, subject: str) -> bytes:
        buffer = self._agent.call("msiDataObjRead", descriptor, size, self._agent.buffer(), subject=subject)[2]
        if buffer is None:  # at the end of the file
            return b""
        content = bytes(buffer.get_bytes())
        buffer.clear_buffer()
        return content

    @contextlib.contextmanager
    def _opened(self, microservice: str, *arguments: str) -> Iterator[int]:
        """An open descriptor, closed at the end, since an agent has few. The last argument is the data object."""
        *given, subject = arguments
        descriptor = int(self._agent.call(microservice, *given, 0, subject=subject)[-1])
        try:
            yield descriptor
        except BaseException:
            with contextlib.suppress(ZoneError):  # report the first error
                self._agent.call("msiDataObjClose", descriptor, 0, subject=subject)
            raise
        self._agent.call("msiDataObjClose", descriptor, 0, subject=subject)

    def write(self, data_object: str, content: bytes, *, resource: str = "", force: bool = False) -> None:
        """As the port says.

        iRODS has no exclusive creation: two sessions that write the same new name at the same time
        can both succeed. In a collection that this session has just made, that does not happen.
        """
        existing = reading.find_object(self._agent, data_object)
        if existing is None:
            makeable(data_object)
        if existing is not None and not force:
            cause = "a data object of that name is there already"
            raise zone_error(Code.OVERWRITE_WITHOUT_FORCE_FLAG, data_object, cause)
        if len(content) > _LARGEST:
            raise _not_an_agents(data_object, f"writing {len(content)} bytes")
        if existing is not None:
            need_usable(data_object)
            keys = f"objPath={data_object}++++openFlags=O_WRONLYO_TRUNC" + _overwritten(existing, resource)
            with self._opened("msiDataObjOpen", keys, data_object) as descriptor:
                self._write(descriptor, content, data_object)
        else:
            self._create(data_object, content, resource)
        self._agent.call("msiDataObjChksum", data_object, "forceChksum=", "", subject=data_object)

    def _create(self, data_object: str, content: bytes, resource: str) -> None:
        keys = _key("destRescName", resource)[4:]
        made = False
        try:
            with self._opened("msiDataObjCreate", data_object, keys, data_object) as descriptor:
                made = True
                self._write(descriptor, content, data_object)
        except Exception:
            if made:
                with contextlib.suppress(ZoneError):
                    self.remove(data_object)
            raise

    def _write(self, descriptor: int, content: bytes, subject: str) -> None:
        for start in range(0, len(content), _CHUNK):
            buffer = self._agent.buffer(content[start : start + _CHUNK])
            try:
                self._agent.call("msiDataObjWrite", descriptor, buffer, 0, subject=subject)
            finally:
                buffer.clear_buffer()

    def remove(self, logical_path: str, *, recursive: bool = False) -> None:
        """As the port says."""
        if isinstance(self.stat(logical_path), DataObject):
            need_usable(logical_path)
            self._agent.call("msiDataObjUnlink", f"objPath={logical_path}++++forceFlag=", 0, subject=logical_path)
            return
        if not recursive and reading.has_members(self._agent, logical_path):
            cause = "the collection is not empty"
            raise zone_error(Code.CAT_COLLECTION_NOT_EMPTY, logical_path, cause, "Remove it recursively")
        self._agent.call("msiRmColl", logical_path, "forceFlag=", 0, subject=logical_path)

    def annotate(self, entity: Entity, *, add: Iterable[Avu] = (), remove: Iterable[Avu] = ()) -> None:
        """As the port says, but not for users: the atomic call identifies them without their zone."""
        removed, added = tuple(remove), tuple(add)
        check_avus((*removed, *added), entity.name)
        if not (removed or added):
            return
        if len(added) == 1 and not removed and self._added(entity, *added):
            return
        operations = [*(_operation("remove", avu) for avu in removed), *(_operation("add", avu) for avu in added)]
        request = {"entity_name": entity.name, "entity_type": entity.kind.value, "operations": operations}
        text = json.dumps(request, ensure_ascii=False)
        try:
            self._agent.call("msi_atomic_apply_metadata_operations", text, "", subject=entity.name)
        except ZoneError as error:
            if error.code != Code.SYS_INVALID_INPUT_PARAM or not is_misread_by_43(entity):
                raise
            self._annotate_singly(entity, added, set(removed) - set(added))

    def _added(self, entity: Entity, avu: Avu) -> bool:
        """Add one AVU with the call of ``imeta add``. False when the server refuses it: then the atomic call says why.

        The atomic call takes longer: for each, the server connects to its database anew (``new_database_connection`` in
        iRODS's ``atomic_apply_metadata_operations.cpp``).
        """
        if entity.kind not in _OPTIONS:
            return False
        try:
            self._modify("add", entity, avu)
        except ZoneError as error:
            return error.code == Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME
        return True

    def _annotate_singly(self, entity: Entity, added: Sequence[Avu], removed: set[Avu]) -> None:
        """Each AVU in a call of its own, for an entity that the atomic call of iRODS 4.3 does not find. It adds before
        it removes, so that a task never has no state."""
        there = set(reading.avus(self._agent, entity, sorted({avu.attribute for avu in (*added, *removed)})))
        wanted = [("add", avu) for avu in added if avu not in there]
        wanted += [("rm", avu) for avu in sorted(removed & there)]
        for word, avu in wanted:
            self._modify(word, entity, avu)

    def _modify(self, word: str, entity: Entity, avu: Avu) -> None:
        """What ``imeta`` does for this word, with one AVU of a data object or a collection."""
        words = (avu.attribute, avu.value, avu.units)
        self._agent.call("msiModAVUMetadata", _OPTIONS[entity.kind], entity.name, word, *words, subject=entity.name)

    def annotate_all(self, data_objects: Sequence[str], add: Sequence[Avu]) -> None:
        """As the port says."""
        for data_object in data_objects:
            self.annotate(Entity(EntityKind.DATA_OBJECT, data_object), add=add)

    def set_avu(self, collection: str, avu: Avu) -> None:
        """As the port says."""
        check_avus([avu], collection)
        self._modify("set", Entity(EntityKind.COLLECTION, collection), avu)

    def set_access(self, logical_path: str, user: User, access: Access, *, recursive: bool = False) -> None:
        """As the port says."""
        self.stat(logical_path)
        depth = "recursive" if recursive else "default"
        self._agent.call("msiSetACL", depth, access.name.lower(), str(user), logical_path, subject=logical_path)

    # An agent must never do the following. The worker does it.

    def set_inheritance(self, collection: str, inherits: bool) -> None:
        """Not in an agent: nothing here needs it."""
        raise _not_an_agents(collection, "changing inheritance")

    def rename(self, source: str, destination: str) -> None:
        """Not in an agent: nothing here needs it."""
        raise _not_an_agents(source, "renaming")

    def replicate(self, data_object: str, resource: str) -> None:
        """Not in an agent: a transfer called from Python can wait forever (plugin issue 54)."""
        raise _not_an_agents(data_object, "replicating")

    def trim(self, data_object: str, number: int) -> None:
        """Not in an agent: only the worker manages replicas."""
        raise _not_an_agents(data_object, "trimming")

    def checksum(self, data_object: str) -> str:
        """Not in an agent: reading a large object would block the agent."""
        raise _not_an_agents(data_object, "computing a checksum")

    def register(self, resource: str, files: Sequence[Registration]) -> None:
        """Not in an agent: iRODS does not let an ordinary user register files (-129000)."""
        raise _not_an_agents(resource, "registering files")

    def unregister(self, data_objects: Sequence[str]) -> None:
        """Not in an agent, like registering."""
        raise _not_an_agents(", ".join(data_objects[:1]), "unregistering files")


def _key(name: str, value: str) -> str:
    if "++++" in value or "=" in value:
        raise zone_error(Code.SYS_RESC_DOES_NOT_EXIST, value, "no such resource")
    return f"++++{name}={value}" if value else ""


def _overwritten(existing: DataObject, resource: str) -> str:
    """The key of the replica to overwrite.

    -1803000 when the named resource has no replica: iRODS would then overwrite another replica.
    """
    if not resource:
        return ""
    numbers = [replica.number for replica in existing.replicas if replica.root == resource]
    if not numbers:
        cause = f"it has no replica on {resource} to overwrite"
        raise zone_error(Code.HIERARCHY_ERROR, existing.logical_path, cause, "Name no resource")
    return f"++++replNum={numbers[0]}"


def _check_readable(data_object: DataObject) -> None:
    """ZoneError unless there is a good replica. iRODS itself would return stale bytes."""
    statuses = {replica.status for replica in data_object.replicas}
    if ReplicaStatus.GOOD in statuses:
        return
    if statuses & {ReplicaStatus.READ_LOCKED, ReplicaStatus.WRITE_LOCKED}:
        code, cause = Code.LOCKED_DATA_OBJECT_ACCESS, "every replica is locked"
    elif ReplicaStatus.INTERMEDIATE in statuses:
        code, cause = Code.INTERMEDIATE_REPLICA_ACCESS, "every replica is being written"
    else:
        code, cause = Code.SYS_REPLICA_DOES_NOT_EXIST, "every replica is stale"
    raise zone_error(code, data_object.logical_path, cause)


def _operation(name: str, avu: Avu) -> dict[str, str]:
    return {"operation": name, "attribute": avu.attribute, "value": avu.value, "units": avu.units}


def _not_an_agents(subject: str, what: str) -> ZoneError:
    cause = f"{what} is not an agent's work"
    return zone_error(Code.SYS_NOT_SUPPORTED, subject, cause, "The compute resource's worker does it")
