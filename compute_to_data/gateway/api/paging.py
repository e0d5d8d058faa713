"""Pages of the task list. A cursor leads to the next page also when tasks have come or gone meanwhile."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from compute_to_data.client import finding
from compute_to_data.client.finding import Listed
from compute_to_data.client.task_rows import Filter
from compute_to_data.client.workbench import Workbench
from compute_to_data.errors import InvalidRequest

_WINDOW = 500
"""How many tasks are looked through at a time for the last one of the page before."""


@dataclass(frozen=True)
class _Cursor:
    """The last task of a page: its place in the list then, its collection, and when it was submitted."""

    place: int
    collection: str
    created: str

    def text(self) -> str:
        return base64.urlsafe_b64encode(json.dumps([self.place, self.collection, self.created]).encode()).decode()


def page(workbench: Workbench, chosen: Filter, limit: int, cursor: str) -> dict[str, Any]:
    """``tasks``: at most ``limit``, newest first. ``next``: the cursor of the next page; None after the last task.

    InvalidRequest for a cursor that is none of ours.
    """
    offset = _offset_after(workbench, chosen, _read(cursor)) if cursor else 0
    found = finding.tasks(workbench, chosen, limit=limit + 1, offset=offset)
    shown, has_more = found[:limit], len(found) > limit
    after = None
    if has_more:
        after = _Cursor(offset + limit - 1, shown[-1].collection, shown[-1].created).text()
    return {"tasks": [one.document() for one in shown], "next": after}


def _read(text: str) -> _Cursor:
    try:
        place, collection, created = json.loads(base64.urlsafe_b64decode(text.encode("ascii")))
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise _wrong() from None
    if type(place) is not int or not 0 <= place < 1 << 53 or type(collection) is not str or type(created) is not str:
        raise _wrong()
    return _Cursor(place, collection, created)


def _wrong() -> InvalidRequest:
    return InvalidRequest("cursor", "is not one that this list gave", "Take it from next, or leave it out to begin")


def _offset_after(workbench: Workbench, chosen: Filter, last: _Cursor) -> int:
    """The place of the first task after the last one of the page before."""
    (still,) = _at(workbench, chosen, last.place, 1) or (None,)
    if still is not None and still.collection == last.collection:
        return last.place + 1
    start = max(0, last.place - _WINDOW)
    while True:
        window = _at(workbench, chosen, start, 2 * _WINDOW)
        places = {one.collection: place for place, one in enumerate(window)}
        if last.collection in places:
            return start + places[last.collection] + 1
        older = next((place for place, one in enumerate(window) if one.created < last.created), None)
        if older is not None or len(window) < 2 * _WINDOW:
            return start + (len(window) if older is None else older)
        start += len(window)


def _at(workbench: Workbench, chosen: Filter, offset: int, limit: int) -> list[Listed]:
    return finding.tasks(workbench, chosen, limit=limit, offset=offset, with_course=False)
