"""``/authenticate``: a token for a password, as the iRODS HTTP API gives one."""

from __future__ import annotations

import time

import anyio.to_thread
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from compute_to_data.errors import AccessDenied
from compute_to_data.gateway import who
from compute_to_data.gateway.gateway import Gateway
from compute_to_data.gateway.problems import HttpError
from compute_to_data.gateway.signing_in.person import Person
from compute_to_data.records.task import timestamp

router = APIRouter(tags=["signing in"])


@router.post("/authenticate", summary="Get a token", response_class=PlainTextResponse)
async def authenticate(request: Request) -> Response:
    """With HTTP Basic, the name and password of an iRODS user; or as a bearer the one-time token that `c2d serve` has
    printed, or a token of the identity provider. The answer is the token as plain text; with
    `Accept: application/json` an object with `token`, `user` and `expires`."""
    gateway: Gateway = request.app.state.gateway
    person = await _person(request, gateway)
    token = gateway.people.tokens.give(person)
    request.state.user = str(person.user)
    if "application/json" not in request.headers.get("accept", ""):
        return PlainTextResponse(token)
    expires = time.time() + gateway.people.tokens.seconds_left(token)
    return JSONResponse({"token": token, "user": str(person.user), "expires": timestamp(expires)})


async def _person(request: Request, gateway: Gateway) -> Person:
    scheme, value = who.authorization(request)
    if scheme == "bearer" and gateway.people.openid is not None and value.count(".") == 2:
        return await who.signed_in(request)
    if scheme == "bearer":
        found = await anyio.to_thread.run_sync(gateway.people.with_one_time_token, value)
        if found is None:
            raise who.not_signed_in(request, "that is not the one-time token, or it was used already")
        return found
    if scheme != "basic":
        raise who.not_signed_in(request, "no name and password are given")
    name, password = who.basic(request, value)
    try:
        return await who.with_password(request, name, password)
    except AccessDenied as error:
        raise who.not_signed_in(request, error.cause) from None


@router.delete("/authenticate", status_code=204, summary="End a token")
async def end(request: Request) -> Response:
    """The token in `Authorization: Bearer` is good for nothing any more."""
    gateway: Gateway = request.app.state.gateway
    scheme, value = who.authorization(request)
    if scheme != "bearer" or not gateway.people.tokens.end(value):
        raise HttpError(401, "signing out", "the token is unknown or has expired")
    return Response(status_code=204)
