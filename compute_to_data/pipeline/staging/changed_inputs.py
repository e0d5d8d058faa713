"""Finds inputs that another client changed while the task's program ran.

A program reads the replica in the vault, and iRODS overwrites a replica in place (``iput -f``). A program that runs at
that moment reads a mixture, or the new content, while the task's record says which checksum the input had before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from compute_to_data.inputs.references import Staged
from compute_to_data.pipeline.execution import Execution, printable

_CLOCKS_DIFFER = 1.0
"""Seconds: an engine may read another clock than the file system does."""
_NAMED = 10


def look(execution: Execution) -> None:
    """Set ``execution.changed_inputs``: the logical paths of inputs whose files changed since they were staged, and of
    files of the workload's dataset. After a worker's restart, since the program started.

    A file that is gone was removed or renamed, and the program has read it unchanged. When the program had ended
    before this attempt, a workload's task has no dataset any more, and what the earlier attempt saw stays recorded.
    """
    if execution.task.workload and execution.resume_point.has_exited:
        return
    changed = {one.data_object.logical_path for one in execution.staged if _has_changed(execution, one)}
    execution.changed_inputs = tuple(sorted(changed.union(_changed_in_dataset(execution))))


def _has_changed(execution: Execution, staged: Staged) -> bool:
    try:
        modified = os.lstat(staged.replica.physical_path).st_mtime_ns
    except OSError:
        return False
    if modified != staged.modified:
        return True
    if not execution.resume_point.has_checkpoint or staged.data_object.logical_path in execution.checkpoint.staged:
        return False
    return modified > _started(execution)


def _changed_in_dataset(execution: Execution) -> Iterator[str]:
    dataset = execution.dataset
    if dataset is None:
        return
    since = dataset.since
    if execution.resume_point.has_checkpoint:  # the program may have begun before this attempt
        since = min(since, _started(execution))
    for relative in execution.context.workload_directories.written.since(dataset.directory, since):
        yield f"{dataset.collection}/{relative}"


def _started(execution: Execution) -> int:
    """When the program certainly ran, in nanoseconds of Unix time."""
    ended = execution.checkpoint.ended
    started = ended[0].started if ended else execution.exit.started
    return int((started + _CLOCKS_DIFFER) * 1e9)


def facts(execution: Execution) -> dict[str, str]:
    """The fact that names them, as far as this attempt knows; '' when there are none, which removes an earlier one."""
    paths = execution.changed_inputs
    if paths is None:
        return {}
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return {"inputs_changed": printable(", ".join(paths[:_NAMED]) + more)}
