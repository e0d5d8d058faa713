"""Zones this product works on: the adapters of ``ports.Catalog`` and ``ports.Storage``."""

from __future__ import annotations

from compute_to_data.configuration import ZoneSettings
from compute_to_data.errors import ConfigurationError
from compute_to_data.ports import Storage


def open_storage(settings: ZoneSettings) -> Storage:
    """The service account's session on the zone that the configuration names.

    For ``irods``, the setting ``environment_file`` is the service account's.
    """
    if settings.kind == "embedded":
        from compute_to_data.zones.embedded import EmbeddedZone

        zone = EmbeddedZone(str(settings.settings["directory"]))
        zone.sweep()  # what killed processes left half made in the vaults
        return zone.storage()
    if settings.kind == "irods":
        return _open_irods(str(settings.settings["environment_file"]))
    raise ConfigurationError("/zone/kind", f"found {settings.kind!r}, this version knows: embedded, irods")


def _open_irods(environment_file: str) -> Storage:
    try:
        from compute_to_data.zones.irods import IrodsStorage
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "irods":
            raise
        remedy = "Install it: pip install 'compute-to-data[irods]'"
        raise ConfigurationError("/zone/kind", "the kind irods needs python-irodsclient", remedy) from error
    return IrodsStorage.open(environment_file)
