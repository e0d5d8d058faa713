"""The live logs: what a running job has written so far, for users who follow the task through the catalog.

Two small files beside the job's outputs hold the last lines of its streams. The worker registers them once,
as data objects of the task's owner, with the largest size that they may reach. After that it only replaces
the files. A server reads the file up to the size in the catalog, so a new line is visible at once, a
reader never sees half a change, and an update needs no call to the catalog.
"""

from __future__ import annotations

import logging
import math
import os
import time
from dataclasses import replace

from compute_to_data.errors import ComputeToDataError, NotFound
from compute_to_data.job import Logs
from compute_to_data.model import DataObject, Registration
from compute_to_data.pipeline.execution import Execution
from compute_to_data.task import LIVE_STDERR_NAME, LIVE_STDOUT_NAME

log = logging.getLogger(__name__)

_EVERY = 0.25
"""Shortest time in seconds between two updates."""
_SHARE = 4
"""Updates take at most 1/4 of the time: with many bytes, the worker updates less often."""
_LINES = 2000
"""How many last lines of both streams the worker reads: an engine takes seconds to return a whole long log."""
_AFTER_ERROR = 5.0
"""Seconds until the next update when one has failed."""
_NAMES = (LIVE_STDOUT_NAME, LIVE_STDERR_NAME)


class LiveLogs:
    """The live logs of one job that this worker watches. Errors here never fail the task."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._shown: Logs | None = None
        self._has_warned = False

    def show(self) -> float:
        """Update the live logs if a user follows the task. Returns the seconds until the next update."""
        if not self._execution.followed:
            return math.inf
        before = time.monotonic()
        try:
            self._put(self._execution.running.logs(_LINES))
        except (ComputeToDataError, OSError) as error:
            self._warn(error)
            return _AFTER_ERROR
        return max(_EVERY, (time.monotonic() - before) * _SHARE)

    def show_last(self, logs: Logs) -> None:
        """Show all that the job wrote, when it has ended: registering its results may take a while."""
        if self._shown is not None:
            try:
                self._put(logs)
            except (ComputeToDataError, OSError) as error:
                self._warn(error)

    def _put(self, logs: Logs) -> None:
        if logs == self._shown:
            return
        folder = self._execution.private
        os.makedirs(folder, mode=0o755, exist_ok=True)
        for name, content in zip(_NAMES, (logs.stdout, logs.stderr)):
            draft = os.path.join(folder, f"{name}.draft")
            with open(draft, "wb") as file:
                file.write(content)
            os.replace(draft, os.path.join(folder, name))
        if self._shown is None:
            self._register()
        self._shown = logs

    def _register(self) -> None:
        execution = self._execution
        _unregister(execution)  # an earlier attempt may have registered them
        execution.journal.save(replace(execution.checkpoint, live=True))
        size = execution.job.limits.log_bytes
        files = [Registration(logical, physical, size, "") for logical, physical in _paths(execution)]
        execution.record.catalog.register(execution.context.resource.name, files)

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning("task %s: the worker cannot update its live logs: %s", self._execution.record.task_id, error)


def remove(execution: Execution) -> None:
    """Remove the live logs from the catalog and from the disk."""
    _unregister(execution)
    for _, physical_path in _paths(execution):
        for path in (physical_path, f"{physical_path}.draft"):
            if os.path.lexists(path):
                os.unlink(path)
    if execution.checkpoint.live:
        execution.journal.save(replace(execution.checkpoint, live=False))


def _unregister(execution: Execution) -> None:
    """Unregister the live logs if they may be registered. Data objects of the owner with these names stay."""
    if not execution.checkpoint.live:
        return
    catalog = execution.record.catalog
    for logical_path, physical_path in _paths(execution):
        try:
            found = catalog.stat(logical_path)
        except NotFound:
            continue
        if isinstance(found, DataObject) and any(one.physical_path == physical_path for one in found.replicas):
            catalog.unregister([logical_path])


def _paths(execution: Execution) -> list[tuple[str, str]]:
    """The logical and the physical path of each stream's file."""
    collection, folder = execution.record.collection, execution.private
    return [(f"{collection}/{name}", os.path.join(folder, name)) for name in _NAMES]
