"""What the endpoints of the API have in common."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import anyio.to_thread
from fastapi import Depends, Query, Request, params
from starlette.responses import JSONResponse

from compute_to_data.client.workbench import Workbench
from compute_to_data.gateway import request_bounds
from compute_to_data.gateway.problems import HttpError
from compute_to_data.gateway.signing_in.person import Person
from compute_to_data.gateway.who import signed_in
from compute_to_data.similar_names import nearest

PREFIX = "/api/v1"
PROJECT = Query("", max_length=1087, description="the collection to work in; by default the home collection")
A_DOCUMENT: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
}
"""What OpenAPI says of an endpoint that reads a JSON document."""
_LITTLE = 1024
"""Bytes of a body that may turn out to be none."""
OPTIONAL_DOCUMENT: dict[str, Any] = {"requestBody": {**A_DOCUMENT["requestBody"], "required": False}}
CONTENT: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string"}}}}
}


async def workbench(person: Person = Depends(signed_in), project: str = PROJECT) -> Workbench:
    """The person's workbench in the project that the request names. NotFound when they may not read it."""
    found = person.workbench(project)
    if project:
        await anyio.to_thread.run_sync(found.checked_project, found.named_project)
    return found


async def document(request: Request, person: Person = Depends(signed_in)) -> Any:
    """The JSON document in the body, of somebody who has signed in."""
    return await request_bounds.document(request)


async def nothing_unknown(request: Request) -> None:
    """HttpError 400 for what the endpoint would ignore without a word: a parameter that it does not have, one that is
    there twice and can have one value only, and a body where it reads none."""
    _need_known_parameters(request)
    await _need_no_body(request)


def _need_known_parameters(request: Request) -> None:
    known = _parameters(request.scope["endpoint"])
    for name in request.query_params:
        if name not in known:
            near = nearest(name, known)
            remedy = f"Did you mean {near}?" if near else f"It has {', '.join(sorted(known)) or 'none'}"
            raise HttpError(400, f"query parameter {name[:80]}", "this address has no such parameter", remedy)
        if not known[name] and (count := len(request.query_params.getlist(name))) > 1:
            raise HttpError(400, f"query parameter {name}", f"is there {count} times", "Give one value")


async def _need_no_body(request: Request) -> None:
    """Some clients send an empty object where nothing is wanted."""
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    if not has_body or _takes_body(request.scope["endpoint"]) or "requestBody" in _described(request):
        return
    with contextlib.suppress(HttpError):
        if (await request_bounds.body(request, _LITTLE)).strip() in (b"", b"{}", b"null"):
            return
    path = request.url.path[:200]
    raise HttpError(400, "the body", f"{request.method} {path} takes none, and would ignore it", "Send it without")


def _described(request: Request) -> Mapping[str, Any]:
    """What the endpoint itself says for OpenAPI."""
    return getattr(request.scope["route"], "openapi_extra", None) or {}


@functools.cache
def _takes_body(function: Callable[..., Any]) -> bool:
    """Whether an endpoint, or what it depends on, reads a JSON document."""
    defaults = [one.default for one in inspect.signature(function).parameters.values()]
    needed = [one.dependency for one in defaults if isinstance(one, params.Depends) and one.dependency is not None]
    return document in needed or any(map(_takes_body, needed))


@functools.cache
def _parameters(function: Callable[..., Any]) -> Mapping[str, bool]:
    """The query parameters of an endpoint, and of what it depends on; and whether each takes several values."""
    found: dict[str, bool] = {}
    for name, one in inspect.signature(function).parameters.items():
        if isinstance(one.default, params.Query):
            found[one.default.alias or name] = isinstance(one.default.default, list)
        elif isinstance(one.default, params.Depends) and one.default.dependency is not None:
            found.update(_parameters(one.default.dependency))
    return found


def created(location: str, described: Any) -> JSONResponse:
    """The answer for something new, with the path of its address."""
    return JSONResponse(described, 201, {"Location": f"{PREFIX}/{location}"})
