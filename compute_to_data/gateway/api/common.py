"""What the endpoints of the API have in common."""

from __future__ import annotations

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


async def known_parameters(request: Request) -> None:
    """HttpError 400 for a parameter that the endpoint does not have, and for one that is there twice and can have one
    value only: nothing is ignored without a word."""
    known = _parameters(request.scope["endpoint"])
    for name in request.query_params:
        if name not in known:
            near = nearest(name, known)
            remedy = f"Did you mean {near}?" if near else f"It has {', '.join(sorted(known)) or 'none'}"
            raise HttpError(400, f"query parameter {name[:80]}", "this address has no such parameter", remedy)
        if not known[name] and (count := len(request.query_params.getlist(name))) > 1:
            raise HttpError(400, f"query parameter {name}", f"is there {count} times", "Give one value")


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
