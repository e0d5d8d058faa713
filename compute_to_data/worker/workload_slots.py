"""Limits how many tasks of a workload run at a time, and removes sandboxes that are not needed any more."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from compute_to_data.errors import ComputeToDataError, TooLarge
from compute_to_data.job import JobKey
from compute_to_data.model import Entity, EntityKind, Query, name_of, parent_of
from compute_to_data.pipeline.execution import ServedResource
from compute_to_data.pipeline.vault.workload_directories import WorkloadDirectories
from compute_to_data.records.workload import INSTANCES, STATE, WorkloadState, instances_of, is_workload_id

log = logging.getLogger(__name__)

_MOST_READ = 15
"""How many numbers of instances of a workload the worker reads. There is one, unless somebody has written others."""
IDLE_SECONDS = 120.0
"""How long a warm sandbox waits for its workload's next task."""


class WorkloadSlots:
    """The workloads of one worker's resource. Only the worker's main thread uses it."""

    def __init__(self, served: ServedResource) -> None:
        self._served = served
        self._instances: dict[str, int] = {}
        self.directories = WorkloadDirectories(f"{served.journal_folder}.workloads", served.resource)

    def tend(self, in_flight: Iterable[str]) -> None:
        """Remove the sandboxes of stopped workloads, idle sandboxes, and those that an earlier worker left."""
        in_flight = frozenset(in_flight)
        busy = {parent_of(collection) for collection in in_flight}
        started = self._started(sorted(self.directories.workloads() - busy))
        self._instances = {one: count for one, count in self._instances.items() if one in busy}
        self._keep(frozenset({*started, *busy}), IDLE_SECONDS, in_flight)

    def _started(self, workloads: Sequence[str]) -> Iterator[str]:
        """Those of these workloads that are started. Only about those that have a sandbox here does the worker ask:
        anybody can tag any number of collections as started."""
        attribute, here = self._served.configuration.attributes.named(STATE), self._served.resource.name
        query = Query(EntityKind.COLLECTION, attribute, WorkloadState.STARTED.value, here)
        for part in query.among_each(workloads):
            yield from self._served.storage.find(part)

    def leave(self) -> None:
        """Remove all idle sandboxes, because the worker is stopping."""
        try:
            self._keep(frozenset(), 0.0, frozenset())
        except ComputeToDataError as error:
            log.warning("the next worker must remove sandboxes of workloads: %s", error)

    def _keep(self, workloads: frozenset[str], idle_seconds: float, in_flight: frozenset[str]) -> None:
        names = frozenset(JobKey.of(self._served.scope, one).text for one in workloads)
        self._served.engine.tidy(self._served.scope, names, idle_seconds)
        self.directories.tidy(workloads, in_flight)

    def full(self, in_flight: Iterable[str]) -> list[str]:
        """The workloads of these tasks that cannot have another task in flight."""
        taken = Counter(parent_of(collection) for collection in in_flight)
        return [workload for workload, count in taken.items() if 0 < self._most(workload) <= count]

    def admitted(self, queued: Iterable[str], in_flight: Iterable[str]) -> list[str]:
        """The queued tasks without a workload, or whose workload may have another task in flight."""
        taken = Counter(parent_of(collection) for collection in in_flight)
        found = []
        for collection in queued:
            workload = parent_of(collection)
            most = self._most(workload)
            if not most or taken[workload] < most:
                taken[workload] += 1
                found.append(collection)
        return found

    def _most(self, workload: str) -> int:
        """How many of a workload's tasks may run at a time; 0 when only the worker's capacity limits them."""
        if not is_workload_id(name_of(workload)):
            return 0
        if workload not in self._instances:
            attribute = self._served.configuration.attributes.named(INSTANCES)
            try:
                avus = self._served.storage.avus(Entity(EntityKind.COLLECTION, workload), attribute, most=_MOST_READ)
            except TooLarge as error:  # of its owner's own making, and no reason to end other tasks later
                avus = error.first
            self._instances[workload] = instances_of(avus)
        instances = self._instances[workload]
        return instances if instances < self._served.capacity else 0
