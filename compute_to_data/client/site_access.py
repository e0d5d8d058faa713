"""How a workbench learns what the site allows, and how it wakes a worker.

One :class:`SiteAccess` may serve many users of one zone at the same time, from several threads.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Protocol

from compute_to_data import this_host
from compute_to_data.configuration import Attributes, Configuration
from compute_to_data.coordination import capabilities, held_images, wakeup
from compute_to_data.coordination.held_images import HeldImages
from compute_to_data.errors import ComputeToDataError, Refused
from compute_to_data.model import Entity, EntityKind, Query, zone_of
from compute_to_data.ports.zone import ClientCatalog
from compute_to_data.records.state import resource_of


class SiteAccess(Protocol):
    """What a workbench needs to know about the site, beside the catalog."""

    @property
    def attributes(self) -> Attributes:
        """The names of the site's AVUs."""

    def configuration(self, catalog: ClientCatalog) -> Configuration:
        """What the site allows; enough to submit tasks. Refused when it cannot be found out."""

    def held_images(self, catalog: ClientCatalog, resource: str, image: str = "") -> HeldImages | None:
        """The images that the engine of a resource holds; None when that is not known. A list that is not quite
        new will do when it has ``image``."""

    def call_worker(self, catalog: ClientCatalog, collection: str) -> None:
        """Wake or start the worker of the task in ``collection``, when this host can. Otherwise do
        nothing: a worker looks at its queue every few seconds."""


class PublishedSite:
    """What the zone's workers publish on their resources. It is the same for every user of the zone.

    An answer is kept for ``maximum_age`` seconds for all users. A refusal is not kept.
    """

    def __init__(self, attributes: Attributes, maximum_age: float = 30.0) -> None:
        self._attributes = attributes
        self._maximum_age = maximum_age
        self._lock = threading.Lock()
        self._known: tuple[float, Configuration] | None = None

    @property
    def attributes(self) -> Attributes:
        """The attributes given. Their prefix leads to the workers' ``offer``."""
        return self._attributes

    def configuration(self, catalog: ClientCatalog) -> Configuration:
        """The offers of all workers together. While one thread asks the catalog, the others wait for its answer."""
        with self._lock:
            if self._known is None or time.monotonic() >= self._known[0]:
                found = self._asked(catalog)
                self._known = (time.monotonic() + self._maximum_age, found)
            return self._known[1]

    def _asked(self, catalog: ClientCatalog) -> Configuration:
        try:
            return capabilities.read(catalog, self._attributes)
        except Refused as error:
            raise self._no_offer(catalog, error) from None

    def _no_offer(self, catalog: ClientCatalog, error: Refused) -> Refused:
        found = catalog.find(Query(EntityKind.RESOURCE, self._attributes.role))
        subject = f"zone {zone_of(catalog.home)}"
        if not found:
            remedy = "Ask an administrator to set one up: docs/administrators.md"
            return Refused(subject, "has no compute resource", remedy)
        return Refused(subject, f"no worker of {', '.join(sorted(found))} publishes what it can run", error.remedy)

    def held_images(self, catalog: ClientCatalog, resource: str, image: str = "") -> HeldImages | None:
        """What the live worker of the resource publishes."""
        return held_images.published(catalog, self._attributes, resource)

    def call_worker(self, catalog: ClientCatalog, collection: str) -> None:
        """Do nothing: what workers publish does not say how to wake them."""


_KNOWN_TASKS = 1000


class ConfiguredSite:
    """What a loaded site configuration says."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._resources: dict[str, str] = {}
        """The resources of tasks whose workers this process was to call; '' for those on other hosts."""

    @property
    def attributes(self) -> Attributes:
        """The configuration's attributes."""
        return self._configuration.attributes

    def configuration(self, catalog: ClientCatalog) -> Configuration:
        """The configuration given, for every user."""
        return self._configuration

    def held_images(self, catalog: ClientCatalog, resource: str, image: str = "") -> HeldImages | None:
        """What a worker of the resource has published, if that has ``image``. Otherwise, where this process runs as
        the account of a worker on this host, what the engine itself says. Elsewhere, what a live worker publishes."""
        attributes = self._configuration.attributes
        known = held_images.last_published(catalog, attributes, resource) if image else None
        if known is not None and known.may_have(image):
            return known
        host = next((one.host for one in catalog.resources() if one.name == resource), "")
        if _is_own(self._configuration) and host in this_host.names():
            return _images_of_engine(self._configuration)
        return held_images.published(catalog, attributes, resource)

    def call_worker(self, catalog: ClientCatalog, collection: str) -> None:
        """Wake or start the worker, when this process runs as the worker's account and the task's
        resource is on this host."""
        if not _is_own(self._configuration):
            return
        resource = self._resources.get(collection)
        if resource is None:  # a follower calls for the same task again and again
            resource = self._resource_here(catalog, collection)
            kept = self._resources if len(self._resources) < _KNOWN_TASKS else {}
            self._resources = {**kept, collection: resource}
        if resource:
            with contextlib.suppress(OSError):
                wakeup.call_worker(self._configuration, zone_of(collection), resource)

    def _resource_here(self, catalog: ClientCatalog, collection: str) -> str:
        """The task's resource, if it is on this host; else ''."""
        avus = catalog.avus(Entity(EntityKind.COLLECTION, collection), self.attributes.state)
        resource = next((resource_of(avu.units) for avu in avus), "")
        host = next((known.host for known in catalog.resources() if known.name == resource), "")
        return resource if host in this_host.names() else ""


def _images_of_engine(configuration: Configuration) -> HeldImages | None:
    """What the engine says; None when it lists no images or cannot be asked from here."""
    from compute_to_data.engines import open_engine  # which may take a quarter of a second

    with contextlib.suppress(ComputeToDataError):
        names = open_engine(configuration.engine, configuration.worker.state_directory).images()
        return None if names is None else held_images.allowed(configuration, names)
    return None


def _is_own(configuration: Configuration) -> bool:
    """Whether this process has the account of the site's workers. No other account, not even root,
    may start a worker or write files in its state directory."""
    if configuration.zone.kind == "embedded":
        return True
    with contextlib.suppress(OSError, AttributeError):  # Windows has no user ids to compare
        return os.stat(configuration.worker.state_directory).st_uid == os.geteuid()
    return False
