"""Results of earlier tasks that are where this task's results are to be, as when a client submits the same again.

They are moved aside before the new ones are registered, and removed when the task has succeeded. When it fails they are
put back. Everything follows from their names, so an attempt that was interrupted leaves nothing that the next one does
not find. What is no result of a task that has ended is never replaced: registering then finds the name taken, and the
task fails.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from compute_to_data.errors import Code, ComputeToDataError, NotFound, OutOfReach, TooLarge, zone_error
from compute_to_data.inputs import places
from compute_to_data.model import DataObject, name_of
from compute_to_data.pipeline.checkpoint import required
from compute_to_data.pipeline.execution import Execution, printable
from compute_to_data.pipeline.results import check_job, placing
from compute_to_data.tes_task import PlacedKind

log = logging.getLogger(__name__)

_ENDING = ".c2d-replaced"
_LONGEST = 255
"""Bytes of a file's name: a server may move the file along."""
_FEW = 100
"""So many results the worker looks for one by one, and does not list the collections."""


def push_back(execution: Execution) -> None:
    """If the task fails, put back what it moved aside."""
    if execution.task.tes is not None and execution.task.tes.placed:
        execution.undo.push(
            f"put back the results that {execution.record.collection} was to replace",
            functools.partial(_put_back, execution),
        )


def set_aside(execution: Execution) -> None:
    """Give earlier results at this task's places another name beside them, in the owner's session."""
    push_back(execution)
    catalog = execution.record.catalog
    earlier = places.Earlier(catalog, execution.context.configuration.attributes)
    for logical_path in sorted(_in_the_way(execution)):
        execution.interruption.check()
        aside = _aside(execution, logical_path)
        fits = len(name_of(aside).encode("utf-8", "surrogateescape")) <= _LONGEST
        if fits and earlier.left(logical_path):
            catalog.rename(logical_path, aside)


def remove(execution: Execution) -> dict[str, str]:
    """The task has succeeded: remove what it replaced. Returns facts, which name what could not be removed.

    From the first removal on, the task can only complete. OutOfReach: another attempt removes the rest.
    """
    try:
        moved = sorted(_moved(execution))
    except TooLarge as error:
        return {"not_removed": printable(f"earlier results, if there are any: {error}")}
    if not moved:
        return {}
    execution.journal.save(replace(execution.checkpoint, replacing=True))
    problems = []
    for logical_path in moved:
        try:
            execution.record.catalog.remove(_aside(execution, logical_path))
        except OutOfReach:
            raise
        except NotFound:  # its owner was quicker
            continue
        except ComputeToDataError as error:
            log.warning("task %s: the worker could not remove what it replaced: %s", execution.record.task_id, error)
            problems.append(str(error))
    return {"not_removed": printable(f"{len(problems)} earlier results, first: {problems[0]}")} if problems else {}


def resume(execution: Execution) -> None:
    """The task that the worker resumes at REPLACED has succeeded: what is left is to remove its job."""
    execution.exit_status = str(required(execution.checkpoint.exit, "exit").status)
    check_job.remove_job_meanwhile(execution)


def _put_back(execution: Execution) -> None:
    """Raises the first error when all that can be is put back."""
    problems: list[ComputeToDataError] = []
    for logical_path in sorted(_moved(execution)):
        aside = _aside(execution, logical_path)
        try:
            if _is_there(execution, logical_path):
                cause = f"is there again, so the earlier result stays as {aside}"
                raise zone_error(Code.CAT_NAME_EXISTS_AS_DATAOBJ, logical_path, cause, "Keep one of both")
            execution.record.catalog.rename(aside, logical_path)
        except OutOfReach:
            raise
        except ComputeToDataError as error:
            problems.append(error)
    if problems:
        raise problems[0]


def _aside(execution: Execution, logical_path: str) -> str:
    return f"{logical_path}.{execution.record.task_id}{_ENDING}"


def _is_there(execution: Execution, logical_path: str) -> bool:
    try:
        return isinstance(execution.record.catalog.stat(logical_path), DataObject)
    except NotFound:
        return False


def _in_the_way(execution: Execution) -> set[str]:
    """The data objects that are where results are to be."""
    wanted = {*execution.places.values()}
    if len(wanted) <= _FEW:
        return {path for path in wanted if _is_there(execution, path)}
    with suppress(TooLarge):  # it would take too long to look, so nothing is replaced
        placed = execution.task.tes.placed if execution.task.tes else ()
        return {found.logical_path for one in placed for found in placing.at(execution, one)} & wanted
    return set()


def _moved(execution: Execution) -> Iterator[str]:
    """The logical paths whose data objects this task has moved aside."""
    tes = execution.task.tes
    ending = _aside(execution, "")
    for one in tes.placed if tes else ():
        if one.kind is not PlacedKind.FILE:
            there = (found.logical_path for found in placing.at(execution, one))
            yield from (path[: -len(ending)] for path in there if path.endswith(ending))
        elif _is_there(execution, _aside(execution, one.logical_path)):
            yield one.logical_path
