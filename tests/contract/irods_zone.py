"""A real iRODS zone for the contract's tests: users, groups, resources of its own, removed afterwards.

``C2D_TEST_IRODS_ENVIRONMENT_FILE`` names a rodsadmin's ``irods_environment.json`` (made by
``iinit``, with its password file). The tests must run on the server's host, as a Unix user who may
write where vaults are made: ``C2D_TEST_IRODS_VAULTS``, by default beside the vault of the zone's
default resource.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from irods import password_obfuscation
from irods.access import iRODSAccess
from irods.api_number import api_number
from irods.connection import Connection
from irods.message import GeneralAdminRequest
from irods.models import DataObject as CatalogObject
from irods.session import iRODSSession

from compute_to_data.errors import NotFound
from compute_to_data.model import Collection, DataObject, ReplicaStatus, User, UserKind
from compute_to_data.ports.zone import Catalog, Storage
from compute_to_data.zones.entrance import GatewayCatalog
from compute_to_data.zones.irods import IrodsStorage, accounts
from compute_to_data.zones.irods.connections import Connections
from compute_to_data.zones.irods.entrance import EntranceSession
from compute_to_data.zones.irods.session import IrodsSession
from compute_to_data.zones.irods.wire import ServerError, ask

ENVIRONMENT_VARIABLE = "C2D_TEST_IRODS_ENVIRONMENT_FILE"
VAULTS_VARIABLE = "C2D_TEST_IRODS_VAULTS"

_SESSIONS_KEPT = 4
"""Users whose connections stay open: the server's database takes few."""


