"""Reads, checks and writes requests as documents (``schemas/task.json``).

``parse`` and ``document`` are each other's inverse, so a recorded ``task.json`` shows the request as
this product understood it. A request that would surely fail later already fails here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compute_to_data.documents import input_entries
from compute_to_data.documents import schema_words as words
from compute_to_data.documents.interpolation import interpolate, resolve_arguments, variables
from compute_to_data.documents.json_text import check_values
from compute_to_data.documents.process_definition import disagreements, parse_process, process_document, process_from
from compute_to_data.documents.schema import Problem, first, problems, summary
from compute_to_data.errors import InvalidRequest
from compute_to_data.model import Avu
from compute_to_data.task import (
    RESERVED_NAMES,
    InputKind,
    InputReference,
    Notebook,
    OnFailure,
    RequestedLimits,
    Task,
)

__all__ = [
    "check_inputs",
    "document",
    "interpolate",
    "limits",
    "limits_document",
    "parse",
    "parse_process",
    "process_document",
    "resolve_arguments",
]

_LIMITS = {"walltime_seconds": float, "memory_bytes": int, "cpus": float, "pids": int, "output_bytes": int}


def parse(document: Any, plain: InputKind = InputKind.OBJECT) -> Task:
    """The task that a document asks for. ``plain``: the kind of an input that is a plain logical path.

    InvalidRequest lists all problems; its subject is the JSON pointer of the first one.
    """
    check_values(document, "document")
    found = problems(document, "task") or first(_disagreements(document))
    if found:
        raise InvalidRequest(*summary(found))
    process = document.get("process")
    notebook = document.get("notebook")
    return Task(
        name=document.get("name", ""),
        role=document.get("role", ""),
        resource=document.get("resource", ""),
        inputs=tuple(input_entries.reference(item, plain) for item in document.get("inputs", ())),
        output_collection=document["output_collection"],
        process=None if process is None else process_from(process),
        notebook=None if notebook is None else Notebook(**notebook),
        limits=limits(document.get("limits", {})),
        workload=document.get("workload", ""),
        expected_outputs=tuple(document.get("expected_outputs", ())),
        metadata=tuple(_avu(item) for item in document.get("metadata", ())),
        secrets=tuple(document.get("secrets", ())),
        after=tuple(document.get("after", ())),
        on_failure=OnFailure(document.get("on_failure", OnFailure.KEEP.value)),
    )


def document(task: Task) -> dict[str, Any]:
    """The canonical document of a task: ``parse(document(task)) == task``.

    Leaves out what the task leaves to the role or the site. InvalidRequest for a task whose inputs
    or outputs name paths in the sandbox outside ``/inputs``, since the format cannot express them.
    """
    if task.outputs:
        raise InvalidRequest("task", "names paths in the sandbox, which our own format cannot express")
    optional = {
        "name": task.name,
        "role": task.role,
        "resource": task.resource,
        "process": process_document(task.process) if task.process else None,
        "limits": limits_document(task.limits),
        "workload": task.workload,
        "expected_outputs": list(task.expected_outputs),
        "metadata": [_avu_document(avu) for avu in task.metadata],
        "secrets": list(task.secrets),
        "after": list(task.after),
        "on_failure": task.on_failure.value if task.on_failure is not OnFailure.KEEP else "",
    }
    result: dict[str, Any] = {name: value for name, value in optional.items() if value}
    if task.notebook is not None:
        result["notebook"] = _notebook_document(task.notebook)
    result["inputs"] = [input_entries.entry(item) for item in task.inputs]
    result["output_collection"] = task.output_collection
    return result


def check_inputs(task: Task) -> None:
    """InvalidRequest when a task has another number of inputs than its process needs.

    For a task whose inputs were only named by paths or ids when :func:`parse` looked at them.
    """
    found = first(_wrong_number(process_document(task.process), [*task.inputs])) if task.process else []
    if found:
        raise InvalidRequest(*summary(found))


def limits(document: Mapping[str, Any]) -> RequestedLimits:
    """The limits that the ``limits`` of a document ask for."""
    return RequestedLimits(**{name: _LIMITS[name](value) for name, value in document.items()})


def limits_document(asked: RequestedLimits) -> dict[str, Any]:
    """The inverse of :func:`limits`, without the limits that are left to the site."""
    found = {name: getattr(asked, name) for name in _LIMITS}
    return {name: value for name, value in found.items() if value is not None}


def _avu(item: Mapping[str, str]) -> Avu:
    return Avu(item["attribute"], item["value"], item.get("units", ""))


def _avu_document(avu: Avu) -> dict[str, str]:
    described = {"attribute": avu.attribute, "value": avu.value, "units": avu.units}
    return {name: value for name, value in described.items() if value}


def _notebook_document(notebook: Notebook) -> dict[str, Any]:
    described = {
        "name": notebook.name,
        "image": notebook.image,
        "parameters": dict(notebook.parameters),
        "report": notebook.report,
    }
    return {name: value for name, value in described.items() if value}


def _disagreements(document: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems that the schema cannot express."""
    entries = document.get("inputs", ())
    wrong = list(input_entries.disagreements(entries))
    yield from wrong
    yield from input_entries.too_long("/output_collection", document["output_collection"])
    yield from _reserved_names(document.get("expected_outputs", ()))
    yield from _repeated(document.get("metadata", ()))
    if "process" in document:
        yield from disagreements(document["process"], "/process")
        if not wrong:
            yield from _wrong_number(document["process"], [input_entries.reference(item) for item in entries])


def _reserved_names(expected_outputs: Sequence[str]) -> Iterator[Problem]:
    for index, name in enumerate(expected_outputs):
        if name.split("/", 1)[0] in RESERVED_NAMES:
            expected = f"another name than {', '.join(sorted(RESERVED_NAMES))}, which the task's own record uses"
            yield Problem(f"/expected_outputs/{index}", words.quoted(name), expected)


def _repeated(metadata: Any) -> Iterator[Problem]:
    seen: set[Avu] = set()
    for index, item in enumerate(metadata):
        if _avu(item) in seen:
            yield Problem(f"/metadata/{index}", words.quoted(item["attribute"]), "each AVU once")
        seen.add(_avu(item))


def _wrong_number(process: Mapping[str, Any], inputs: list[InputReference]) -> Iterator[Problem]:
    """An adapter needs exactly one data object, and so does a variable with the input's name."""
    if len(inputs) == 1 and not _is_of_any_number(inputs[0]):
        return
    found = "a collection, of any number of inputs" if len(inputs) == 1 else words.shown([*inputs])
    places = []
    if "input_adapter" in process:
        places.append("/process/input_adapter")
    for name, value in process.get("environment", {}).items():
        if "INPUT_FILE_BASENAME" in variables(value):
            places.append(words.below("/process/environment", name))
    if places:
        expected = f'one data object, an "object" or a "next_of", as {" and ".join(places[:3])} needs'
        yield Problem("/inputs", found, expected)


def _is_of_any_number(reference: InputReference) -> bool:
    return reference.kind is InputKind.COLLECTION or (reference.kind is InputKind.TASK and not reference.result)
