"""OpenID Connect: whom a provider vouches for, and which user of the zone that is.

A token counts only when its issuer, audience, expiry, algorithm and signature are right, by the provider's published
keys. A claim then names the user, through the site's mapping. Without a mapping for its value, nobody signs in.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from compute_to_data.client.signing_in.identity_provider import IdentityProvider, denied
from compute_to_data.gateway.settings import OpenIdSettings

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures that only the provider can make; never ``none``, and no shared secrets."""
_KEPT_SECONDS = 3600.0
_AGAIN_SECONDS = 60.0
"""An unknown key makes us ask for the keys again, at most so often."""
_LEEWAY_SECONDS = 30
_LONGEST_TOKEN = 16384
_LONGEST_VALUE = 256


class OpenId:
    """One provider, as the settings describe it. Threads may share it."""

    def __init__(self, settings: OpenIdSettings) -> None:
        self.settings = settings
        self.provider = IdentityProvider(settings.issuer, settings.client_id, settings.client_secret)
        self._lock = threading.Lock()
        self._keys: tuple[float, KeySet] | None = None

    def claims(self, token: str, *, audience: str = "", nonce: str = "") -> dict[str, Any]:
        """The claims of a token that is right. AccessDenied (-826000) for any other. ``audience``: by default the one
        of programs' tokens; ``nonce``: the one that the token must have."""
        wanted: dict[str, Any] = {
            "iss": {"essential": True, "value": self.settings.issuer},
            "aud": {"essential": True, "value": audience or self.settings.audience},
            "exp": {"essential": True},
        }
        if nonce:
            wanted["nonce"] = {"essential": True, "value": nonce}
        if len(token) > _LONGEST_TOKEN:
            raise denied("the token is too long")
        try:
            found = self._decoded(token)
            jwt.JWTClaimsRegistry(leeway=_LEEWAY_SECONDS, **wanted).validate(found)
        except (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise denied(f"the provider's token is not accepted: {str(error)[:200]}") from None
        return found

    def _decoded(self, token: str) -> dict[str, Any]:
        """The claims, once the signature is right. With a key that we do not know yet, after asking for the keys."""
        try:
            return jwt.decode(token, self._key_set(), algorithms=list(ALGORITHMS)).claims
        except (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            if not self._may_ask_again():
                raise
        return jwt.decode(token, self._key_set(), algorithms=list(ALGORITHMS)).claims

    def _key_set(self) -> KeySet:
        address = str(self.provider.described().get("jwks_uri", ""))
        with self._lock:
            if self._keys is None or time.monotonic() - self._keys[0] > _KEPT_SECONDS:
                found = self.provider.get(address)
                keys = [one for one in found.get("keys", ()) if isinstance(one, dict) and one.get("kty") != "oct"]
                self._keys = (time.monotonic(), KeySet.import_key_set({"keys": keys}))
            return self._keys[1]

    def _may_ask_again(self) -> bool:
        with self._lock:
            if self._keys is None or time.monotonic() - self._keys[0] < _AGAIN_SECONDS:
                return False
            self._keys = None
            return True

    def name_of(self, claims: Mapping[str, Any]) -> tuple[str, bool]:
        """The name of the zone's user, and whether the site names this very person. AccessDenied without a mapping."""
        value = claims.get(self.settings.claim)
        if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_VALUE:
            raise denied(f"the provider's token has no claim {self.settings.claim}")
        if value in self.settings.users:
            return self.settings.users[value], True
        matched = re.fullmatch(self.settings.pattern, value) if self.settings.pattern else None
        if matched is None or not matched[1]:
            raise denied("nobody in the zone belongs to this account of the provider", "Ask an administrator")
        return matched[1], False
