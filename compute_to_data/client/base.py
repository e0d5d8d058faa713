"""What everything a person does goes through: who they are, what the site allows, where they work."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from typing import Any

from compute_to_data import configuration as configuration_module
from compute_to_data.client import settings as settings_module
from compute_to_data.client.settings import Settings
from compute_to_data.configuration import Attributes, Configuration
from compute_to_data.coordination import capabilities
from compute_to_data.errors import InvalidRequest, NotFound, Refused
from compute_to_data.model import Collection, EntityKind, Query, User, zone_of
from compute_to_data.ports import ClientCatalog


class BaseSession:
    """``catalog`` is the person's own session with the zone, ``settings`` their own settings."""

    def __init__(self, catalog: ClientCatalog, settings: Settings, session_file: str = "", project: str = "") -> None:
        self.catalog = catalog
        self.settings = settings
        self._session_file = session_file
        self._project = project
        self._given_back: list[Callable[[], None]] = []

    @property
    def user(self) -> User:
        """Whose session it is."""
        return self.catalog.user

    @property
    def home(self) -> str:
        """The person's home collection: ``irods_home`` where their environment names one."""
        return self.catalog.home

    @property
    def zone(self) -> str:
        """The zone they work in, which need not be the one they are from."""
        return zone_of(self.home)

    @cached_property
    def site(self) -> Configuration | None:
        """The site's own configuration, where it can be read from here."""
        if self.settings.site:
            return configuration_module.load(self.settings.site)
        if self.settings.zone.kind == "irods" and os.access(configuration_module.SITE_FILE, os.R_OK):
            return configuration_module.load(configuration_module.SITE_FILE)
        return None

    @cached_property
    def configuration(self) -> Configuration:
        """What the site allows: images, roles, limits. The file that the person's settings name,
        else what the zone's workers offer, else, on a server, its own file.

        Refused when no worker says what it would run.
        """
        if self.settings.site and self.site is not None:
            return self.site
        try:
            return capabilities.read(self.catalog, self.attributes)
        except Refused as error:
            if self.site is not None:
                return self.site  # a submission may start a worker there
            raise self._nobody_offers(error) from None

    def _nobody_offers(self, error: Refused) -> Refused:
        found = self.catalog.find(Query(EntityKind.RESOURCE, self.attributes.role))
        if not found:
            return Refused(
                f"zone {self.zone}", "has no compute resource", "An administrator makes one: docs/administrators.md"
            )
        cause = f"no worker of {', '.join(sorted(found))} says what it would run"
        return Refused(f"zone {self.zone}", cause, error.remedy)

    @property
    def attributes(self) -> Attributes:
        """The names of AVUs: what the person's settings say, else the site, else the usual ones."""
        if self.settings.attributes is not None:
            return self.settings.attributes
        return self.site.attributes if self.site is not None else Attributes()

    @property
    def project(self) -> str:
        """The collection to work in: the one chosen, which must be there, else home.

        NotFound when it is gone, or hidden from this user.
        """
        if not self._project:
            return self.home
        return self._checked(self.absolute(self._project))

    def use_project(self, collection: str) -> str:
        """Work in this collection from now on, here and in later sessions; returns its logical
        path. A relative path is below home; '' is no project. NotFound for an unknown one.

        >>> with c2d.connect() as session:
        ...     print(session.use_project(session.home), session.results)
        ...     print(session.use_project(""), session.results)
        /tempZone/home/alice /tempZone/home/alice/results
        /tempZone/home/alice /tempZone/home/alice/c2d_results
        """
        chosen = self._checked(self.absolute(collection)) if collection else ""
        remembered: dict[str, Any] = {**settings_module.load_session(self._session_file), "project": chosen}
        settings_module.write_private(self._session_file, remembered)
        self._project = chosen
        return chosen or self.home

    def _checked(self, collection: str) -> str:
        try:
            found = self.catalog.stat(collection)
        except NotFound as error:
            cause, remedy = "there is no such collection, or you may not read it", "Choose one: c2d project set PATH"
            raise NotFound(f"project {collection}", cause, remedy, code=error.code) from None
        if not isinstance(found, Collection):
            raise InvalidRequest(f"project {collection}", "is a data object, and a project is a collection")
        return collection

    @property
    def results(self) -> str:
        """Where results go when nobody says: ``results`` of the project, else ``c2d_results`` at home."""
        return f"{self.project}/results" if self._project else f"{self.home}/c2d_results"

    def absolute(self, path: str) -> str:
        """A logical path; a relative one is meant from home, as ``iput`` means it after ``icd``."""
        return (path if path.startswith("/") else f"{self.home}/{path}").rstrip("/") or "/"

    def on_close(self, give_back: Callable[[], None]) -> None:
        """Have something else given back with the session."""
        self._given_back.append(give_back)

    def close(self) -> None:
        """Give back connections."""
        for give_back in (*self._given_back, self.catalog.close):
            give_back()
