"""What everything a person does goes through: who they are, where they work, what the site allows.

A :class:`Workbench` takes values and keeps nothing on a disk, so one process can hold those of many
users. The operations are functions that take a workbench first:

- ``tasks.submit``, ``finding.find`` and ``finding.tasks`` (which return or list tasks), ``logs``;
- ``workloads.start``, ``workloads.find``, ``workloads.listed``; ``datasets``; ``secrets``;
- ``site.resources``, ``site.images``, ``site.limits``.

``results`` reads what a task made. Only ``fetching``, ``folders``, ``uploading``, ``downloading`` and
``transfers`` use files of this host; they are loaded when an operation names a folder of this host. A
:class:`~compute_to_data.client.session.Session` is a workbench with the state of a person's own
computer: settings, the remembered project, connections to close.
"""

from __future__ import annotations

from compute_to_data.client.site_access import SiteAccess
from compute_to_data.configuration import Attributes, Configuration
from compute_to_data.errors import InvalidRequest, NotFound
from compute_to_data.model import Collection, User, zone_of
from compute_to_data.ports import ClientCatalog


class Workbench:
    """``catalog`` is the person's own session with the zone, which stays the caller's to close;
    ``site_access`` says what the site allows, and may serve many workbenches; ``project`` is the
    collection to work in, '' for none.

    Several threads may share a workbench when they may share its catalog.
    """

    def __init__(self, catalog: ClientCatalog, site_access: SiteAccess, *, project: str = "") -> None:
        self.catalog = catalog
        self.site_access = site_access
        self._project = project

    @property
    def user(self) -> User:
        """The person, as the catalog knows them."""
        return self.catalog.user

    @property
    def home(self) -> str:
        """The person's home collection: ``irods_home`` where their environment names one."""
        return self.catalog.home

    @property
    def zone(self) -> str:
        """The zone they work in, which need not be the one they are from."""
        return zone_of(self.home)

    @property
    def configuration(self) -> Configuration:
        """What the site allows: images, roles, limits. Refused when nothing says so."""
        return self.site_access.configuration(self.catalog)

    @property
    def attributes(self) -> Attributes:
        """The names of the site's AVUs."""
        return self.site_access.attributes

    @property
    def project(self) -> str:
        """The collection to work in: the one chosen, which must be there, else home.

        NotFound when it is gone, or hidden from this user.
        """
        if not self._project:
            return self.home
        return self.checked_project(self.absolute(self._project))

    def checked_project(self, collection: str) -> str:
        """``collection`` itself when one can work there. NotFound for an unknown or hidden one,
        InvalidRequest for a data object."""
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
        """Where results go unless a request says: ``results`` of the project, else ``c2d_results`` at home."""
        return f"{self.project}/results" if self._project else f"{self.home}/c2d_results"

    def absolute(self, path: str) -> str:
        """A logical path; a relative one is meant from home, as ``iput`` means it after ``icd``."""
        return (path if path.startswith("/") else f"{self.home}/{path}").rstrip("/") or "/"
