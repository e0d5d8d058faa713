"""Zones this product works on: the adapters of ``ports.Catalog`` and ``ports.Storage``."""

from __future__ import annotations

from compute_to_data.configuration import ZoneSettings
from compute_to_data.errors import ConfigurationError
from compute_to_data.ports import Storage


def open_storage(settings: ZoneSettings) -> Storage:
    """The service account's session on the zone that the configuration names."""
    if settings.kind == "embedded":
        from compute_to_data.zones.embedded import EmbeddedZone

        zone = EmbeddedZone(str(settings.settings["directory"]))
        zone.sweep()  # what killed processes left half made in the vaults
        return zone.storage()
    raise ConfigurationError("/zone/kind", f"found {settings.kind!r}, this version knows: embedded")
