"""Reads, checks and writes process definitions as documents (``schemas/process.json``).

A schema checks one value at a time. This module checks what must agree between values: each
reference in argv needs an adapter, each adapter a reference, each variable an existing name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from compute_to_data.documents import interpolation
from compute_to_data.documents import schema_words as words
from compute_to_data.documents.interpolation import INPUT_FILE, OUTPUT_FILE, SUPPLIED_VARIABLES
from compute_to_data.documents.json_text import check_values
from compute_to_data.documents.schema import Problem, first, problems, summary
from compute_to_data.errors import InvalidRequest
from compute_to_data.task import RESERVED_NAMES, FileAdapter, ProcessDefinition, Stream

_ALLOWED_NONZERO = "allowable_command_indices_for_nonzero_exit_code"


def parse_process(document: Any) -> ProcessDefinition:
    """The process that a document defines. InvalidRequest lists all problems."""
    check_values(document, "document")
    found = problems(document, "process") or first(disagreements(document, ""))
    if found:
        raise InvalidRequest(*summary(found))
    return process_from(document)


def process_document(process: ProcessDefinition) -> dict[str, Any]:
    """The canonical document: ``parse_process(process_document(process)) == process``."""
    document: dict[str, Any] = {
        "image": process.image,
        "commands": [list(command) for command in process.commands],
    }
    optional = {
        _ALLOWED_NONZERO: sorted(process.allowed_nonzero),
        "cwd": process.working_directory,
        "environment": dict(process.environment),
        "timeout": process.timeout_seconds,
        "input_adapter": _adapter_document("input", process.input_adapter),
        "output_adapter": _adapter_document("output", process.output_adapter),
        "application": process.application,
        "process_type": process.process_type,
    }
    document.update((name, value) for name, value in optional.items() if value)
    return document


def process_from(document: Mapping[str, Any]) -> ProcessDefinition:
    """The process that a valid document defines."""
    commands = tuple(tuple(command) for command in _commands(document))
    timeout = document.get("timeout")
    return ProcessDefinition(
        image=image_of(document),
        commands=commands,
        allowed_nonzero=frozenset(int(index) % len(commands) for index in document.get(_ALLOWED_NONZERO, ())),
        working_directory=document.get("cwd", ""),
        environment=dict(document.get("environment", {})),
        timeout_seconds=None if timeout is None else float(timeout),
        input_adapter=_adapter("input", document),
        output_adapter=_adapter("output", document),
        application=document.get("application", ""),
        process_type=document.get("process_type", ""),
    )


def image_of(document: Mapping[str, Any]) -> str:
    """The image of a process definition; a registry's definitions have an application instead. '' without both."""
    return str(document.get("image") or document.get("application") or "")


def _commands(document: Mapping[str, Any]) -> list[list[str]]:
    if "exec" in document:
        return [[document["exec"], *document.get("argv", ())]]
    return list(document["commands"])


def _adapter(side: str, document: Mapping[str, Any]) -> FileAdapter | None:
    if f"{side}_adapter" not in document:
        return None
    parameters = document[f"{side}_adapter"][f"{side}_parameters"]
    stream = parameters.get("stream_name")
    return FileAdapter(Stream(stream) if stream else None, parameters.get("file_name", ""))


def _adapter_document(side: str, adapter: FileAdapter | None) -> dict[str, Any]:
    if adapter is None:
        return {}
    parameters = (
        {"file_type": "stream", "stream_name": adapter.stream.value}
        if adapter.stream
        else {"file_path": INPUT_FILE if side == "input" else OUTPUT_FILE}
    )
    if adapter.name:
        parameters["file_name"] = adapter.name
    return {f"{side}_type": "file", f"{side}_parameters": parameters}


def disagreements(document: Mapping[str, Any], pointer: str) -> Iterator[Problem]:
    """Problems that the schema cannot express, in a process definition at ``pointer``."""
    if not image_of(document):
        yield Problem(f"{pointer}/image", "nothing", 'an image name, or an "application" that is one')
    yield from _unknown_references(document, pointer)
    for side, reference in (("input", INPUT_FILE), ("output", OUTPUT_FILE)):
        yield from _adapter_disagreements(document, pointer, side, reference)
    yield from _indices(document, pointer)
    yield from _environment(document.get("environment", {}), f"{pointer}/environment")


