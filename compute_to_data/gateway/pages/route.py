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
from compute_to_data.gateway.pages import rendering
from compute_to_data.gateway.pages.visitor import SignInFirst, Visitor, visitor
from compute_to_data.gateway.problems import HttpError
from compute_to_data.plain_text import lines

log = logging.getLogger(__name__)
SIGN_IN = "/sign-in"


class PageRoute(APIRoute):
    """A route whose errors are pages. Who has not signed in is led there first."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with its errors caught."""
        handler = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handler(request)
            except SignInFirst:
                return sign_in_first(request)
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


def sign_in_first(request: Request) -> Response:
    """Leads to the page for signing in, and from there back to a page that was only looked at."""
    back = request.url.path if request.method == "GET" else ""
    query = f"?next={quote(back, safe='/')}" if back not in ("", "/") else ""
    return RedirectResponse(f"{SIGN_IN}{query}", 303)


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
