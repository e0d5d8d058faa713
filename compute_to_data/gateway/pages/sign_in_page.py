"""The page for signing in, which somebody may come to with a form that they have filled in elsewhere."""

from __future__ import annotations

import secrets

from fastapi import Request
from starlette.responses import Response

from compute_to_data.gateway.pages import rendering
from compute_to_data.gateway.pages.kept_forms import KeptForm
from compute_to_data.gateway.pages.visitor import gateway_of, proof_for

ADDRESS = "/sign-in"
COOKIE = "c2d_form"
"""Binds the form for signing in to the browser that asked for it."""


def sign_in_page(
    request: Request, status: int, *, name: str = "", next: str = "", message: str = "", kept: KeptForm | None = None
) -> Response:
    """The page. ``next``: where to go afterwards. ``kept``: what to show again afterwards."""
    browser = request.cookies.get(COOKIE, "") or secrets.token_urlsafe(32)
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
        kept=kept,
    )
    is_secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, browser, path=ADDRESS, secure=is_secure, httponly=True, samesite="strict")
    return answer
