"""How pages answer errors: as a page, with our sentence and what to do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from compute_to_data.errors import ComputeToDataError
from compute_to_data.gateway import problems
from compute_to_data.gateway.pages import kept_forms, rendering
from compute_to_data.gateway.pages.forms import OldProof
from compute_to_data.gateway.pages.sign_in_page import ADDRESS, sign_in_page
from compute_to_data.gateway.pages.visitor import SignInFirst, Visitor, visitor
from compute_to_data.gateway.problems import HttpError
from compute_to_data.plain_text import lines

log = logging.getLogger(__name__)
_LONGEST_NEXT = 2000


class PageRoute(APIRoute):
    """A route whose errors are pages. Who has not signed in is led there first."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with its errors caught."""
        handler = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handler(request)
            except SignInFirst:
                return await sign_in_first(request)
            except OldProof as error:
                return await _once_more(request, error)
            except RequestValidationError as error:
                return await failed(request, HttpError(400, "the address", str(error.errors()[0]["msg"])))
            except ComputeToDataError as error:
                return await failed(request, error)

        return answered


def handle(app: FastAPI) -> None:
    """Let the application answer a browser that looks for an address which is not there with a page."""
    app.add_exception_handler(HTTPException, _of_routes)


async def _of_routes(request: Request, error: Exception) -> Response:
    is_browser = "text/html" in request.headers.get("accept", "")
    if not is_browser or request.url.path.startswith(("/api/", "/ga4gh/")):
        return await problems.of_routes(request, error)
    return await failed(request, problems.of_route(request, error))


async def sign_in_first(request: Request) -> Response:
    """Leads to the page for signing in, and from there back: with what the person filled in, or to the page."""
    kept = await kept_forms.sent_with(request)
    if kept is not None:
        message = "You are not signed in any more. Sign in, and what you have filled in will be there again."
        return sign_in_page(request, 401, message=message, kept=kept)
    back = _page_of(request)
    query = f"?next={quote(back, safe='/')}" if back not in ("", "/") else ""
    return RedirectResponse(f"{ADDRESS}{query}", 303)


def _page_of(request: Request) -> str:
    """The address of the page that was asked for, or on which a form lies: its path, or a beginning of that."""
    path = request.url.path
    if request.method == "GET":
        # As it came: another encoding would be another address for a browser.
        found = b"?".join(filter(None, (request.scope["raw_path"], request.scope["query_string"]))).decode("ascii")
        return found if len(found) <= _LONGEST_NEXT else path
    while path and not problems.has(request, "GET", path):
        path = path.rpartition("/")[0]
    return path


async def _once_more(request: Request, error: OldProof) -> Response:
    """The page with what a form has sent that is older than the person's session."""
    kept, known = kept_forms.of(request, error.sent), await _who(request)
    if kept is None or known is None:
        return await failed(request, error)
    message = "You have signed in again since you opened that page, so it was not taken. It can be sent now."
    return rendering.page(request, "kept.html", known, 403, kept=kept, message=message)


async def failed(request: Request, error: ComputeToDataError) -> Response:
    """The page for an error."""
    described = problems.document(error)
    if described["status"] >= 500:
        log.warning("%s %s: %s", request.method, lines(request.url.path), lines(str(error)))
    answer = rendering.page(request, "error.html", await _who(request), described["status"], problem=described)
    if isinstance(error, HttpError):
        answer.headers.update({name: value for name, value in error.headers.items() if name != "WWW-Authenticate"})
    return answer


async def _who(request: Request) -> Visitor | None:
    """For the head of the page."""
    try:
        return await visitor(request)
    except (SignInFirst, ComputeToDataError):
        return None
