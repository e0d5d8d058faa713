"""Signing in at an identity provider with the person's own browser: the code flow with PKCE, and a loopback address to
which the provider leads back (RFC 8252, sections 7.3 and 8).
"""

from __future__ import annotations

import base64
import hmac
import html
import json
import secrets
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit, urlunsplit

from compute_to_data.client.signing_in.identity_provider import IdentityProvider, denied
from compute_to_data.client.this_computer.settings import Auth
from compute_to_data.errors import ComputeToDataError, ConfigurationError

PATIENCE_SECONDS = 300.0
"""How long the person has for it."""
_REQUEST_SECONDS = 5.0
_PAGE = '<!doctype html><html lang="en"><meta charset="utf-8"><title>c2d</title><p>{}</p></html>'


def sign_in(auth: Auth, show: Callable[[str], object], use: Callable[[str], object]) -> None:
    """Let the person sign in with a browser. ``show`` gets the address to open there. ``use`` gets the provider's id
    token. The browser shows afterwards whether that succeeded.

    AccessDenied (-826000) when the provider refuses, or when the person does not sign in in time; ConfigurationError
    when nothing can listen at the callback; ZoneOutOfReach when the provider does not answer; and the errors of
    ``use``.
    """
    provider = IdentityProvider(auth.address, auth.client_id)
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    with _listening(auth) as server:
        redirect_url = _with_port(auth.callback, server.server_port)

        def finish(code: str, error: str) -> None:
            if error or not code:
                raise denied(f"the provider says: {(error or 'nothing')[:200]}", "Sign in again")
            token = provider.exchanged(code, verifier, redirect_url)
            _need_nonce(token, nonce)
            use(token)

        server.expect(state, finish)
        show(provider.sign_in_address(redirect_url, auth.scope, state, nonce, verifier))
        server.wait()


def _need_nonce(token: str, nonce: str) -> None:
    """AccessDenied for a token that was made for another sign-in. The gateway checks its signature and all else."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        found = str(claims["nonce"])
    except (ValueError, LookupError, TypeError):
        found = ""
    if not hmac.compare_digest(found.encode(), nonce.encode()):
        raise denied("the provider's token was not made for this sign-in", "Sign in again")


def _listening(auth: Auth) -> _Callback:
    parts = urlsplit(auth.callback)
    try:
        return _Callback(parts.port or 0, parts.path, auth.after_success)
    except (OSError, OverflowError) as error:
        cause = f"cannot listen there: {getattr(error, 'strerror', None) or error}"
        raise ConfigurationError(f"#/auth/callback {auth.callback}", cause, "Name another port") from None


def _with_port(callback: str, port: int) -> str:
    parts = urlsplit(callback)
    return urlunsplit(parts._replace(netloc=f"{parts.hostname}:{port}"))


class _Callback(HTTPServer):
    """Listens on the loopback for one answer of the provider."""

    def __init__(self, port: int, path: str, after_success: str) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.timeout = 1.0
        self.path = path
        self.after_success = after_success
        self._state = ""
        self._finish: Callable[[str, str], object] | None = None
        self._has_ended = False
        self._failed: ComputeToDataError | None = None

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that hangs up is no fault of ours; all else is."""
        if not isinstance(sys.exc_info()[1], OSError):
            raise

    def expect(self, state: str, finish: Callable[[str, str], object]) -> None:
        """Call ``finish`` with the code and the error of the answer that has this state."""
        self._state, self._finish = state, finish

    def is_expected(self, path: str, state: str) -> bool:
        """Whether this is the provider's answer. Any other page may send the browser here, but knows no state."""
        return path == self.path and hmac.compare_digest(state.encode(), self._state.encode())

    def end(self, code: str, error: str) -> str:
        """Finish; returns what went wrong, or ''."""
        assert self._finish is not None
        try:
            self._finish(code, error)
        except ComputeToDataError as problem:
            self._failed = problem
            return str(problem)
        finally:
            self._has_ended = True
        return ""

    def wait(self) -> None:
        """Serve until the provider has answered."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._has_ended:
            if time.monotonic() > deadline:
                raise denied(f"nobody signed in within {PATIENCE_SECONDS:.0f} seconds", "Try again")
            self.handle_request()
        if self._failed is not None:
            raise self._failed


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_SECONDS
    server: _Callback

    def do_GET(self) -> None:
        """The provider's answer, once; 404 for anything else."""
        parts = urlsplit(self.path)
        given = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if not self.server.is_expected(parts.path, given.get("state", "")):
            self._answer(404, "There is nothing at this address.")
            return
        problem = self.server.end(given.get("code", ""), given.get("error", ""))
        if problem:
            self._answer(403, problem)
        elif self.server.after_success:
            self._answer(303, "You are signed in.", self.server.after_success)
        else:
            self._answer(200, "You are signed in. You can close this page, and go on at the terminal.")

    def _answer(self, status: int, text: str, location: str = "") -> None:
        content = _PAGE.format(html.escape(text)).encode()
        self.send_response(status)
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(content)),
            "Content-Security-Policy": "default-src 'none'",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
            **({"Location": location} if location else {}),
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        """Nothing: the address holds the code."""