def _words(document: Mapping[str, Any], pointer: str) -> Iterator[tuple[str, str]]:
    """All words of all commands, each with its pointer."""
    if "exec" in document:
        yield f"{pointer}/exec", document["exec"]
        for index, word in enumerate(document.get("argv", ())):
            yield f"{pointer}/argv/{index}", word
    for number, command in enumerate(document.get("commands", ())):
        for index, word in enumerate(command):
            yield f"{pointer}/commands/{number}/{index}", word


def _unknown_references(document: Mapping[str, Any], pointer: str) -> Iterator[Problem]:
    for place, word in _words(document, pointer):
        for reference in interpolation.references(word):
            if reference not in (INPUT_FILE, OUTPUT_FILE):
                yield Problem(place, words.quoted(reference), interpolation.EXPECTED_REFERENCE)


def _adapter_disagreements(document: Mapping[str, Any], pointer: str, side: str, reference: str) -> Iterator[Problem]:
    adapter = _adapter(side, document)
    place = f"{pointer}/{side}_adapter"
    users = [where for where, word in _words(document, pointer) if reference in interpolation.references(word)]
    by_name = adapter is not None and adapter.stream is None
    if users and not by_name:
        needed = f'an "{side}_adapter" whose {side}_parameters are {{"file_path": "{reference}"}}'
        yield Problem(users[0], f'"{reference}"', needed)
    if by_name and not users:
        yield Problem(place, "an adapter that argv does not use", f'a word in argv that has "{reference}"')
    if adapter and adapter.stream and len(_commands(document)) != 1:
        found = f"{adapter.stream.value} for {len(_commands(document))} commands"
        yield Problem(place, found, "one command to connect it to")
    if adapter and adapter.name in RESERVED_NAMES:
        expected = f"another name than {', '.join(sorted(RESERVED_NAMES))}, which the task's own record uses"
        yield Problem(f"{place}/{side}_parameters/file_name", words.quoted(adapter.name), expected)


def _indices(document: Mapping[str, Any], pointer: str) -> Iterator[Problem]:
    count = len(_commands(document))
    for index, number in enumerate(document.get(_ALLOWED_NONZERO, ())):
        if not -count <= number < count:
            expected = f"a command's index, from 0 to {count - 1}, or counted from the end, from -{count} to -1"
            yield Problem(f"{pointer}/{_ALLOWED_NONZERO}/{index}", words.shown(number), expected)


def _environment(environment: Mapping[str, str], pointer: str) -> Iterator[Problem]:
    others = f"another name: {', '.join(SUPPLIED_VARIABLES)} are supplied"
    known = [*SUPPLIED_VARIABLES, *environment]
    wrong = False
    for name, value in environment.items():
        place = words.below(pointer, name)
        if name in SUPPLIED_VARIABLES:
            yield Problem(place, words.quoted(name), others)
        for reference in dict.fromkeys(interpolation.variables(value)):
            if reference == name:
                yield Problem(
                    place,
                    words.quoted(f"%({name})s"),
                    "a value without itself: the image's own variables cannot be extended here",
                )
            elif reference not in known:
                wrong = True
                yield Problem(
                    place,
                    words.quoted(f"%({reference})s"),
                    f"%(NAME)s with NAME {words.one_of(known, meant=reference)}",
                )
    if not wrong:
        yield from _overflow(environment, pointer)


def _overflow(environment: Mapping[str, str], pointer: str) -> Iterator[Problem]:
    try:
        interpolation.interpolate(environment, dict.fromkeys(SUPPLIED_VARIABLES, ""))
    except InvalidRequest:
        limit = interpolation.MAXIMUM_ENVIRONMENT_CHARACTERS
        yield Problem(pointer, "values that refer to long values", f"at most {limit} characters in all")
