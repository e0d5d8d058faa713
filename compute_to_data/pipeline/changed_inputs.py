"""Finds inputs that another client changed while the task's program ran.

A program reads the replica in the vault, and iRODS overwrites a replica in place (``iput -f``). A program that runs at
that moment reads a mixture, or the new content, while the task's record says which checksum the input had before.
"""

from __future__ import annotations

import os

from compute_to_data.inputs.references import Staged
from compute_to_data.pipeline.execution import Execution, printable

_CLOCKS_DIFFER = 1.0
"""Seconds: an engine may read another clock than the file system does."""
_NAMED = 10


def look(execution: Execution) -> None:
    """Set ``execution.changed_inputs``: the logical paths of inputs whose files changed since they were staged. After a
    worker's restart, since the program started.

    A file that is gone was removed or renamed, and the program has read it unchanged.
    """
    changed = {one.data_object.logical_path for one in execution.staged if _has_changed(execution, one)}
    execution.changed_inputs = tuple(sorted(changed))


def _has_changed(execution: Execution, staged: Staged) -> bool:
    try:
        modified = os.lstat(staged.replica.physical_path).st_mtime_ns
    except OSError:
        return False
    if modified != staged.modified:
        return True
    if not execution.resume_point.has_checkpoint or staged.data_object.logical_path in execution.checkpoint.staged:
        return False
    started = execution.checkpoint.ended[0].started if execution.checkpoint.ended else execution.exit.started
    return modified / 1e9 > started + _CLOCKS_DIFFER


def facts(execution: Execution) -> dict[str, str]:
    """The fact that names them, as far as this attempt knows; '' when there are none, which removes an earlier one."""
    paths = execution.changed_inputs
    if paths is None:
        return {}
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return {"inputs_changed": printable(", ".join(paths[:_NAMED]) + more)}
