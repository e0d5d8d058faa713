"""One user's session with a zone, through its gateway."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from compute_to_data.bounds import need_attributes
from compute_to_data.catalog_json import (
    avus_of,
    count_of,
    member_of,
    permission_of,
    plain,
    resource_of,
    row_of,
    user_of,
)
from compute_to_data.errors import ComputeToDataError
from compute_to_data.local_files import silent
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
    Resource,
    Row,
    User,
)
from compute_to_data.pools import pool
from compute_to_data.zones.gateway import transfer
from compute_to_data.zones.gateway.wire import PREFIX, Wire

_TOGETHER = 4
"""How many files are sent at the same time."""
_A_REQUEST = 400
"""How many data objects a request names at most."""


class GatewaySession:
    """A :class:`~compute_to_data.ports.ClientCatalog`; threads may share it. Each method is one request."""

    def __init__(self, url: str, authorization: str) -> None:
        """``authorization``: the value of the header: ``Bearer`` and a token. AccessDenied (-826000) when the gateway
        does not know it; ZoneOutOfReach when it does not answer."""
        self.wire = Wire(url, authorization)
        try:
            answer = self.wire.answer("GET", f"{PREFIX}/me", again=True)
            found = json.loads(answer.read())
            answer.release_conn()
            self._user, self._home = user_of(found["user"]), str(found["home"])
            self.attributes: Mapping[str, str] = dict(found["attributes"])
            """The names of the site's AVUs."""
        except (ValueError, KeyError, TypeError) as error:
            self.wire.close()
            raise self.wire.lost(error) from error

    @property
    def user(self) -> User:
        return self._user

    @property
    def home(self) -> str:
        return self._home

    def _ask(self, method: str, **arguments: Any) -> Any:
        """A call that may be repeated."""
        return self.wire.call(method, arguments, again=True)

    def _do(self, method: str, **arguments: Any) -> Any:
        return self.wire.call(method, arguments)

    def stat(self, logical_path: str) -> Collection | DataObject:
        return member_of(self._ask("stat", logical_path=logical_path))

    def children(self, collection: str, most: int | None = None) -> tuple[Collection | DataObject, ...]:
        return tuple(map(member_of, self._ask("children", collection=collection, most=most)))

    def access(self, logical_path: str) -> Access:
        return Access(self._ask("access", logical_path=logical_path))

    def permissions(self, logical_path: str, most: int | None = None) -> tuple[Permission, ...]:
        return tuple(map(permission_of, self._ask("permissions", logical_path=logical_path, most=most)))

    def create_collection(self, collection: str, parents: bool = False) -> None:
        self._do("create_collection", collection=collection, parents=parents)

    def read(self, data_object: str, most_bytes: int) -> bytes:
        return transfer.read(self.wire, data_object, most_bytes)

    def write(self, data_object: str, content: bytes, *, resource: str = "", force: bool = False) -> None:
        transfer.write(self.wire, data_object, content, resource, force)

    def remove(self, logical_path: str, *, recursive: bool = False) -> None:
        self._do("remove", logical_path=logical_path, recursive=recursive)

    def rename(self, source: str, destination: str) -> None:
        self._do("rename", source=source, destination=destination)

    def annotate(self, entity: Entity, *, add: Iterable[Avu] = (), remove: Iterable[Avu] = ()) -> None:
        self._ask("annotate", entity=plain(entity), add=plain(tuple(add)), remove=plain(tuple(remove)))

    def annotate_all(self, data_objects: Sequence[str], add: Sequence[Avu]) -> None:
        for start in range(0, len(data_objects), _A_REQUEST):
            some = list(data_objects[start : start + _A_REQUEST])
            self._ask("annotate_all", data_objects=some, add=plain(tuple(add)))

    def set_avu(self, collection: str, avu: Avu) -> None:
        self._ask("set_avu", collection=collection, avu=plain(avu))

    def avus(self, entity: Entity, *attributes: str, most: int | None = None) -> tuple[Avu, ...]:
        return avus_of(self._ask("avus", entity=plain(entity), attributes=list(attributes), most=most))

    def find(self, query: Query) -> tuple[str, ...]:
        return tuple(self._ask("find", query=plain(query)))

    def object_id(self, data_object: str) -> int:
        return int(self._ask("object_id", data_object=data_object))

    def object_with_id(self, object_id: int) -> str:
        return str(self._ask("object_with_id", object_id=object_id))

    def query(self, query: Query) -> tuple[Row, ...]:
        query.need_collections()
        return tuple(map(row_of, self._ask("query", query=plain(query))))

    def avus_of(self, collections: Sequence[str], *attributes: str) -> Mapping[str, tuple[Avu, ...]]:
        found: dict[str, tuple[Avu, ...]] = {}
        for start in range(0, len(collections), _A_REQUEST):
            some = list(collections[start : start + _A_REQUEST])
            answer = self._ask("avus_of", collections=some, attributes=list(attributes))
            found |= {name: avus_of(avus) for name, avus in answer.items()}
        return found

    def count_by_owner(self, query: Query, *, most: int | None = None) -> tuple[OwnerCount, ...]:
        query.need_countable()
        return tuple(map(count_of, self._ask("count_by_owner", query=plain(query), most=most)))

    def resources(self) -> tuple[Resource, ...]:
        return tuple(map(resource_of, self._ask("resources")))

    def avus_of_resources(self, *attributes: str) -> Mapping[str, tuple[Avu, ...]]:
        need_attributes(attributes)
        answer = self._ask("avus_of_resources", attributes=list(attributes))
        return {name: avus_of(avus) for name, avus in answer.items()}

    def set_access(self, logical_path: str, user: User, access: Access, *, recursive: bool = False) -> None:
        self._ask("set_access", logical_path=logical_path, user=plain(user), access=access.value, recursive=recursive)

    def set_inheritance(self, collection: str, inherits: bool) -> None:
        self._ask("set_inheritance", collection=collection, inherits=inherits)

    def replicate(self, data_object: str, resource: str) -> None:
        self._ask("replicate", data_object=data_object, resource=resource)

    def trim(self, data_object: str, number: int) -> None:
        self._do("trim", data_object=data_object, number=number)

    def checksum(self, data_object: str) -> str:
        return str(self._ask("checksum", data_object=data_object))

    def register(self, resource: str, files: Sequence[Registration]) -> None:
        if files:  # the gateway refuses to register files, and names the first one
            self._do("register", resource=resource, files=plain(tuple(files[:1])))

    def unregister(self, data_objects: Sequence[str]) -> None:
        for start in range(0, len(data_objects), _A_REQUEST):
            self._ask("unregister", data_objects=list(data_objects[start : start + _A_REQUEST]))

    def put(
        self,
        file: str,
        data_object: str,
        *,
        resource: str = "",
        force: bool = False,
        moved: Callable[[int], None] | None = None,
    ) -> str:
        return transfer.put(self.wire, file, data_object, resource, force, moved or silent)

    def put_all(
        self,
        files: Sequence[tuple[str, str]],
        *,
        resource: str = "",
        force: bool = False,
        moved: Callable[[int], None] | None = None,
    ) -> tuple[str, ...]:
        with pool(_TOGETHER, "put") as threads:
            started = [
                threads.submit(transfer.put, self.wire, file, data_object, resource, force, moved or silent)
                for file, data_object in files
            ]
            return tuple(one.result() for one in started)

    def get(self, data_object: str, file: str, *, moved: Callable[[int], None] | None = None) -> str:
        return transfer.get(self.wire, data_object, file, moved or silent)

    @contextmanager
    def open_to_read(self, data_object: str) -> Iterator[transfer.OpenObject]:
        name = str(self.wire.result("POST", f"{PREFIX}/catalog/open", parameters={"path": data_object}))
        try:
            yield transfer.OpenObject(self.wire, name)
        finally:
            with suppress(ComputeToDataError):
                self.wire.result("DELETE", f"{PREFIX}/catalog/open/{name}")

    def close(self) -> None:
        """Close the connections. The token stays good."""
        self.wire.close()
