"""The program that calls a Python function in the container. It is sent as text, for ``python3 -c``.

It needs Python 3.7 and its standard library. It reads the function's source and its arguments
from ``/inputs/call.json`` and writes what the function returned to ``/outputs/result.json``. When
the function raises, it ends as any Python program does: traceback on standard error, status 1.
"""

from __future__ import annotations
import __future__

import json
import linecache
import sys
import traceback
from typing import Any

CALL = "/inputs/call.json"
RESULT = "/outputs/result.json"
_MOST_BITS = 14_284
"""Python writes no number of more than 4300 digits as a text."""


def problem(value: Any, place: str) -> str:
    """Why a value would come back from JSON changed; '' when it would not.

    It accepts exact types only. A derived type (an enum, a NumPy number) would come back as its base
    type, and a tuple as a list.
    """
    kind = type(value)
    if value is None or kind is bool:
        return ""
    if kind is int:
        return "" if value.bit_length() < _MOST_BITS else f"{place} is a number of more than 4300 digits"
    if kind is float:
        return "" if value - value == 0 else f"{place} is {value}, and JSON has finite numbers only"
    if kind is str:
        half = any("\ud800" <= character <= "\udfff" for character in value)
        return f"{place} holds half a surrogate pair, which UTF-8 cannot encode" if half else ""
    if kind is list:
        found = (problem(one, f"{place}[{index}]") for index, one in enumerate(value))
        return next(filter(None, found), "")
    if kind is dict:
        return next(filter(None, (_member(key, one, place) for key, one in value.items())), "")
    expected = "None, True, False, int, float, str, list or dict"
    return f"{place} is of type {kind.__module__}.{kind.__qualname__}, and it can be {expected}"


def _member(key: Any, value: Any, place: str) -> str:
    if type(key) is not str:
        return f"{place} has the key {key!r:.60}, and a dict's keys must be str"
    return problem(key, f"a key of {place}") or problem(value, f"{place}[{key!r:.60}]")


def main() -> None:
    """Call the function."""
    with open(CALL, encoding="utf-8") as file:
        call = json.load(file)
    name, source = call["function"], call["source"]
    shown_as = f"<function {name}>"
    linecache.cache[shown_as] = (
        len(source),
        None,
        [f"{line}\n" for line in source.split("\n")],
        shown_as,
    )  # for tracebacks
    # Annotations stay text: the names in them do not exist here, and nothing evaluates them.
    code = compile(source, shown_as, "exec", __future__.annotations.compiler_flag, dont_inherit=True)
    namespace: dict[str, Any] = {"__name__": "__task__"}
    exec(code, namespace)
    function = namespace[name]
    try:
        result = function(*call["args"], **call["kwargs"])
    except Exception:  # noqa: BLE001 - printed in full; Python's own traceback would lack the function's lines
        kind, error, trace = sys.exc_info()
        traceback.print_exception(kind, error, trace.tb_next if trace else None)
        if kind is not None and len(str(error).splitlines()) > 1:  # the last line alone would be the task's reason
            print(f"{kind.__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    said = problem(result, "the result")
    if said:
        raise TypeError(said)
    with open(RESULT, "w", encoding="utf-8") as file:
        json.dump({"result": result}, file, ensure_ascii=False)


if __name__ == "__main__":
    main()
