"""The kinds of zones that this product supports: adapters of ``ports.Catalog`` and ``ports.Storage``."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from compute_to_data.configuration import ZoneSettings
from compute_to_data.errors import Code, ConfigurationError, ZoneError, zone_error
from compute_to_data.model import User
from compute_to_data.ports import ClientCatalog, Storage

if TYPE_CHECKING:
    from compute_to_data.zones.embedded import EmbeddedZone


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
    another zone), and ``directory`` the zone's directory.
    """
    if settings.kind == "embedded":
        zone = embedded_zones()(str(settings.settings["directory"]))
        name, _, of_zone = str(settings.settings["user"]).partition("#")
        return zone.session(User(name, of_zone or zone.name))
    if settings.kind == "irods":
        session: ClientCatalog = _irods().IrodsSession.open(str(settings.settings["environment_file"]))
        return session
    raise ConfigurationError("/zone/kind", f"found {settings.kind!r}, this version knows: embedded, irods")


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
    try:
        return open_storage(settings)
    except ConfigurationError as error:
        raise _no_administrator(str(settings.settings.get("environment_file", ""))) from error


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


def _irods() -> ModuleType:
    try:
        from compute_to_data.zones import irods
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "irods":
            raise
        remedy = "Install it: pip install 'compute-to-data[irods]'"
        raise ConfigurationError("/zone/kind", "the kind irods needs python-irodsclient", remedy) from error
    return irods
