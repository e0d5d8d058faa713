"""Pages of TES tasks, newest first. A token leads to the next page also when tasks have come or gone meanwhile."""

from __future__ import annotations

import base64
import binascii
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from compute_to_data.client.tasks import TaskHandle
from compute_to_data.client.workbench import Workbench
from compute_to_data.errors import InvalidRequest, NotFound, Refused
from compute_to_data.gateway.tes import views
from compute_to_data.gateway.tes.views import View
from compute_to_data.model import MOST_AMONG, EntityKind, Query, Row, name_of
from compute_to_data.records import tes_record
from compute_to_data.records.state import State, furthest
from compute_to_data.records.task import ARCHIVED, CANCEL

_WINDOW = MOST_AMONG
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
    for place, row, state in _wanted(bench, wanted, _read(token) if token else None, size + 1):
        if len(shown) == size and last is not None:
            return {"tasks": shown, "next_page_token": _token(*last)}
        try:
            minimal = {"id": name_of(row.collection), "state": state}
            shown.append(minimal if view is View.MINIMAL else views.task(TaskHandle(bench, row.collection), view))
        except NotFound:
            continue  # it was removed meanwhile
        except Refused as error:  # its record cannot be read: that must not hide the others
            log = {"logs": [], "outputs": [], "system_logs": [str(error)]}
            shown.append({**minimal, "executors": [], "logs": [log]})
        last = place, row
    return {"tasks": shown}


def _wanted(
    bench: Workbench, wanted: Wanted, last: tuple[int, str, float] | None, most: int
) -> Iterator[tuple[int, Row, str]]:
    """The tasks to list with their places and TES states, after the last one of the page before. ``most``: how many of
    them are of use."""
    is_filtered = wanted != Wanted()
    for place, window in _windows(bench, last, _WINDOW if is_filtered else min(most, _WINDOW)):
        rows = {
            number: row for number, row in enumerate(window, place) if row.value.startswith(f"={wanted.name_prefix}")
        }
        tags = _facts(bench, rows.values(), tes_record.TAG) if wanted.tags else {}
        if wanted.tags:
            fit = {name for name, found in tags.items() if tes_record.fits(wanted.tags, (one.value for one in found))}
            rows = {number: row for number, row in rows.items() if row.collection in fit}
        states = _states(bench, rows.values())
        for number, row in rows.items():
            state = states.get(row.collection, "")
            if state and wanted.state in ("", state):
                yield number, row, state


def _facts(bench: Workbench, rows: Iterable[Row], name: str) -> dict[str, list[Row]]:
    """The rows of a fact, or of the state for '', by collection: one question for all."""
    attribute = bench.attributes.named(name) if name else bench.attributes.state
    found: dict[str, list[Row]] = defaultdict(list)
    names = list(dict.fromkeys(one.collection for one in rows))
    for query in Query(EntityKind.COLLECTION, attribute).among_each(names):
        for row in bench.catalog.query(query):
            found[row.collection].append(row)
    return found


def _states(bench: Workbench, rows: Collection[Row]) -> dict[str, str]:
    """The TES states by collection. A task that was removed meanwhile has none, and so has a collection that somebody
    else's AVU makes look like a task."""
    recorded, archived = _facts(bench, rows, ""), _facts(bench, rows, ARCHIVED)
    reasons, cancels = _facts(bench, rows, "reason_code"), _facts(bench, rows, CANCEL)
    found = {}
    for name in (one.collection for one in rows):
        state = furthest(one.value for one in (*recorded.get(name, ()), *archived.get(name, ())))
        if state is not None:
            reason = next((one.value for one in reasons.get(name, ())), "")
            found[name] = views.state_of(State(state), reason, name in cancels)
    return found


def _windows(bench: Workbench, last: tuple[int, str, float] | None, size: int) -> Iterator[tuple[int, Sequence[Row]]]:
    """The user's TES tasks, after the last one of the page before, ``size`` at a time with the place of the first."""
    attribute = bench.attributes.named(tes_record.TES)
    query = Query(EntityKind.COLLECTION, attribute, owner=bench.user, newest_first=True, limit=_WINDOW)
    place = 0
    if last is not None:
        place = last[0] + 1
        found = bench.catalog.query(replace(query, limit=1, offset=last[0]))
        if not found or found[0].collection != last[1]:
            place = _after(bench, query, last)
    while True:
        rows = bench.catalog.query(replace(query, limit=size, offset=place))
        yield place, rows
        place += len(rows)
        if len(rows) < size:
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
