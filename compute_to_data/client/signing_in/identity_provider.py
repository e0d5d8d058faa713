"""What the gateway and ``c2d login`` ask an OpenID Connect provider: who it is, and a token for a code (RFC 7636)."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from compute_to_data.errors import Code, ConfigurationError, ZoneOutOfReach, zone_error

_KEPT_SECONDS = 3600.0
_LONGEST_ANSWER = 1 << 20
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_protected(address: str) -> bool:
    """Whether what goes to an address is encrypted, or stays on this host."""
    parts = urlsplit(address)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


class IdentityProvider:
    """One provider, as one of its clients sees it. Threads may share it. ``secret``: '' for a public client."""

    def __init__(self, issuer: str, client_id: str, secret: str = "") -> None:
        try:
            import urllib3
        except ModuleNotFoundError as error:
            remedy = "Install it from a checkout: pip install '.[http]'"
            raise ConfigurationError("an identity provider", "needs the Python package urllib3", remedy) from error
        self.issuer = issuer
        self.client_id = client_id
        self._secret = secret
        self._urllib3 = urllib3
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(10.0), retries=False)
        self._lock = threading.Lock()
        self._described: tuple[float, dict[str, Any]] | None = None

    def described(self) -> dict[str, Any]:
        """What the provider publishes about itself. ZoneOutOfReach when it does not answer."""
        with self._lock:
            if self._described is None or time.monotonic() - self._described[0] > _KEPT_SECONDS:
                found = self.get(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
                if found.get("issuer") != self.issuer:
                    raise self._unusable(f"it calls itself {str(found.get('issuer'))[:200]!r}")
                self._described = (time.monotonic(), found)
            return self._described[1]

    def sign_in_address(self, redirect_url: str, scope: str, state: str, nonce: str, verifier: str) -> str:
        """Where a browser signs in with the code flow and PKCE. The provider leads it back to ``redirect_url``."""
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": redirect_url,
            "scope": scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        address = str(self.described().get("authorization_endpoint", ""))
        if not is_protected(address):
            raise self._unusable(f"{address[:200]!r} is not encrypted")
        return f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}"

    def exchanged(self, code: str, verifier: str, redirect_url: str) -> str:
        """The id token for a code of the code flow. AccessDenied when the provider does not accept the code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_url,
            "code_verifier": verifier,
            "client_id": self.client_id,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if self._secret:
            headers.update(self._urllib3.make_headers(basic_auth=f"{self.client_id}:{self._secret}"))
        address = str(self.described().get("token_endpoint", ""))
        status, content = self._answer("POST", address, urlencode(form).encode(), headers)
        try:
            found = json.loads(content)
            if status == 200 and isinstance(found["id_token"], str):
                return str(found["id_token"])
        except (ValueError, KeyError, TypeError):
            pass
        raise denied("the provider does not accept the code, which may be used only once", "Sign in again")

    def get(self, address: str) -> dict[str, Any]:
        """A document of the provider. ZoneOutOfReach when it does not answer with one."""
        status, content = self._answer("GET", address, None, {"Accept": "application/json"})
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if status != 200 or not isinstance(found, dict):
            raise self._unusable(f"{address} answers {status}")
        return found

    def _answer(self, method: str, address: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        if not is_protected(address):
            raise self._unusable(f"{address[:200]!r} is not encrypted")
        try:
            answer = self._pool.request(
                method, address, body=body, headers=dict(headers), preload_content=False, redirect=False
            )
            content = answer.read(_LONGEST_ANSWER)
            answer.close()
        except self._urllib3.exceptions.HTTPError as error:
            raise self._unusable(str(error)) from error
        return answer.status, content

    def _unusable(self, cause: str) -> ZoneOutOfReach:
        subject = f"the identity provider {self.issuer}"
        return ZoneOutOfReach(subject, f"cannot be used now: {cause}", "Sign in with a password, or try again later")


def denied(cause: str, remedy: str = "") -> Exception:
    """The error for a person whom the provider does not confirm."""
    return zone_error(Code.CAT_INVALID_AUTHENTICATION, "signing in", cause, remedy)
