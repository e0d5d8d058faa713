"""What a finished task says about itself: AVUs on its collection and outputs, and an RO-Crate.

The crate follows the Process Run Crate profile 0.5 (https://w3id.org/ro/wfrun/process/0.5) on
RO-Crate 1.1: one ``CreateAction`` whose instrument is the image's program, whose objects are
the inputs and whose results are the outputs.
"""

from __future__ import annotations

import json
import platform
import shlex
from dataclasses import dataclass, field
from typing import Any

from compute_to_data import __version__
from compute_to_data.configuration import Attributes
from compute_to_data.model import Avu, User
from compute_to_data.outputs import OutputFile
from compute_to_data.ports import Exit, Image
from compute_to_data.record import timestamp
from compute_to_data.staging import Staged
from compute_to_data.task import Task

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_LONGEST_VALUE = 2000
"""iRODS holds AVU values of up to 2,700 bytes; what is longer stands in ``task.json``."""


@dataclass(frozen=True)
class Outcome:
    """What happened, in one value: enough to describe the task without asking anyone."""

    task_id: str
    task: Task
    owner: User
    role: str
    resource: str
    engine: str
    image: Image
    commands: tuple[tuple[str, ...], ...]
    inputs: tuple[Staged, ...]
    outputs: tuple[OutputFile, ...]
    exit: Exit
    stage_in_seconds: float
    extra: tuple[Avu, ...] = field(default=())


_MOST_INPUTS_ON_OUTPUTS = 32
"""With more inputs than these, only the task's collection names them: otherwise a task of a
thousand inputs and a thousand outputs would put a million AVUs into the catalog."""


def output_avus(attributes: Attributes, facts: tuple[Avu, ...], inputs: int) -> tuple[Avu, ...]:
    """Those of the collection's facts (:func:`avus`) that stand on each output of a task of so
    many inputs."""
    if inputs <= _MOST_INPUTS_ON_OUTPUTS:
        return facts
    return tuple(avu for avu in facts if avu.attribute != attributes.named("input"))


def avus(attributes: Attributes, outcome: Outcome) -> tuple[Avu, ...]:
    """The AVUs that stand on the task's collection."""

    def fact(name: str, value: object, units: str = "") -> Avu:
        return Avu(attributes.named(name), str(value), units)

    facts = [
        fact("task_id", outcome.task_id),
        fact("owner", outcome.owner),
        fact("role", outcome.role),
        fact("resource", outcome.resource),
        fact("engine", outcome.engine),
        fact("image", outcome.image.name),
        fact("image_digest", outcome.image.digest),
        fact("exit_status", outcome.exit.status),
        fact("started_at", timestamp(outcome.exit.started)),
        fact("processing_seconds", f"{max(0.0, outcome.exit.finished - outcome.exit.started):.3f}", "s"),
        fact("stage_in_seconds", f"{outcome.stage_in_seconds:.3f}", "s"),
        fact("version", __version__),
    ]
    facts += [fact("command", _shortened(_written(one)), str(index)) for index, one in enumerate(outcome.commands)]
    if outcome.task.name:
        facts.append(fact("name", outcome.task.name))
    facts += [fact("input", staged.data_object.logical_path, staged.checksum or "unknown") for staged in outcome.inputs]
    for name, value in _parameters(outcome.task).items():
        facts.append(fact(f"parameter::{name}", _shortened(json.dumps(value, ensure_ascii=False))))
    unique = dict.fromkeys((*facts, *outcome.task.metadata, *outcome.extra))
    return tuple(unique)


def _parameters(task: Task) -> dict[str, Any]:
    if task.notebook is not None:
        return dict(task.notebook.parameters)
    return dict(task.process.environment) if task.process is not None else {}


def _written(command: tuple[str, ...]) -> str:
    """An argument vector as somebody could type it."""
    return shlex.join(command)


def _shortened(text: str) -> str:
    encoded = text.encode()
    if len(encoded) <= _LONGEST_VALUE:
        return text
    return encoded[:_LONGEST_VALUE].decode(errors="ignore") + "..."


def crate(outcome: Outcome) -> bytes:
    """``ro-crate-metadata.json`` for the task's collection."""
    image_id = f"#{outcome.image.digest}"
    name = outcome.task.name or f"Task {outcome.task_id}"
    inputs = [_input_entity(staged) for staged in outcome.inputs]
    results = [_output_entity(file) for file in outcome.outputs]
    finished = timestamp(outcome.exit.finished)
    root: dict[str, Any] = {
        "@id": "./",
        "@type": "Dataset",
        "name": name,
        "description": f"Results of a {outcome.role} task that ran on {outcome.resource}",
        "datePublished": finished,
        "license": "the license of the inputs applies",
        "conformsTo": {"@id": PROFILE},
        "hasPart": [{"@id": entity["@id"]} for entity in results],
        "mentions": {"@id": "#run"},
    }
    run = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": name,
        "instrument": {"@id": image_id},
        "agent": {"@id": f"#{outcome.owner}"},
        "object": [{"@id": entity["@id"]} for entity in inputs],
        "result": [{"@id": entity["@id"]} for entity in results],
        "startTime": timestamp(outcome.exit.started),
        "endTime": finished,
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
        "description": "\n".join(_written(command) for command in outcome.commands),
    }
    program = {
        "@id": image_id,
        "@type": "SoftwareApplication",
        "name": outcome.image.name,
        "version": outcome.image.digest,
    }
    agent = {"@id": f"#{outcome.owner}", "@type": "Person", "name": str(outcome.owner)}
    runner = {
        "@id": "#compute-to-data",
        "@type": "SoftwareApplication",
        "name": "compute-to-data",
        "version": __version__,
        "softwareRequirements": f"Python {platform.python_version()}",
    }
    descriptor = {
        "@id": "ro-crate-metadata.json",
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
    }
    profile = {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    graph = [descriptor, root, run, program, agent, runner, profile, *inputs, *results]
    document = {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}
    return json.dumps(document, indent=1, ensure_ascii=False).encode()


def _input_entity(staged: Staged) -> dict[str, Any]:
    """An input stays where it is, so it is named by its logical path, not as a part."""
    from urllib.parse import quote

    path = staged.data_object.logical_path
    return {
        "@id": f"irods://{quote(path)}",
        "@type": "File",
        "name": path,
        "contentSize": str(staged.replica.size),
        "identifier": staged.checksum or "unknown",
    }


def _output_entity(file: OutputFile) -> dict[str, Any]:
    from urllib.parse import quote

    return {
        "@id": quote(file.relative),
        "@type": "File",
        "name": file.relative,
        "contentSize": str(file.size),
        "identifier": file.checksum,
    }
