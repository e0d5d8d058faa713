"""What the policies do in a tagged collection: make tasks, and record refusals.

A refusal never reaches the client's operation. A data object without a task stays where it is; the
server's log and an AVU on the data object say why.
"""

from __future__ import annotations

import contextlib
from typing import Any

from compute_to_data.agent import arrivals, dispatch
from compute_to_data.agent.boundary import Site, sendable, site_of
from compute_to_data.errors import ComputeToDataError
from compute_to_data.model import DataObject, EntityKind, Query, User
from compute_to_data.records.task import TaskRecord

_LONGEST_NOTE = 900


def arrived(callback: Any, rei: Any, logical_path: str, written: bool) -> bool:
    """Make a data object's task. ``written``: it was opened and closed. False when it is still being
    written and will arrive later."""
    site = _site(callback, rei)
    return True if site.by_service else _take(site, logical_path, written)


def registered(callback: Any, rei: Any, collection: str, directory: str, since: int) -> None:
    """Make tasks after a directory was registered as ``collection``. They are for the data objects in
    tagged collections that are in this directory, belong to this user and are not older than
    ``since`` (Unix seconds)."""
    site = _site(callback, rei)
    if site.by_service:
        return
    tag = site.configuration.attributes.named("trigger")
    for tagged in site.catalog.find(Query(EntityKind.COLLECTION, tag)):
        if f"{tagged}/".startswith(f"{collection}/"):
            for child in site.catalog.children(tagged):
                if isinstance(child, DataObject) and _came_with(child, site.catalog.user, directory, since):
                    _take(site, child.logical_path, False)


def _came_with(data_object: DataObject, user: User, directory: str, since: int) -> bool:
    is_in_directory = any(one.physical_path.startswith(f"{directory.rstrip('/')}/") for one in data_object.replicas)
    return is_in_directory and data_object.owner == user and data_object.created >= since


def _site(callback: Any, rei: Any) -> Site:
    def log(text: str) -> None:
        callback.writeLine("serverLog", sendable(f"compute_to_data: {text}"))

    return site_of(callback, rei, log, lambda name, value: None)


def _take(site: Site, logical_path: str, written: bool) -> bool:
    try:
        submitted = arrivals.take(site.catalog, site.configuration, logical_path, written=written)
    except arrivals.BeingWritten:
        return False
    except ComputeToDataError as error:
        text = f"{logical_path} has arrived, but gets no task: {error}"
        site.log(text)
        with contextlib.suppress(
            ComputeToDataError
        ):  # a user without the right to annotate it finds the reason in the log
            arrivals.note(site.catalog, site.configuration, logical_path, text[:_LONGEST_NOTE])
        return True
    if submitted is not None:
        attributes = site.configuration.attributes
        record = TaskRecord(site.catalog, attributes, submitted.collection, submitted.resource)
        dispatch.call_worker(site, record)
    return True
