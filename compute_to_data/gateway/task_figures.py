"""What ``/metrics`` tells of a zone's tasks: the states and the durations of the newest ones, and the lines of the
resources as their workers publish them.

A scrape asks the catalog one thing at most: a bounded number of rows, or one AVU of each resource. Each is asked for at
most once in :data:`KEPT_SECONDS`. So the cost depends neither on the number of tasks nor on who scrapes how often.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily, Metric

from compute_to_data.configuration import Attributes
from compute_to_data.coordination import published_line
from compute_to_data.coordination.published_line import PublishedLine
from compute_to_data.errors import ComputeToDataError
from compute_to_data.model import Avu, EntityKind, Query, Row
from compute_to_data.records.state import State

log = logging.getLogger(__name__)
MOST = 1000
"""How many tasks a question is about: the newest ones."""
KEPT_SECONDS = 15.0
_QUANTILES = (0.5, 0.9, 0.99, 1.0)


@dataclass
class _Question:
    """One question, and its last answer. ``asked``: when, by a monotonic clock; None before the first time."""

    attribute: str
    values: tuple[str, ...] = ()
    lines: Mapping[str, PublishedLine] = field(default_factory=dict)
    asked: float | None = None
    is_answered: bool = field(default=False)


class TaskFigures:
    """A collector of ``prometheus_client``. ``ask`` reads the zone's AVUs regardless of access lists, and
    ``ask_resources`` those of all resources with an attribute."""

    def __init__(
        self,
        ask: Callable[[Query], Sequence[Row]],
        ask_resources: Callable[[str], Mapping[str, Sequence[Avu]]],
        attributes: Attributes,
    ) -> None:
        self._ask = ask
        self._ask_resources = ask_resources
        self._lines = _Question(published_line.attribute(attributes))
        self._states = _Question(attributes.state)
        self._seconds = _Question(attributes.named("processing_seconds"))
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Ask what was not asked for longest, unless that was lately. Blocks until the zone answers. While somebody
        else asks, it returns at once."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            question = min(
                (self._states, self._seconds, self._lines), key=lambda one: -1.0 if one.asked is None else one.asked
            )
            if question.asked is not None and time.monotonic() - question.asked < KEPT_SECONDS:
                return
            self._put(question)
        finally:
            self._lock.release()

    def _put(self, question: _Question) -> None:
        question.asked = time.monotonic()
        query = Query(EntityKind.COLLECTION, question.attribute, newest_first=True, limit=MOST)
        try:
            if question is self._lines:
                question.lines = published_line.read_all(self._ask_resources(question.attribute))
            else:
                question.values = tuple(row.value for row in self._ask(query))
            question.is_answered = True
        except ComputeToDataError as error:
            # A figure that is not known must not look like one that has not changed.
            question.values, question.lines, question.is_answered = (), {}, False
            log.warning("figures of tasks: %s", error)

    def collect(self) -> Iterator[Metric]:
        """The figures that are known."""
        if self._states.is_answered:
            yield self._by_state()
        if self._seconds.is_answered:
            yield self._durations()
        if self._lines.is_answered:
            yield from self._queues()

    def _queues(self) -> Iterator[Metric]:
        """A worker that ends removes its line. Tasks that no worker knows of are in no line."""
        for name, text in (
            ("waiting", "Tasks that wait for the resource, as its worker publishes them."),
            ("running", "Tasks of the resource that have begun, as its worker publishes them."),
            ("capacity", "How many tasks the resource can run at a time."),
        ):
            family = GaugeMetricFamily(f"c2d_queue_{name}", text, labels=["resource"])
            for resource, line in sorted(self._lines.lines.items()):
                family.add_metric([resource], float(getattr(line, name)))
            yield family

    def _by_state(self) -> Metric:
        known = {state.value for state in State}
        # An AVU's value is its owner's text.
        found = Counter(value for value in self._states.values if value in known)
        family = GaugeMetricFamily(
            "c2d_newest_tasks", f"Of the {MOST} newest tasks of the zone, those in each state.", labels=["state"]
        )
        for state in State:
            family.add_metric([state.value], found[state.value])
        return family

    def _durations(self) -> Metric:
        seconds = sorted(one for one in map(_number, self._seconds.values) if one is not None)
        text = f"How long the programs of the {MOST} newest ended tasks of the zone ran."
        family = GaugeMetricFamily("c2d_newest_task_processing_seconds", text, labels=["quantile"])
        for quantile in _QUANTILES if seconds else ():
            family.add_metric([str(quantile)], seconds[min(len(seconds) - 1, int(quantile * len(seconds)))])
        return family


def _number(value: str) -> float | None:
    try:
        found = float(value)
    except ValueError:
        return None
    return found if 0 <= found < 1e12 else None
