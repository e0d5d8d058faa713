"""Who a request comes from: the dependency of every endpoint that acts for somebody."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import urlsplit

import anyio.to_thread
from fastapi import Request
from starlette.responses import HTMLResponse, Response

from compute_to_data.errors import AccessDenied
from compute_to_data.gateway.gateway import Gateway
from compute_to_data.gateway.problems import HttpError
from compute_to_data.gateway.signing_in.person import Person

_LONGEST_HEADER = 20_000
COOKIE = "c2d_session"
_ENTERED = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=/">
<title>Signed in</title><p>You are signed in. <a href="/">Go on</a></p></html>"""


async def signed_in(request: Request) -> Person:
    """The person, by ``Authorization: Bearer`` or ``Basic``. HttpError 401, or 429 after many wrong passwords."""
    gateway: Gateway = request.app.state.gateway
    scheme, value = authorization(request)
    person = None
    if scheme == "bearer":
        person = await _bearer(request, gateway, value)
    elif not scheme:
        person = _with_cookie(request, gateway)
    elif scheme == "basic":
        name, password = basic(request, value)
        try:
            person = await with_password(request, name, password, is_remembered=True)
        except AccessDenied as error:
            raise not_signed_in(request, error.cause) from None
    if person is None:
        cause = "the token is unknown or has expired" if scheme == "bearer" else "nobody has signed in"
        raise not_signed_in(request, cause)
    request.state.user = str(person.user)
    gateway.shares.begin(request, str(person.user))
    return person


async def with_password(request: Request, name: str, password: str, *, is_remembered: bool = False) -> Person:
    """The person, when it is their turn and the password is right. ``is_remembered``: a check of the last minute is
    as good. Errors as for ``People.with_password``, and HttpError 503 when too many sign in at the same time."""
    people, address = request.app.state.gateway.people, address_of(request)
    found: Person | None = people.remembered(name, password) if is_remembered else None
    if found is not None:
        return found
    async with people.turns.one(name, address):
        check = people.with_basic if is_remembered else people.with_password
        return await anyio.to_thread.run_sync(check, name, password, address)


async def _bearer(request: Request, gateway: Gateway, value: str) -> Person | None:
    """By one of our tokens, or by one of the identity provider (a JWT: three parts)."""
    if gateway.people.openid is None or value.count(".") != 2:
        return gateway.people.tokens.person(value)
    try:
        return await anyio.to_thread.run_sync(gateway.people.with_provider, value)
    except AccessDenied as error:
        raise not_signed_in(request, error.cause) from None


def _with_cookie(request: Request, gateway: Gateway) -> Person | None:
    """By the cookie of a browser, which it sends by itself: a change must show that our own page asks for it."""
    token = request.cookies.get(COOKIE, "")
    if not token:
        return None
    if request.method not in ("GET", "HEAD", "OPTIONS") and not is_from_own_page(request):
        raise HttpError(403, "the request", "does not say that a page of this gateway asks for the change")
    return gateway.people.tokens.person(token)


def is_from_own_page(request: Request) -> bool:
    """Whether the browser says that a page of this gateway sends the request."""
    origin = urlsplit(request.headers.get("origin", "")).netloc.lower()
    return origin == request.headers.get("host", "").lower() or request.headers.get("sec-fetch-site") == "same-origin"


def entered(request: Request, token: str, seconds: float) -> Response:
    """The answer that lets a browser keep a token, and leads to the first page.

    It is no redirect: a browser does not send the new cookie along with one that another site began.
    """
    answer = HTMLResponse(_ENTERED)
    set_cookie(answer, request, token, seconds)
    return answer


def set_cookie(answer: Response, request: Request, token: str, seconds: float) -> None:
    """Let a browser keep a token. Scripts cannot read it, and other sites cannot have it sent."""
    is_secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, token, int(seconds), path="/", secure=is_secure, httponly=True, samesite="strict")


def authorization(request: Request) -> tuple[str, str]:
    """The scheme, in lower case, and what follows it; '' and '' without the header."""
    header = request.headers.get("authorization", "")[:_LONGEST_HEADER]
    scheme, _, value = header.partition(" ")
    return scheme.lower(), value.strip()


def basic(request: Request, value: str) -> tuple[str, str]:
    """Name and password of HTTP Basic (RFC 7617, UTF-8). HttpError 401 for anything else."""
    try:
        name, colon, password = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise not_signed_in(request, "the header Authorization is not that of HTTP Basic") from None
    if not colon or not name or "\0" in name + password:
        raise not_signed_in(request, "the header Authorization has no name or no password")
    return name, password


def address_of(request: Request) -> str:
    """The client's address; behind a proxy that the settings name, the one that the proxy gives."""
    return request.client.host if request.client else "-"


def not_signed_in(request: Request, cause: str) -> HttpError:
    """The answer to somebody unknown. A page in a browser gets no challenge for Basic: the browser would ask for the
    password itself, keep it, and send it along with whatever other sites ask for."""
    is_page = "sec-fetch-mode" in request.headers or "text/html" in request.headers.get("accept", "")
    realm = 'realm="compute-to-data"'
    challenge = f"Bearer {realm}" if is_page else f'Basic {realm}, charset="UTF-8", Bearer {realm}'
    return HttpError(401, "signing in", cause, "POST /authenticate", headers={"WWW-Authenticate": challenge})
