"""A user who has signed in."""

from __future__ import annotations

from compute_to_data.client.site_access import SiteAccess
from compute_to_data.client.workbench import Workbench
from compute_to_data.model import User
from compute_to_data.zones.entrance import GatewayCatalog


class Person:
    """A user with their session. Threads may share it."""

    def __init__(self, catalog: GatewayCatalog, site_access: SiteAccess) -> None:
        self.catalog = catalog
        self.site_access = site_access

    @property
    def user(self) -> User:
        """The user's name and zone."""
        return self.catalog.user

    def workbench(self, project: str = "") -> Workbench:
        """For the operations of ``client``."""
        return Workbench(self.catalog, self.site_access, project=project)
