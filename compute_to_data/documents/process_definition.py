"""Reads, checks and writes process definitions as documents (``schemas/process.json``).

A schema checks one value at a time. This module checks what must agree between values: each
reference in argv needs an adapter, each adapter a reference, each variable an existing name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from compute_to_data.documents import adapters, interpolation, parameters
from compute_to_data.documents import schema_words as words
from compute_to_data.documents.interpolation import INPUT_FILE, OUTPUT_FILE, SUPPLIED_VARIABLES
from compute_to_data.documents.json_text import check_values
from compute_to_data.documents.schema import Problem, first, problems, summary
from compute_to_data.errors import InvalidRequest
from compute_to_data.task import ProcessDefinition, is_named_in_argv

_ALLOWED_NONZERO = "allowable_command_indices_for_nonzero_exit_code"


def parse_process(document: Any) -> ProcessDefinition:
    """The process that a document defines. InvalidRequest lists all problems."""
    if runs_notebook(document):
        raise InvalidRequest("/notebook", "found a notebook, expected a program")
    check(document)
    return process_from(document)


def check(document: Any, *, needs_image: bool = True) -> None:
    """InvalidRequest, which lists all problems, unless the document is a valid definition. With ``needs_image=False``
    it may leave the image to the request that uses it."""
    check_values(document, "document")
    if runs_notebook(document):
        found = problems(document, "notebook_definition")
    else:
        found = problems(document, "process") or first(disagreements(document, "", needs_image=needs_image))
    if found:
        raise InvalidRequest(*summary(found))


def runs_notebook(document: Any) -> bool:
    """Whether a stored definition runs a notebook, which is no process of a task."""
    return isinstance(document, Mapping) and "notebook" in document


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
        "input_adapter": adapters.document("input", process.input_adapter),
        "output_adapter": adapters.document("output", process.output_adapter),
        "application": process.application,
        "process_type": process.process_type,
        "parameters": dict(process.parameters),
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
        input_adapter=adapters.adapter("input", document),
        output_adapter=adapters.adapter("output", document),
        application=document.get("application", ""),
        process_type=document.get("process_type", ""),
        parameters=document.get("parameters", {}),
    )


def image_of(document: Mapping[str, Any]) -> str:
    """The image of a process definition; a registry's definitions have an application instead. '' without both."""
    return str(document.get("image") or document.get("application") or "")


def _commands(document: Mapping[str, Any]) -> list[list[str]]:
    if "exec" in document:
        return [[document["exec"], *_arguments(document)[1]]]
    return list(document["commands"])


def _arguments(document: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The arguments of ``exec``, and the name that they have in the document."""
    return ("args", document["args"]) if "args" in document else ("argv", document.get("argv", []))


def disagreements(document: Mapping[str, Any], pointer: str, *, needs_image: bool = True) -> Iterator[Problem]:
    """Problems that the schema cannot express, in a process definition at ``pointer``."""
    if needs_image and not image_of(document):
        yield Problem(f"{pointer}/image", "nothing", 'an image name, or an "application" that is one')
    yield from _unknown_references(document, pointer)
    yield from _unusable_parameters(document, pointer)
    for side, reference in (("input", INPUT_FILE), ("output", OUTPUT_FILE)):
        yield from _adapter_disagreements(document, pointer, side, reference)
    yield from _same_place(document, pointer)
    yield from _indices(document, pointer)
    yield from _environment(document.get("environment", {}), f"{pointer}/environment")


def _words(document: Mapping[str, Any], pointer: str) -> Iterator[tuple[str, str]]:
    """All words of all commands, each with its pointer."""
    if "exec" in document:
        yield f"{pointer}/exec", document["exec"]
        name, arguments = _arguments(document)
        for index, word in enumerate(arguments):
            yield f"{pointer}/{name}/{index}", word
    for number, command in enumerate(document.get("commands", ())):
        for index, word in enumerate(command):
            yield f"{pointer}/commands/{number}/{index}", word


def _unknown_references(document: Mapping[str, Any], pointer: str) -> Iterator[Problem]:
    names = parameters.references(document.get("parameters", {}))
    expected = (
        f"{words.one_of(names)}, {interpolation.EXPECTED_REFERENCE}" if names else interpolation.EXPECTED_REFERENCE
    )
    for place, word in _words(document, pointer):
        for reference in interpolation.references(word):
            if reference not in (INPUT_FILE, OUTPUT_FILE, *names):
                yield Problem(place, words.quoted(reference), expected)


def _unusable_parameters(document: Mapping[str, Any], pointer: str) -> Iterator[Problem]:
    """A value that a task gives must have an effect, and a name of its own in the task's record."""
    used = {reference for _, word in _words(document, pointer) for reference in interpolation.references(word)}
    schema = document.get("parameters", {})
    for name, reference in zip(parameters.names(schema), parameters.references(schema)):
        place = words.below(f"{pointer}/parameters/properties", name)
        if reference not in used:
            yield Problem(place, "a parameter that argv does not use", f'a word in argv that has "{reference}"')
        if name in document.get("environment", {}):
            yield Problem(place, words.quoted(name), "another name than that of a variable of environment")


def _adapter_disagreements(document: Mapping[str, Any], pointer: str, side: str, reference: str) -> Iterator[Problem]:
    place = f"{pointer}/{side}_adapter"
    wrong = list(adapters.disagreements(side, document, place))
    yield from wrong
    adapter = None if wrong else adapters.adapter(side, document)
    users = [where for where, word in _words(document, pointer) if reference in interpolation.references(word)]
    by_name = is_named_in_argv(adapter)
    if users and not by_name and not wrong:
        needed = f'an "{side}_adapter" whose {side}_parameters are {{"file_path": "{reference}"}}'
        yield Problem(users[0], f'"{reference}"', needed)
    if by_name and not users:
        yield Problem(place, "an adapter that argv does not use", f'a word in argv that has "{reference}"')
    one = adapters.needs_one_command(adapter)
    if one and len(_commands(document)) != 1:
        yield Problem(place, f"{one} for {len(_commands(document))} commands", "one command to connect it to")


def _same_place(document: Mapping[str, Any], pointer: str) -> Iterator[Problem]:
    """Input and output cannot be the same pipe or appended file."""
    both = [adapters.place(side, document) for side in ("input", "output")]
    if both[0] and both[0] == both[1]:
        yield Problem(f"{pointer}/output_adapter", f"{words.quoted(both[0])}, where the input is", "another path")


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