class IrodsZoneUnderTest:
    """A :class:`~zone_suite.zone_under_test.ZoneUnderTest` on a server that others use too."""

    physical_paths_are_local = True
    registers_on_children = True
    checks_all_members_before_removing = False
    tells_of_hidden_collections = True

    def __init__(self, environment_file: str, tag: str = "") -> None:
        """``tag`` begins all names made here; left out, one that nobody has used."""
        self._tag = tag or f"c2dt{uuid.uuid4().hex[:6]}"
        self._numbers = itertools.count(1)
        self._account = accounts.from_environment(environment_file)
        self._administrator = Connections(self._account, "the tests' administrator")
        self._prc = iRODSSession(irods_env_file=environment_file)  # for what only an administrator needs
        self._storage = IrodsStorage.open(environment_file)
        self._sessions: dict[User, Connections] = {}
        self._users: list[User] = []
        self._groups: list[User] = []
        self._zones: list[str] = []
        self._resources: dict[str, str] = {}
        self._changed: set[str] = set()
        resources = {resource.name: resource for resource in self._storage.catalog.resources()}
        default = resources[self._prc.default_resource]
        self._host = default.host
        self._vaults = Path(os.environ.get(VAULTS_VARIABLE) or Path(default.vault).parent, self._tag)
        self._owner = os.stat(default.vault)
        self._make_directory(self._vaults)

    def _make_directory(self, directory: Path) -> None:
        """A directory that the server may write to, with those above it."""
        missing = [each for each in (directory, *directory.parents) if not each.exists()]
        for each in reversed(missing):
            each.mkdir()
            self._hand_over(each)

    def _hand_over(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, self._owner.st_uid, self._owner.st_gid)

    def make_place(self, kind: str) -> Path:
        """A new directory, where the server's account may write."""
        place = self._vaults / self._name(kind)
        self._make_directory(place)
        return place

    def _name(self, kind: str) -> str:
        return f"{self._tag}{kind}{next(self._numbers)}"

    def _iadmin(self, *words: str) -> None:
        request = GeneralAdminRequest(*words)
        self._administrator.call(lambda connection: ask(connection, api_number["GENERAL_ADMIN_AN"], request))

    def begin_anew(self) -> None:
        """An agent knows the resources as they were when it started: let everybody begin anew."""
        self._storage.drop_idle()
        self._prc.cleanup()
        for connections in (self._administrator, *self._sessions.values()):
            connections.drop_idle()

    @property
    def server_version(self) -> tuple[int, ...]:
        return self._administrator.call(lambda connection: tuple(connection.server_version))

    def storage(self) -> Storage:
        return self._storage

    def session(self, user: User) -> Catalog:
        if user not in self._sessions:
            account = accounts.with_password(self._account, user, self.password(user))
            self._sessions[user] = Connections(account, str(user))
            for old in list(self._sessions)[:-_SESSIONS_KEPT]:
                self._sessions[old].drop_idle()
        return IrodsSession(self._sessions[user], user)

    def at_a_gateway(self, user: User) -> GatewayCatalog:
        self.session(user)
        return EntranceSession(self._sessions[user], user)

    @staticmethod
    def password(user: User) -> str:
        """That of a user whom these tests have made."""
        return f"pw-{user.name}"

    def make_user(self, kind: UserKind = UserKind.RODSUSER, name: str = "") -> User:
        user = User(name or self._name("u"), self._storage.zone)
        self._iadmin("add", "user", user.name, kind.value, user.zone)
        self._users.append(user)
        self._prc.users.modify(user.name, "password", self.password(user))
        return user

    def make_group(self, *members: User) -> User:
        group = User(self._name("g"), self._storage.zone)
        self._prc.groups.create(group.name)
        self._groups.append(group)
        for member in members:
            self._iadmin("modify", "group", group.name, "add", member.name, member.zone)
        return group

    def set_quota(self, group: User, resource: str, size: int) -> None:
        """``iadmin sgq`` and ``iadmin cq``. The quota goes with the group."""
        self._iadmin("set-quota", "group", group.name, resource, str(size))
        self._iadmin("calculate-usage")

    def remove_user(self, user: User) -> None:
        self._iadmin("rm", "user", str(user))
        self._users.remove(user)

    def leave_group(self, group: User, user: User) -> None:
        self._iadmin("modify", "group", group.name, "remove", user.name, user.zone)

    def make_namesake(self, user: User) -> User:
        """A user of that name in another zone, which need not exist anywhere."""
        namesake = User(user.name, f"{self._tag}zone")
        if not self._zones:
            self._iadmin("add", "zone", namesake.zone, "remote", "", "")
            self._zones.append(namesake.zone)
        self._iadmin("add", "user", str(namesake), UserKind.RODSUSER.value, namesake.zone)
        self._users.append(namesake)
        return namesake

    def environment_of(self, user: User) -> str:
        """An environment file as a user's ``iinit`` leaves it."""
        directory = self._vaults / f"environment-{user.name}"
        directory.mkdir(exist_ok=True)
        own = {"irods_user_name": user.name, "irods_zone_name": user.zone}
        shared = ("irods_host", "irods_port", "irods_client_server", "irods_encryption", "irods_ssl")
        administrators = json.loads(Path(self._account.environment_file).read_text(encoding="utf-8"))
        settings = {name: value for name, value in administrators.items() if name.startswith(shared)} | own
        (directory / "irods_environment.json").write_text(json.dumps(settings))
        (directory / ".irodsA").write_text(password_obfuscation.encode(self.password(user)))
        return str(directory / "irods_environment.json")

    def idle_connections(self, user: User) -> list[Connection]:
        """Those of a user's own session that are kept for the next call."""
        return [connection for _, connection in self._sessions[user]._idle]

    def make_resource(
        self, kind: str = "unixfilesystem", parent: str = "", *, seen_by_all: bool = True, host: str = ""
    ) -> str:
        """``host``: another server of the zone, which has the same folders; default: the default resource's."""
        name = self._name("r")
        place = ""
        if kind == "unixfilesystem":
            self._make_directory(self._vaults / name)
            place = f"{host or self._host}:{self._vaults / name}"
        self._iadmin("add", "resource", name, kind, place, "", self._storage.zone)
        self._resources[name] = parent
        if parent:
            self.begin_anew()
            self._iadmin("add", "childtoresc", parent, name)
        if seen_by_all:
            self.begin_anew()
        return name

    def set_resource_status(self, resource: str, status: str) -> None:
        self._iadmin("modify", "resource", resource, "status", status)
        self._changed.add(resource)
        self.begin_anew()

    def move_resource(self, resource: str) -> None:
        """``iadmin modresc``: the default resource's host serves it from now on."""
        self._iadmin("modify", "resource", resource, "host", self._host)
        self.begin_anew()

    def set_replica_status(self, data_object: str, number: int, status: ReplicaStatus, note: str = "") -> None:
        """``note``: what the server writes beside the status of a replica that it locks."""
        about = {"objPath": data_object, "replNum": number}
        change = {"replStatus": str(int(status)), **({"statusString": note} if note else {}), "irodsAdmin": ""}
        self._prc.data_objects.modDataObjMeta(about, change)

    def scratch(self, owner: User) -> str:
        path = f"{self._home_of(owner)}/{self._name('s')}"
        self.session(owner).create_collection(path)
        return path

    def administrators_scratch(self) -> str:
        """A collection of the administrator's own, for what only an administrator may do."""
        path = f"{self._home_of(self._storage.catalog.user)}/{self._tag}"
        self._storage.catalog.create_collection(path, parents=True)
        return path

    @staticmethod
    def _home_of(user: User) -> str:
        return f"/{user.zone}/home/{user.name}"

    def place_file(self, resource: str, logical_path: str, content: bytes) -> str:
        file = Path(self._vaults, resource, *logical_path.split("/")[2:])
        self._make_directory(file.parent)
        file.write_bytes(content)
        self._hand_over(file)
        return str(file)

    def read_file(self, physical_path: str) -> bytes | None:
        return Path(physical_path).read_bytes() if os.path.exists(physical_path) else None

    def audit(self, resources: Sequence[str]) -> list[str]:
        """What is wrong with resources of these tests, in words: replicas that are not at rest or not
        what the catalog says, files in the vaults that no replica names."""
        self._prc.cleanup()  # the server may have been another since
        wrong: list[str] = []
        for name in resources:
            columns = (CatalogObject.path, CatalogObject.replica_status, CatalogObject.size, CatalogObject.checksum)
            query = self._prc.query(*columns, CatalogObject.id).filter(CatalogObject.resource_name == name)
            rows = [[row[column] for column in columns] for row in query]
            wrong += [problem for row in rows for problem in _problems(*row)]
            files = {str(file) for file in (self._vaults / name).rglob("*") if not file.is_dir()}
            wrong += [f"a file that no replica names: {file}" for file in sorted(files - {row[0] for row in rows})]
        return wrong

    def close(self) -> None:
        """Take everything away that these tests made."""
        for resource in self._changed & {*self._resources}:
            self._iadmin("modify", "resource", resource, "status", "up")
        if self._changed:
            self.begin_anew()
        for user in [*self._users]:
            self._empty(self._home_of(user))
            self._empty(f"/{user.zone}/trash/home/{user.name}")
        scratch = f"{self._home_of(self._storage.catalog.user)}/{self._tag}"
        with contextlib.suppress(NotFound):
            self._storage.catalog.remove(scratch, recursive=True)
        left = self._remove_principals()
        for resource, parent in reversed(self._resources.items()):
            if parent:
                self._iadmin("rm", "childfromresc", parent, resource)
        for resource in self._resources:
            with contextlib.suppress(ServerError):
                self._iadmin("rm", "resource", resource)
        shutil.rmtree(self._vaults, ignore_errors=True)
        self.hang_up()
        if left:
            raise AssertionError(f"these could not be removed: {left}")

    def hang_up(self) -> None:
        """Close all connections, and leave everything in the zone."""
        for connections in (*self._sessions.values(), self._administrator):
            connections.close()
        self._storage.close()
        self._prc.cleanup()

    def _remove_principals(self) -> list[User]:
        left = []
        for user in [*self._users]:
            try:
                self.remove_user(user)
            except ServerError:
                left.append(user)
        for group in self._groups:
            self._iadmin("rm", "group", group.name)
        for zone in self._zones:
            self._iadmin("rm", "zone", zone)
        return left

    def _empty(self, collection: str) -> None:
        """Remove what is below a collection, whoever owns it, replicas at work included."""
        administrator = IrodsSession(self._administrator, self._storage.catalog.user, by_service=True)
        with contextlib.suppress(NotFound):
            members = administrator.children(collection)
            self._prc.acls.set(
                iRODSAccess("own", collection, administrator.user.name, administrator.user.zone),
                recursive=True,
                admin=True,
            )
            for member in members:
                if isinstance(member, Collection):
                    self._empty(member.logical_path)
                else:
                    self._put_to_rest(member)
                administrator.remove(member.logical_path)

    def _put_to_rest(self, data_object: DataObject) -> None:
        for replica in data_object.replicas:
            if replica.status not in (ReplicaStatus.GOOD, ReplicaStatus.STALE):
                self.set_replica_status(data_object.logical_path, replica.number, ReplicaStatus.STALE)


def _problems(path: str, status: str, size: int, checksum: str | None) -> Iterator[str]:
    """What is wrong with a replica, in words."""
    if status != str(int(ReplicaStatus.GOOD)):
        yield f"a replica of status {status}: {path}"
    if not os.path.isfile(path):
        yield f"a replica without its file: {path}"
        return
    content = Path(path).read_bytes()
    if len(content) != int(size):
        yield f"a replica of {size} bytes whose file has {len(content)}: {path}"
    if checksum and checksum != f"sha2:{base64.b64encode(hashlib.sha256(content).digest()).decode()}":
        yield f"a replica whose file has another checksum: {path}"
