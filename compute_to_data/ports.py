"""What this project needs from a zone and from an engine; the adapters live elsewhere.

``Catalog`` is one user's session: everything done through it is done with that user's rights,
and the zone itself enforces them. ``Storage`` is the service account's: it opens sessions on
behalf of users and moves replicas. ``Engine`` runs containers. An adapter raises the errors of
``errors.py`` with the codes iRODS uses (``docs/irods-behaviour.md``). Whatever asks a zone may
raise ZoneOutOfReach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from compute_to_data.job import Exit, Image, Job, JobKey, JobStatus, Logs
from compute_to_data.model import (
    Access,
    Avu,
    Collection,
    DataObject,
    Entity,
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

    Whatever the client user may not even read is :class:`~compute_to_data.errors.NotFound`,
    as with iRODS's strict ACLs; what they may read but not do is
    :class:`~compute_to_data.errors.AccessDenied`.
    """

    @property
    def user(self) -> User:
        """The client user."""

    def stat(self, logical_path: str) -> Collection | DataObject:
        """What stands at a path. NotFound (-310000) when missing or hidden."""

    def children(self, collection: str) -> tuple[Collection | DataObject, ...]:
        """Direct members the user can see, by name. NotFound (-814000) for no such collection."""

    def access(self, logical_path: str) -> Access:
        """The user's effective level there: the highest of their own and their groups'.

        ``Access.NULL`` when the path is missing or hidden. A rodsadmin has no more here than
        the access list gives: administration is asked for, never implied.
        """

    def permissions(self, logical_path: str) -> tuple[Permission, ...]:
        """The access list, ordered by user. NotFound (-310000) when missing or hidden."""

    def create_collection(self, collection: str, parents: bool = False) -> None:
        """Make a collection: needs modify_object on the parent.

        AlreadyExists (-809000) unless ``parents``; NotFound (-814000) without a parent;
        AccessDenied (-818000); -317000 for a name iRODS cannot hold, -31000 for ``..``.
        """

    def read(self, data_object: str) -> bytes:
        """The whole content of a good replica; for small objects. NotFound (-358000),
        ZoneError (-405000/-406000) when every replica is intermediate or locked, -164000 when
        all are stale."""

    def write(self, data_object: str, content: bytes, *, resource: str = "", force: bool = False) -> None:
        """Make a data object, by default on the zone's default resource.

        An existing one: AlreadyExists (-312000), or with ``force`` it is overwritten (needs
        modify_object) and its other replicas turn stale. The new replica's checksum is
        computed and recorded.
        """

    def remove(self, logical_path: str, *, recursive: bool = False) -> None:
        """Delete a data object with all replicas, or a collection (-821000 when not empty
        and not ``recursive``); no trash. Needs delete_object."""

    def rename(self, source: str, destination: str) -> None:
        """Move in the catalog (needs own on the source, modify_object on the new parent). Files
        at vault plus logical path move along: physical paths must be read again."""

    def annotate(self, entity: Entity, *, add: Iterable[Avu] = (), remove: Iterable[Avu] = ()) -> None:
        """Remove, then add AVUs: all or nothing, and idempotent. Needs modify_object on objects
        and collections, rodsadmin for resources and users (-818000). -130000 for an unknown or
        hidden bearer, or an empty attribute or value."""

    def annotate_all(self, data_objects: Sequence[str], add: Sequence[Avu]) -> None:
        """Put the same AVUs on many data objects; each object gets all of them or none.
        Rights and errors as :meth:`annotate`."""

    def avus(self, entity: Entity) -> tuple[Avu, ...]:
        """The entity's AVUs, sorted. Needs read access to objects and collections."""

    def find(self, query: Query) -> tuple[str, ...]:
        """Names of the visible entities that a query means, each of them once."""

    def resources(self) -> tuple[Resource, ...]:
        """All resources of the zone, by name; visible to everybody."""

    def set_access(self, logical_path: str, user: User, access: Access, *, recursive: bool = False) -> None:
        """Put one row of the access list (``NULL`` takes it away). Needs own."""

    def set_inheritance(self, collection: str, inherits: bool) -> None:
        """Whether new children take the collection's access list. Needs own."""

    def replicate(self, data_object: str, resource: str) -> None:
        """Make a good replica under a root resource: needs modify_object (-121000).
        One is there already: nothing happens. A child resource: -1816000; down: -168000."""

    def trim(self, data_object: str, number: int) -> None:
        """Drop one replica: needs modify_object; the last good one is kept (-402000)."""

    def checksum(self, data_object: str) -> str:
        """``sha2:<base64>`` of a good replica, from the catalog or computed and recorded."""

    def register(self, resource: str, files: Sequence[Registration]) -> None:
        """Make files known where they lie, owned by this user: all of them or none.

        ``resource`` is the storage resource (the leaf) in whose vault they lie.
        Collections must exist (-814000); AlreadyExists (-809000). Only a session on behalf of
        a user, opened by the service account, may: others get -129000 (-128000 in a vault).
        """

    def unregister(self, data_objects: Sequence[str]) -> None:
        """Forget data objects without touching their files: needs delete_object; missing ones are passed over."""


