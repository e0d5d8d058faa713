"""What this project needs from a zone.

``Catalog`` is one user's session: the zone itself enforces that user's rights on every operation.
``Storage`` belongs to the service account: it opens sessions on behalf of users and moves
replicas. Every method that contacts the zone may raise ZoneOutOfReach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from compute_to_data.model import (
    Access,
    Avu,
    Collection,
    DataObject,
    Entity,
    OwnerCount,
    Permission,
    Query,
    Registration,
    Replica,
    Resource,
    Row,
    User,
)


class Catalog(Protocol):
    """A session of one client user. All paths are logical and absolute.

    An operation on something the client user may not read raises
    :class:`~compute_to_data.errors.NotFound`, as with iRODS's strict ACLs. When the user may read
    it but lacks the access the operation needs, :class:`~compute_to_data.errors.AccessDenied`.
    """

    @property
    def user(self) -> User:
        """The client user."""

    def stat(self, logical_path: str) -> Collection | DataObject:
        """The collection or data object at a path. NotFound (-310000) when missing or hidden."""

    def children(self, collection: str, most: int | None = None) -> tuple[Collection | DataObject, ...]:
        """The direct members that the user can see, sorted by name.

        NotFound (-814000) when there is no such collection. TooLarge when it has more than ``most`` members, or its
        data objects more replicas: the session reads no more. Worker and rules always name a bound.
        """

    def access(self, logical_path: str) -> Access:
        """The user's effective access level: the highest of their own and their groups'.

        ``Access.NULL`` when the path is missing or hidden. A rodsadmin gets only what the access
        list gives: this session never uses administrative rights implicitly.
        """

    def permissions(self, logical_path: str, most: int | None = None) -> tuple[Permission, ...]:
        """The access list, sorted by user. NotFound (-310000) when the path is missing or hidden.

        TooLarge when it has more than ``most`` rows: the session reads no more. Worker and rules always name a bound.
        """

    def create_collection(self, collection: str, parents: bool = False) -> None:
        """Make a collection; needs modify_object on the parent.

        With ``parents``, make missing parents too, and accept a collection that exists already.
        AlreadyExists (-809000) and NotFound (-814000, no parent) without ``parents``; AccessDenied
        (-818000); -317000 for a name that iRODS cannot store, -31000 for ``..``.
        """

    def read(self, data_object: str, most_bytes: int) -> bytes:
        """The whole content of a good replica of at most ``most_bytes`` bytes.

        TooLarge for more, before anything is read. The session also reads no more where the catalog has a wrong
        size, or where the file grows meanwhile. NotFound (-358000); ZoneError -405000 or -406000 when every
        replica is intermediate or locked, -164000 when all are stale.
        """

    def write(self, data_object: str, content: bytes, *, resource: str = "", force: bool = False) -> None:
        """Make a data object, by default on the zone's default resource, and record its checksum.

        AlreadyExists (-312000) when there is one. With ``force`` the session overwrites it instead
        (needs modify_object), and its other replicas turn stale.
        """

    def remove(self, logical_path: str, *, recursive: bool = False) -> None:
        """Delete a data object with all replicas, or a collection, without using the trash.

        Needs delete_object. -821000 for a collection with members, unless ``recursive``.
        """

    def rename(self, source: str, destination: str) -> None:
        """Move a data object or collection; needs own on it and modify_object on the new parent.

        The server also moves files whose physical path follows the logical path, so read physical
        paths again afterwards.
        """

    def annotate(self, entity: Entity, *, add: Iterable[Avu] = (), remove: Iterable[Avu] = ()) -> None:
        """Remove AVUs, then add AVUs: all or nothing, and idempotent.

        Needs modify_object on data objects and collections, rodsadmin for resources and users
        (-818000). -130000 for an unknown or hidden entity, or an empty attribute or value.
        """

    def annotate_all(self, data_objects: Sequence[str], add: Sequence[Avu]) -> None:
        """Put the same AVUs on many data objects; each object gets all of them or none.

        Rights and errors as for :meth:`annotate`.
        """

    def set_avu(self, collection: str, avu: Avu) -> None:
        """Put an AVU on a collection in the place of all with its attribute: one change, which takes no longer for
        thousands of them.

        Needs modify_object (-818000). NotFound (-814000) when the collection is missing, and one of both when it is
        hidden. iRODS takes ``_`` and ``%`` in the attribute as wildcards, and replaces the AVUs of each attribute that
        fits. So this is for the product's own.
        """

    def avus(self, entity: Entity, *attributes: str, most: int | None = None) -> tuple[Avu, ...]:
        """The entity's AVUs with one of these attributes, sorted; with none named, all its AVUs.

        Needs read access to objects and collections. TooLarge, with the first ones, for more than ``most`` of them
        (and than ``bounds.MOST_AVUS``): anybody who may write there can add AVUs. So a program asks for those that it
        uses, by their attributes.
        """

    def find(self, query: Query) -> tuple[str, ...]:
        """The names of the visible entities that match a query, without duplicates.

        TooLarge for a query without a limit that more than ``bounds.MOST_FOUND`` match: the session reads no more.
        """

    def resources(self) -> tuple[Resource, ...]:
        """All resources of the zone, sorted by name. Every user can see them."""

    def avus_of_resources(self, *attributes: str) -> Mapping[str, tuple[Avu, ...]]:
        """The AVUs of all resources with one of these attributes, sorted, by resource, in few requests. Every user can
        see them, and only a rodsadmin can write them. Leaves out resources without such an AVU.

        ValueError without an attribute; TooLarge for more than ``bounds.MOST_FOUND`` AVUs together.
        """

    def set_access(self, logical_path: str, user: User, access: Access, *, recursive: bool = False) -> None:
        """Set a user's row in the access list; ``NULL`` removes it. Needs own."""

    def set_inheritance(self, collection: str, inherits: bool) -> None:
        """Set whether new children take the collection's access list. Needs own."""

    def replicate(self, data_object: str, resource: str) -> None:
        """Make a good replica under a root resource; needs modify_object (-121000).

        Does nothing when there is one already. -1816000 for a child resource, -168000 for a
        resource that is down.
        """

    def trim(self, data_object: str, number: int) -> None:
        """Drop one replica; needs modify_object. -402000 for the last good one, which stays."""

    def checksum(self, data_object: str) -> str:
        """``sha2:<base64>`` of a good replica. The zone computes and records it if the catalog has none."""

    def register(self, resource: str, files: Sequence[Registration]) -> None:
        """Register files where they are, with this user as the owner: all of them or none.

        ``resource`` is the storage resource (the leaf) whose vault holds the files. Collections
        must exist (-814000); AlreadyExists (-809000). Only a session that the service account
        opened on behalf of a user may do this; others get -129000 (-128000 in a vault).
        """

    def unregister(self, data_objects: Sequence[str]) -> None:
        """Remove data objects from the catalog but leave their files; needs delete_object.

        Skips data objects that are missing.
        """


