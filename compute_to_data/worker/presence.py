"""What a worker shows of itself on its resource: its heartbeat, what it can do, the images that it has, its line."""

from __future__ import annotations

import contextlib

from compute_to_data.coordination import capabilities, held_images, published_line
from compute_to_data.coordination.heartbeat import Heartbeat, heartbeats
from compute_to_data.errors import ComputeToDataError
from compute_to_data.pipeline.execution import ServedResource


class Presence:
    """The worker's AVUs on its resource. Threads may share :meth:`confirm`."""

    def __init__(self, served: ServedResource) -> None:
        self._served = served
        self._place = served.storage.catalog, served.configuration, served.resource.name
        self._sign = Heartbeat(*self._place)

    def confirm(self) -> None:
        """ServedElsewhere when another worker has taken the resource over."""
        self._sign.confirm()

    def show(self) -> None:
        """Renew the heartbeat, and publish what the worker can do. AlreadyServed when another worker has published
        its heartbeat."""
        self._sign.renew()
        capabilities.publish(*self._place)
        held_images.publish(*self._place, self._served.engine.images())

    def withdraw(self) -> None:
        """Remove it all, as far as the zone answers. What other workers of the resource share with us stays."""
        catalog, configuration, resource = self._place
        with contextlib.suppress(ComputeToDataError):
            self._sign.withdraw()
            published_line.publish(catalog, configuration.attributes, resource, None)
            if not heartbeats(*self._place):
                capabilities.withdraw(*self._place)
                if not configuration.worker.on_demand:  # else a client on this host knows them next time
                    held_images.withdraw(*self._place)
