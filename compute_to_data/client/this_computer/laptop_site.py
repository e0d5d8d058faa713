"""What a person's computer knows of the site: the file that their settings name, or a server's own file."""

from __future__ import annotations

import math
import os
from functools import cached_property

from compute_to_data import site_file
from compute_to_data.client.site_access import ConfiguredSite, PublishedSite
from compute_to_data.client.this_computer.settings import Settings
from compute_to_data.configuration import Attributes, Configuration
from compute_to_data.coordination.held_images import HeldImages
from compute_to_data.errors import Refused
from compute_to_data.ports.zone import ClientCatalog


class LaptopSite:
    """A :class:`~compute_to_data.client.site_access.SiteAccess` from a person's settings. It reads
    files when they are first needed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._chosen: Configuration | None = None

    @cached_property
    def file(self) -> Configuration | None:
        """The site's configuration file, when this account can read it here; else None."""
        if self._settings.site:
            return site_file.load(self._settings.site)
        if self._settings.zone.kind == "irods" and os.access(site_file.PATH, os.R_OK):
            return site_file.load(site_file.PATH)
        return None

    @property
    def attributes(self) -> Attributes:
        """From the person's settings, else from the site's file, else the defaults."""
        if self._settings.attributes is not None:
            return self._settings.attributes
        return self.file.attributes if self.file is not None else Attributes()

    def configuration(self, catalog: ClientCatalog) -> Configuration:
        """From the file that the person's settings name, else from what the zone's workers publish,
        else, on a server, from its own file. Refused when there is none of these. The first answer is
        kept."""
        if self._chosen is None:
            self._chosen = self._choose(catalog)
        return self._chosen

    def _choose(self, catalog: ClientCatalog) -> Configuration:
        if self._settings.site and self.file is not None:
            return self.file
        try:
            return PublishedSite(self.attributes, math.inf).configuration(catalog)
        except Refused:
            if self.file is not None:
                return self.file  # a submission may start a worker there
            raise

    def held_images(self, catalog: ClientCatalog, resource: str, image: str = "") -> HeldImages | None:
        """From the engine of this host, when this account may ask it, else from what a live worker publishes."""
        site = PublishedSite(self.attributes) if self.file is None else ConfiguredSite(self.file)
        return site.held_images(catalog, resource, image)

    def call_worker(self, catalog: ClientCatalog, collection: str) -> None:
        """Wake or start the worker as the site's file says, when this account can read the file."""
        if self._configured is not None:
            self._configured.call_worker(catalog, collection)

    @cached_property
    def _configured(self) -> ConfiguredSite | None:
        return ConfiguredSite(self.file) if self.file is not None else None
