"""All of ``/api/v1/catalog``, and what a client needs to know of the site."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from starlette.responses import Response

from compute_to_data.catalog_json import plain
from compute_to_data.coordination import capabilities
from compute_to_data.gateway.api.common import PREFIX, nothing_unknown
from compute_to_data.gateway.api.content import HEADERS
from compute_to_data.gateway.catalog import methods, transfers
from compute_to_data.gateway.gateway import Gateway
from compute_to_data.gateway.signing_in.person import Person
from compute_to_data.gateway.who import signed_in

_LONGEST_READ = 1 << 22
_BYTES: dict[int | str, dict[str, Any]] = {200: {"content": {"application/octet-stream": {}}}}
router = APIRouter()


@router.post("/open", summary="Open a data object")
def open_to_read(request: Request, path: str = transfers.PATH, person: Person = Depends(signed_in)) -> Any:
    """The `result` is a name for the next two. It ends after two minutes without use."""
    return {"result": _gateway(request).handles.open(person.catalog, path)}


@router.get("/open/{name}", summary="Read a part of an open data object", response_class=Response, responses=_BYTES)
def read_part(
    request: Request,
    name: str,
    offset: int = Query(..., ge=0, le=1 << 62),
    size: int = Query(..., ge=0, le=1 << 40),
    person: Person = Depends(signed_in),
) -> Response:
    """At most 4 MiB at a time."""
    content = _gateway(request).handles.read(person.user, name, offset, min(size, _LONGEST_READ))
    return Response(content, media_type="application/octet-stream", headers=HEADERS)


@router.delete("/open/{name}", status_code=204, summary="Close a data object")
def close(request: Request, name: str, person: Person = Depends(signed_in)) -> Response:
    """It can be read no more."""
    _gateway(request).handles.close(person.user, name)
    return Response(status_code=204)


@router.get("/site", summary="What the site allows")
def site(request: Request, person: Person = Depends(signed_in)) -> Any:
    """`capabilities` as workers publish them; `on_demand`: whether a submission starts a worker."""
    found = _gateway(request).site_access.configuration(person.catalog)
    described = plain(tuple(capabilities.described(found)))
    return {"result": {"capabilities": described, "on_demand": found.worker.on_demand}}


@router.get("/held_images", summary="The images that the engine of a resource holds")
def held_images(
    request: Request, resource: str = Query(...), image: str = Query(""), person: Person = Depends(signed_in)
) -> Any:
    """`names` and `is_complete`, or null when that is not known."""
    found = _gateway(request).site_access.held_images(person.catalog, resource, image)
    return {"result": plain(found)}


@router.post("/call_worker", status_code=204, summary="Wake the worker of a task")
def call_worker(request: Request, path: str = transfers.PATH, person: Person = Depends(signed_in)) -> Response:
    """Where the gateway can. `path`: the task's collection, which the person may read."""
    person.catalog.stat(path)
    _gateway(request).site_access.call_worker(person.catalog, path)
    return Response(status_code=204)


def include(app: FastAPI) -> None:
    """Add them to the application. The methods come last: their address fits any name."""
    for one in (transfers.router, router, methods.router):
        more = [Depends(nothing_unknown)]
        app.include_router(one, prefix=f"{PREFIX}/catalog", tags=["catalog"], dependencies=more)


def _gateway(request: Request) -> Gateway:
    found: Gateway = request.app.state.gateway
    return found
