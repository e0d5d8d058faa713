"""A person in a zone: who they are, which project they work in, what the site allows.

A :class:`Workbench` keeps nothing on disk, so one process can have workbenches for many users. The
operations are functions that take a workbench as their first argument:

- ``tasks.submit``, ``finding.find`` and ``finding.tasks`` (which return or list tasks), ``logs``;
- ``workloads.start``, ``workloads.find``, ``workloads.listed``; ``datasets``; ``secrets``;
- ``site.resources``, ``site.images``, ``site.limits``.

``results`` reads a task's outputs. Only ``fetching``, ``folders``, ``uploading``, ``downloading`` and
``transfers`` use files of this host; they are imported when an operation names a folder of this host.
A :class:`~compute_to_data.client.session.Session` is a workbench with the state of a person's own
computer: settings, the remembered project, connections to close.
"""

from __future__ import annotations

from compute_to_data.client.given import Given, text_of
from compute_to_data.client.site_access import SiteAccess
from compute_to_data.configuration import Attributes, Configuration
from compute_to_data.coordination.held_images import HeldImages
from compute_to_data.errors import InvalidRequest, NotFound
from compute_to_data.model import Collection, User, zone_of
from compute_to_data.ports.zone import ClientCatalog


class Workbench:
    """``catalog`` is the person's own session with the zone; the caller closes it. ``site_access`` says
    what the site allows, and may serve many workbenches. ``project`` is the collection to work in,
    '' for none.

    Several threads may share a workbench when they may share its catalog.
    """

    def __init__(self, catalog: ClientCatalog, site_access: SiteAccess, *, project: str = "") -> None:
        self.catalog = catalog
        self.site_access = site_access
        self._project = project

    @property
    def user(self) -> User:
        """The person's user name and zone."""
        return self.catalog.user

    @property
    def home(self) -> str:
        """The person's home collection, or ``irods_home`` when their environment sets it."""
        return self.catalog.home

    @property
    def zone(self) -> str:
        """The zone that they work in. It can differ from the user's own zone."""
        return zone_of(self.home)

    @property
    def configuration(self) -> Configuration:
        """What the site allows: images, roles, limits. Refused when it cannot be found out."""
        return self.site_access.configuration(self.catalog)

    def held_images(self, resource: str, image: str = "") -> HeldImages | None:
        """The images that the engine of a resource holds; None when that is not known. See :class:`SiteAccess`."""
        return self.site_access.held_images(self.catalog, resource, image)

    @property
    def attributes(self) -> Attributes:
        """The names of the site's AVUs."""
        return self.site_access.attributes

    @property
    def project(self) -> str:
        """The collection to work in: the chosen project, else home.

        NotFound when the chosen project does not exist, or this user may not read it.
        """
        return self.checked_project(self.named_project) if self._project else self.home

    @property
    def named_project(self) -> str:
        """As :attr:`project`, without looking whether it exists."""
        return self.absolute(self._project) if self._project else self.home

    def checked_project(self, collection: str) -> str:
        """Return ``collection`` when it can be a project. NotFound when it does not exist or the user
        may not read it, InvalidRequest for a data object."""
        try:
            found = self.catalog.stat(collection)
        except NotFound as error:
            cause, remedy = "does not exist, or you may not read it", "Choose another: c2d project set PATH"
            raise NotFound(f"project {collection}", cause, remedy, code=error.code) from None
        if not isinstance(found, Collection):
            raise InvalidRequest(f"project {collection}", "is a data object, and a project is a collection")
        return collection

    @property
    def results(self) -> str:
        """The default output collection: ``results`` in the project, or ``c2d_results`` at home without one."""
        return f"{self.project}/results" if self._project else f"{self.home}/c2d_results"

    def absolute(self, path: Given) -> str:
        """The absolute logical path. A relative path starts at home, as for ``iput`` after ``icd``."""
        path = text_of(path, "path")
        return (path if path.startswith("/") else f"{self.home}/{path}").rstrip("/") or "/"
