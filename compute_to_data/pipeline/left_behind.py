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
from collections.abc import Callable

from compute_to_data.errors import ComputeToDataError, EngineError, OutOfReach, ReasonCode, ZoneError
from compute_to_data.model import Avu, Entity, EntityKind, Registration
from compute_to_data.pipeline import layout, outputs, workspace
from compute_to_data.pipeline.checkpoint import required
from compute_to_data.pipeline.execution import Execution, printable
from compute_to_data.pipeline.survey import listed
from compute_to_data.records.task import State
from compute_to_data.task import FAILED_NAME, OnFailure

log = logging.getLogger(__name__)

MARK = "failed_task"
"""The AVU on the collection and on each file: value the task's id, units the reason code of its end."""
_LOOKS_AT = 2
"""How many times as many entries as it may keep the worker looks at. While a job runs, the worker stops it when it
has more entries than twice its limit."""
_READING_SECONDS = 0.5
"""How long the worker reads what a cancelled task left."""
_Failures = list[tuple[str, Exception]]


def settle(execution: Execution) -> tuple[dict[str, str], _Failures]:
    """Keep what the task left in its outputs, or remove it.

    Returns facts for the task's record, and what failed. Raises OutOfReach only: another attempt then begins again.
    """
    why_not = _why_not(execution)
    if why_not or not os.path.isdir(execution.outputs):
        left = _is_anything_left(execution.outputs)
        return ({"not_kept": why_not} if why_not and left else {}), _discard(execution)
    try:
        found = _keep(execution)
    except OutOfReach:
        raise
    except (ComputeToDataError, OSError) as error:
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


def _discard(execution: Execution) -> _Failures:
    try:
        workspace.discard(execution.outputs)
    except EngineError as error:
        return [(f"could not remove the outputs of task {execution.record.task_id}", error)]
    return []


def _keep(execution: Execution) -> outputs.Inventory:
    """Register what can be kept. Returns that, and what is left out. After an error, nothing is registered."""
    execution.context.engine.remove(execution.job_key)  # nothing may write while the worker reads
    execution.context.engine.take_back(execution.outputs)
    layout.clear(execution)
    collection = f"{execution.record.collection}/{FAILED_NAME}"
    most_bytes, most_files = execution.context.configuration.limits_of_failed(execution.task.limits)
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
    if required(execution.checkpoint.ending, "ending").state is not State.CANCELLED:
        return lambda: False
    latest = time.monotonic() + _READING_SECONDS
    return lambda: time.monotonic() > latest


def _remove_the_rest(execution: Execution, found: outputs.Inventory) -> _Failures:
    """Remove what is not registered. An error here costs nothing of what is."""
    try:
        if found.refused:
            execution.record.decide(_facts(found))  # beforehand: another attempt could not name it any more
        workspace.discard_all_but(execution.outputs, [file.relative for file in found.files])
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
    meanwhile is left out."""
    catalog, directory = execution.record.catalog, execution.outputs
    mark = _mark(execution)
    files = [
        Registration(f"{collection}/{file.relative}", f"{directory}/{file.relative}", file.size, file.checksum)
        for file in found.files
    ]
    folders = sorted({*(file.relative.rpartition("/")[0] for file in found.files), *found.folders} - {""})
    registered: list[str] = []
    catalog.stat(execution.record.collection)  # NotFound when the owner has removed it: do not make it again
    try:
        catalog.create_collection(collection, parents=True)
        catalog.annotate(Entity(EntityKind.COLLECTION, collection), add=[mark])
        for folder in folders:
            catalog.create_collection(f"{collection}/{folder}", parents=True)
        if files:
            catalog.register(execution.context.resource.name, files)
        registered = [file.logical_path for file in files]
        changed = dict(outputs.exchanged(directory, found.files))
        if changed:
            catalog.unregister([f"{collection}/{file.relative}" for file in changed])
        kept = tuple(file for file in found.files if file not in changed)
        if kept:
            catalog.annotate_all([f"{collection}/{file.relative}" for file in kept], [mark])
    except OutOfReach:
        raise
    except (ComputeToDataError, OSError):
        _take_back(execution, collection, folders, registered)
        raise
    return outputs.Inventory(kept, found.folders, (*found.refused, *changed.values()))


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
