"""The kinds of zones that this product supports: adapters of ``ports.Catalog`` and ``ports.Storage``."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from compute_to_data.configuration import ZoneSettings
from compute_to_data.errors import Code, ConfigurationError, ZoneError, zone_error
from compute_to_data.model import User
from compute_to_data.ports.zone import ClientCatalog, Storage
from compute_to_data.zones.entrance import Entrance

if TYPE_CHECKING:
    from compute_to_data.zones.embedded import EmbeddedZone
    from compute_to_data.zones.gateway import GatewaySession, Wire


def open_storage(settings: ZoneSettings) -> Storage:
    """The service account's session with the zone that the configuration names.

    For ``irods``, the setting ``environment_file`` names the service account's environment.
    """
    if settings.kind == "embedded":
        zone = embedded_zones()(str(settings.settings["directory"]))
        zone.sweep()  # removes the unfinished files of killed processes from the vaults
        return zone.storage()
    if settings.kind == "irods":
        storage: Storage = _irods().IrodsStorage.open(str(settings.settings["environment_file"]))
        return storage
    raise ConfigurationError("/zone/kind", f"found {settings.kind!r}, this version knows: embedded, irods")


def open_session(settings: ZoneSettings) -> ClientCatalog:
    """A user's own session with a zone. Close it after use.

    For ``irods``, the setting ``environment_file`` names the user's own environment. For
    ``embedded``, the setting ``user`` names the user (``name``, or ``name#zone`` for a user of
    another zone), and ``directory`` the zone's directory. For ``gateway``, the settings are its ``url`` and the
    ``token`` of the user who signed in there.
    """
    if settings.kind == "embedded":
        zone = embedded_zones()(str(settings.settings["directory"]))
        return zone.session(User.parse(str(settings.settings["user"]), zone.name))
    if settings.kind == "irods":
        session: ClientCatalog = _irods().IrodsSession.open(str(settings.settings["environment_file"]))
        return session
    if settings.kind == "gateway":
        return gateway_session(str(settings.settings["url"]), f"Bearer {settings.settings['token']}")
    raise ConfigurationError("/zone/kind", f"found {settings.kind!r}, this version knows: embedded, irods, gateway")


def open_administration(settings: ZoneSettings) -> Storage:
    """A rodsadmin's session with the rights of the service account, by the settings of :func:`open_session`.

    AccessDenied when the user is not a rodsadmin.
    """
    if settings.kind == "embedded":
        zone = embedded_zones()(str(settings.settings["directory"]))
        name = str(settings.settings["user"])
        if name not in (zone.admin.name, str(zone.admin)):
            raise _no_administrator(name)
        return zone.storage()
    if settings.kind == "gateway":
        code, cause = Code.CAT_INSUFFICIENT_PRIVILEGE_LEVEL, "a gateway does not act on behalf of other users"
        raise zone_error(code, str(settings.settings["url"]), cause, "Use --admin where you have an iRODS client")
    try:
        return open_storage(settings)
    except ConfigurationError as error:
        raise _no_administrator(str(settings.settings.get("environment_file", ""))) from error


def open_entrance(settings: ZoneSettings) -> Entrance:
    """Where the users of a zone sign in.

    For ``irods``, the setting ``environment_file`` says where the server is and how to connect. If its account has a
    password and is a rodsadmin, the entrance also opens sessions on behalf of users.
    """
    if settings.kind == "embedded":
        embedded_zones()  # before anything of it is loaded
        from compute_to_data.zones.embedded.entrance import EmbeddedEntrance

        return EmbeddedEntrance(str(settings.settings["directory"]))
    if settings.kind == "irods":
        _irods()
        from compute_to_data.zones.irods.entrance import IrodsEntrance

        return IrodsEntrance(str(settings.settings["environment_file"]))
    raise ConfigurationError("/zone/kind", f"found {settings.kind!r}, a gateway serves: embedded, irods")


def _no_administrator(who: str) -> ZoneError:
    return zone_error(Code.CAT_INSUFFICIENT_PRIVILEGE_LEVEL, who, "only a rodsadmin may act on behalf of others")


def embedded_zones() -> type[EmbeddedZone]:
    """The class of embedded zones. ConfigurationError when this system lacks a module that they need."""
    try:
        from compute_to_data.zones.embedded import EmbeddedZone
    except ModuleNotFoundError as error:
        cause = f"the kind embedded needs Python's {error.name}, which this system does not have"
        raise ConfigurationError("/zone/kind", cause, "Use it on Linux or macOS") from error
    return EmbeddedZone


def gateway_session(url: str, authorization: str) -> GatewaySession:
    """A session through the gateway at an address, with this value of the header ``Authorization``. AccessDenied
    (-826000) when the gateway does not accept it; ConfigurationError for an address to which no token must go."""
    session: GatewaySession = _gateway().GatewaySession(url, authorization)
    return session


def gateway_wire(url: str, authorization: str) -> Wire:
    """The connections to a gateway, for what is no method of a catalog. ConfigurationError as above."""
    wire: Wire = _gateway().Wire(url, authorization)
    return wire


def _gateway() -> ModuleType:
    try:
        from compute_to_data.zones import gateway
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "urllib3":
            raise
        remedy = "Install it from a checkout: pip install '.[http]'"
        raise ConfigurationError("/zone/kind", "the kind gateway needs the Python package urllib3", remedy) from error
    return gateway


def _irods() -> ModuleType:
    try:
        from compute_to_data.zones import irods
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "irods":
            raise
        remedy = "Install it from a checkout: pip install '.[irods]'"
        raise ConfigurationError("/zone/kind", "the kind irods needs python-irodsclient", remedy) from error
    return irods
