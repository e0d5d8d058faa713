"""What a TES task needs in its outputs before it runs, and what must go before they are read.

In the outputs lie the directories in which the program writes, with links to inputs that it sees there. The text of
inputs that are in the request themselves is in files beside the outputs.
"""

from __future__ import annotations

import contextlib
import os

from compute_to_data.disk_usage import is_directory
from compute_to_data.errors import Code, EngineError, ReasonCode, TaskFailed
from compute_to_data.job import Mount
from compute_to_data.pipeline.execution import Execution
from compute_to_data.pipeline.vault import workspace
from compute_to_data.task import INPUTS

_CONTENTS = "contents"


def contents(execution: Execution) -> tuple[Mount, ...]:
    """The inputs whose text is in the request, in files that this makes."""
    tes = execution.task.tes
    if tes is None or not tes.contents:
        return ()
    folder = os.path.join(execution.private, _CONTENTS)
    mounts = []
    execution.journal.save(execution.checkpoint)  # a successor must know the directory before anything is there
    try:
        os.makedirs(folder, mode=0o755, exist_ok=True)
        for number, one in enumerate(tes.contents):
            place = os.path.join(folder, str(number))
            with open(place, "wb") as file:
                file.write(one.text.encode())
            mounts.append(Mount(place, one.target))
    except OSError as error:
        cause = f"the worker cannot write the inputs of the request there ({error.strerror})"
        vault = f"the vault of resource {execution.context.resource.name}"
        raise EngineError(vault, cause, "An administrator makes room", code=Code.UNIX_FILE_OPEN_ERR) from error
    return tuple(mounts)


def discard_contents(execution: Execution) -> None:
    """Remove the files of :func:`contents`."""
    workspace.discard(os.path.join(execution.private, _CONTENTS))


def folders(input_folders: tuple[str, ...], mounts: tuple[Mount, ...]) -> tuple[str, ...]:
    """The empty directories that the job sees, besides these mounts."""
    if any(one.target.startswith(f"{INPUTS}/") for one in mounts):
        return tuple(one for one in input_folders if one != INPUTS)
    return input_folders


def make(execution: Execution) -> None:
    """Make the directories and links of a task in its new outputs."""
    tes = execution.task.tes
    if tes is None:
        return
    for name in tes.folders:
        execution.context.engine.prepare(os.path.join(execution.outputs, name))
    for link in tes.links:
        os.symlink(link.target, os.path.join(execution.outputs, link.name))


def check(execution: Execution) -> None:
    """TaskFailed unless the directories that are mounted elsewhere, too, are still directories: the step before could
    exchange them, and nothing outside the outputs may be mounted."""
    for output in execution.task.outputs:
        if not is_directory(os.path.join(execution.outputs, output.name)):
            cause = "is no directory any more, so the next executor cannot have it"
            raise TaskFailed(ReasonCode.OUTPUT_REFUSED, f"directory {output.path}", cause, "Leave the directory there")


def clear(execution: Execution) -> None:
    """Remove the volumes, and the links that are still as the worker made them. Call it when the job is gone."""
    tes = execution.task.tes
    if tes is None:
        return
    for link in tes.links:
        _remove_link(execution.outputs, link.name, link.target)
    for name in tes.scratch:
        if _is_within(execution.outputs, name):
            workspace.discard(os.path.join(execution.outputs, name))


def _remove_link(outputs: str, name: str, target: str) -> None:
    with contextlib.suppress(OSError):
        place = os.path.join(outputs, name)
        if _is_within(outputs, name.rpartition("/")[0]) and os.readlink(place) == target:
            os.unlink(place)


def _is_within(outputs: str, name: str) -> bool:
    """Whether a name below the outputs leads through directories only, and not through a link of the program's."""
    place = outputs
    for part in filter(None, name.split("/")):
        place = os.path.join(place, part)
        if not is_directory(place):
            return False
    return True
