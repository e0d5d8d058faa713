"""Which requests are refused before anything looks at them: too large, ambiguous, half understood, or forged."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes, urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from compute_to_data.gateway.problems import HttpError
from compute_to_data.gateway.request_bounds import HEADER_BYTES

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_ONCE = (b"authorization", b"origin", b"sec-fetch-site", b"content-type")
"""Headers that decide about rights; h11 itself refuses a second Host."""
_CONDITIONS = (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"content-range")
"""Headers by which a change is wanted under a condition only, or is a part of one."""


def refusal(scope: Scope) -> HttpError | None:
    """Why the request is not looked at, if it is not."""
    size = len(scope["raw_path"]) + len(scope["query_string"])
    if size + sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
        # h11 bounds what comes in several pieces, not what comes in one.
        return HttpError(431, "the request", f"has more than {HEADER_BYTES} bytes of address and headers")
    ambiguous = _ambiguous(scope)
    if ambiguous:
        return HttpError(400, "the request", ambiguous, headers={"Connection": "close"})
    if is_cross_site(scope):
        return HttpError(403, "the request", "a page of another site asks for this change")
    return _not_understood(scope)


def _ambiguous(scope: Scope) -> str:
    """Why a proxy could read the request differently, or '' (RFC 9112, 6.3: request smuggling)."""
    names = [name for name, _ in scope["headers"]]
    if b"content-length" in names and b"transfer-encoding" in names:
        return "has both Content-Length and Transfer-Encoding"
    twice = next((name for name in _ONCE if names.count(name) > 1), b"")
    return f"has the header {twice.decode()} twice" if twice else ""


def is_cross_site(scope: Scope) -> bool:
    """Whether a browser sends a change on behalf of a page of another site (cross-site request forgery)."""
    if scope["method"] in _SAFE_METHODS:
        return False
    headers = Headers(scope=scope)
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    origin = headers.get("origin", "")
    return bool(origin) and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


def _not_understood(scope: Scope) -> HttpError | None:
    """Why a part of the request would have no effect, or another one than meant."""
    try:
        unquote_to_bytes(scope["raw_path"] + scope["query_string"]).decode()
    except UnicodeDecodeError:
        # Else another letter would stand for the bytes, in the name of what is stored.
        return HttpError(400, "the address", "is not UTF-8", "Encode it as UTF-8, and then with % and two digits")
    given = dict(scope["headers"])
    if given.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
        cause, remedy = "the body is encoded, and would be taken as it is", "Send it without Content-Encoding"
        return HttpError(415, "header Content-Encoding", cause, remedy, headers={"Accept-Encoding": "identity"})
    if scope["method"] not in _SAFE_METHODS:
        for name in _CONDITIONS:
            if name in given:
                subject = f"header {name.decode().title()}"
                return HttpError(400, subject, "a change takes no conditions and no parts", "Send it without")
    return None
