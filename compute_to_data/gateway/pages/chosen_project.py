"""The project that a person chose at the pages: a cookie of their browser. It gives no rights."""

from __future__ import annotations

from urllib.parse import quote, unquote

from fastapi import Request
from starlette.responses import Response

LONGEST = 1087
_COOKIE = "c2d_project"
_SECONDS = 30 * 86400


def of(request: Request, user: str) -> str:
    """The logical path of the project that this user chose in this browser; '' for none."""
    owner, _, path = request.cookies.get(_COOKIE, "").partition("&")
    found = unquote(path) if unquote(owner) == user else ""
    return found if found.startswith("/") and len(found) <= LONGEST and "\0" not in found else ""


def keep(answer: Response, request: Request, user: str, path: str) -> None:
    """Let the browser keep it; '' for none."""
    if not path:
        answer.delete_cookie(_COOKIE, path="/")
        return
    value = f"{quote(user, safe='')}&{quote(path, safe='')}"
    is_secure = request.url.scheme == "https"
    answer.set_cookie(_COOKIE, value, _SECONDS, path="/", secure=is_secure, httponly=True, samesite="strict")
