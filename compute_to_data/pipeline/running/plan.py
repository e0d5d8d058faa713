"""What a task runs, for its record: at the start of its job, and at the latest when the task fails."""

from __future__ import annotations

from compute_to_data.job import Image
from compute_to_data.model import Avu
from compute_to_data.pipeline.execution import Execution
from compute_to_data.provenance import outcome
from compute_to_data.task import InputKind, Task


def of(execution: Execution) -> outcome.Plan:
    """The plan as far as it is known: of a task that fails early, what its request asks for."""
    job, program = getattr(execution, "job", None), getattr(execution, "program", None)
    return outcome.Plan(
        task_id=execution.record.task_id,
        task=execution.task,
        owner=execution.context.catalog.user,
        role=execution.role.name,
        resource=execution.context.resource.name,
        engine=execution.context.engine.name,
        image=job.image if job else Image(_image(execution.task), execution.checkpoint.image_digest),
        commands=program.commands if program else _commands(execution.task),
        inputs=execution.staged,
    )


def avus(execution: Execution) -> tuple[Avu, ...]:
    """The plan as AVUs of the task's collection."""
    attributes = execution.context.configuration.attributes
    asked = () if execution.staged else _asked_inputs(execution.task)
    given = attributes.named("input")
    return (*outcome.plan_avus(attributes, of(execution)), *(Avu(given, path, outcome.UNKNOWN) for path in asked))


def _image(task: Task) -> str:
    if task.tes is not None:
        return task.tes.images[0]
    described = task.process or task.notebook
    return described.image if described else ""


def _commands(task: Task) -> tuple[tuple[str, ...], ...]:
    """The commands as the request has them, with the references to files unresolved."""
    if task.tes is not None:
        return tuple(one.command for one in task.tes.executors)
    return tuple(tuple(vector) for vector in task.process.commands) if task.process else ()


def _asked_inputs(task: Task) -> tuple[str, ...]:
    """What the request names: data objects, collections, results, URLs. Not a ``next_of``: a member is the input."""
    named = [one for one in task.inputs if one.kind not in (InputKind.NEXT_OF, InputKind.URL)]
    paths = [f"{one.logical_path}/{one.result}".rstrip("/") for one in named]
    return tuple(dict.fromkeys((*paths, *task.shown_urls.values())))
