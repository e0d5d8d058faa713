"""Requests to a gateway, and its problem documents as our errors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3

from compute_to_data import errors
from compute_to_data.catalog_json import avus_of
from compute_to_data.errors import Code, ComputeToDataError, ConfigurationError, NotFound, TooLarge, zone_error

PREFIX = "/api/v1"
_TIMEOUT = urllib3.Timeout(connect=15.0, read=600.0)
_KEPT = 8
_LONGEST_PROBLEM = 8 << 20
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CLASSES = ("Refused", "InvalidRequest", "ConfigurationError", "EngineError", "EngineOutOfReach", "ImageMissing")
"""Errors that are told by their class; those of the zone are told by their code."""


class _NoSuchAddress(NotFound):
    """The gateway has nothing at the address of a request."""


def checked_url(url: str) -> str:
    """The address of a gateway without what follows its host. ConfigurationError for one to which no token must go."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise ConfigurationError(url[:200], "is not the address of a gateway", "Write it as https://c2d.example.org")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        cause = "is not encrypted, and a password or token would cross the network in plain"
        raise ConfigurationError(f"{parts.scheme}://{parts.netloc}", cause, "Use https")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


class Wire:
    """The connections to one gateway, with the header that signs in. Threads may share it."""

    def __init__(self, url: str, authorization: str) -> None:
        self.url = checked_url(url)
        self._headers = {"Authorization": authorization, "Accept": "application/json"}
        self._pool = urllib3.PoolManager(maxsize=_KEPT, block=False, timeout=_TIMEOUT, retries=False)

    def answer(
        self,
        method: str,
        path: str,
        *,
        body: bytes | Iterable[bytes] | None = None,
        parameters: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        again: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """The answer, whose content is not read yet. ``again``: the request may be repeated when the connection is
        lost. Raises the error that the gateway answers; ZoneOutOfReach when it does not answer."""
        query = f"?{urlencode(parameters)}" if parameters else ""
        for last in (not again, True):
            try:
                found = self._pool.request(
                    method,
                    f"{self.url}{path}{query}",
                    body=body,
                    headers={**self._headers, **(headers or {})},
                    preload_content=False,
                    redirect=False,
                )
                break
            except urllib3.exceptions.HTTPError as error:
                if last:
                    raise self.lost(error) from error
        if found.status >= 300:
            raise self._error(found)
        return found

    def result(self, method: str, path: str, **options: Any) -> Any:
        """The ``result`` in the answer's document; None for an answer without content."""
        answer = self.answer(method, path, **options)
        try:
            content = answer.read()
        except urllib3.exceptions.HTTPError as error:
            raise self.lost(error) from error
        finally:
            answer.release_conn()
        return json.loads(content)["result"] if content else None

    def call(self, method: str, arguments: Mapping[str, Any], *, again: bool = False) -> Any:
        """Call a method of the catalog. ZoneError (-66000) when the gateway does not know it."""
        headers = {"Content-Type": "application/json"}
        body = json.dumps(arguments).encode()
        try:
            return self.result("POST", f"{PREFIX}/catalog/{method}", body=body, headers=headers, again=again)
        except _NoSuchAddress as error:
            cause = f"the gateway is older than this client, and does not know its method {method}"
            remedy = "Ask for an update of the gateway, or install the client of its version"
            raise zone_error(Code.SYS_NOT_SUPPORTED, self.url, cause, remedy) from error

    def lost(self, error: Exception) -> ComputeToDataError:
        """The error for a connection that does not work."""
        inner = error.args[-1] if error.args else None  # urllib3 shows it as Python does, in brackets with its class
        cause = f"the gateway does not answer: {inner if isinstance(inner, Exception) else error}"
        return zone_error(Code.USER_SOCK_CONNECT_ERR, self.url, cause, "Check the address, and whether it runs")

    def _error(self, answer: urllib3.BaseHTTPResponse) -> ComputeToDataError:
        try:
            content = answer.read(_LONGEST_PROBLEM)
            problem = json.loads(content)
            return _of_problem(problem, answer.status, self.url)
        except (ValueError, KeyError, TypeError, urllib3.exceptions.HTTPError):
            cause = f"answered with HTTP {answer.status}, and not as a gateway does"
            return zone_error(Code.USER_SOCK_CONNECT_ERR, self.url, cause, "Check the address")
        finally:
            answer.close()

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()


def _of_problem(problem: Mapping[str, Any], status: int, url: str) -> ComputeToDataError:
    subject, cause, remedy = str(problem["subject"]), str(problem["cause"]), str(problem["remedy"])
    name, code = str(problem["error"]), Code(problem["code"])
    if status == 401:
        return zone_error(Code.CAT_INVALID_AUTHENTICATION, subject, cause, f"Sign in: c2d login {url}")
    if name == "TooLarge":
        return TooLarge(subject, cause, remedy, first=avus_of(problem.get("first", ())))
    if name in _CLASSES:
        kind: type[ComputeToDataError] = getattr(errors, name)
        return kind(subject, cause, remedy, code=code)
    if status in (404, 405) and name == "HttpError":
        return _NoSuchAddress(subject, cause, remedy, code=code)
    if status in (429, 503) and name == "HttpError":
        return zone_error(Code.USER_SOCK_CONNECT_ERR, subject, cause, remedy or "Try again later")
    return zone_error(code, subject, cause, remedy)
