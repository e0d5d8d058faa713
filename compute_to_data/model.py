"""The zone's own vocabulary as values: users, data objects, replicas, resources, AVUs.

All values are frozen: each shows what the catalog held when it was read. A *logical path* is a
name in the catalog, a *physical path* a name in storage. No field here is just called ``path``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum, IntEnum

from compute_to_data import this_host


@dataclass(frozen=True, order=True)
class User:
    """A user or group, which iRODS identifies by name **and** zone."""

    name: str
    zone: str

    def __str__(self) -> str:
        return f"{self.name}#{self.zone}"

    @classmethod
    def parse(cls, text: str, zone: str = "") -> User:
        """The user that ``name#zone`` or ``name`` means; ``zone``: the zone of a user whose text names none."""
        name, _, named = text.partition("#")
        return cls(name, named or zone)

    def home_in(self, zone: str) -> str:
        """The home collection that iRODS makes for this user in ``zone``."""
        return f"/{zone}/home/{self.name if self.zone == zone else self}"


class UserKind(str, Enum):
    """The type of a user or group in an access list."""

    RODSUSER = "rodsuser"
    GROUPADMIN = "groupadmin"
    RODSADMIN = "rodsadmin"
    RODSGROUP = "rodsgroup"


class Access(IntEnum):
    """Access levels, in order, so they can be compared (values of iRODS's R_TOKN_MAIN)."""

    NULL = 1000
    READ_METADATA = 1040
    READ_OBJECT = 1050
    CREATE_METADATA = 1070
    MODIFY_METADATA = 1080
    DELETE_METADATA = 1090
    CREATE_OBJECT = 1110
    MODIFY_OBJECT = 1120
    DELETE_OBJECT = 1130
    OWN = 1200


@dataclass(frozen=True)
class Permission:
    """One row of an access list."""

    user: User
    kind: UserKind
    access: Access


class ReplicaStatus(IntEnum):
    """The state of a replica; only a good one may be read as input."""

    STALE = 0
    GOOD = 1
    INTERMEDIATE = 2
    READ_LOCKED = 3
    WRITE_LOCKED = 4


@dataclass(frozen=True)
class Replica:
    """One physical copy of a data object.

    ``hierarchy`` runs from the root resource to the leaf (``root;...;leaf``); ``size`` is in
    bytes; ``checksum`` is ``sha2:<base64>`` or empty when the catalog holds none.
    """

    number: int
    hierarchy: str
    status: ReplicaStatus
    size: int
    physical_path: str
    checksum: str = ""

    @property
    def root(self) -> str:
        """The root resource. Use its name for replication: iRODS refuses the name of a child."""
        return self.hierarchy.split(";", 1)[0]

    @property
    def leaf(self) -> str:
        """The storage resource whose vault holds the bytes."""
        return self.hierarchy.rsplit(";", 1)[-1]


@dataclass(frozen=True)
class DataObject:
    """A data object as one user sees it. Times are Unix seconds."""

    logical_path: str
    owner: User
    replicas: tuple[Replica, ...]
    created: float
    modified: float

    @property
    def size(self) -> int:
        """Bytes of the good replica with the lowest number, or of the first replica if none is good."""
        good = [replica for replica in self.replicas if replica.status is ReplicaStatus.GOOD]
        chosen = good or list(self.replicas)
        return chosen[0].size if chosen else 0

    def good_replica_on(self, resource: str) -> Replica | None:
        """The good replica whose hierarchy contains ``resource``, or None."""
        for replica in self.replicas:
            if replica.status is ReplicaStatus.GOOD and resource in replica.hierarchy.split(";"):
                return replica
        return None


@dataclass(frozen=True)
class Collection:
    """A collection as one user sees it. ``inherits``: new children take its access list."""

    logical_path: str
    owner: User
    inherits: bool
    created: float


@dataclass(frozen=True)
class Resource:
    """A storage or coordinating resource.

    A coordinating resource (``replication``, ``passthru``) has the host ``EMPTY_RESC_HOST`` and
    the vault ``EMPTY_RESC_PATH``. ``status`` is '', up, down, auto-up or auto-down.
    """

    name: str
    kind: str
    host: str
    vault: str
    parent: str = ""
    status: str = ""

    @property
    def is_up(self) -> bool:
        """False when an administrator or a probe has marked it down."""
        return self.status not in ("down", "auto-down")

    @property
    def is_here(self) -> bool:
        """Whether its server is this host, under one of this host's names."""
        return self.host in this_host.names()

    @property
    def is_storage(self) -> bool:
        """True when it has a vault of its own."""
        return self.vault != "EMPTY_RESC_PATH"

    @property
    def is_root(self) -> bool:
        """True when it has no parent. iRODS refuses to write or replicate to a child by its name."""
        return not self.parent