class ClientCatalog(Catalog, Protocol):
    """What only people's own programs ask of a session; an agent's has none of it."""

    @property
    def home(self) -> str:
        """The user's home collection; its zone is the session's."""

    def query(self, query: Query) -> tuple[Row, ...]:
        """What :meth:`find` names, of collections, with one row for each AVU that the query means;
        thousands of them in one question. ValueError for a query about other things."""

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

        The checksum is computed from the bytes that are sent, recorded, and compared with what the
        zone computed. ``moved`` is told the bytes as they go, from any thread. Errors as
        :meth:`Catalog.write`; -317000 for what is no regular file, links included; -314000 when the
        file changed meanwhile, or arrived otherwise. An error, or an end of the program, leaves no
        data object that has a good replica with other bytes than the file's.
        """

    def put_all(
        self,
        files: Sequence[tuple[str, str]],
        *,
        resource: str = "",
        force: bool = False,
        moved: Callable[[int], None] | None = None,
    ) -> tuple[str, ...]:
        """As :meth:`put`, for many pairs of a local file and a data object, one after the other or
        in one go, whichever the zone is quicker at. When one fails, some or none of them are there."""

    def get(self, data_object: str, file: str, *, moved: Callable[[int], None] | None = None) -> str:
        """Read a good replica into a new local file, which is there when it is whole and its bytes
        are those of the catalog's checksum (where it has one; -314000); returns the checksum.

        Errors as :meth:`Catalog.read`; AlreadyExists (-312000) when something has the file's name.
        """

    def close(self) -> None:
        """Give back connections; the session is not used afterwards."""


class Storage(Protocol):
    """What the service account does beside its users' sessions."""

    @property
    def zone(self) -> str:
        """The local zone's name."""

    @property
    def catalog(self) -> Catalog:
        """The service account's own session (a rodsadmin)."""

    def on_behalf_of(self, user: User) -> Catalog:
        """A session with exactly the rights of ``user``. NotFound (-827000) for no such user."""

    def owner(self, data_object: str) -> User:
        """DATA_OWNER, whatever the access list says. NotFound (-310000) when there is none."""

    def replicate(self, data_object: str, resource: str) -> Replica:
        """As :meth:`Catalog.replicate`, with administrative rights; returns the good replica.
        The caller has made sure that the task's owner may read the object. A replica there that a
        transfer left unfinished is written anew; OutOfReach while that transfer goes on."""

    def trim(self, data_object: str, resource: str) -> None:
        """Drop the replica under a root resource, with administrative rights; the last good
        one is kept (-402000); nothing there: nothing happens. Unfinished ones as in ``replicate``."""

    def verify(self, data_object: str, number: int) -> str:
        """Read the replica's file, compare with the catalog's checksum where it has one
        (-314000 when they differ) and return the computed ``sha2:<base64>``."""

    def annotate(self, entity: Entity, *, add: Iterable[Avu] = (), remove: Iterable[Avu] = ()) -> None:
        """As :meth:`Catalog.annotate`, with administrative rights: for what nobody else is left to say."""

    def avus(self, entity: Entity) -> tuple[Avu, ...]:
        """As :meth:`Catalog.avus`, whatever the access list says."""

    def find(self, query: Query) -> tuple[str, ...]:
        """As :meth:`Catalog.find`, whatever the access lists say: so a worker finds its queue."""

    def close(self) -> None:
        """Give back connections; the object is not used afterwards."""


