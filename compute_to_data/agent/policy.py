"""What the policies do in a tagged collection: note arrivals for a worker, or submit their tasks.

A note costs the upload one call, and a worker submits the task. Where a note would prove nothing, or no worker
is alive, the policy submits the task itself. A refusal never reaches the client's operation. A data object without a
task stays where it is; the server's log and an AVU on the data object say why.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from compute_to_data.agent.boundary import Site, sendable, site_of
from compute_to_data.bounds import MOST_MEMBERS
from compute_to_data.coordination import wakeup
from compute_to_data.coordination.live_worker import LiveWorkers
from compute_to_data.errors import ComputeToDataError, TooLarge
from compute_to_data.model import Collection, DataObject, EntityKind, Query, User, zone_of
from compute_to_data.records import arrival

_live_workers = LiveWorkers()
_called: dict[tuple[str, str, str], float] = {}  # when this agent called which worker, by the monotonic clock
_CALL_SECONDS = 0.25
"""The shortest pause between two calls. A worker waits for a longer one before it looks."""
_MOST_TAGGED = 2048
"""Up to so many tagged collections are read at once, of the whole zone."""


def arrived(callback: Any, rei: Any, logical_path: str, written: bool) -> bool:
    """Have a data object's task made. ``written``: it was opened and closed. False when it is still being
    written and will arrive later."""
    site = _site(callback, rei)
    return True if site.by_service else _take(site, logical_path, written)


def registered(callback: Any, rei: Any, collection: str, directory: str, since: int) -> None:
    """Have tasks made after a directory was registered as ``collection``. They are for the data objects in
    tagged collections that are in this directory, belong to this user and are not older than
    ``since`` (Unix seconds)."""
    site = _site(callback, rei)
    if site.by_service:
        return
    for tagged in _tagged(site, collection):
        for child in site.catalog.children(tagged, MOST_MEMBERS):
            if isinstance(child, DataObject) and _came_with(child, site.catalog.user, directory, since):
                _take(site, child.logical_path, False)


def _tagged(site: Site, collection: str) -> Iterator[str]:
    """The tagged collections in a tree. Anybody can tag any number of collections elsewhere: where there are many, this
    asks about those of the tree instead."""
    tagged = Query(EntityKind.COLLECTION, site.configuration.attributes.named("trigger"))
    found = site.catalog.find(replace(tagged, limit=_MOST_TAGGED + 1))
    if len(found) <= _MOST_TAGGED:
        yield from (one for one in found if f"{one}/".startswith(f"{collection}/"))
        return
    for query in tagged.among_each(_collections(site, collection)):
        yield from site.catalog.find(query)


def _collections(site: Site, top: str) -> Iterator[str]:
    """A collection and those below it, without what is below one that has too many members."""
    pile = [top]
    while pile:
        collection = pile.pop()
        yield collection
        try:
            members = site.catalog.children(collection, MOST_MEMBERS)
        except TooLarge as error:
            site.log(f"the arrivals below {collection} are not looked for: {error}")
            continue
        pile += [one.logical_path for one in members if isinstance(one, Collection)]


def _came_with(data_object: DataObject, user: User, directory: str, since: int) -> bool:
    is_in_directory = any(one.physical_path.startswith(f"{directory.rstrip('/')}/") for one in data_object.replicas)
    return is_in_directory and data_object.owner == user and data_object.created >= since


def _site(callback: Any, rei: Any) -> Site:
    def log(text: str) -> None:
        callback.writeLine("serverLog", sendable(f"compute_to_data: {text}"))

    return site_of(callback, rei, log, lambda name, value: None)


def _take(site: Site, logical_path: str, written: bool) -> bool:
    try:
        if not _noted(site, logical_path, written):
            _submit(site, logical_path, written)
    except arrival.BeingWritten:
        return False
    return True


def _noted(site: Site, logical_path: str, written: bool) -> bool:
    """Note the arrival for a worker. False when the task must be submitted here."""
    with contextlib.suppress(ComputeToDataError, OSError):  # then submitting it here says what is wrong
        data_object = arrival.at_rest(site.catalog, logical_path, written)
        if data_object is None or not arrival.may_be_noted(site.catalog, data_object):
            return data_object is None
        resource = _live_workers.resource_for(site.catalog, site.configuration, site.hosts, logical_path)
        if not resource:
            return False
        arrival.leave(site.catalog, site.configuration.attributes, logical_path, resource)
        if _live_workers.is_here(resource):  # others, and one that does not hear, find it with their next look
            _call(site, zone_of(logical_path), resource)
        return True
    return False


def _call(site: Site, zone: str, resource: str) -> None:
    """Call a worker that waits until an upload pauses: of many files that arrive in a moment, only for the first."""
    worker, now = (site.configuration.source, zone, resource), time.monotonic()
    if now - _called.get(worker, float("-inf")) >= _CALL_SECONDS:
        _called[worker] = now
        with contextlib.suppress(OSError):
            wakeup.call_worker(site.configuration, zone, resource, wakeup.ARRIVAL)


def _submit(site: Site, logical_path: str, written: bool) -> None:
    """Submit the task in the user's own session. Most uploads do not need these imports."""
    from compute_to_data.agent import dispatch
    from compute_to_data.records.task import TaskRecord
    from compute_to_data.submission import arrivals

    try:
        submitted = arrivals.take(site.catalog, site.configuration, logical_path, written=written)
    except ComputeToDataError as error:
        text = f"{logical_path} has arrived, but gets no task: {error}"
        site.log(text)
        with contextlib.suppress(ComputeToDataError):  # without the right to annotate it, the log has the reason
            arrivals.explain(site.catalog, site.configuration, logical_path, text)
        return
    if submitted is not None:
        attributes = site.configuration.attributes
        record = TaskRecord(site.catalog, attributes, submitted.collection, submitted.resource)
        dispatch.call_worker(site, record)
