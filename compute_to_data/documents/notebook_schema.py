"""The parameters of a notebook as a JSON Schema, inferred from its cells tagged ``parameters``.

It finds what papermill's inspection finds (``papermill.inspection``): each name that such a cell sets to a value, with
its annotation or ``# type:`` comment, its default and the comment behind it. In addition, a default that is a literal
gives the type. Only notebooks in Python can be read.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterator, Mapping
from typing import Any

from compute_to_data.errors import InvalidRequest

TAG = "parameters"
_TYPES = {
    "bool": "boolean",
    "int": "integer",
    "float": "number",
    "str": "string",
    "list": "array",
    "dict": "object",
}
_TYPE_COMMENT = re.compile(r"type:\s*(\S+)\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def inferred(content: bytes, subject: str) -> dict[str, Any]:
    """The schema for the values that a notebook takes; {} when it cannot be inferred.

    A notebook without such a cell takes none. InvalidRequest when the content is no notebook.
    """
    notebook = _notebook(content, subject)
    if _language(notebook) != "python":
        return {}
    found: dict[str, Any] = {}
    for source in _parameter_cells(notebook):
        try:
            found.update(_declared(source))
        except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
            return {}  # the program that runs the notebook says more
    return {"type": "object", "properties": found, "additionalProperties": False}


def _notebook(content: bytes, subject: str) -> Mapping[str, Any]:
    try:
        notebook = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(subject, f"is not a notebook: it is not JSON ({error})") from None
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise InvalidRequest(subject, "is not a notebook: it has no cells")
    return notebook


def _language(notebook: Mapping[str, Any]) -> str:
    """The language of the notebook's kernel; Python when it names none."""
    metadata = _object(notebook.get("metadata"))
    for part in ("language_info", "kernelspec"):
        described = _object(metadata.get(part))
        name = described.get("language") or (described.get("name") if part == "language_info" else "")
        if isinstance(name, str) and name:
            return name.lower()
    return "python"


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _parameter_cells(notebook: Mapping[str, Any]) -> Iterator[str]:
    for cell in map(_object, notebook["cells"]):
        tags = _object(cell.get("metadata")).get("tags")
        if cell.get("cell_type") == "code" and isinstance(tags, list) and TAG in tags:
            source = cell.get("source", "")
            yield "".join(map(str, source)) if isinstance(source, list) else str(source)


def _declared(source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each name that a cell sets at its top level, with its schema."""
    text = re.sub(r"^[ \t]*[%!?].*$", "", source, flags=re.MULTILINE)  # IPython's own lines set nothing
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets: list[ast.expr] = [statement.target]
            annotation = _annotated(statement.annotation)
        elif isinstance(statement, ast.Assign):
            targets, annotation = list(statement.targets), ""
        else:
            continue
        comment = comments.get(statement.end_lineno or 0, "")
        typed = _TYPE_COMMENT.match(comment)
        for target in targets:
            if isinstance(target, ast.Name) and _NAME.fullmatch(target.id):
                kind = annotation or (typed[1] if typed else "")
                yield target.id, _described(kind, statement.value, comment[typed.end() :] if typed else comment)


def _annotated(annotation: ast.expr) -> str:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value
    return ast.unparse(annotation)


def _described(kind: str, value: ast.expr | None, help: str) -> dict[str, Any]:
    """The schema of one parameter."""
    found: dict[str, Any] = {}
    is_literal, default = _literal(value)
    plain = _TYPES.get(re.split(r"[\[\s]", kind.removeprefix("typing."), maxsplit=1)[0].lower(), "")
    if not plain and not kind and is_literal and default is not None:
        plain = _TYPES.get(type(default).__name__, "")
    if plain and not (is_literal and default is None):
        found["type"] = plain
    if is_literal and default is not None:
        found["default"] = list(default) if isinstance(default, tuple) else default
    if help:
        found["description"] = help
    return found


def _literal(value: ast.expr | None) -> tuple[bool, Any]:
    """Whether a default is a literal that JSON can hold, and which."""
    try:
        default = ast.literal_eval(value) if value is not None else None
        json.dumps(default, allow_nan=False)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return False, None
    return value is not None, default
