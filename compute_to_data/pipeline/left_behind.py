"""What a failed or cancelled task left in its outputs: kept in the collection ``failed`` of the task's collection.

This comes last, when everything else that the task did is undone and its job is gone. The files stay where they
are in the vault. The worker registers them in the owner's session, marks the collection and each file with an AVU,
and removes the rest of the outputs. A worker that is killed meanwhile begins it again at the resume point ENDING,
which unregisters everything below the task's collection.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from compute_to_data.errors import ComputeToDataError, EngineError, OutOfReach, ReasonCode, ZoneError
from compute_to_data.job import OutputFile
from compute_to_data.model import Avu, Entity, EntityKind, Registration
from compute_to_data.pipeline.checkpoint import required
from compute_to_data.pipeline.execution import Execution, printable
from compute_to_data.pipeline.running import layout
from compute_to_data.pipeline.staging import stage_in
from compute_to_data.pipeline.vault import outputs, removal, workspace
from compute_to_data.pipeline.vault.refusals import Refusal, listed, shown_name
from compute_to_data.records.state import State
from compute_to_data.task import FAILED_NAME, OnFailure

log = logging.getLogger(__name__)

MARK = "failed_task"
"""The AVU on the collection and on each file: value the task's id, units the reason code of its end."""
_LOOKS_AT = 2
"""How many times as many entries as it may keep the worker looks at. While a job runs, the worker stops it when it
has more entries than twice its limit."""
_MOST_OF_CANCELLED = 5000
"""How many files of a cancelled task the worker keeps at most."""
_READING_SECONDS = 0.3
"""How long the worker looks at and reads what a cancelled task left."""
_REGISTERING_SECONDS = 0.4
"""And how long it registers it."""
_AT_ONCE = 100
"""How many files of a cancelled task the worker registers before its first look at the time."""
_PART_SECONDS = 0.1
"""How long about it takes to register each of the next parts."""
_TOO_LATE = "was not registered in the time that the end of a cancelled task may take"
_Thing = TypeVar("_Thing")
_Failures = list[tuple[str, Exception]]


def settle(execution: Execution) -> tuple[dict[str, str], _Failures]:
    """Keep what the task left in its outputs, or remove it.

    Returns facts for the task's record, and what failed. Raises OutOfReach only: another attempt then begins again.
    """
    removal.forget(execution.context.journal_folder, execution.outputs)
    why_not = _why_not(execution)
    if not os.path.isdir(execution.outputs):
        return {}, []
    if why_not:
        failures = _made_ours(execution)
        left = _is_anything_left(execution.outputs)
        return ({"not_kept": why_not} if left else {}), [*failures, *_discard(execution)]
    try:
        found = _keep(execution)
    except OutOfReach:
        raise
    except (ComputeToDataError, OSError) as error:
        if isinstance(error, ComputeToDataError) and not _is_cancelled(execution):
            stage_in.need_resource_up(execution, error)
        log.exception("task %s: the worker could not keep what it left", execution.record.task_id)
        return {}, [("could not keep what it left in its outputs", error), *_discard(execution)]
    return _facts(found), _remove_the_rest(execution, found)


def _why_not(execution: Execution) -> str:
    """Why nothing may be kept; '' when it may."""
    checkpoint = execution.checkpoint
    if execution.task.on_failure is OnFailure.DISCARD:
        return 'the request says "on_failure": "discard"'
    if not execution.context.configuration.failed_tasks.keep:
        return "this site keeps no outputs of failed tasks"
    if checkpoint.ending is None:  # a killed worker's successor would not know that they are of a failed task
        return "the worker could not record the task's end beforehand"
    if checkpoint.moved_to:
        return "results had moved to another resource"
    if checkpoint.ending.reason is ReasonCode.VAULT_FULL or workspace.is_full(execution.private):
        return f"the vault of resource {execution.context.resource.name} is full"
    return ""


def _is_anything_left(directory: str) -> bool:
    try:
        return bool(os.listdir(directory))
    except OSError:
        return False


