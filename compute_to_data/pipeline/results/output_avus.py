"""How many AVUs a task may put on its outputs. Each output gets all of them, so their number is a product.

The metadata that users and programs choose must fit in ``limits.output_avus``. The worker's own facts are put on each
output as well while they fit; otherwise only the task's collection has them.
"""

from __future__ import annotations

from compute_to_data.errors import ReasonCode, TaskFailed
from compute_to_data.model import Avu
from compute_to_data.pipeline.execution import Execution
from compute_to_data.provenance import outcome

LEFT_OUT = "on_outputs"
"""The fact on a task's collection that says which AVUs its outputs do not have."""


def check(execution: Execution) -> None:
    """TaskFailed when the metadata of the task, its role and its program are too much for so many outputs."""
    own = _own(execution)
    count, weight, most = len(execution.files), outcome.weight(own), execution.job.limits.output_avus
    if len(own) > 1 and count * weight > most:
        raise TaskFailed(
            ReasonCode.OUTPUT_LIMIT,
            "metadata",
            f"{count} outputs with {len(own)} AVUs each count as {count * weight} AVUs, and at most {most} are allowed "
            "(limits.output_avus; a long AVU counts once for each 256 bytes)",
            "Give less metadata, or write fewer files, for example one archive",
        )


def chosen(execution: Execution, facts: tuple[Avu, ...]) -> tuple[tuple[Avu, ...], tuple[Avu, ...]]:
    """The AVUs for each output, and further AVUs for the collection, which say what the outputs lack.

    ``facts``: those of the collection.
    """
    attributes, most = execution.context.configuration.attributes, execution.job.limits.output_avus
    each = outcome.output_avus(attributes, facts, len(execution.staged))
    if len(execution.files) * outcome.weight(each) <= most:
        return each, ()
    text = f"task_id and metadata only, since {len(execution.files)} outputs with all facts are more than {most} AVUs"
    return _own(execution), (Avu(attributes.named(LEFT_OUT), text),)


def _own(execution: Execution) -> tuple[Avu, ...]:
    """What each output has in any case: the metadata, and the id of its task."""
    task_id = Avu(execution.context.configuration.attributes.named("task_id"), execution.record.task_id)
    role = execution.role.annotations(execution.task, execution.exit)
    return tuple(dict.fromkeys((task_id, *execution.task.metadata, *role, *execution.metadata)))
