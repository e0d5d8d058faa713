"""What to tell a person about what a task that has ended left in its outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from compute_to_data.task import FAILED_NAME

if TYPE_CHECKING:
    from compute_to_data.client.task_status.status import TaskStatus


def notes(status: TaskStatus) -> Iterator[str]:
    """Where the results are, or what a failed task left, and what was not used or not kept."""
    yield from missing(status)
    yield from changed(status)
    unused = _fact(status, "image_unused")
    if unused:
        yield f"not used: the image's {unused}; a task runs exactly its command, and starts in /outputs"
    if status.state.value == "COMPLETED":
        nothing = _fact(status, "outputs") == "0"
        yield (
            f"it wrote nothing to /outputs; its record is {status.collection}"
            if nothing
            else (f"results in {status.collection}")
        )
        return
    yield from left(status)


def left_nothing(status: TaskStatus) -> bool:
    """Whether the task completed and wrote nothing to its outputs."""
    return status.state.value == "COMPLETED" and _fact(status, "outputs") == "0"


def missing(status: TaskStatus) -> Iterator[str]:
    """How much of the program's output is not kept."""
    for stream, count in status.log_bytes_missing.items():
        yield f"{count} bytes of {stream} were not kept: the site keeps limits.log_bytes of each stream"


def changed(status: TaskStatus) -> Iterator[str]:
    """Which inputs another client changed while the program ran."""
    paths = _fact(status, "inputs_changed")
    if paths:
        yield (
            f"inputs changed while the program ran: {paths}. The results may be of the old content, the new or both. "
            f"Run it again: c2d rerun {status.task_id[:8]} --changed-inputs"
        )


def left(status: TaskStatus) -> Iterator[str]:
    """What a task that did not complete left in its outputs."""
    kept, not_kept = _fact(status, "kept"), _fact(status, "not_kept")
    if kept:
        yield f"what it left is in {status.collection}/{FAILED_NAME} ({kept.partition(', in ')[0]})"
    if not_kept:
        yield f"not kept: {not_kept}"


def _fact(status: TaskStatus, name: str) -> str:
    return next(iter(status.other.get(name, ())), "")
