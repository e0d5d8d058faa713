"""Errors as problem documents (RFC 9457): what is wrong, with what, what to do, and the iRODS code.

A problem has the standard members ``type``, ``title``, ``status`` and ``detail`` (the whole sentence), and ours:
``error`` (the class in ``errors.py``), ``subject``, ``cause``, ``remedy``, ``code`` and ``code_name``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from compute_to_data.catalog_json import plain
from compute_to_data.errors import (
    AccessDenied,
    AlreadyExists,
    Code,
    ComputeToDataError,
    ConfigurationError,
    InvalidRequest,
    NotFound,
    OutOfReach,
    Refused,
    TaskFailed,
    TooLarge,
)
from compute_to_data.plain_text import lines

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
_NOT_SIGNED_IN = frozenset({Code.CAT_INVALID_AUTHENTICATION, Code.CAT_PASSWORD_EXPIRED})
_OF_CODE = {
    Code.SYS_INVALID_FILE_PATH: 400,
    Code.USER_INPUT_PATH_ERR: 400,
    Code.CAT_INVALID_ARGUMENT: 400,
    Code.SYS_INVALID_INPUT_PARAM: 400,
    Code.DIRECT_CHILD_ACCESS: 400,
    Code.CAT_COLLECTION_NOT_EMPTY: 409,
    Code.CAT_RECURSIVE_MOVE: 409,
    Code.USER_INCOMPATIBLE_PARAMS: 409,
    Code.INTERMEDIATE_REPLICA_ACCESS: 409,
    Code.LOCKED_DATA_OBJECT_ACCESS: 409,
    Code.SYS_REPLICA_DOES_NOT_EXIST: 409,
    Code.USER_CHKSUM_MISMATCH: 409,
    Code.SYS_RESC_QUOTA_EXCEEDED: 507,
    Code.SYS_RESC_IS_DOWN: 503,
    Code.SYS_REPLICA_INACCESSIBLE: 503,
    Code.HIERARCHY_ERROR: 503,
}
"""The status for an error of the zone that no class below decides."""
_OF_CLASS: tuple[tuple[type[ComputeToDataError], int], ...] = (
    (OutOfReach, 503),
    (NotFound, 404),
    (AccessDenied, 403),
    (AlreadyExists, 409),
    (TooLarge, 413),
    (InvalidRequest, 400),
    (Refused, 422),
    (TaskFailed, 409),
    (ConfigurationError, 500),
)


_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
_WORDS, _NUMBER = {"type": "string"}, {"type": "integer"}
RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "What is wrong, with what, and what to do (RFC 9457)",
        "content": {
            MEDIA_TYPE: {
                "schema": {
                    "title": "Problem",
                    "type": "object",
                    "properties": {
                        **dict.fromkeys(("type", "title", "detail"), _WORDS),
                        **dict.fromkeys(("error", "subject", "cause", "remedy", "code_name"), _WORDS),
                        **dict.fromkeys(("status", "code"), _NUMBER),
                    },
                    "required": ["type", "title", "status", "detail", "error", "subject", "cause", "remedy", "code"],
                }
            }
        },
    }
}
"""What OpenAPI says about each answer that is no success."""


class HttpError(ComputeToDataError):
    """An error of the gateway itself, with its HTTP status and further headers of the answer."""

    def __init__(
        self, status: int, subject: str, cause: str, remedy: str = "", *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(subject, cause, remedy, code=_code_of(status))
        self.status = status
        self.headers = dict(headers or {})


def _code_of(status: int) -> Code:
    codes = {401: Code.CAT_INVALID_AUTHENTICATION, 403: Code.SYS_NO_API_PRIV, 404: Code.USER_FILE_DOES_NOT_EXIST}
    return codes.get(status, Code.SYS_INVALID_INPUT_PARAM if status < 500 else Code.SYS_INTERNAL_ERR)


def status_of(error: ComputeToDataError) -> int:
    """The HTTP status for one of our errors."""
    if isinstance(error, HttpError):
        return error.status
    if error.code in _NOT_SIGNED_IN:
        return 401
    for kind, status in _OF_CLASS:
        if isinstance(error, kind):
            return status
    return _OF_CODE.get(error.code, 500)


def document(error: ComputeToDataError) -> dict[str, Any]:
    """The members of the problem document for one of our errors."""
    status = status_of(error)
    first = {"first": plain(error.first)} if isinstance(error, TooLarge) and error.first else {}
    return {
        "type": f"urn:compute-to-data:error:{type(error).__name__}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": lines(str(error)),
        "error": type(error).__name__,
        "subject": error.subject,
        "cause": error.cause,
        "remedy": error.remedy,
        "code": int(error.code),
        "code_name": error.code.name,
        **first,
    }


def response(error: ComputeToDataError) -> Response:
    """The answer for one of our errors."""
    described = document(error)
    headers = dict(error.headers) if isinstance(error, HttpError) else {}
    if described["status"] == 503:
        headers.setdefault("Retry-After", "5")
    # Escapes show half of a surrogate pair, which UTF-8 cannot.
    return Response(json.dumps(described), described["status"], headers, MEDIA_TYPE)


def handle(app: FastAPI) -> None:
    """Let the application answer each error with a problem document."""
    app.add_exception_handler(ComputeToDataError, _ours)
    app.add_exception_handler(RequestValidationError, _of_parameters)
    app.add_exception_handler(HTTPException, of_routes)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, ComputeToDataError)
    return answered(request, error)


def answered(request: Request, error: ComputeToDataError) -> Response:
    """The answer to a request that failed. Faults that are not the client's are logged."""
    answer = response(error)
    if answer.status_code >= 500:
        log.warning("%s %s: %s", request.method, lines(request.url.path), lines(str(error)))
    return answer


async def _of_parameters(request: Request, error: Exception) -> Response:
    """A parameter of the wrong type, or out of its bounds."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()[0]
    place, *names = [str(part) for part in found["loc"]] or ["request"]
    name = ".".join(names)
    return response(HttpError(400, f"{place} parameter {name}" if name else place, str(found["msg"])))


async def of_routes(request: Request, error: Exception) -> Response:
    """No such address, or another method."""
    return response(of_route(request, error))


def of_route(request: Request, error: Exception) -> HttpError:
    """Our error for one of Starlette's."""
    assert isinstance(error, HTTPException)
    remedy = "See /api/v1/docs" if error.status_code in (404, 405) else ""
    causes = {404: "there is nothing at this address", 405: f"cannot be asked with {request.method}"}
    cause = causes.get(error.status_code, str(error.detail))
    path = lines(request.url.path)
    headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
    return HttpError(error.status_code, path, cause, remedy, headers=headers)


def _allowed(request: Request) -> str:
    """The methods of an address. Starlette itself tells only those of the first route that has the address."""
    found = [method for method in _METHODS if has(request, method)]
    return ", ".join([*found, "HEAD"] if "GET" in found else found)


def has(request: Request, method: str, path: str = "") -> bool:
    """Whether an address, by default that of the request, has this method."""
    asked = {**request.scope, "method": method, "path": path or request.scope["path"]}
    return any(route.matches(asked)[0] is Match.FULL for route in request.app.routes)


async def _unexpected(request: Request, error: Exception) -> Response:
    """A fault of ours. Its details go to the log only; Starlette raises it again for the server, which logs it."""
    return response(HttpError(500, "the gateway", "failed at this request", "Its log says why"))
