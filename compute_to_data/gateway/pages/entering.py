"""Signing in at a page: with a password, with the one-time token of ``c2d serve``, or at the identity provider."""

from __future__ import annotations

import secrets

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import RedirectResponse, Response

from compute_to_data.errors import AccessDenied
from compute_to_data.gateway import who
from compute_to_data.gateway.pages import forms, rendering
from compute_to_data.gateway.pages.forms import Form, form
from compute_to_data.gateway.pages.route import SIGN_IN, PageRoute
from compute_to_data.gateway.pages.visitor import (
    PROOF,
    SignInFirst,
    gateway_of,
    need_proof,
    proof_for,
    token_of,
    visitor,
)
from compute_to_data.gateway.problems import HttpError, status_of
from compute_to_data.gateway.signing_in.person import Person

router = APIRouter(route_class=PageRoute, include_in_schema=False)
FIRST = "/tasks"
_COOKIE = "c2d_form"
"""Binds the form for signing in to the browser that asked for it."""


@router.get("/")
async def first(request: Request, token: str = Query("", max_length=256)) -> Response:
    """The first page; with the one-time token that ``c2d serve`` printed, signed in."""
    if not token:
        await visitor(request)
        return RedirectResponse(FIRST, 303)
    people = gateway_of(request).people
    person = await anyio.to_thread.run_sync(people.with_one_time_token, token)
    if person is None:
        try:
            await visitor(request)
        except SignInFirst:
            cause = "The address with the token works once. Sign in with a password, or start c2d serve again."
            return _sign_in_page(request, 401, message=cause)
        return RedirectResponse(FIRST, 303)
    given = _token(request, person)
    return who.entered(request, given, people.tokens.seconds_left(given))


@router.get(SIGN_IN)
async def sign_in_page(request: Request, next: str = Query("", max_length=2000)) -> Response:
    """The form."""
    return _sign_in_page(request, 200, next=next)


def _sign_in_page(request: Request, status: int, *, name: str = "", next: str = "", message: str = "") -> Response:
    browser = request.cookies.get(_COOKIE, "") or secrets.token_urlsafe(32)
    gateway = gateway_of(request)
    answer = rendering.page(
        request,
        "sign_in.html",
        None,
        status,
        proof=proof_for(browser),
        zone=gateway.entrance.zone,
        has_provider=gateway.people.openid is not None and bool(gateway.people.openid.settings.url),
        name=name,
        next=next,
        message=message,
    )
    is_secure = request.url.scheme == "https"
    answer.set_cookie(_COOKIE, browser, path=SIGN_IN, secure=is_secure, httponly=True, samesite="strict")
    return answer


@router.post(SIGN_IN)
async def sign_in(request: Request) -> Response:
    """Give a new token for the right password. A token that the browser already has ends."""
    sent = await forms.read(request)
    need_proof(sent.one(PROOF), request.cookies.get(_COOKIE, ""))
    name, next = sent.one("name").strip(), sent.one("next")
    if not name or not sent.one("password") or "\0" in name:
        return _sign_in_page(request, 400, name=name, next=next, message="Give your user name and your password.")
    people = gateway_of(request).people
    try:
        person = await who.with_password(request, name, sent.one("password"))
    except (AccessDenied, HttpError) as error:
        status = status_of(error)
        cause = "This user name and password do not belong together." if status == 401 else f"{error.cause}."
        answer = _sign_in_page(request, status, name=name, next=next, message=cause[:1].upper() + cause[1:])
        answer.headers.update(error.headers if isinstance(error, HttpError) else {})
        return answer
    given = _token(request, person)
    answer = RedirectResponse(next if _is_ours(next) else FIRST, 303)
    answer.delete_cookie(_COOKIE, path=SIGN_IN)
    who.set_cookie(answer, request, given, people.tokens.seconds_left(given))
    return answer


def _token(request: Request, person: Person) -> str:
    """A new token. The one that the browser had ends, so nobody who knows that one gains anything."""
    people = gateway_of(request).people
    people.tokens.end(token_of(request))
    request.state.user = str(person.user)
    return people.tokens.give(person)


def _is_ours(path: str) -> bool:
    """Whether an address leads to this gateway, as every browser reads it."""
    return (
        path.startswith("/")
        and not path.startswith("//")
        and path.isascii()
        and path.isprintable()
        and ("\\" not in path)
    )


@router.post("/sign-out")
async def sign_out(request: Request, sent: Form = Depends(form)) -> Response:
    """The token is good for nothing any more."""
    gateway_of(request).people.tokens.end(token_of(request))
    answer = RedirectResponse(SIGN_IN, 303)
    answer.delete_cookie(who.COOKIE, path="/")
    return answer