class OpenDataObject(Protocol):
    """The content of a data object, open to read. One thread uses it."""

    def read(self, offset: int, size: int) -> bytes:
        """The bytes from ``offset`` on, at most ``size``; fewer at the end, and where the zone sends fewer at a
        time. Asks the catalog nothing. ZoneError when the content cannot be read any more."""


class ClientCatalog(Catalog, Protocol):
    """A session with the operations that only client programs need; an agent's session lacks them."""

    @property
    def home(self) -> str:
        """The user's home collection, in the zone of this session."""

    def object_id(self, data_object: str) -> int:
        """The catalog's id of a data object (``DATA_ID``), which it keeps when it is renamed or overwritten, and which
        no other one ever gets. NotFound (-310000) when it is missing, hidden, or a collection."""

    def object_with_id(self, object_id: int) -> str:
        """The logical path of the data object with this id. NotFound (-310000) when it is missing or hidden."""

    def query(self, query: Query) -> tuple[Row, ...]:
        """One row for each matching AVU of each collection that :meth:`find` would name.

        Fetches thousands of rows in one request. TooLarge as for :meth:`find`. ValueError for a query that is not
        about collections.
        """

    def avus_of(self, collections: Sequence[str], *attributes: str) -> Mapping[str, tuple[Avu, ...]]:
        """The AVUs of many collections with one of these attributes: what :meth:`avus` returns, by collection, in few
        requests. Leaves out collections that are missing or hidden, and those without such an AVU.

        TooLarge as for :meth:`avus`, and for more than ``bounds.MOST_FOUND`` AVUs together.
        """

    def count_by_owner(self, query: Query, *, most: int | None = None) -> tuple[OwnerCount, ...]:
        """How many visible collections match a query, for each owner and each of the units that the query names.

        The owner is the catalog's own record of who made the collection, which no AVU can change. The length of the
        answer depends on the number of owners, not of collections. The query has a value and units, and of the other
        conditions at most ``owner``; ValueError for any other. ``most``: of each, no more need be counted.
        """

    def put(
        self,
        file: str,
        data_object: str,
        *,
        resource: str = "",
        force: bool = False,
        moved: Callable[[int], None] | None = None,
    ) -> str:
        """Store a local file of any size as a data object; returns its checksum, ``sha2:<base64>``.

        The session computes the checksum from the bytes it sends, records it, and compares it with
        the zone's. It calls ``moved`` with the number of bytes sent since the last call, from any
        thread. Errors as for :meth:`Catalog.write`; -317000 for a link or anything else that is not
        a regular file; -314000 when the file changed during the transfer, or when the checksums
        differ. After an error, or when the program is killed, no data object has a good replica
        with content other than the file's.
        """

    def put_all(
        self,
        files: Sequence[tuple[str, str]],
        *,
        resource: str = "",
        force: bool = False,
        moved: Callable[[int], None] | None = None,
    ) -> tuple[str, ...]:
        """Like :meth:`put`, for many pairs of a local file and a data object.

        The session sends them one by one or together, whichever is quicker in this zone. When one
        transfer fails, the zone may hold some of the data objects.
        """

    def get(self, data_object: str, file: str, *, moved: Callable[[int], None] | None = None) -> str:
        """Read a good replica into a new local file; returns the checksum.

        The file appears under its name only when it is complete and agrees with the catalog's
        checksum, if the catalog has one (-314000). Errors as for :meth:`Catalog.read`;
        AlreadyExists (-312000) when there is a file of that name.
        """

    def open_to_read(self, data_object: str) -> AbstractContextManager[OpenDataObject]:
        """The content of a good replica, open until the context ends. Errors as for :meth:`Catalog.read`.

        It stays readable when the data object is renamed or unregistered meanwhile. Later changes of the file
        are seen.
        """

    def close(self) -> None:
        """Close the connections. Do not use the session afterwards."""