def lineage(resource: Resource, resources: Iterable[Resource]) -> tuple[Resource, ...]:
    """The resource as listed in the zone's ``resources``, then its ancestors, up to the root."""
    known = {listed.name: listed for listed in resources}
    line = [known.get(resource.name, resource)]
    while not line[-1].is_root:
        line.append(known[line[-1].parent])
    return tuple(line)


class EntityKind(str, Enum):
    """The four kinds of entities that can have AVUs, as the atomic metadata API names them."""

    DATA_OBJECT = "data_object"
    COLLECTION = "collection"
    RESOURCE = "resource"
    USER = "user"


@dataclass(frozen=True)
class Entity:
    """Something that can have AVUs. ``name`` is a logical path, a resource name or ``user#zone``."""

    kind: EntityKind
    name: str


@dataclass(frozen=True, order=True)
class Avu:
    """User metadata: attribute, value, units ('' when absent). An entity holds each AVU once."""

    attribute: str
    value: str
    units: str = ""


MOST_AMONG = 500
"""How many collections a query can name."""


@dataclass(frozen=True)
class Query:
    """A search for entities by their AVUs.

    Fields left at their default match everything. ``beginning``: the value begins with this text. ``units``: the
    units of the AVU, or several of which it has one.
    ``owner``: the entity belongs to this user. ``within``: the entity is a direct member of this
    collection. ``excluding``: the entity is not a direct member of any of these collections.
    ``among``: only these collections; None for all, and at most :data:`MOST_AMONG`.
    Results come oldest first, or with ``newest_first`` newest first. The catalog skips ``offset``
    results, then returns at most ``limit``.

    ValueError when a query for resources or users names an owner or a collection, or when ``among`` is
    used with an offset or for anything else than collections.
    """

    kind: EntityKind
    attribute: str
    value: str | None = None
    units: str | tuple[str, ...] | None = None
    beginning: str = ""
    owner: User | None = None
    within: str = ""
    excluding: tuple[str, ...] = ()
    among: tuple[str, ...] | None = None
    newest_first: bool = False
    limit: int | None = None
    offset: int = 0

    def __post_init__(self) -> None:
        in_tree = self.kind in (EntityKind.DATA_OBJECT, EntityKind.COLLECTION)
        if not in_tree and (self.owner is not None or self.within or self.excluding):
            raise ValueError(f"a {self.kind.value} has no owner, and is in no collection")
        if self.among is not None:
            self.need_collections()
            if self.offset or len(self.among) > MOST_AMONG:
                raise ValueError(f"a query among named collections has no offset, and at most {MOST_AMONG} names")

    def among_each(self, collections: Iterable[str]) -> Iterator[Query]:
        """This query among any number of collections: one for each :data:`MOST_AMONG` of them, as they come."""
        names = iter(collections)
        while some := tuple(itertools.islice(names, MOST_AMONG)):
            yield replace(self, among=some)

    @property
    def units_listed(self) -> tuple[str, ...]:
        """The units that match, when the query names any."""
        return (self.units,) if isinstance(self.units, str) else self.units or ()

    def need_countable(self) -> None:
        """ValueError unless a catalog can count the query's collections by owner."""
        self.need_collections()
        narrowed = self.beginning or self.within or self.excluding or self.among is not None
        if self.value is None or self.units is None or narrowed or self.limit is not None or self.offset:
            raise ValueError("collections are counted by owner with a value and units, and no other condition")

    def need_owned(self) -> None:
        """ValueError unless all that the query matches has owners, and it names no part of the result."""
        if self.kind not in (EntityKind.DATA_OBJECT, EntityKind.COLLECTION) or self.limit is not None or self.offset:
            raise ValueError("only data objects and collections have owners, and those of all of them are listed")

    def need_collections(self) -> None:
        """ValueError unless the query is about collections."""
        if self.kind is not EntityKind.COLLECTION:
            raise ValueError(f"a query for a {self.kind.value} returns names, not rows")


@dataclass(frozen=True)
class Row:
    """A collection and one of its AVUs. ``created``: when the collection was made, in Unix seconds."""

    collection: str
    owner: User
    created: float
    value: str
    units: str


@dataclass(frozen=True)
class OwnerCount:
    """How many collections of one owner match a query with the same units of the AVU. ``oldest``: when the first of
    them was made, in Unix seconds."""

    owner: User
    units: str
    count: int
    oldest: float


@dataclass(frozen=True)
class Registration:
    """A file in a vault that is to be registered at its place."""

    logical_path: str
    physical_path: str
    size: int
    checksum: str


def parent_of(logical_path: str) -> str:
    """The collection that holds ``logical_path``; ``/`` for ``/`` itself."""
    return logical_path.rstrip("/").rpartition("/")[0] or "/"


def zone_of(logical_path: str) -> str:
    """The zone that ``logical_path`` is in: its first part."""
    return logical_path.lstrip("/").partition("/")[0]


def name_of(logical_path: str) -> str:
    """The last part of ``logical_path``."""
    return logical_path.rstrip("/").rpartition("/")[2]
