"""Pages of TES tasks, newest first. A token leads to the next page also when tasks have come or gone meanwhile."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from compute_to_data.client.tasks import TaskHandle
from compute_to_data.client.workbench import Workbench
from compute_to_data.errors import InvalidRequest, NotFound
from compute_to_data.gateway.tes import views
from compute_to_data.gateway.tes.views import View
from compute_to_data.model import Entity, EntityKind, Query, Row, name_of
from compute_to_data.records import tes_record
from compute_to_data.records.task import ARCHIVED, CANCEL, State, furthest

_WINDOW = 500
"""How many tasks are looked through at a time."""


@dataclass(frozen=True)
class Wanted:
    """Which tasks to list. ``state``: a TES state; '' for any. ``tags``: an empty value admits any."""

    name_prefix: str = ""
    state: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


def page(bench: Workbench, wanted: Wanted, view: View, size: int, token: str) -> dict[str, Any]:
    """``tasks``: at most ``size``. ``next_page_token`` if there are more. InvalidRequest for a token that is none."""
    shown: list[dict[str, Any]] = []
    last: tuple[int, Row] | None = None
    for place, row in _rows(bench, _read(token) if token else None):
        if not row.value.startswith(f"={wanted.name_prefix}") or not _has_tags(bench, row, wanted.tags):
            continue
        state = _state(bench, row)
        if not state or (wanted.state and state != wanted.state):
            continue
        if len(shown) == size and last is not None:
            return {"tasks": shown, "next_page_token": _token(*last)}
        try:
            minimal = {"id": name_of(row.collection), "state": state}
            shown.append(minimal if view is View.MINIMAL else views.task(TaskHandle(bench, row.collection), view))
        except NotFound:
            continue  # it was removed meanwhile
        last = place, row
    return {"tasks": shown}


def _has_tags(bench: Workbench, row: Row, tags: Mapping[str, str]) -> bool:
    if not tags:
        return True
    named = bench.attributes.named(tes_record.TAG)
    found = bench.catalog.avus(Entity(EntityKind.COLLECTION, row.collection), named)
    return tes_record.fits(tags, (avu.value for avu in found))


def _state(bench: Workbench, row: Row) -> str:
    """The TES state; '' for a task that was removed meanwhile, or that somebody else's AVU makes look like one."""
    attributes = bench.attributes
    reason, cancel = attributes.named("reason_code"), attributes.named(CANCEL)
    names = (attributes.state, attributes.named(ARCHIVED), reason, cancel)
    try:
        avus = bench.catalog.avus(Entity(EntityKind.COLLECTION, row.collection), *names)
    except NotFound:
        return ""
    state = furthest(avu.value for avu in avus if avu.attribute in names[:2])
    if state is None:
        return ""
    reasons = [avu.value for avu in avus if avu.attribute == reason]
    asked = any(avu.attribute == cancel for avu in avus)
    return views.state_of(State(state), reasons[0] if reasons else "", asked)


def _rows(bench: Workbench, last: tuple[int, str, float] | None) -> Iterator[tuple[int, Row]]:
    """The user's TES tasks with their places in the list, after the last one of the page before."""
    attribute = bench.attributes.named(tes_record.TES)
    query = Query(EntityKind.COLLECTION, attribute, owner=bench.user, newest_first=True, limit=_WINDOW)
    place = 0
    if last is not None:
        place = last[0] + 1
        found = bench.catalog.query(replace(query, limit=1, offset=last[0]))
        if not found or found[0].collection != last[1]:
            place = _after(bench, query, last)
    while True:
        rows = bench.catalog.query(replace(query, offset=place))
        yield from enumerate(rows, place)
        place += len(rows)
        if len(rows) < _WINDOW:
            return


def _after(bench: Workbench, query: Query, last: tuple[int, str, float]) -> int:
    """The place after the last task of the page before: behind it, or where the first older one is."""
    place = 0
    while True:
        rows = bench.catalog.query(replace(query, offset=place))
        for number, row in enumerate(rows, place):
            if row.collection == last[1]:
                return number + 1
            if row.created < last[2]:
                return number
        place += len(rows)
        if len(rows) < _WINDOW:
            return place


def _token(place: int, row: Row) -> str:
    return base64.urlsafe_b64encode(json.dumps([place, row.collection, row.created]).encode()).decode()


def _read(token: str) -> tuple[int, str, float]:
    try:
        place, collection, created = json.loads(base64.urlsafe_b64decode(token.encode("ascii")))
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise _wrong() from None
    is_number = isinstance(created, (int, float)) and not isinstance(created, bool)
    if type(place) is not int or not 0 <= place < 1 << 31 or not isinstance(collection, str) or not is_number:
        raise _wrong()
    return place, collection, created


def _wrong() -> InvalidRequest:
    return InvalidRequest("page_token", "is not one that this list gave", "Take it from next_page_token")
