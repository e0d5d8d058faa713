"""The zone's own vocabulary as values: users, objects, replicas, resources, AVUs.

All are frozen: a value read from the catalog is a statement about one moment. A *logical
path* is a name in the catalog, a *physical path* a name in storage; no field here is just
called ``path``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum


@dataclass(frozen=True, order=True)
class User:
    """A user or group, which iRODS identifies by name **and** zone."""

    name: str
    zone: str

    def __str__(self) -> str:
        return f"{self.name}#{self.zone}"

    def home_in(self, zone: str) -> str:
        """The home collection that iRODS makes for the user in a zone."""
        return f"/{zone}/home/{self.name if self.zone == zone else self}"


class UserKind(str, Enum):
    """What a name in an access list stands for."""

    RODSUSER = "rodsuser"
    GROUPADMIN = "groupadmin"
    RODSADMIN = "rodsadmin"
    RODSGROUP = "rodsgroup"


class Access(IntEnum):
    """Access levels; linear, so comparing them is meaningful (values of iRODS's R_TOKN_MAIN)."""

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
        """The resource users name: replication to a child by name is refused by iRODS."""
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
        """Bytes of the good replica with the lowest number; of the first one if none is good."""
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


def names_of_this_host() -> frozenset[str]:
    """What a resource's host may be called here."""
    import socket  # most who import this module never ask

    return frozenset({"localhost", socket.gethostname(), socket.getfqdn()})


@dataclass(frozen=True)
class Resource:
    """A storage or coordinating resource.

    A coordinating one (``replication``, ``passthru``) has the host ``EMPTY_RESC_HOST`` and
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
        """Whether its server is this host, by a name that this host goes by."""
        return self.host in names_of_this_host()

    @property
    def is_storage(self) -> bool:
        """True when it has a vault of its own."""
        return self.vault != "EMPTY_RESC_PATH"

    @property
    def is_root(self) -> bool:
        """True when it is no other resource's child. iRODS refuses to write or replicate to a child by its name."""
        return not self.parent


def lineage(resource: Resource, resources: Iterable[Resource]) -> tuple[Resource, ...]:
    """A resource as it stands among the zone's ``resources``, then those above it; the root is the last."""
    known = {one.name: one for one in resources}
    line = [known.get(resource.name, resource)]
    while not line[-1].is_root:
        line.append(known[line[-1].parent])
    return tuple(line)


class EntityKind(str, Enum):
    """The four kinds of things that bear AVUs, in the words of the atomic metadata API."""

    DATA_OBJECT = "data_object"
    COLLECTION = "collection"
    RESOURCE = "resource"
    USER = "user"


@dataclass(frozen=True)
class Entity:
    """A thing that bears AVUs: a logical path, a resource name or ``user#zone``."""

    kind: EntityKind
    name: str


@dataclass(frozen=True, order=True)
class Avu:
    """User metadata: attribute, value, units ('' when absent), unique per entity."""

    attribute: str
    value: str
    units: str = ""


@dataclass(frozen=True)
class Query:
    """Which entities bear an AVU: the one question to ask a catalog for entities by their AVUs.

    A part that is left out admits everything. ``beginning``: the value begins with this text;
    ``owner``: the entity belongs to this user; ``within``: the entity is a direct member of this
    collection; ``excluding``: the entity is a direct member of none of these collections. The
    oldest entity comes first, or the newest; ``limit`` counts after ``offset`` results are skipped.

    ValueError: resources and users have no owner, and lie in no collection.
    """

    kind: EntityKind
    attribute: str
    value: str | None = None
    units: str | None = None
    beginning: str = ""
    owner: User | None = None
    within: str = ""
    excluding: tuple[str, ...] = ()
    newest_first: bool = False
    limit: int | None = None
    offset: int = 0

    def __post_init__(self) -> None:
        in_tree = self.kind in (EntityKind.DATA_OBJECT, EntityKind.COLLECTION)
        if not in_tree and (self.owner is not None or self.within or self.excluding):
            raise ValueError(f"a {self.kind.value} has no owner, and lies in no collection")

    def need_collections(self) -> None:
        """ValueError unless the query is about collections."""
        if self.kind is not EntityKind.COLLECTION:
            raise ValueError(f"a query for a {self.kind.value} finds names, no rows")


@dataclass(frozen=True)
class Row:
    """A collection that bears an AVU, and that AVU's value and units. ``created``: when the
    collection was made, in Unix seconds."""

    collection: str
    owner: User
    created: float
    value: str
    units: str


@dataclass(frozen=True)
class Registration:
    """A file to be made known to the catalog where it lies, in one vault."""

    logical_path: str
    physical_path: str
    size: int
    checksum: str


def parent_of(logical_path: str) -> str:
    """The collection that holds ``logical_path``; of ``/`` it is ``/``."""
    return logical_path.rstrip("/").rpartition("/")[0] or "/"


def zone_of(logical_path: str) -> str:
    """The zone that ``logical_path`` is in: its first part."""
    return logical_path.lstrip("/").partition("/")[0]


def name_of(logical_path: str) -> str:
    """The last part of ``logical_path``."""
    return logical_path.rstrip("/").rpartition("/")[2]
