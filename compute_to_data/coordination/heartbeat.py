"""A worker's sign of life on its resource: an AVU that says who serves it, and when that was seen last.

Submissions look for it, and so do workers: a second one for the resource, on whatever host, finds
the first one's sign and leaves. The lock in ``lock`` keeps two apart on one host; this, across
hosts. Times are the hosts' own clocks, which must agree to some seconds.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time

from compute_to_data.configuration import Configuration
from compute_to_data.coordination.lock import Held
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.ports import Catalog

HEARTBEAT_SECONDS = 15.0
"""How often a worker renews it."""
_ALIVE_SECONDS = 4 * HEARTBEAT_SECONDS


def is_fresh(sign: Avu) -> bool:
    """Whether whoever put it was alive a minute ago."""
    return sign.units.isdigit() and abs(time.time() - int(sign.units)) < _ALIVE_SECONDS


def heartbeats(catalog: Catalog, configuration: Configuration, resource: str) -> list[Avu]:
    """All signs on a resource, fresh or not."""
    attribute = configuration.attributes.named("worker")
    return [avu for avu in catalog.avus(Entity(EntityKind.RESOURCE, resource)) if avu.attribute == attribute]


class Heartbeat:
    """That of one worker, which holds its resource's lock in its state directory."""

    def __init__(self, catalog: Catalog, configuration: Configuration, resource: str) -> None:
        """``catalog``: the service account's session."""
        self._catalog = catalog
        self._configuration = configuration
        self._resource = resource
        directory = os.path.realpath(configuration.worker.state_directory)
        # Who had the same place before us is dead, or we would not hold the lock.
        self._place = f"{socket.gethostname()}@{hashlib.sha256(directory.encode()).hexdigest()[:8]}"

    def renew(self) -> None:
        """Put the sign, or raise Held when another worker's is there.

        The catalog has no compare-and-set. So a worker puts its sign and then looks again: of two
        that start at one instant, each that sees the other leaves.
        """
        self._leave_to_another()
        sign = Avu(
            self._configuration.attributes.named("worker"), f"{self._place}:{os.getpid()}", str(int(time.time()))
        )
        self._replace([sign])
        try:
            self._leave_to_another()
        except Held:
            self.withdraw()
            raise

    def withdraw(self) -> None:
        """Take our own away."""
        self._replace([])

    def _leave_to_another(self) -> None:
        for sign in heartbeats(self._catalog, self._configuration, self._resource):
            if is_fresh(sign) and not self._is_ours(sign):
                age = max(0, int(time.time()) - int(sign.units))
                raise Held(
                    f"resource {self._resource}",
                    f"is served by another worker ({sign.value}, seen {age} s ago)",
                    f"Stop that one first; if it is gone, start again in {_ALIVE_SECONDS:.0f} s",
                )

    def _replace(self, new: list[Avu]) -> None:
        """Ours, and what nobody renews any more, give way."""
        found = heartbeats(self._catalog, self._configuration, self._resource)
        old = [sign for sign in found if self._is_ours(sign) or not is_fresh(sign)]
        self._catalog.annotate(Entity(EntityKind.RESOURCE, self._resource), remove=old, add=new)

    def _is_ours(self, sign: Avu) -> bool:
        return sign.value.rpartition(":")[0] == self._place
