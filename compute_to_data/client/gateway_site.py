"""What a gateway knows of the site: what may run, which images there are, and how to wake a worker."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compute_to_data.catalog_json import avus_of
from compute_to_data.configuration import Attributes, Configuration
from compute_to_data.coordination import capabilities
from compute_to_data.coordination.held_images import HeldImages
from compute_to_data.errors import ConfigurationError
from compute_to_data.ports.zone import ClientCatalog

if TYPE_CHECKING:
    from compute_to_data.zones.gateway import GatewaySession


class GatewaySite:
    """A :class:`~compute_to_data.client.site_access.SiteAccess` that asks the gateway. It keeps the configuration."""

    def __init__(self, attributes: Attributes) -> None:
        self._attributes = attributes
        self._known: Configuration | None = None

    @property
    def attributes(self) -> Attributes:
        """The attributes given."""
        return self._attributes

    def configuration(self, catalog: ClientCatalog) -> Configuration:
        """What the gateway knows: as workers publish it, or from its own file. Refused when it knows nothing."""
        if self._known is None:
            found = _ask(catalog, "GET", "site")
            known = capabilities.made_of(avus_of(found["capabilities"]), self._attributes)
            worker = replace(known.worker, on_demand=bool(found["on_demand"]))
            self._known = replace(known, worker=worker, source="the gateway")
        return self._known

    def held_images(self, catalog: ClientCatalog, resource: str, image: str = "") -> HeldImages | None:
        """As the gateway knows."""
        found = _ask(catalog, "GET", "held_images", resource=resource, image=image)
        return None if found is None else HeldImages(tuple(found["names"]), bool(found["is_complete"]))

    def call_worker(self, catalog: ClientCatalog, collection: str) -> None:
        """Let the gateway wake the worker, if it can."""
        _ask(catalog, "POST", "call_worker", path=collection)


def attributes_of(catalog: ClientCatalog) -> Attributes:
    """The names of the site's AVUs, as the gateway told them when the session began."""
    return Attributes(**_gateway_session(catalog).attributes)


def _ask(catalog: ClientCatalog, method: str, name: str, **parameters: str) -> Any:
    path = f"/api/v1/catalog/{name}"
    return _gateway_session(catalog).wire.result(method, path, parameters=parameters, again=True)


def _gateway_session(catalog: ClientCatalog) -> GatewaySession:
    from compute_to_data.zones.gateway import GatewaySession

    if not isinstance(catalog, GatewaySession):
        raise ConfigurationError("/zone/kind", "this session does not come through a gateway")
    return catalog
