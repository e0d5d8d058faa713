"""What an administrator decides about a gateway: a JSON file, checked against ``schemas/gateway.json``, then frozen."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

from compute_to_data.client.signing_in.identity_provider import is_protected
from compute_to_data.client.this_computer.settings import Settings
from compute_to_data.configuration import Attributes, ZoneSettings
from compute_to_data.documents.schema import problems, read_json, summary
from compute_to_data.errors import ConfigurationError

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
PORT = 8427
_SHORTEST_TOKEN = 32


@dataclass(frozen=True)
class Listen:
    """Where and how to listen. ``certificate`` and ``key`` are physical paths, '' without TLS."""

    address: str = "127.0.0.1"
    port: int = PORT
    certificate: str = ""
    key: str = ""
    without_tls: bool = False
    proxies: tuple[str, ...] = ()
    connections: int = 1000

    @property
    def has_tls(self) -> bool:
        """Whether the gateway itself speaks TLS."""
        return bool(self.certificate)


@dataclass(frozen=True)
class SignIn:
    """How long a token is good, in seconds."""

    idle_seconds: float = 3600.0
    absolute_seconds: float = 43200.0


@dataclass(frozen=True)
class OpenIdSettings:
    """An identity provider. ``client_secret``: '' for a public client. ``audience``: of programs' tokens. ``claim``
    names the person; ``users`` maps its values to users of the zone, and ``pattern`` the others: its first group is the
    user's name. ``url``: the gateway's own address, as browsers know it."""

    issuer: str
    client_id: str
    client_secret: str = ""
    audience: str = ""
    claim: str = "preferred_username"
    users: Mapping[str, str] = field(default_factory=dict)
    pattern: str = ""
    scope: str = "openid profile"
    url: str = ""


@dataclass(frozen=True)
class GatewaySettings:
    """Everything that an administrator decides. ``user``: who signs in with the one-time token; '' for nobody.
    ``metrics_token``: with it, anybody may read the figures; '' for nobody."""

    zone: ZoneSettings
    user: str = ""
    site: str = ""
    attributes: Attributes | None = None
    listen: Listen = field(default_factory=Listen)
    sign_in: SignIn = field(default_factory=SignIn)
    openid: OpenIdSettings | None = None
    threads: int = 32
    metrics_token: str = ""
    metrics_from: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))
    source: str = ""


def load(path: str) -> GatewaySettings:
    """The settings in a file. ConfigurationError names the file and the place of what is wrong."""
    try:
        with open(path, "rb") as file:
            document = read_json(file.read(), path, ConfigurationError)
    except OSError as error:
        raise ConfigurationError(path, f"cannot be read: {error.strerror}") from None
    found = problems(document, "gateway")
    if found:
        pointer, cause = summary(found)
        raise ConfigurationError(f"{path}#{pointer}" if pointer.startswith("/") else path, cause)
    return _settings(document, os.path.abspath(path))


def _settings(document: Mapping[str, Any], source: str) -> GatewaySettings:
    zone = dict(document["zone"])
    kind, user = zone.pop("kind"), str(zone.pop("user", ""))
    listen = dict(document.get("listen", {}))
    if bool(listen.get("certificate")) != bool(listen.get("key")):
        raise ConfigurationError(f"{source}#/listen", "a certificate needs its key, and a key its certificate")
    listen["proxies"] = tuple(listen.get("proxies", ()))
    networks(listen["proxies"], f"{source}#/listen/proxies")
    attributes = document.get("attributes")
    more: dict[str, Any] = {}
    if "metrics_token_file" in document:
        more["metrics_token"] = _metrics_token(document["metrics_token_file"], f"{source}#/metrics_token_file")
    if "metrics_from" in document:
        more["metrics_from"] = networks(document["metrics_from"], f"{source}#/metrics_from")
    return GatewaySettings(
        ZoneSettings(kind, zone),
        user,
        document.get("site", ""),
        None if attributes is None else Attributes(**attributes),
        Listen(**listen),
        SignIn(**document.get("sign_in", {})),
        _openid(document["openid"], f"{source}#/openid") if "openid" in document else None,
        document.get("threads", 32),
        source=source,
        **more,
    )


def _openid(document: Mapping[str, Any], subject: str) -> OpenIdSettings:
    found = dict(document)
    secret_file = found.pop("client_secret_file", "")
    if secret_file:
        found["client_secret"] = _secret(secret_file, f"{subject}/client_secret_file")
    try:
        groups = re.compile(found.get("pattern", "()")).groups
    except re.error as error:
        raise ConfigurationError(f"{subject}/pattern", f"is no regular expression: {error}") from None
    if groups < 1:
        raise ConfigurationError(f"{subject}/pattern", "has no group that is the user's name", "Write one in brackets")
    chosen = OpenIdSettings(**{"audience": found["client_id"], **found})
    if not is_protected(chosen.issuer):  # on this host a provider may do without TLS
        raise ConfigurationError(f"{subject}/issuer", "is not encrypted", "Use https")
    return chosen


def _metrics_token(file: str, subject: str) -> str:
    found = _secret(file, subject)
    if not re.fullmatch(f"[!-~]{{{_SHORTEST_TOKEN},}}", found):
        cause = f"{file} does not hold a token of at least {_SHORTEST_TOKEN} characters without spaces"
        raise ConfigurationError(subject, cause, "Make one: openssl rand -hex 32")
    return found


def _secret(file: str, subject: str) -> str:
    try:
        with open(file, encoding="utf-8") as opened:
            return opened.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(subject, f"cannot be read: {error}") from None


def networks(texts: Sequence[str], subject: str) -> tuple[Network, ...]:
    """The networks that these texts name. ConfigurationError for a text that names none."""
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError as error:
        raise ConfigurationError(subject, str(error), 'Write an address or a network, such as "10.0.0.0/24"') from None


def of_person(settings: Settings) -> GatewaySettings:
    """The settings for a person's own embedded zone. ConfigurationError when theirs is another kind of zone."""
    if settings.zone.kind != "embedded":
        cause = f"a gateway for a zone of the kind {settings.zone.kind} needs its own configuration"
        remedy = "Name one with --configuration (docs/gateway.md), or make a zone of your own: c2d zone create"
        raise ConfigurationError("c2d serve", cause, remedy)
    zone = dict(settings.zone.settings)
    user = str(zone.pop("user"))
    return GatewaySettings(ZoneSettings("embedded", zone), user, settings.site, settings.attributes)
