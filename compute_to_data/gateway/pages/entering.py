"""Signing in at a page: with a password, with the one-time token of ``c2d serve``, or at the identity provider."""

from __future__ import annotations

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import RedirectResponse, Response

from compute_to_data.errors import AccessDenied
from compute_to_data.gateway import who
from compute_to_data.gateway.pages import chosen_project, forms, kept_forms, rendering
from compute_to_data.gateway.pages.forms import Form, form
from compute_to_data.gateway.pages.kept_forms import KeptForm
from compute_to_data.gateway.pages.route import PageRoute
from compute_to_data.gateway.pages.sign_in_page import ADDRESS, COOKIE, sign_in_page
from compute_to_data.gateway.pages.visitor import (
    PROOF,
    SignInFirst,
    Visitor,
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
            return sign_in_page(request, 401, message=cause)
        return RedirectResponse(FIRST, 303)
    given = _token(request, person)
    return who.entered(request, given, people.tokens.seconds_left(given))


@router.get(ADDRESS)
async def show_sign_in_page(request: Request, next: str = Query("", max_length=2000)) -> Response:
    """The form."""
    return sign_in_page(request, 200, next=next)


@router.post(ADDRESS)
async def sign_in(request: Request) -> Response:
    """Give a new token for the right password. A token that the browser already has ends."""
    sent = await forms.read(request)
    name, next, kept = sent.one("name").strip(), sent.one("next"), kept_forms.brought_back(sent)

    def again(status: int, message: str) -> Response:
        return sign_in_page(request, status, name=name, next=next, message=message, kept=kept)

    try:
        need_proof(sent.one(PROOF), request.cookies.get(COOKIE, ""))
    except HttpError as error:
        if not who.is_from_own_page(request):
            raise
        return again(error.status, "That page was out of date. Sign in here.")
    if not name or not sent.one("password") or "\0" in name:
        return again(400, "Give your user name and your password.")
    people = gateway_of(request).people
    try:
        person = await who.with_password(request, name, sent.one("password"))
    except (AccessDenied, HttpError) as error:
        status = status_of(error)
        cause = "This user name and password do not belong together." if status == 401 else f"{error.cause}."
        answer = again(status, cause[:1].upper() + cause[1:])
        answer.headers.update(error.headers if isinstance(error, HttpError) else {})
        return answer
    given = _token(request, person)
    answer = _kept(request, person, given, kept) if kept else RedirectResponse(next if _is_ours(next) else FIRST, 303)
    who.set_cookie(answer, request, given, people.tokens.seconds_left(given))
    return answer


def _kept(request: Request, person: Person, token: str, kept: KeptForm) -> Response:
    """The page with what the person had filled in when they were not signed in any more."""
    known = Visitor(person, proof_for(token), chosen_project.of(request, str(person.user)))
    message = "You are signed in again. Nothing was sent while you were not."
    return rendering.page(request, "kept.html", known, kept=kept, message=message)


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
    answer = RedirectResponse(ADDRESS, 303)
    answer.delete_cookie(who.COOKIE, path="/")
    return answer
