"""What all parts of one gateway share: the zone's entrance, what the site allows, and who has signed in."""

from __future__ import annotations

from compute_to_data import site_file, zones
from compute_to_data.client.site_access import ConfiguredSite, PublishedSite, SiteAccess
from compute_to_data.configuration import Attributes
from compute_to_data.gateway.following import Following
from compute_to_data.gateway.metrics import Metrics
from compute_to_data.gateway.open_objects import Handles
from compute_to_data.gateway.room import Room
from compute_to_data.gateway.settings import GatewaySettings
from compute_to_data.gateway.shares import Shares
from compute_to_data.gateway.signing_in.openid import OpenId
from compute_to_data.gateway.signing_in.people import People
from compute_to_data.gateway.task_figures import TaskFigures
from compute_to_data.zones.entrance import Entrance


class Gateway:
    """One for each application. ConfigurationError when the settings lead to no zone."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.entrance: Entrance = zones.open_entrance(settings.zone)
        self.site_access: SiteAccess = _site_access(settings)
        self.task_figures = TaskFigures(
            self.entrance.query, self.entrance.avus_of_resources, self.site_access.attributes
        )
        self.metrics.include(self.task_figures)
        self.following = Following(self.metrics)
        self.handles = Handles()
        self.room = Room()
        self.shares = Shares(max(1, settings.listen.connections // 4))
        openid = OpenId(settings.openid) if settings.openid is not None else None
        self.people = People(self.entrance, self.site_access, settings.sign_in, self.metrics, openid)

    def tend(self) -> None:
        """End what has expired, and close idle connections. Asks the catalog nothing."""
        self.people.tend()
        self.handles.tend()
        self.entrance.tend()

    def close(self) -> None:
        """End all that the gateway holds."""
        self.handles.tend(everything=True)
        self.people.close()
        self.entrance.close()


def _site_access(settings: GatewaySettings) -> SiteAccess:
    if settings.site:
        return ConfiguredSite(site_file.load(settings.site))
    return PublishedSite(settings.attributes or Attributes())
