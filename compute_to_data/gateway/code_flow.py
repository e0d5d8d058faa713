"""Signing in with a browser at the identity provider: the code flow with PKCE (RFC 7636), state and nonce.

What is pending is bound to the browser by a cookie of its own, so that nobody can finish what another one began.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

import anyio.to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from compute_to_data.errors import AccessDenied
from compute_to_data.gateway import who
from compute_to_data.gateway.gateway import Gateway
from compute_to_data.gateway.problems import HttpError
from compute_to_data.gateway.signing_in.openid import OpenId

router = APIRouter(prefix="/oidc", tags=["signing in"])
_COOKIE = "c2d_sign_in"
_PENDING_SECONDS = 600
_MOST_PENDING = 10_000


@dataclass(frozen=True)
class _Pending:
    begun: float
    nonce: str
    verifier: str
    browser: str


class Started:
    """What was begun and not finished. It lives in the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: OrderedDict[str, _Pending] = OrderedDict()

    def add(self, state: str, pending: _Pending) -> None:
        """Remember it under its state; the oldest is forgotten when there are too many."""
        with self._lock:
            self._pending[state] = pending
            while len(self._pending) > _MOST_PENDING:
                self._pending.popitem(last=False)

    def take(self, state: str) -> _Pending | None:
        """Once only, and within ten minutes."""
        with self._lock:
            found = self._pending.pop(state, None)
        return found if found is not None and time.monotonic() - found.begun < _PENDING_SECONDS else None


@router.get("/login", summary="Sign in with a browser", response_class=RedirectResponse)
def login(request: Request) -> Response:
    """Leads to the identity provider."""
    openid = _openid(request)
    state, nonce, verifier, browser = (secrets.token_urlsafe(32) for _ in range(4))
    address = openid.provider.sign_in_address(_redirect_url(openid), openid.settings.scope, state, nonce, verifier)
    _of(request).add(state, _Pending(time.monotonic(), nonce, verifier, browser))
    answer = RedirectResponse(address, 302)
    is_secure = request.url.scheme == "https"
    # Lax: the provider's page leads back here.
    answer.set_cookie(_COOKIE, browser, _PENDING_SECONDS, path="/oidc", secure=is_secure, httponly=True, samesite="lax")
    return answer


@router.get("/callback", summary="Where the provider leads back", response_class=HTMLResponse)
async def callback(
    request: Request,
    code: str = Query("", max_length=4096),
    state: str = Query("", max_length=256),
    error: str = Query("", max_length=256),
) -> Response:
    """Only for the browser that began, and once. It gets a cookie with a token."""
    openid = _openid(request)
    pending = _of(request).take(state)
    browser = request.cookies.get(_COOKIE, "")
    if pending is None or not hmac.compare_digest(pending.browser.encode(), browser.encode()):
        raise HttpError(
            400, "signing in", "was not begun in this browser, or is finished already", "Begin at /oidc/login"
        )
    if error or not code:
        raise who.not_signed_in(request, f"the provider says: {error or 'nothing'}")
    gateway: Gateway = request.app.state.gateway

    def signed_in() -> tuple[str, str, float]:
        token = openid.provider.exchanged(code, pending.verifier, _redirect_url(openid))
        claims = openid.claims(token, audience=openid.settings.client_id, nonce=pending.nonce)
        person = gateway.people.named_by(claims)
        given = gateway.people.tokens.give(person)
        return str(person.user), given, gateway.people.tokens.seconds_left(given)

    try:
        user, given, seconds = await anyio.to_thread.run_sync(signed_in)
    except AccessDenied as problem:
        raise who.not_signed_in(request, problem.cause) from None
    request.state.user = user
    answer = who.entered(request, given, seconds)
    answer.delete_cookie(_COOKIE, path="/oidc")
    return answer


def _of(request: Request) -> Started:
    found: Started = request.app.state.started
    return found


def _openid(request: Request) -> OpenId:
    gateway: Gateway = request.app.state.gateway
    if gateway.people.openid is None:
        raise HttpError(404, "/oidc", "this gateway knows no identity provider", "Sign in with POST /authenticate")
    return gateway.people.openid


def _redirect_url(openid: OpenId) -> str:
    """From the settings: the header Host is the client's choice."""
    if not openid.settings.url:
        raise HttpError(404, "/oidc/login", "the settings do not say the gateway's own address", "Set openid.url")
    return f"{openid.settings.url.rstrip('/')}/oidc/callback"
