"""``/api/process_definition/``: stored process definitions, with the addresses and documents of a process registry.

The id of a definition is the catalog's id of its data object, so it stays when that is moved or changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import JSONResponse, Response

from compute_to_data.client import processes
from compute_to_data.client.processes import Process
from compute_to_data.client.workbench import Workbench
from compute_to_data.errors import InvalidRequest, NotFound
from compute_to_data.gateway.api.common import A_DOCUMENT, document, nothing_unknown, workbench
from compute_to_data.similar_names import nearest

PREFIX = "/api/process_definition"
MOST_LISTED = 1000
_LONGEST_ID = 19
_MOST_COUNTED = 10_000
"""Anybody can share any number of definitions."""
_SET_BY_US = ("id", "resource_uri")
_MEMBERS = ("definition", "name", *_SET_BY_US)

router = APIRouter(prefix=PREFIX, tags=["process registry"], dependencies=[Depends(nothing_unknown)])


def definition_id(process_id: str) -> str:
    """The id in the path. NotFound for what is no id: a name or a path names nothing here."""
    if not (process_id.isascii() and process_id.isdigit() and len(process_id) <= _LONGEST_ID):
        raise NotFound(f"process definition {process_id[:80]}", "ids are numbers", f"GET {PREFIX}/ lists them")
    return process_id


@router.get("", include_in_schema=False)
@router.get("/", summary="The process definitions that you may read, oldest first")
def listed(
    request: Request,
    bench: Workbench = Depends(workbench),
    limit: int = Query(20, ge=0, le=MOST_LISTED, description=f"at most so many; 0 stands for {MOST_LISTED}"),
    offset: int = Query(0, ge=0, le=1 << 53, description="without so many at the beginning"),
) -> Any:
    """Your own and those that others share with you. `meta` says how many there are, and has the addresses of the
    page before and of the next one. More than the 10,000 newest are not counted, except your own."""
    most = limit or MOST_LISTED
    paths = processes.paths(bench, _MOST_COUNTED)
    found = []
    for path in paths[offset : offset + most]:
        try:
            found.append(processes.describe(bench, path))
        except NotFound:
            continue  # it was removed meanwhile
    before, after = offset - most, offset + most
    kept = {name: value for name, value in request.query_params.items() if name == "project"}
    meta = {
        "limit": most,
        "next": _page(most, after, kept) if after < len(paths) else None,
        "offset": offset,
        "previous": _page(most, max(0, before), kept) if offset else None,
        "total_count": len(paths),
    }
    return {"meta": meta, "objects": [_described(one) for one in found]}


def _page(limit: int, offset: int, kept: Mapping[str, str]) -> str:
    return f"{PREFIX}/?{urlencode({'limit': limit, 'offset': offset, **kept})}"


@router.post("", include_in_schema=False)
@router.post("/", status_code=201, summary="Store a process definition", openapi_extra=A_DOCUMENT)
def create(bench: Workbench = Depends(workbench), asked: Any = Depends(document)) -> JSONResponse:
    """The document is `{"definition": {...}}`, perhaps with a `name`. 201 with `Location`."""
    body = _body(asked)
    for member in _SET_BY_US:
        if member in body:
            raise InvalidRequest(f"/{member}", "is the zone's choice", "Leave it out, or change that one with PUT")
    made = processes.create(bench, body["definition"], str(body.get("name", "")), needs_image=False)
    return JSONResponse(_described(made), 201, {"Location": _address(made.id)})


@router.get("/{process_id}", include_in_schema=False)
@router.get("/{process_id}/", summary="A process definition")
def one(process_id: str = Depends(definition_id), bench: Workbench = Depends(workbench)) -> Any:
    """`definition`, `id` and `resource_uri`; `problem` if the definition is not valid any more."""
    return _described(processes.describe(bench, process_id))


@router.put("/{process_id}", include_in_schema=False)
@router.put("/{process_id}/", summary="Replace a process definition", openapi_extra=A_DOCUMENT)
def replace(
    process_id: str = Depends(definition_id), bench: Workbench = Depends(workbench), asked: Any = Depends(document)
) -> Any:
    """It keeps its id and its name. 403 if you may only read it."""
    body = _body(asked)
    own = {"id": int(process_id), "resource_uri": _address(int(process_id))}
    for member, value in own.items():
        if body.get(member, value) not in (value, str(value)):
            raise InvalidRequest(
                f"/{member}", f"is not that of {own['resource_uri']}", "Leave it out, or take both from GET"
            )
    name = processes.describe(bench, process_id).name
    if body.get("name", name) != name:
        raise InvalidRequest("/name", f"a definition keeps its name, which is {name}", "Leave it out")
    return _described(processes.update(bench, process_id, body["definition"], needs_image=False))


@router.delete("/{process_id}", include_in_schema=False)
@router.delete("/{process_id}/", status_code=204, summary="Delete a process definition")
def delete(process_id: str = Depends(definition_id), bench: Workbench = Depends(workbench)) -> Response:
    """Tasks that it ran keep their own copy."""
    processes.delete(bench, process_id)
    return Response(status_code=204)


def _address(number: int) -> str:
    return f"{PREFIX}/{number}/"


def _described(process: Process) -> dict[str, Any]:
    found = {"definition": dict(process.document), "id": process.id, "name": process.name}
    return {**found, "resource_uri": _address(process.id), **({"problem": process.problem} if process.problem else {})}


def _body(asked: Any) -> Mapping[str, Any]:
    """The document of a request. InvalidRequest unless it has a definition, and nothing unknown."""
    if not isinstance(asked, dict) or not isinstance(asked.get("definition"), dict):
        remedy = 'Send {"definition": {"exec": "...", ...}}'
        raise InvalidRequest("document", "has no definition that is an object", remedy)
    for member in asked:
        if member not in _MEMBERS:
            near = nearest(member, _MEMBERS)
            remedy = f"Did you mean {near}?" if near else f"It may have {', '.join(_MEMBERS)}"
            raise InvalidRequest(f"/{member[:80]}", "is not known here", remedy)
    if not isinstance(asked.get("name", ""), str):
        raise InvalidRequest("/name", "is no string")
    return asked
