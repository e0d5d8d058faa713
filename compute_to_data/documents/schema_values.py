"""The JSON Schema keywords that concern a single value: types, bounds, patterns.

Values are compared as JSON does it, not as Python does: ``1`` equals ``1.0``, but not ``true``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def has_type(names: str | Sequence[str], value: Any) -> bool:
    """Whether ``value`` has the named JSON type, or one of the named types."""
    if not isinstance(names, str):
        return any(has_type(name, value) for name in names)
    return _TYPES[names](value)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "number": _is_number,
    "integer": lambda value: _is_number(value) and value == int(value),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def identity(value: Any) -> Any:
    """A hashable value that is the same for all values that JSON Schema considers equal."""
    if isinstance(value, dict):
        return "object", frozenset((name, identity(part)) for name, part in value.items())
    if isinstance(value, list):
        return "array", tuple(identity(part) for part in value)
    return "number" if _is_number(value) else type(value).__name__, value


def _for(kind: str | Sequence[str], holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """A predicate that accepts values of other types than ``kind``."""
    return lambda argument, value: not has_type(kind, value) or holds(argument, value)


PREDICATES: Mapping[str, Callable[[Any, Any], bool]] = {
    "type": has_type,
    "const": lambda argument, value: identity(argument) == identity(value),
    "enum": lambda argument, value: identity(value) in [identity(choice) for choice in argument],
    "pattern": _for("string", lambda argument, value: re.search(argument, value) is not None),
    "minLength": _for("string", lambda argument, value: len(value) >= argument),
    "maxLength": _for("string", lambda argument, value: len(value) <= argument),
    "minimum": _for("number", lambda argument, value: value >= argument),
    "maximum": _for("number", lambda argument, value: value <= argument),
    "exclusiveMinimum": _for("number", lambda argument, value: value > argument),
    "minItems": _for("array", lambda argument, value: len(value) >= argument),
    "maxItems": _for("array", lambda argument, value: len(value) <= argument),
    "uniqueItems": _for(
        "array", lambda argument, value: not argument or len({identity(item) for item in value}) == len(value)
    ),
    "minProperties": _for("object", lambda argument, value: len(value) >= argument),
    "maxProperties": _for("object", lambda argument, value: len(value) <= argument),
}
"""For each keyword a function of its argument and a value: whether the value conforms."""
