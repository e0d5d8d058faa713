"""A worker's heartbeat: an AVU on its resource that names the worker and the time of its last renewal.

Clients look for a heartbeat before they submit. A second worker for the resource, on any host, finds
the first worker's heartbeat and exits: the lock in ``lock`` separates workers on one host, the
heartbeat separates hosts. Each host uses its own clock; the clocks must agree within a few seconds.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time

from compute_to_data.configuration import Configuration
from compute_to_data.coordination.lock import AlreadyServed
from compute_to_data.errors import ServedElsewhere
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.ports.zone import Catalog

HEARTBEAT_SECONDS = 15.0
"""How often a worker renews its heartbeat."""
_ALIVE_SECONDS = 4 * HEARTBEAT_SECONDS


def is_fresh(heartbeat: Avu) -> bool:
    """Whether the worker renewed this heartbeat within the last minute."""
    return heartbeat.units.isdigit() and abs(time.time() - int(heartbeat.units)) < _ALIVE_SECONDS


def heartbeats(catalog: Catalog, configuration: Configuration, resource: str) -> list[Avu]:
    """All heartbeats on a resource, fresh or not."""
    attribute = configuration.attributes.named("worker")
    return list(catalog.avus(Entity(EntityKind.RESOURCE, resource), attribute))


def is_served(catalog: Catalog, configuration: Configuration, resource: str) -> bool:
    """Whether the resource has a fresh heartbeat of a worker."""
    return any(map(is_fresh, heartbeats(catalog, configuration, resource)))


def served(catalog: Catalog, configuration: Configuration) -> frozenset[str]:
    """The resources for which :func:`is_served`, all in one question."""
    found = catalog.avus_of_resources(configuration.attributes.named("worker"))
    return frozenset(resource for resource, avus in found.items() if any(map(is_fresh, avus)))


class Heartbeat:
    """The heartbeat of one worker, which holds its resource's lock in its state directory."""

    def __init__(self, catalog: Catalog, configuration: Configuration, resource: str) -> None:
        """``catalog``: the service account's session."""
        self._catalog = catalog
        self._configuration = configuration
        self._resource = resource
        directory = os.path.realpath(configuration.worker.state_directory)
        # An earlier worker with the same place is dead: otherwise we would not hold the lock.
        self._place = f"{socket.gethostname()}@{hashlib.sha256(directory.encode()).hexdigest()[:8]}"
        self._renewed = 0.0

    def renew(self) -> None:
        """Write the heartbeat. AlreadyServed when another worker's heartbeat is there.

        The catalog has no compare-and-set, so a worker writes its heartbeat and then looks again.
        When two workers start at the same moment, each one that sees the other's withdraws.
        """
        found = self._found()
        self._refuse_second_worker(found)
        attribute = self._configuration.attributes.named("worker")
        now = time.time()
        self._replace(found, [Avu(attribute, f"{self._place}:{os.getpid()}", str(int(now)))])
        self._renewed = now
        try:
            self._refuse_second_worker(self._found())
        except AlreadyServed:
            self.withdraw()
            raise

    def confirm(self) -> None:
        """ServedElsewhere when our heartbeat is so old that another worker may have taken over, and one has.

        While the heartbeat is fresh, this asks the catalog nothing. Threads may share it.
        """
        if abs(time.time() - self._renewed) < _ALIVE_SECONDS:
            return
        try:
            self._refuse_second_worker(self._found())
        except AlreadyServed as error:
            raise ServedElsewhere(error.subject, error.cause, "The other worker goes on with the task") from error

    def withdraw(self) -> None:
        """Remove our own heartbeat."""
        self._replace(self._found(), [])

    def _found(self) -> list[Avu]:
        return heartbeats(self._catalog, self._configuration, self._resource)

    def _refuse_second_worker(self, found: list[Avu]) -> None:
        for heartbeat in found:
            if is_fresh(heartbeat) and not self._is_ours(heartbeat):
                age = max(0, int(time.time()) - int(heartbeat.units))
                raise AlreadyServed(
                    f"resource {self._resource}",
                    f"is served by another worker ({heartbeat.value}, seen {age} s ago)",
                    f"Stop that worker first; if it is gone already, start again in {_ALIVE_SECONDS:.0f} s",
                )

    def _replace(self, found: list[Avu], new: list[Avu]) -> None:
        """Replace our own heartbeat, and all old ones, of those found with ``new``."""
        old = [heartbeat for heartbeat in found if self._is_ours(heartbeat) or not is_fresh(heartbeat)]
        self._catalog.annotate(Entity(EntityKind.RESOURCE, self._resource), remove=old, add=new)

    def _is_ours(self, heartbeat: Avu) -> bool:
        return heartbeat.value.rpartition(":")[0] == self._place