class RunningJob(Protocol):
    """A job that an engine holds: it waits there, runs, or has ended. Threads may share it.

    Each call may raise EngineOutOfReach, also when the engine does not hold the job any more.
    """

    @property
    def key(self) -> JobKey:
        """The job's."""

    def status(self) -> JobStatus:
        """How far it is; UNKNOWN when the engine holds it no more."""

    def wait(self, timeout: float) -> Exit | None:
        """Its end, as soon as it is there; None after ``timeout`` seconds."""

    def stop(self, grace: float) -> None:
        """Ask it to end (SIGTERM), after ``grace`` seconds (an engine may round up to whole ones)
        make it; returns when it has ended. One that has not begun to run never does."""

    def logs(self, lines: int | None = None) -> Logs:
        """What it wrote, bounded. With ``lines``, an engine that saves time with it gives no more than
        so many last lines of both streams."""

    def remove(self) -> None:
        """As :meth:`Engine.remove`."""


class Engine(Protocol):
    """Where jobs run. Safe to use from several threads, and after a restart of the worker:
    everything it knows, it reads from the engine. Each call may raise EngineOutOfReach."""

    @property
    def name(self) -> str:
        """As in the configuration: ``docker``, ``process``."""

    @property
    def sandboxed(self) -> bool:
        """False only for an engine that isolates nothing."""

    @property
    def capacity(self) -> int | None:
        """How many jobs at a time it takes from one worker, where its own queue decides which of them run;
        None where a job runs at once: then as many as the worker has slots."""

    def check(self) -> None:
        """EngineError, with the remedy, when the engine does not answer."""

    def identify(self, image: str) -> Image:
        """What the engine holds under a name. ImageMissing when it holds nothing."""

    def prepare(self, outputs: str) -> None:
        """Make the fresh directory ``outputs`` writable for the job, and for it alone."""

    def submit(self, job: Job) -> RunningJob:
        """Accept a job, which runs now or later. EngineError when it cannot, nothing left behind."""

    def find(self, key: JobKey) -> RunningJob | None:
        """The job of a key. None when the engine holds none, or one that was made and never handed over to
        run: ``submit`` replaces that."""

    def statuses(self, keys: Sequence[JobKey]) -> Mapping[JobKey, JobStatus]:
        """How far each of these jobs is, asked together."""

    def wait_for_change(self, scope: str, timeout: float) -> frozenset[JobKey] | None:
        """Wait until a job of a scope may have begun or ended since the last call, at most ``timeout`` seconds.

        Returns the jobs to ask about: none when nothing has changed, None when it could be any.
        For one thread, that of the worker's watcher.
        """

    def wake(self) -> None:
        """Let :meth:`wait_for_change` return now, or at its next call."""

    def remove(self, key: JobKey) -> None:
        """Afterwards nothing of the job is left in the engine; also when there never was one, or only
        what was made for it."""

    def jobs(self, scope: str) -> tuple[JobKey, ...]:
        """The jobs of a scope that the engine holds something of, running or ended."""

    def tidy(self, scope: str, workloads: frozenset[str], idle_seconds: float) -> None:
        """Throw away the scope's warm sandboxes that run no job and whose workload is not among
        ``workloads``, or that have had no job for so long; and all that another worker left, with
        what runs in them."""
