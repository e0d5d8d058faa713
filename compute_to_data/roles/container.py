"""CONTAINER: run the task's process definition in a container."""

from __future__ import annotations

from collections.abc import Mapping

from compute_to_data.documents import request
from compute_to_data.errors import InvalidRequest
from compute_to_data.pipeline.hooks import Program, Step
from compute_to_data.pipeline.running import channels
from compute_to_data.pipeline.template import Role
from compute_to_data.task import OUTPUTS, RESERVED_NAMES, Adapter, FileAdapter, ProcessDefinition, Stream, Task
from compute_to_data.tes_task import TesTask


class Container(Role):
    """Runs ``task.process`` in one sandbox: its commands in order, with its adapters connected."""

    def program(self, task: Task, inputs: tuple[str, ...], supplied: Mapping[str, str]) -> Program:
        """The process definition, with references replaced by this task's files."""
        if task.tes is not None:
            return _of_executors(task.tes, supplied)
        process = task.process
        if process is None:
            remedy = "Add a process to the request, or choose another role"
            raise InvalidRequest("/process", f"is missing, and the role {self.name} needs it", remedy)
        given = input_of(process, inputs)
        left = output_of(process, given)
        seen, written = (
            channels.place(process.input_adapter, "in", given),
            channels.place(process.output_adapter, "out", left),
        )
        return Program.of(
            process.image,
            request.resolve_arguments(process, seen, written, task.parameters),
            allowed_nonzero=process.allowed_nonzero,
            stdin=given if _is_stream(process.input_adapter, Stream.STDIN) else "",
            stdout=left if _is_stream(process.output_adapter, Stream.STDOUT) else "",
            environment={**supplied, **request.interpolate(process.environment, supplied)},
            working_directory=process.working_directory or OUTPUTS,
            helper=channels.helper(process, given, left),
        )

    def expected_outputs(self, task: Task, inputs: tuple[str, ...]) -> tuple[str, ...]:
        """The file that the output adapter writes."""
        if task.process is None or task.process.output_adapter is None:
            return ()
        left = output_of(task.process, input_of(task.process, inputs))
        return (left[len(OUTPUTS) + 1 :],)


def _of_executors(tes: TesTask, supplied: Mapping[str, str]) -> Program:
    """The executors of a TES task, each in a container of its own."""
    steps = (
        Step(
            one.image,
            one.command,
            stdin=one.stdin,
            stdout=one.stdout,
            stderr=one.stderr,
            working_directory=one.working_directory or OUTPUTS,
            environment={**supplied, **one.environment},
            may_fail=one.may_fail,
        )
        for one in tes.executors
    )
    return Program(tuple(steps), apart=True)


def input_of(process: ProcessDefinition, inputs: tuple[str, ...]) -> str:
    """The file that the input adapter connects; '' without an adapter."""
    if process.input_adapter is None:
        return ""
    if len(inputs) != 1:
        raise InvalidRequest(
            "/inputs",
            f"found {len(inputs)} data objects, expected exactly 1 for the process's input_adapter",
            "Without an input_adapter, all inputs are at /inputs/<name>",
        )
    return inputs[0]


def output_of(process: ProcessDefinition, given: str) -> str:
    """The path that the output adapter writes. Its name is the adapter's, else the input's, else ``output``, also where
    no result can have the input's name. '' without an adapter."""
    if process.output_adapter is None:
        return ""
    own = given.rpartition("/")[2]
    usable = "" if own.startswith("-") or own in RESERVED_NAMES else own
    return f"{OUTPUTS}/{process.output_adapter.name or usable or 'output'}"


def _is_stream(adapter: Adapter | None, stream: Stream) -> bool:
    return isinstance(adapter, FileAdapter) and adapter.stream is stream
