"""A person's login at a gateway: the token in their session file, or in ``C2D_TOKEN``."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from compute_to_data import zones
from compute_to_data.client.this_computer import settings as settings_module
from compute_to_data.client.this_computer.known_zones import KnownZones
from compute_to_data.configuration import ZoneSettings
from compute_to_data.errors import AccessDenied, Code

TOKEN_VARIABLE = "C2D_TOKEN"


@dataclass(frozen=True)
class Login:
    """Who is signed in, at which gateway, and until when (ISO 8601, UTC; '' when that is not known)."""

    user: str
    gateway: str
    expires: str

    def document(self) -> dict[str, Any]:
        """The same as JSON (docs/reference/json.md)."""
        return dict(vars(self))


def address(given: str) -> tuple[str, str]:
    """The address of a gateway without the one-time token that ``c2d serve`` printed with it, and that token. A host's
    name alone stands for ``https://``."""
    parts = urlsplit(given if "://" in given else f"https://{given}")
    token = parse_qs(parts.query).get("token", [""])[0]
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", token


def need_address(url: str) -> None:
    """ConfigurationError for an address to which no password must go."""
    zones.gateway_wire(url, "").close()


def sign_in(url: str, authorization: str, config_file: str = "", session_file: str = "") -> Login:
    """Get a token, and work in that zone from now on. ``authorization``: see :func:`with_password`, or ``Bearer``
    with a one-time token. AccessDenied (-826000) for a wrong password; ConfigurationError for a wrong address."""
    wire = zones.gateway_wire(url, authorization)
    try:
        answer = wire.answer("POST", "/authenticate")
        given = json.loads(answer.read())
        answer.release_conn()
    finally:
        wire.close()
    return keep(url, str(given["token"]), str(given["user"]), str(given["expires"]), config_file, session_file)


def keep(url: str, token: str, user: str, expires: str, config_file: str = "", session_file: str = "") -> Login:
    """Remember a token in the session file (mode 0600), and work in that zone from now on."""
    KnownZones(config_file, session_file).begin({"zone": {"kind": "gateway", "url": url}})
    path = settings_module.session_path(session_file)
    session = {**settings_module.load_session(session_file), "gateway": url, "token": token, "expires": expires}
    settings_module.write_private(path, session)
    return Login(user, url, expires)


def with_password(name: str, password: str) -> str:
    """The header ``Authorization`` of HTTP Basic."""
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


def sign_out(config_file: str = "", session_file: str = "") -> bool:
    """End the token of the session file, and forget it. Returns whether there was one that was still good."""
    zone = settings_module.load(config_file).zone
    session = settings_module.load_session(session_file)
    token = str(session.get("token", ""))
    kept = {name: value for name, value in session.items() if name not in ("token", "expires", "gateway")}
    was_good = False
    try:
        if token and zone.kind == "gateway" and session.get("gateway") == zone.settings["url"]:
            was_good = _ended(str(zone.settings["url"]), token)
    finally:
        if token:
            settings_module.write_private(settings_module.session_path(session_file), kept)
    return was_good


def _ended(url: str, token: str) -> bool:
    wire = zones.gateway_wire(url, f"Bearer {token}")
    try:
        wire.result("DELETE", "/authenticate")
    except AccessDenied:
        return False
    finally:
        wire.close()
    return True


def with_token(zone: ZoneSettings, session: Mapping[str, Any]) -> ZoneSettings:
    """The settings of a zone behind a gateway, with the token from ``C2D_TOKEN``, else from the session file.

    AccessDenied without one, or when the session's token is another gateway's, which this one must not see.
    """
    url = str(zone.settings["url"])
    token = os.environ.get(TOKEN_VARIABLE, "")
    if not token and session.get("gateway") == url:
        token = str(session.get("token", ""))
    if not token:
        remedy = f"Sign in: c2d login {url}"
        raise AccessDenied(url, "you are not signed in there", remedy, code=Code.CAT_INVALID_AUTHENTICATION)
    return ZoneSettings(zone.kind, {**zone.settings, "token": token})


def expiry(zone: ZoneSettings, session: Mapping[str, Any]) -> str:
    """When the session file's token ends; '' when ``C2D_TOKEN`` stands above it."""
    is_own = session.get("gateway") == zone.settings["url"] and not os.environ.get(TOKEN_VARIABLE, "")
    return str(session.get("expires", "")) if is_own else ""
