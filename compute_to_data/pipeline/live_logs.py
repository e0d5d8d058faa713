"""What a running job has written so far, for those who follow it: they can only read it through the catalog.

Two small files lie beside the job's outputs and hold the last lines of its streams. They are
registered once, as data objects of the task's owner, with the size that they may reach; from then on
each is replaced whole where it lies. A server reads what the file holds, up to the size it knows of:
so a line is there at once, a reader never sees half a change, and the catalog is asked for nothing.
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
"""Seconds between two looks at what the job has written."""
_SHARE = 4
"""Looking may take one part in so many of the time: many bytes make looks rarer."""
_LINES = 2000
"""Lines of both streams that are looked at: an engine takes seconds to tell all of a flood."""
_AFTER_TROUBLE = 5.0
_NAMES = (LIVE_STDOUT_NAME, LIVE_STDERR_NAME)


class LiveLogs:
    """The live logs of one job that this worker watches. An error here never makes the task fail."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._shown: Logs | None = None
        self._troubled = False

    def show(self) -> float:
        """Show what the job has written, if somebody follows it; seconds until that is due again."""
        if not self._execution.followed:
            return math.inf
        before = time.monotonic()
        try:
            self._put(self._execution.running.logs(_LINES))
        except (ComputeToDataError, OSError) as error:
            self._complain(error)
            return _AFTER_TROUBLE
        return max(_EVERY, (time.monotonic() - before) * _SHARE)

    def show_last(self, logs: Logs) -> None:
        """The job has ended, and this is all it wrote: registering its results may take a while."""
        if self._shown is not None:
            try:
                self._put(logs)
            except (ComputeToDataError, OSError) as error:
                self._complain(error)

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
        _forget(execution)  # an earlier attempt may have registered them
        execution.journal.save(replace(execution.checkpoint, live=True))
        size = execution.job.limits.log_bytes
        files = [Registration(logical, physical, size, "") for logical, physical in _paths(execution)]
        execution.record.catalog.register(execution.context.resource.name, files)

    def _complain(self, error: Exception) -> None:
        if not self._troubled:
            self._troubled = True
            log.warning("task %s: its followers see nothing: %s", self._execution.record.task_id, error)


def remove(execution: Execution) -> None:
    """Remove the live logs from the catalog and from the disk."""
    _forget(execution)
    for _, physical_path in _paths(execution):
        for path in (physical_path, f"{physical_path}.draft"):
            if os.path.lexists(path):
                os.unlink(path)
    if execution.checkpoint.live:
        execution.journal.save(replace(execution.checkpoint, live=False))


def _forget(execution: Execution) -> None:
    """Unregister the live logs, if they may be registered; what the owner put under these names stays."""
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