def _make_ours(execution: Execution) -> None:
    execution.context.engine.remove(execution.job_key)  # nothing may write while the worker reads
    execution.context.engine.take_back(execution.outputs)


def _made_ours(execution: Execution) -> _Failures:
    try:
        _make_ours(execution)
    except OutOfReach:
        raise
    except EngineError as error:
        return [("could not take back the files of its job", error)]
    return []


def _discard(execution: Execution) -> _Failures:
    try:
        if not _is_put_off(execution, ()):
            workspace.discard(execution.outputs)
    except EngineError as error:
        return [(f"could not remove the outputs of task {execution.record.task_id}", error)]
    return []


def _is_put_off(execution: Execution, kept: Sequence[str]) -> bool:
    """Whether a cancelled task left so much that the worker removes it after the end: all but the files ``kept``."""
    ending = execution.checkpoint.ending
    if ending is None or ending.state is not State.CANCELLED or not removal.takes_long(execution.outputs):
        return False
    try:
        removal.put_off(execution.context.journal_folder, execution.job_key, execution.outputs, kept)
    except OutOfReach as error:
        log.warning("task %s: %s", execution.record.task_id, error)
        return False
    return True


def _keep(execution: Execution) -> outputs.Inventory:
    """Register what can be kept. Returns that, and what is left out. After an error, nothing is registered."""
    _make_ours(execution)
    layout.clear(execution)
    collection = f"{execution.record.collection}/{FAILED_NAME}"
    most_bytes, most_files = execution.context.configuration.limits_of_failed(execution.task.limits)
    if _is_cancelled(execution):
        most_files = min(most_files, _MOST_OF_CANCELLED)
    found = outputs.left_behind(
        execution.outputs,
        collection,
        most_bytes=most_bytes,
        most_files=most_files,
        look_at=_LOOKS_AT * max(most_files, execution.context.configuration.default_limits.output_files),
        enough=_reads_enough(execution),
    )
    return _register(execution, collection, found) if found.files or found.folders else found


def _reads_enough(execution: Execution) -> Callable[[], bool]:
    """A user who cancels a task waits for its end: after some time, the worker registers files without checksums."""
    return _is_over(_READING_SECONDS) if _is_cancelled(execution) else lambda: False


def _is_cancelled(execution: Execution) -> bool:
    return required(execution.checkpoint.ending, "ending").state is State.CANCELLED


def _is_over(seconds: float) -> Callable[[], bool]:
    """Whether so many seconds have passed since now."""
    latest = time.monotonic() + seconds
    return lambda: time.monotonic() > latest


def _remove_the_rest(execution: Execution, found: outputs.Inventory) -> _Failures:
    """Remove what is not registered. An error here costs nothing of what is."""
    try:
        if found.refused:
            execution.record.decide(_facts(found))  # beforehand: another attempt could not name it any more
        kept = [file.relative for file in found.files]
        if not _is_put_off(execution, kept):
            workspace.discard_all_but(execution.outputs, kept)
    except OutOfReach:
        raise
    except (ComputeToDataError, OSError) as error:
        return [("could not remove all that is not kept of its outputs", error)]
    return []


