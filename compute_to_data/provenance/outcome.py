"""Describes a finished task in AVUs on its collection and on its outputs.

``crate.py`` describes it in a file that other programs understand.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compute_to_data import __version__
from compute_to_data.configuration import Attributes
from compute_to_data.documents import request
from compute_to_data.inputs.references import Staged
from compute_to_data.irods_names import shortened
from compute_to_data.job import Exit, Image, OutputFile
from compute_to_data.model import Avu, User
from compute_to_data.records.task import timestamp
from compute_to_data.task import INPUTS, Task


@dataclass(frozen=True)
class Plan:
    """What a task is about to run, as far as it is known. ``image``: its digest is '' before the engine has
    identified it."""

    task_id: str
    task: Task
    owner: User
    role: str
    resource: str
    engine: str
    image: Image
    commands: tuple[tuple[str, ...], ...]
    inputs: tuple[Staged, ...]


@dataclass(frozen=True)
class Outcome(Plan):
    """All that is needed to describe a finished task, without asking the zone or the engine."""

    outputs: tuple[OutputFile, ...]
    exit: Exit
    stage_in_seconds: float
    extra: tuple[Avu, ...] = field(default=())
    input_folders: tuple[str, ...] = field(default=())
    places: Mapping[str, str] = field(default_factory=dict)
    """The logical paths of outputs that are not registered in the task's collection, by their names."""
    changed_inputs: tuple[str, ...] = ()
    """The logical paths of inputs that another client changed while the program ran."""


URL = "url"
"""The fact that names the URL that an input was fetched from: on that data object, and with its checksum on what was
made of it."""
UNKNOWN = "unknown"
"""The units of an input whose checksum is not known."""
_MOST_INPUTS_ON_OUTPUTS = 32
"""With more inputs, only the task's collection names them. Otherwise a task with a thousand inputs and
a thousand outputs would put a million AVUs into the catalog."""


_BYTES_OF_ONE = 256


def weight(avus: Iterable[Avu]) -> int:
    """How many AVUs these count as: a long one counts once for each 256 bytes that it has begun."""
    return sum(1 + len(f"{avu.attribute}{avu.value}{avu.units}".encode()) // _BYTES_OF_ONE for avu in avus)


ONLY_OF_SUCCESS = ("fingerprint", "outputs_digest")
"""Facts that only the collection of a COMPLETED task bears."""


def output_avus(attributes: Attributes, facts: tuple[Avu, ...], inputs: int) -> tuple[Avu, ...]:
    """The AVUs for each output: a selection of ``facts``, the AVUs of the collection (:func:`avus`).

    ``inputs``: the number of the task's inputs.
    """
    only_on_collection = {attributes.named(name) for name in ONLY_OF_SUCCESS}
    if inputs > _MOST_INPUTS_ON_OUTPUTS:
        only_on_collection |= {attributes.named("input"), attributes.named(URL)}
    return tuple(avu for avu in facts if avu.attribute not in only_on_collection)


_CHANGES_NO_RESULT = frozenset(
    {"name", "role", "resource", "inputs", "output_collection", "limits", "metadata", "on_failure", "definition", "put"}
)
"""Properties of a request that do not change its result, or that the fingerprint covers otherwise."""


def fingerprint(task: Task, role: str, inputs: Iterable[tuple[str, str]], folders: Sequence[str] = ()) -> str:
    """A SHA-256, in hex, that is the same for tasks of one image that compute the same.

    It covers the role, the path and checksum of each input, and the request without its name,
    collections, resource, limits and metadata. ``inputs``: pairs of path in the sandbox and
    checksum. ``folders``: the empty directories beside them. '' when a checksum is unknown, and for a task
    of a workload, which sees more than its inputs, and for a TES task, whose results are elsewhere.
    The image's digest is a fact of its own, since it is known only where the task ran.
    """
    pairs = [list(pair) for pair in inputs]
    if task.workload or task.tes or not all(checksum for _, checksum in pairs):
        return ""
    asked = {name: value for name, value in request.document(task).items() if name not in _CHANGES_NO_RESULT}
    asked.get("process", {}).pop("timeout", None)
    asked.get("notebook", {}).pop("schema", None)
    empty = {"folders": sorted(folders)} if set(folders) - {INPUTS} else {}
    return _digest({"version": 2, "role": role, "inputs": pairs, "asked": asked, **empty})


def outputs_digest(outputs: Iterable[tuple[str, str]]) -> str:
    """A SHA-256, in hex, over the names and checksums of all outputs. Their order does not matter."""
    return _digest(sorted(map(list, outputs)))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def plan_avus(attributes: Attributes, plan: Plan) -> tuple[Avu, ...]:
    """The AVUs of the task's collection that say what the task runs, from before its job starts."""
    facts = {
        "task_id": plan.task_id,
        "owner": str(plan.owner),
        "role": plan.role,
        "resource": plan.resource,
        "engine": plan.engine,
        "image": plan.image.name,
        "image_digest": plan.image.digest,
        "version": __version__,
        "name": plan.task.name,
    }
    found = [Avu(attributes.named(name), value) for name, value in facts.items() if value]
    command, given = attributes.named("command"), attributes.named("input")
    found += [Avu(command, shortened(written(words)), str(index)) for index, words in enumerate(plan.commands)]
    found += [Avu(given, staged.data_object.logical_path, staged.checksum or UNKNOWN) for staged in plan.inputs]
    if plan.task.definition is not None:
        found.append(
            Avu(attributes.named("definition"), plan.task.definition.data_object, plan.task.definition.checksum)
        )
    urls = plan.task.shown_urls
    found += [
        Avu(attributes.named(URL), urls[staged.target], staged.checksum or UNKNOWN)
        for staged in plan.inputs
        if staged.target in urls
    ]
    for name, value in parameters(plan.task).items():
        text = shortened(json.dumps(value, ensure_ascii=False))
        found.append(Avu(attributes.named(f"parameter::{name}"), text))
    return tuple(found)


def avus(attributes: Attributes, outcome: Outcome) -> tuple[Avu, ...]:
    """The AVUs of the collection of a task that has completed."""

    def fact(name: str, value: object, units: str = "") -> Avu:
        return Avu(attributes.named(name), str(value), units)

    facts = [
        *plan_avus(attributes, outcome),
        fact("exit_status", outcome.exit.status),
        fact("started_at", timestamp(outcome.exit.started)),
        fact("processing_seconds", f"{max(0.0, outcome.exit.finished - outcome.exit.started):.3f}", "s"),
        fact("stage_in_seconds", f"{outcome.stage_in_seconds:.3f}", "s"),
    ]
    seen = ((item.target, item.checksum) for item in outcome.inputs)
    identity = fingerprint(outcome.task, outcome.role, seen, outcome.input_folders)
    if identity and not outcome.changed_inputs:  # else nobody knows which content the program read
        facts.append(fact("fingerprint", identity))
    facts.append(fact("outputs_digest", outputs_digest((file.relative, file.checksum) for file in outcome.outputs)))
    unique = dict.fromkeys((*facts, *outcome.task.metadata, *outcome.extra))
    return tuple(unique)


def parameters(task: Task) -> dict[str, Any]:
    """The parameters that the user set: those of the notebook, or the environment and the parameters of the process."""
    if task.notebook is not None:
        return dict(task.notebook.parameters)
    return {**task.process.environment, **task.parameters} if task.process is not None else {}


def written(command: tuple[str, ...]) -> str:
    """An argument vector as a command line for a shell."""
    return shlex.join(command)
