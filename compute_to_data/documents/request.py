"""Reads, checks and writes requests as documents (``schemas/task.json``).

``parse`` and ``document`` are each other's inverse, so a recorded ``task.json`` shows the request as
this product understood it. A request that would surely fail later already fails here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compute_to_data.documents import input_entries, parameters, tes, url_entries
from compute_to_data.documents import schema_words as words
from compute_to_data.documents.interpolation import interpolate, resolve_arguments, variables
from compute_to_data.documents.json_text import check_values
from compute_to_data.documents.process_definition import disagreements, parse_process, process_document, process_from
from compute_to_data.documents.schema import Problem, first, problems, summary
from compute_to_data.errors import InvalidRequest
from compute_to_data.model import Avu, name_of
from compute_to_data.task import (
    RESERVED_NAMES,
    InputKind,
    InputReference,
    Notebook,
    OnFailure,
    Put,
    RequestedLimits,
    StoredDefinition,
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

_LIMITS = {
    "walltime_seconds": float,
    "memory_bytes": int,
    "cpus": float,
    "pids": int,
    "output_bytes": int,
    "input_bytes": int,
}


def parse(document: Any, plain: InputKind = InputKind.OBJECT) -> Task:
    """The task that a document asks for. ``plain``: the kind of an input that is a plain logical path.

    InvalidRequest lists all problems; its subject is the JSON pointer of the first one.
    """
    check_values(document, "document")
    found = problems(document, "task") or first(_disagreements(document))
    if found:
        raise InvalidRequest(*summary(found))
    process = document.get("process")
    notebook = Notebook(**document["notebook"]) if "notebook" in document else None
    own = notebook.reference if notebook else None
    inputs = [input_entries.reference(item, plain) for item in document.get("inputs", ())]
    if "tes" in document:
        return _with_tes(document)
    return Task(
        name=document.get("name", ""),
        role=document.get("role", ""),
        resource=document.get("resource", ""),
        inputs=(*inputs, *((own,) if own else ())),
        output_collection=document["output_collection"],
        process=None if process is None else process_from(process),
        notebook=notebook,
        limits=limits(document.get("limits", {})),
        workload=document.get("workload", ""),
        expected_outputs=tuple(document.get("expected_outputs", ())),
        metadata=tuple(_avu(item) for item in document.get("metadata", ())),
        secrets=tuple(document.get("secrets", ())),
        after=tuple(document.get("after", ())),
        priority=int(document.get("priority", 0)),
        on_failure=OnFailure(document.get("on_failure", OnFailure.KEEP.value)),
        parameters=document.get("parameters", {}),
        definition=StoredDefinition(**document["definition"]) if "definition" in document else None,
        put=tuple(Put(**item) for item in document.get("put", ())),
    )


def _with_tes(document: Mapping[str, Any]) -> Task:
    """The task of a valid document that has a TES task."""
    found = tes.read(document["tes"])
    return Task(
        name=document.get("name", ""),
        role=document.get("role", ""),
        resource=document.get("resource", ""),
        inputs=found.inputs,
        output_collection=document["output_collection"],
        limits=found.limits,
        outputs=found.outputs,
        after=tuple(document.get("after", ())),
        priority=int(document.get("priority", 0)),
        put=found.put,
        tes=found.tes,
    )


def document(task: Task) -> dict[str, Any]:
    """The canonical document of a task: ``parse(document(task)) == task``.

    Leaves out what the task leaves to the role or the site. InvalidRequest for a task whose inputs
    or outputs name paths in the sandbox outside ``/inputs``, since the format cannot express them.
    """
    if task.tes is not None:
        return _tes_document(task)
    own = task.notebook.reference if task.notebook else None
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
        "priority": task.priority,
        "on_failure": task.on_failure.value if task.on_failure is not OnFailure.KEEP else "",
        "parameters": dict(task.parameters),
        "definition": vars(task.definition) if task.definition else None,
        "put": [{name: value for name, value in vars(one).items() if value} for one in task.put],
    }
    result: dict[str, Any] = {name: value for name, value in optional.items() if value}
    if task.notebook is not None:
        result["notebook"] = _notebook_document(task.notebook)
    result["inputs"] = [input_entries.entry(item) for item in task.inputs if item != own]
    result["output_collection"] = task.output_collection
    return result


def _tes_document(task: Task) -> dict[str, Any]:
    """The document of a task that is a TES task, from which its inputs, outputs and limits follow."""
    named = {"name": task.name, "role": task.role, "resource": task.resource, "after": list(task.after)}
    found = {name: value for name, value in {**named, "priority": task.priority}.items() if value}
    whole = dict(task.tes.document) if task.tes else {}
    return {**found, "tes": whole, "inputs": [], "output_collection": task.output_collection}


_BESIDE_TES = frozenset(
    {"tes", "name", "role", "resource", "after", "priority", "inputs", "output_collection", "version"}
)


def _wrong_tes(document: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems of a document that has a TES task."""
    for name in document:
        if name not in _BESIDE_TES or (name == "inputs" and document["inputs"]):
            yield Problem(f"/{name}", words.shown(document[name]), 'nothing beside "tes", which says the same')
    zone = document["output_collection"].split("/")[1]
    for one in tes.disagreements(document["tes"], zone):
        yield Problem(f"/tes{one.pointer}", one.found, one.expected)


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
        "data_object": notebook.data_object,
        "schema": dict(notebook.schema),
    }
    return {name: value for name, value in described.items() if value}


def _unusable_notebook(logical_path: str) -> Iterator[Problem]:
    """The notebook's name is also that of its results."""
    yield from input_entries.too_long("/notebook/data_object", logical_path)
    name = name_of(logical_path)
    if name.startswith("-"):
        expected = "a name that does not begin with -, since its results get this name"
        yield Problem("/notebook/data_object", words.quoted(name), expected)


def _disagreements(document: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems that the schema cannot express."""
    if "tes" in document:
        yield from _wrong_tes(document)
        return
    entries = document.get("inputs", ())
    wrong = list(input_entries.disagreements(entries))
    yield from wrong
    yield from input_entries.too_long("/output_collection", document["output_collection"])
    yield from _unusable_notebook(document.get("notebook", {}).get("data_object", ""))
    yield from _reserved_names(document.get("expected_outputs", ()))
    yield from _repeated(document.get("metadata", ()))
    yield from url_entries.unusable_targets(document.get("put", ()))
    if isinstance(document.get("process"), str):
        yield Problem(
            "/process", words.quoted(document["process"]), "a process definition: this name was not looked up"
        )
    elif "process" in document:
        yield from disagreements(document["process"], "/process")
        if not document.get("workload"):
            yield from _endless(document["process"])
        if not wrong:
            yield from _wrong_number(document["process"], [input_entries.reference(item) for item in entries])
        schema = document["process"].get("parameters", {})
        yield from parameters.disagreements(schema, document.get("parameters", {}), "/parameters")
    schema = document.get("notebook", {}).get("schema", {})
    if schema:
        given = document["notebook"].get("parameters", {})
        yield from parameters.disagreements(schema, given, "/notebook/parameters", needed=schema.get("required", ()))
    if "process" not in document and "parameters" in document:
        expected = '"parameters" of the notebook' if "notebook" in document else "a process that has parameters"
        yield Problem("/parameters", "values for parameters", expected)


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


def _endless(process: Mapping[str, Any]) -> Iterator[Problem]:
    if process.get("process_type") == "service":
        expected = '"single", since a task ends; start a service for its messages instead (c2d process start)'
        yield Problem("/process/process_type", '"service"', expected)


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
