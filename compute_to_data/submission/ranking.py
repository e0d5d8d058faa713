"""Puts the candidates for a task in order: the resource that suits it best comes first.

Before all else, a resource on which most of the unfinished tasks run that make the task's inputs; then one that holds
good replicas of most input bytes; then the one with the fewest unfinished tasks; then the first by name.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence

from compute_to_data.configuration import Configuration
from compute_to_data.coordination import published_line
from compute_to_data.model import DataObject, EntityKind, Query, Resource
from compute_to_data.ports.zone import Catalog
from compute_to_data.records.state import UNFINISHED, State, queue_levels

_COUNTED = 1000
"""How many queued tasks of a resource a submission counts: with more, it is busy, however many they are."""
_COMPARED = 3
"""Of how many resources a submission counts tasks: those with the shortest published lines, of equally short ones any.
Published lines are some seconds old. If all submissions of such a time compared the same resources, they would all go
there (M. Mitzenmacher, "The power of two choices in randomized load balancing", 2001)."""


class Ranking:
    """Candidates for a task, the best first. It counts tasks only of resources that the caller comes to."""

    def __init__(
        self,
        catalog: Catalog,
        configuration: Configuration,
        candidates: Sequence[Resource],
        inputs: Sequence[DataObject],
        makers: Counter[str],
    ) -> None:
        self._catalog, self._configuration = catalog, configuration
        self._candidates, self._inputs, self._makers = candidates, inputs, makers
        self._loads: dict[str, int] = {}

    def __iter__(self) -> Iterator[Resource]:
        for _, equal in itertools.groupby(sorted(self._candidates, key=self._worth, reverse=True), self._worth):
            yield from self._least_loaded_first(sorted(equal, key=lambda one: one.name))

    def _worth(self, resource: Resource) -> tuple[int, int]:
        return self._makers[resource.name], self._held(resource)

    def _held(self, resource: Resource) -> int:
        return sum(item.size for item in self._inputs if item.good_replica_on(resource.name) is not None)

    def _least_loaded_first(self, equal: Sequence[Resource]) -> Sequence[Resource]:
        """Where there is nothing to choose, nothing is counted: a busy line has long answers."""
        if len(equal) == 1:
            return equal
        attribute = published_line.attribute(self._configuration.attributes)
        lines = published_line.read_all(self._catalog.avus_of_resources(attribute))
        loads = {name: line.running + line.waiting for name, line in lines.items()}
        ordered = sorted(random.sample(equal, len(equal)), key=lambda one: loads.get(one.name, 0))
        first = ordered[:_COMPARED]
        for one in first:  # the tasks of a moment ago are in no published line
            loads[one.name] = max(loads.get(one.name, 0), self._count(one))
        self._loads |= loads
        return [*sorted(first, key=lambda one: (loads[one.name], one.name)), *ordered[_COMPARED:]]

    def _count(self, resource: Resource) -> int:
        """The unfinished tasks of a resource that the user may see."""
        attribute, units = self._configuration.attributes.state, queue_levels(resource.name)
        states = (State.QUEUED, *UNFINISHED)
        queries = [Query(EntityKind.COLLECTION, attribute, state.value, units, limit=_COUNTED) for state in states]
        return sum(len(self._catalog.find(query)) for query in queries)

    def reason(self, resource: Resource) -> str:
        """Why this one, in words."""
        name, makers = resource.name, self._makers
        results = f"runs {makers[name]} of {sum(makers.values())} tasks that make inputs, " if makers else ""
        total, count = sum(item.size for item in self._inputs), self._loads.get(name)
        tasks = "" if count is None else f" and has {count}{' or more' if count >= _COUNTED else ''} unfinished tasks"
        return f"{name} {results}holds {self._held(resource)} of {total} input bytes{tasks}"
