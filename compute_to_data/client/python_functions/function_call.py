"""A Python function and its arguments as one JSON document that another Python can run.

It does not use pickle, because reading a pickle can run any code. The function travels as its
source text, so it must contain everything it needs. An error names what it uses from outside.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import dis
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType
from typing import Any

from compute_to_data.client.python_functions import function_runner
from compute_to_data.errors import InvalidRequest

_BLOCK = "if True:\n"
"""Stands before an indented function. Without its indentation, the texts of several lines in it would change."""
_KINDS = (
    (inspect.iscoroutinefunction, "a coroutine"),
    (inspect.isasyncgenfunction, "an asynchronous generator"),
    (inspect.isgeneratorfunction, "a generator"),
)


def source_of(function: Callable[..., Any]) -> str:
    """The function's source text, from its ``def`` on. InvalidRequest when it cannot run elsewhere."""
    name = getattr(function, "__qualname__", repr(function))
    if not inspect.isfunction(function) or function.__name__ == "<lambda>":
        raise _refused(name, "is not a function made with `def`", "Write a function that calls it")
    if hasattr(function, "__wrapped__"):
        remedy = "Put the other decorator above this one, or its work into the function"
        raise _refused(name, "is wrapped by another decorator", remedy)
    for is_kind, kind in _KINDS:
        if is_kind(function):
            raise _refused(name, f"is {kind}, and a task ends with one result", "Return a list")
    around = function.__code__.co_freevars
    if around:
        raise _refused(name, f"uses {', '.join(around)} from the enclosing function", "Make it an argument")
    _need_no_method(name, function)
    try:
        text = inspect.getsource(function)
        is_indented = text[:1] in (" ", "\t")
        node = _first(f"{_BLOCK}{text}" if is_indented else text)
    except (OSError, TypeError, SyntaxError, IndexError):
        cause = "has no source that can be read, perhaps because it was typed at a prompt"
        raise _refused(name, cause, "Write it to a file") from None
    if not isinstance(node, ast.FunctionDef):
        raise _refused(name, "is not a function made with `def`")
    above = 1 if is_indented else 0  # lines that are not in the text
    lines = text.split("\n")[node.lineno - 1 - above : (node.end_lineno or 0) - above]
    source = (_BLOCK if is_indented else "") + "\n".join(lines) + "\n"
    _check_defaults(name, node.args)
    _check_names(name, source, function.__name__)
    return source


def _need_no_method(name: str, function: Callable[..., Any]) -> None:
    """InvalidRequest for a method: a call would not know its object."""
    outer = name.rpartition(".")[0]
    first = next(iter(inspect.signature(function).parameters), "")
    if outer and not outer.endswith("<locals>") and first in ("self", "cls"):
        remedy = "Write a function, and give it what it needs as arguments"
        raise _refused(name, f"is a method, and {first} does not travel", remedy)


def _first(text: str) -> ast.stmt:
    """The first statement of a text; inside :data:`_BLOCK`, if the text begins with it."""
    found = ast.parse(text).body[0]
    return found.body[0] if isinstance(found, ast.If) else found


def _refused(name: str, cause: str, remedy: str = "") -> InvalidRequest:
    return InvalidRequest(f"function {name}", cause, remedy)


def _check_defaults(name: str, arguments: ast.arguments) -> None:
    """InvalidRequest for a default that is not a literal. The container evaluates the defaults again,
    where the names of this module do not exist."""
    positional = [*arguments.posonlyargs, *arguments.args]
    last = positional[len(positional) - len(arguments.defaults) :]
    for parameter, default in (*zip(last, arguments.defaults), *zip(arguments.kwonlyargs, arguments.kw_defaults)):
        try:
            ast.literal_eval(default or ast.Constant(None))
        except (ValueError, TypeError):
            remedy = "Use None as the default, and set the value inside the function"
            raise _refused(name, f"has a default for {parameter.arg} that is not a literal", remedy) from None


def _check_names(name: str, source: str, own: str) -> None:
    code = compile(source, name, "exec", __future__.annotations.compiler_flag, dont_inherit=True)
    inside = [one for one in code.co_consts if isinstance(one, CodeType)]
    used = dict.fromkeys(found for one in inside for found in _taken_from_outside(one))
    outside = [one for one in used if one != own and not hasattr(builtins, one)]
    if outside:
        cause = f"uses {', '.join(outside)}, defined outside the function, and only the function itself is sent"
        raise _refused(name, cause, "Import or define it inside the function, or make it an argument")


def _taken_from_outside(code: CodeType) -> Iterator[str]:
    instructions = list(dis.get_instructions(code))
    own = {one.argval for one in instructions if one.opname == "STORE_NAME"}  # of a class's body
    for one in instructions:
        by_name = one.opname == "LOAD_NAME" and one.argval not in own
        if by_name or (one.opname.startswith("LOAD_") and one.opname.endswith("GLOBAL")):
            yield one.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _taken_from_outside(constant)


def written(function: Callable[..., Any], source: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """The content of ``call.json``. TypeError for arguments that do not fit the function, as calling
    it would raise. InvalidRequest names an argument that JSON cannot carry."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{function.__qualname__}(): {error}") from None
    for place, value in bound.arguments.items():
        is_rest = bound.signature.parameters[place].kind is inspect.Parameter.VAR_POSITIONAL
        try:
            said = function_runner.problem(list(value) if is_rest else value, place)
        except RecursionError:
            said = f"{place} is nested too deep, or contains itself"
        if said:
            raise _refused(
                function.__qualname__, f"argument {said}", "Store large data in the zone and give it as inputs"
            )
    call = {
        "version": 1,
        "function": function.__name__,
        "source": source,
        "args": list(bound.args),
        "kwargs": bound.kwargs,
    }
    return json.dumps(call, indent=1, ensure_ascii=False, sort_keys=True).encode()


def runner() -> str:
    """The program that runs a ``call.json``."""
    return inspect.getsource(function_runner)
