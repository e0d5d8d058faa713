"""Holds the values of parameters against a definition's JSON Schema of draft 2020-12, with the package jsonschema.

A user wrote the schema, and it can take forever to apply: by a pattern, or by references to itself. So a process of its
own applies it, which has bounded time and memory, and which nothing outside it can be asked of: a ``$ref`` to another
document is not followed. Agents do not do this. They queue the task, and the worker refuses it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from compute_to_data.documents import parameters
from compute_to_data.documents import schema_words as words
from compute_to_data.documents.schema import Problem, summary
from compute_to_data.errors import EngineError, InvalidRequest
from compute_to_data.task import Task

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SECONDS = 10.0
"""How long a check may take."""
_CPU_SECONDS = 3
_MEMORY_BYTES = 1 << 30
_MOST_PROBLEMS = 10
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from compute_to_data.documents import parameter_check; parameter_check.main()"
)


class LacksLibrary(EngineError):
    """The package jsonschema is not installed here."""


def check_schema(schema: Mapping[str, Any], pointer: str) -> None:
    """InvalidRequest unless the parameters of a definition are a JSON Schema that its own defaults fit.

    ``pointer``: of the schema. LacksLibrary, EngineError.
    """
    if not schema:
        return
    if schema.get("$schema", DIALECT) != DIALECT:
        raise InvalidRequest(
            f"{pointer}/$schema", f"found {words.shown(schema['$schema'])}, expected {words.quoted(DIALECT, 80)}"
        )
    if schema.get("type", "object") != "object":
        raise InvalidRequest(f"{pointer}/type", f'found {words.shown(schema["type"])}, expected "object"')
    optional = {name: part for name, part in schema.items() if name != "required"}
    _refuse(_asked(optional, parameters.with_defaults(schema, {}), unused=True), pointer, pointer)


def check_values(
    schema: Mapping[str, Any],
    values: Mapping[str, Any],
    pointer: str = "/parameters",
    schema_pointer: str = "/process/parameters",
) -> None:
    """InvalidRequest unless the values, with the defaults of those that are missing, fit the schema.

    ``pointer``: of the values. ``schema_pointer``: of the schema. LacksLibrary, EngineError.
    """
    if schema:
        _refuse(_asked(schema, parameters.with_defaults(schema, values)), schema_pointer, pointer)


def check_task(task: Task) -> None:
    """As :func:`check_values`, for the process or the notebook of a task."""
    if task.process is not None:
        check_values(task.process.parameters, task.parameters)
    elif task.notebook is not None:
        check_values(task.notebook.schema, task.notebook.parameters, "/notebook/parameters", "/notebook/schema")


def _refuse(found: Mapping[str, Any], at_schema: str, at_values: str) -> None:
    places = {"schema": at_schema, "values": at_values}
    problems = [
        Problem(f"{places[where]}{pointer}", was, expected) for where, pointer, was, expected in found["problems"]
    ]
    if problems:
        raise InvalidRequest(*summary(problems))


def _asked(schema: Mapping[str, Any], values: Mapping[str, Any], *, unused: bool = False) -> dict[str, Any]:
    """What the process of its own answers. ``unused``: also of references that these values do not need."""
    where = json.dumps([one for one in sys.path if one])
    question = json.dumps({"schema": schema, "values": values, "unused": unused}).encode()
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _START, where],
            input=question,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _too_long() from None
    if done.returncode < 0:
        raise _too_long()
    if done.returncode != 0:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise EngineError("the parameters", f"could not be checked: {last[:200]}")
    found: dict[str, Any] = json.loads(done.stdout)
    if found.get("lacks"):
        remedy = "Install it beside this package: pip install jsonschema"
        raise LacksLibrary("the package jsonschema", "is needed to check parameters, and is not installed here", remedy)
    return found


def _too_long() -> InvalidRequest:
    cause = f"takes more than {SECONDS:g} s, or {_MEMORY_BYTES >> 20} MiB, to apply"
    return InvalidRequest("/process/parameters", cause, "Write a simpler schema, without repeated groups in a pattern")


def main() -> None:
    """In the process of its own: read the question from standard input, and write the answer."""
    _bound()
    asked = json.load(sys.stdin)
    try:
        found = [list(one) for one in _problems(asked["schema"], asked["values"])]
        if not found and asked["unused"]:
            found = [["schema", *one] for one in _references_to_nowhere(asked["schema"])]
    except ImportError:
        json.dump({"lacks": True}, sys.stdout)
        return
    json.dump({"problems": found[:_MOST_PROBLEMS]}, sys.stdout)


def _bound() -> None:
    import resource  # only Unix has it

    for number, most in ((resource.RLIMIT_CPU, _CPU_SECONDS), (resource.RLIMIT_AS, _MEMORY_BYTES)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(number, (most, most))
    os.umask(0o077)


def _problems(schema: Any, values: Any) -> Iterator[tuple[str, str, str, str]]:
    """Each problem: whether it is the schema's or the values', where, what was found, and what was expected."""
    from itertools import islice

    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as problem:
        yield ("schema", _pointer(problem.absolute_path), words.shown(problem.instance), _expected(problem))
        return
    checker = Draft202012Validator.FORMAT_CHECKER
    validator = Draft202012Validator(schema, registry=Registry(), format_checker=checker)
    try:
        for error in islice(validator.iter_errors(values), _MOST_PROBLEMS):
            yield ("values", _pointer(error.absolute_path), words.shown(error.instance), _expected(error))
    except (Unresolvable, RecursionError):
        yield ("schema", "", "a $ref that leads nowhere or to itself", "references to the schema's own $defs")


def _references_to_nowhere(schema: Any) -> Iterator[tuple[str, str, str]]:
    """Each reference of the schema that leads nowhere or to another document: where, what was found and expected."""
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    root = DRAFT202012.create_resource(schema)
    pile = [(root, Registry().resolver_with_root(root))]
    while pile:
        part, resolver = pile.pop()
        pile += [(one, resolver.in_subresource(one)) for one in part.subresources()]
        for keyword in ("$ref", "$dynamicRef"):
            reference = part.contents.get(keyword) if isinstance(part.contents, dict) else None
            try:
                if reference is not None:
                    resolver.lookup(reference)
            except Unresolvable:
                yield "", f"{keyword} {words.shown(reference)}", "references to the schema's own $defs"


def _pointer(path: Any) -> str:
    pointer = ""
    for name in path:
        pointer = words.below(pointer, name)
    return pointer


def _expected(error: Any) -> str:
    """What a keyword expects, in our words."""
    part = {error.validator: error.validator_value}
    try:
        phrase = words.noun_phrase(part)
    except (KeyError, TypeError, ValueError):
        phrase = "a value"
    if phrase != "a value":
        return phrase
    return f"a value that fits {words.quoted(json.dumps(part, ensure_ascii=False), 120)}"
