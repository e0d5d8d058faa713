"""Finds a live worker for work that no resource is named for, such as submitting the task of an arrival.

A policy asks this inside an upload, so it needs the standard library only and few questions.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable

from compute_to_data.configuration import Configuration
from compute_to_data.coordination.heartbeat import served
from compute_to_data.coordination.lock import ResourceLock
from compute_to_data.model import zone_of
from compute_to_data.ports.zone import Catalog

_BELIEVED_SECONDS = 10.0
"""How long an agent believes which resources have workers. Heartbeats are renewed more rarely than that."""
_LOCK_SECONDS = 1.0
"""How long an agent believes that a worker on this host is alive. A note for one that has just ended waits for the
next worker of that resource."""


class LiveWorkers:
    """The resources with live workers, those on this host first. An agent keeps one object."""

    def __init__(self) -> None:
        self._site = ("", "")
        self._asked = self._looked = 0.0
        self._here: tuple[str, ...] = ()
        self._alive: tuple[str, ...] = ()

    def is_here(self, resource: str) -> bool:
        """Whether a resource that :meth:`resource_for` named is on this host."""
        return resource in self._here

    def resource_for(
        self, catalog: Catalog, configuration: Configuration, hosts: frozenset[str], logical_path: str
    ) -> str:
        """A resource whose worker is alive, the same for one logical path as long as the same workers are; '' when
        there is none. A worker on another host counts only while none is alive here."""
        site = (zone_of(logical_path), configuration.source)
        if site != self._site or time.monotonic() - self._asked > _BELIEVED_SECONDS:
            self._ask(catalog, configuration, hosts, site)
        found = _one_of(self._alive, logical_path)
        if self.is_here(found) and time.monotonic() - self._looked > _LOCK_SECONDS:
            self._looked = time.monotonic()
            if not ResourceLock(configuration, site[0], found).is_held():
                self._ask(catalog, configuration, hosts, site)
                found = _one_of(self._alive, logical_path)
        return found

    def _ask(
        self, catalog: Catalog, configuration: Configuration, hosts: frozenset[str], site: tuple[str, str]
    ) -> None:
        self._here = tuple(one.name for one in catalog.resources() if one.is_storage and one.host in hosts)
        alive = tuple(one for one in self._here if ResourceLock(configuration, site[0], one).is_held())
        self._alive = alive or _with_heartbeats(catalog, configuration, {*self._here})
        self._site, self._asked = site, time.monotonic()
        self._looked = self._asked


def _with_heartbeats(catalog: Catalog, configuration: Configuration, not_these: set[str]) -> tuple[str, ...]:
    return tuple(sorted(served(catalog, configuration) - not_these))


def _one_of(resources: Iterable[str], logical_path: str) -> str:
    listed = sorted(resources)
    return listed[zlib.crc32(logical_path.encode()) % len(listed)] if listed else ""
