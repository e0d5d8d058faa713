"""The methods of the catalog that take and give values: ``POST /api/v1/catalog/<method>`` with the arguments."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Request
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.responses import Response

from compute_to_data import catalog_json as wire
from compute_to_data.bounds import MOST_FOUND, MOST_MEMBERS, MOST_PERMISSIONS
from compute_to_data.catalog_json import plain, text_of
from compute_to_data.errors import Code, InvalidRequest, zone_error
from compute_to_data.gateway import request_bounds
from compute_to_data.gateway.api.common import OPTIONAL_DOCUMENT
from compute_to_data.gateway.hidden import below_hidden
from compute_to_data.gateway.signing_in.person import Person
from compute_to_data.gateway.who import signed_in
from compute_to_data.model import MOST_AMONG, Query
from compute_to_data.ports.zone import ClientCatalog

router = APIRouter()
_MOST_MEMBERS, _MOST_PERMISSIONS = 4 * MOST_MEMBERS, 4 * MOST_PERMISSIONS
Arguments = Mapping[str, Any]
Method = Callable[[ClientCatalog, Arguments], Any]


def _path(arguments: Arguments, name: str = "logical_path") -> str:
    return text_of(arguments[name])


def _flag(arguments: Arguments, name: str) -> bool:
    """True or False: a text such as "false" would count as true."""
    found = arguments[name]
    if not isinstance(found, bool):
        raise TypeError(f"{name}: found {str(found)[:20]!r}, expected true or false")
    return found


def _number(arguments: Arguments, name: str) -> int:
    """An integer: of 0.9, another number would be left."""
    found = arguments[name]
    if type(found) is not int:
        raise TypeError(f"{name}: found {str(found)[:20]!r}, expected an integer")
    return found


def _given_most(arguments: Arguments) -> int | None:
    """The most that a method reads; None for all. A negative number would be none for a database."""
    found = arguments.get("most")
    if found is not None and not (type(found) is int and 0 <= found <= wire.LARGEST):
        raise TypeError(f"most: found {str(found)[:20]!r}, expected a number of at least 0")
    return found


def _most(arguments: Arguments, bound: int) -> int:
    """The same, and at most the gateway's own bound: its memory is everybody's."""
    found = _given_most(arguments)
    return bound if found is None else min(found, bound)


def _query(arguments: Arguments) -> Query:
    """The query; one with a limit that no session would have by itself is bounded as one without."""
    found = wire.query_of(arguments["query"])
    return replace(found, limit=None) if (found.limit or 0) > MOST_FOUND else found


def _create_collection(catalog: ClientCatalog, arguments: Arguments) -> None:
    collection = _path(arguments, "collection")
    with below_hidden(catalog, collection):
        catalog.create_collection(collection, _flag(arguments, "parents"))


def _rename(catalog: ClientCatalog, arguments: Arguments) -> None:
    source, destination = _path(arguments, "source"), _path(arguments, "destination")
    catalog.stat(source)
    with below_hidden(catalog, destination):
        catalog.rename(source, destination)


def _register(catalog: ClientCatalog, arguments: Arguments) -> None:
    """No client registers files, whatever rights the account has that connects for them."""
    for one in map(wire.registration_of, arguments["files"]):
        raise zone_error(Code.PATH_REG_NOT_ALLOWED, one.logical_path, "files are registered by workers only")


def _annotate(catalog: ClientCatalog, arguments: Arguments) -> None:
    added, removed = wire.avus_of(arguments["add"]), wire.avus_of(arguments["remove"])
    catalog.annotate(wire.entity_of(arguments["entity"]), add=added, remove=removed)


def _avus_of(catalog: ClientCatalog, arguments: Arguments) -> Mapping[str, Any]:
    collections = [text_of(one) for one in arguments["collections"]]
    if len(collections) > MOST_AMONG:
        raise ValueError(f"collections: found {len(collections)}, expected at most {MOST_AMONG}")
    return catalog.avus_of(collections, *(text_of(one) for one in arguments["attributes"]))


def _set_access(catalog: ClientCatalog, arguments: Arguments) -> None:
    user, access = wire.user_of(arguments["user"]), wire.access_of(arguments["access"])
    catalog.set_access(_path(arguments), user, access, recursive=_flag(arguments, "recursive"))


METHODS: dict[str, Method] = {
    "stat": lambda catalog, given: catalog.stat(_path(given)),
    "children": lambda catalog, given: catalog.children(_path(given, "collection"), _most(given, _MOST_MEMBERS)),
    "access": lambda catalog, given: catalog.access(_path(given)),
    "permissions": lambda catalog, given: catalog.permissions(_path(given), _most(given, _MOST_PERMISSIONS)),
    "create_collection": _create_collection,
    "remove": lambda catalog, given: catalog.remove(_path(given), recursive=_flag(given, "recursive")),
    "rename": _rename,
    "annotate": _annotate,
    "annotate_all": lambda catalog, given: catalog.annotate_all(
        [text_of(one) for one in given["data_objects"]], wire.avus_of(given["add"])
    ),
    "set_avu": lambda catalog, given: catalog.set_avu(_path(given, "collection"), wire.avus_of([given["avu"]])[0]),
    "avus": lambda catalog, given: catalog.avus(
        wire.entity_of(given["entity"]),
        *(text_of(one) for one in given["attributes"]),
        most=_given_most(given),
    ),
    "avus_of": _avus_of,
    "find": lambda catalog, given: catalog.find(_query(given)),
    "object_id": lambda catalog, given: catalog.object_id(_path(given, "data_object")),
    "object_with_id": lambda catalog, given: catalog.object_with_id(_number(given, "object_id")),
    "query": lambda catalog, given: catalog.query(_query(given)),
    "count_by_owner": lambda catalog, given: catalog.count_by_owner(
        wire.query_of(given["query"]), most=_given_most(given)
    ),
    "resources": lambda catalog, given: catalog.resources(),
    "avus_of_resources": lambda catalog, given: catalog.avus_of_resources(
        *(text_of(one) for one in given["attributes"])
    ),
    "set_access": _set_access,
    "set_inheritance": lambda catalog, given: catalog.set_inheritance(
        _path(given, "collection"), _flag(given, "inherits")
    ),
    "replicate": lambda catalog, given: catalog.replicate(_path(given, "data_object"), text_of(given["resource"])),
    "trim": lambda catalog, given: catalog.trim(_path(given, "data_object"), _number(given, "number")),
    "checksum": lambda catalog, given: catalog.checksum(_path(given, "data_object")),
    "register": _register,
    "unregister": lambda catalog, given: catalog.unregister([text_of(one) for one in given["data_objects"]]),
}


class _MethodName(StringConvertor):
    """The name of a method as a part of an address: others, such as ``content``, are no addresses to post to."""

    regex = "|".join(sorted(METHODS))


register_url_convertor("catalog_method", _MethodName())


@router.post("/{method:catalog_method}", summary="A method of the catalog", openapi_extra=OPTIONAL_DOCUMENT)
async def call(request: Request, method: str, person: Person = Depends(signed_in)) -> Response:
    """The document has the method's arguments by their names in `ports/zone.py`. The answer has its `result`."""
    use = METHODS[method]
    arguments = _arguments(await request_bounds.body(request))

    def called() -> bytes:
        try:
            result = use(person.catalog, arguments)
        except KeyError as error:
            raise InvalidRequest(f"arguments of {method}", f"have no {error}") from error
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"arguments of {method}", str(error)) from error
        return json.dumps({"result": plain(result)}).encode()

    return Response(await anyio.to_thread.run_sync(called), media_type="application/json")


def _arguments(body: bytes) -> Arguments:
    """Unlike in other documents, names may be half of a surrogate pair: the zone itself says what it thinks of them."""
    try:
        found = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("the body", f"is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidRequest("the body", "found no object, expected the arguments by their names")
    return found