def _facts(found: outputs.Inventory) -> dict[str, str]:
    size = sum(file.size for file in found.files)
    kept = f"{_counted(len(found.files), 'file')}, {_counted(size, 'byte')}, in {FAILED_NAME}/"
    return {
        **({"kept": kept} if found.files or found.folders else {}),
        **({"not_kept": printable(listed(found.refused))} if found.refused else {}),
    }


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _register(execution: Execution, collection: str, found: outputs.Inventory) -> outputs.Inventory:
    """Register all files, or none when an error is raised. Returns what is registered; a file that changed
    meanwhile, or for which there was no time, is left out."""
    catalog = execution.record.catalog
    done = _Registered(execution, collection)
    catalog.stat(execution.record.collection)  # NotFound when the owner has removed it: do not make it again
    is_over = _is_over(_REGISTERING_SECONDS) if _is_cancelled(execution) else None
    try:
        catalog.create_collection(collection, parents=True)
        catalog.annotate(Entity(EntityKind.COLLECTION, collection), add=[_mark(execution)])
        for some in _in_time(found.files, is_over):
            done.register(some)
        for folders in _in_time(found.folders, is_over):
            done.make(folders)
    except OutOfReach:
        raise
    except (ComputeToDataError, OSError):
        _take_back(execution, collection, list(done.folders), [f"{collection}/{name}" for name in done.files])
        raise
    late = [one.relative for one in found.files if one.relative not in done.files]
    late += [one for one in found.folders if one not in done.folders]
    refused = (*found.refused, *done.changed.values(), *(Refusal(shown_name(one), _TOO_LATE) for one in late))
    kept = tuple(file for file in found.files if file.relative in done.files and file not in done.changed)
    return outputs.Inventory(kept, tuple(one for one in found.folders if one in done.folders), refused)


def _in_time(things: Sequence[_Thing], is_over: Callable[[], bool] | None) -> Iterator[Sequence[_Thing]]:
    """All at once, or in parts for as long as there is time."""
    if is_over is None:
        yield things
        return
    first, size = 0, _AT_ONCE
    while first < len(things) and not is_over():
        began = time.monotonic()
        yield things[first : first + size]
        first += size
        took = max(time.monotonic() - began, 1e-3)
        size = max(1, int(size * min(4.0, _PART_SECONDS / took)))


class _Registered:
    """What is registered so far: ``files`` and ``folders`` by their names, and files that ``changed`` meanwhile."""

    def __init__(self, execution: Execution, collection: str) -> None:
        self._execution, self._collection = execution, collection
        self._catalog = execution.record.catalog
        self.files: set[str] = set()
        self.folders: set[str] = set()
        self.changed: dict[OutputFile, Refusal] = {}

    def make(self, folders: Iterable[str]) -> None:
        """Make the folders that are not there yet."""
        for folder in sorted({*folders} - self.folders - {""}):
            self._catalog.create_collection(f"{self._collection}/{folder}", parents=True)
            self.folders.add(folder)

    def register(self, files: Sequence[OutputFile]) -> None:
        """Register and mark files, with their folders."""
        self.make(file.relative.rpartition("/")[0] for file in files)
        directory, above = self._execution.outputs, self._collection
        registrations = [
            Registration(f"{above}/{file.relative}", f"{directory}/{file.relative}", file.size, file.checksum)
            for file in files
        ]
        if registrations:
            self._catalog.register(self._execution.context.resource.name, registrations)
        self.files.update(file.relative for file in files)
        changed = dict(outputs.exchanged(directory, files))
        self.changed.update(changed)
        if changed:
            self._catalog.unregister([f"{above}/{file.relative}" for file in changed])
        kept = [f"{above}/{file.relative}" for file in files if file not in changed]
        if kept:
            self._catalog.annotate_all(kept, [_mark(self._execution)])


def _mark(execution: Execution) -> Avu:
    ending = required(execution.checkpoint.ending, "ending")
    return Avu(execution.record.attributes.named(MARK), execution.record.task_id, ending.reason.value)


def _take_back(execution: Execution, collection: str, folders: list[str], registered: list[str]) -> None:
    """Unregister the files and remove the collections, unless they hold something of the owner's. An error in this
    must not hide the one before it."""
    catalog = execution.record.catalog
    with contextlib.suppress(ZoneError):
        catalog.unregister(registered)
        catalog.annotate(Entity(EntityKind.COLLECTION, collection), remove=[_mark(execution)])
    above = {folder[:end] for folder in folders for end, letter in enumerate(folder) if letter == "/"}
    for folder in sorted({*folders, *above}, reverse=True):  # the inner ones first
        with contextlib.suppress(ZoneError):
            catalog.remove(f"{collection}/{folder}")
    with contextlib.suppress(ZoneError):
        catalog.remove(collection)
