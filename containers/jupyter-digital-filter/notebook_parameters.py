"""A notebook's parameters: what its cells tagged ``parameters`` declare, and the values that replace them.

Papermill writes the values in the notebook's language. This module decides where they go, and refuses
a parameter that would have no effect.
"""

# mypy: disable-error-code="import-untyped,import-not-found,no-untyped-call,misc"

from __future__ import annotations

import ast
import difflib
import json
import re
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TAG, INJECTED_TAG = "parameters", "injected-parameters"

TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "list": (list,),
    "dict": (dict,),
}
"""The declared types that we check, and the Python types that their JSON values may have."""

Declared = dict[str, Optional[str]]
"""Names, each with its type, or None if the type is unknown."""


class ParameterError(Exception):
    """A parameter would have no effect, or has the wrong type. The text says what to write instead."""


def check(notebook: Any, given: Mapping[str, Any], language: str) -> list[str]:
    """Raise ParameterError unless the notebook has each given parameter, with a fitting type.

    Returns notes: about parameters that a later cell sets again, and about what could not be checked.
    """
    cells = _parameter_cells(notebook)
    if given and not cells:
        raise ParameterError(f'unknown parameter {next(iter(given))!r}: the notebook has no cell tagged "{TAG}"')
    each = [_declared(cell.source, language) for cell in cells]
    declared: Declared = {name: kind for found in each for name, kind in (found or {}).items()}
    for name, value in given.items():
        if name in declared:
            _check_type(name, value, declared[name])
        elif None not in each or not _is_named(notebook, name):
            raise ParameterError(_unknown(name, declared))
    return [*_unread(given, each), *_set_again(notebook, given, language)]


def inject(notebook: Any, given: Mapping[str, Any], kernel: str, language: str) -> None:
    """Add a cell with the given values after each cell tagged ``parameters``, in place of earlier ones.

    A later such cell would otherwise set its defaults again. Its added cell only has the names that it
    declares, since the code before it may have changed the others.
    """
    from nbformat.v4 import new_code_cell
    from papermill.translators import translate_parameters

    places, cells = _parameter_cells(notebook), []
    for cell in notebook.cells:
        earlier = INJECTED_TAG in _tags(cell)
        if not earlier:
            cells.append(cell)
        if any(cell is place for place in places):
            names = None if cell is places[0] else _declared(cell.source, language)
            values = {name: value for name, value in given.items() if names is None or name in names}
            added = new_code_cell(source=translate_parameters(kernel, language, values, "Parameters"))
            added.metadata["tags"] = [INJECTED_TAG]
            cells.append(added)
    notebook.cells = cells
    notebook.metadata.papermill["parameters"] = dict(given)


def _tags(cell: Any) -> list[str]:
    return list(cell.metadata.get("tags", []))


def _parameter_cells(notebook: Any) -> list[Any]:
    """The code cells tagged ``parameters``; if there are none, those that papermill added in an earlier run."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    tagged = [cell for cell in code if TAG in _tags(cell)]
    return tagged or [cell for cell in code if INJECTED_TAG in _tags(cell)]


def _check_type(name: str, value: Any, kind: Optional[str]) -> None:
    # In Python, True is also an int; as a parameter that is a mistake.
    if kind and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "bool")):
        raise ParameterError(f"parameter {name!r} must be of type {kind}; it is {json.dumps(value)}")


def _unknown(name: str, declared: Declared) -> str:
    close = difflib.get_close_matches(name, declared, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown parameter {name!r}; {hint}allowed: {', '.join(declared) or 'none'}"


def _is_named(notebook: Any, name: str) -> bool:
    """Whether a code cell has this name as a word."""
    word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
    return any(cell.cell_type == "code" and word.search(cell.source) for cell in notebook.cells)


def _unread(given: Mapping[str, Any], each: list[Optional[Declared]]) -> Iterator[str]:
    if given and None in each:
        yield f'a cell tagged "{TAG}" cannot be read as Python; the types of its parameters are not checked'


def _set_again(notebook: Any, given: Mapping[str, Any], language: str) -> Iterator[str]:
    """A note for each given parameter that a later cell sets to something else."""
    parameter_cells = _parameter_cells(notebook)
    begun = False
    for number, cell in enumerate(notebook.cells, 1):
        is_parameters = any(cell is one for one in parameter_cells)
        begun = begun or is_parameters
        if begun and not is_parameters and cell.cell_type == "code" and INJECTED_TAG not in _tags(cell):
            for name in _declared(cell.source, language) or {}:
                if name in given:
                    yield f"cell {number} sets the parameter {name!r} again; from there on its own value counts"


def _declared(source: str, language: str) -> Optional[Declared]:
    """The names that a cell sets at its top level; None when it cannot be read as Python."""
    if language != "python":
        return None
    try:
        statements = ast.parse(_as_python(source)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    declared: Declared = {}
    for statement in statements:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            annotation = ast.unparse(statement.annotation)
            declared[statement.target.id] = annotation if annotation in TYPES else None
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                declared.update(_assigned(target, statement.value))
    return declared


def _assigned(target: ast.expr, value: ast.expr) -> Declared:
    """The names in the target of an assignment: ``a``, or the ``a`` and ``b`` of ``a, b = 1, 2``."""
    if isinstance(target, ast.Name):
        return {target.id: _literal_type(value)}
    names = (node.id for node in ast.walk(target) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    return dict.fromkeys(names)


def _as_python(source: str) -> str:
    """A cell's source with IPython's own syntax (``!ls``, ``%matplotlib``) as calls.

    A cell magic such as ``%%time`` runs the lines below it, so they count without it.
    """
    from IPython.core.inputtransformer2 import TransformerManager

    lines = source.lstrip().split("\n")
    while lines and lines[0].startswith("%%"):
        lines = "\n".join(lines[1:]).lstrip().split("\n")
    return TransformerManager().transform_cell("\n".join(lines))


def _literal_type(value: ast.expr) -> Optional[str]:
    """The type of a literal default; None if the default is computed, or is None."""
    try:
        name = type(ast.literal_eval(value)).__name__
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return name if name in TYPES else None