class Storage(Protocol):
    """What the service account does besides opening sessions for users."""

    @property
    def zone(self) -> str:
        """The local zone's name."""

    @property
    def catalog(self) -> Catalog:
        """The service account's own session (a rodsadmin)."""

    def on_behalf_of(self, user: User) -> Catalog:
        """A session with exactly the rights of ``user``. NotFound (-827000) when there is no such user."""

    def owner(self, data_object: str) -> User:
        """DATA_OWNER, regardless of the access list. NotFound (-310000) when there is no such data object."""

    def replicate(self, data_object: str, resource: str) -> Replica:
        """Like :meth:`Catalog.replicate`, with administrative rights; returns the good replica.

        The caller must have checked that the task's owner may read the data object. Replaces a
        replica that a transfer left unfinished; OutOfReach while that transfer still runs.
        """

    def trim(self, data_object: str, resource: str) -> None:
        """Drop the replica under a root resource, with administrative rights.

        -402000 for the last good one, which stays. Does nothing when there is no replica. Treats
        unfinished replicas as :meth:`replicate` does.
        """

    def quota_left(self, user: User, resources: Sequence[str]) -> int | None:
        """How many more bytes the quotas of a user and of their groups allow, in the whole zone and on each of these
        resources, as far as the zone has counted. Negative when a quota is exceeded; None without any."""

    def verify(self, data_object: str, number: int) -> str:
        """Read the replica's file and return its ``sha2:<base64>``.

        -314000 when the catalog has another checksum for it.
        """

    def annotate(self, entity: Entity, *, add: Iterable[Avu] = (), remove: Iterable[Avu] = ()) -> None:
        """Like :meth:`Catalog.annotate`, with administrative rights: for tasks whose owner has no account any more."""

    def avus(self, entity: Entity, *attributes: str, most: int | None = None) -> tuple[Avu, ...]:
        """Like :meth:`Catalog.avus`, regardless of the access list."""

    def find(self, query: Query) -> tuple[str, ...]:
        """Like :meth:`Catalog.find`, regardless of access lists. This is how a worker finds its queue."""

    def query(self, query: Query) -> tuple[Row, ...]:
        """Like :meth:`ClientCatalog.query`, regardless of access lists."""

    def count_by_owner(self, query: Query, *, most: int | None = None) -> tuple[OwnerCount, ...]:
        """Like :meth:`ClientCatalog.count_by_owner`, regardless of access lists."""

    def owners(self, query: Query) -> tuple[User, ...]:
        """The owners of the data objects and collections that a query matches, sorted, regardless of access lists.

        The owner is the catalog's own record, which no AVU can change. ValueError for a query with a limit or offset,
        and for any that is not about data objects or collections.
        """

    def close(self) -> None:
        """Close the connections. Do not use the object afterwards."""
