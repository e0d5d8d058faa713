"""A form made from the JSON Schema of parameters, and the values that come back with it.

The form helps; what decides is the check of the values when the task is submitted. Whatever of a schema has no field of
its own (``anyOf``, arrays, objects) is written as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from compute_to_data.documents.json_text import read_json
from compute_to_data.errors import InvalidRequest
from compute_to_data.gateway.pages.forms import Form

PREFIX = "p."
"""Begins the names of the fields, so that no parameter can stand for anything else of the form."""
_MOST_FIELDS = 300
_LONG = 80


@dataclass(frozen=True)
class Field:
    """A field for one parameter. ``kind``: ``text``, ``long``, ``number``, ``check``, ``choice`` or ``json``.
    ``value``: what the field shows; ``choices``: pairs of a value as JSON, and how it is shown."""

    name: str
    kind: str
    value: str = ""
    description: str = ""
    is_required: bool = False
    is_checked: bool = False
    choices: tuple[tuple[str, str], ...] = ()
    step: str = ""
    least: str = ""
    most: str = ""


def fields(schema: Mapping[str, Any], sent: Form | None = None) -> list[Field]:
    """The fields for a schema; filled with what was sent before, or with the defaults."""
    return list(_fields(schema, sent.beginning(PREFIX) if sent is not None else None))


def values(schema: Mapping[str, Any], sent: Form) -> dict[str, Any]:
    """The parameters that a form brings. A field that is left empty brings none. InvalidRequest for what is no JSON
    where it must be."""
    given = sent.beginning(PREFIX)
    found: dict[str, Any] = {}
    for one in _fields(schema, None):
        if one.kind == "check":
            found[one.name] = one.name in given
            continue
        text = given.get(one.name, "")
        # An empty text is a value where it takes the place of another one.
        if text or (one.kind in ("text", "long") and one.name in given and one.value):
            found[one.name] = _value(one, text)
    return found


def _value(field: Field, text: str) -> Any:
    if field.kind in ("text", "long"):
        return text
    try:
        return read_json(text.encode("utf-8", "surrogatepass"), f"parameter {field.name}")
    except InvalidRequest:
        if field.kind == "number":
            return text  # the check says what is expected
        raise


def _fields(schema: Mapping[str, Any], sent: Mapping[str, str] | None) -> Iterator[Field]:
    properties = schema.get("properties", {})
    required = schema.get("required", ())
    for name in list(properties if isinstance(properties, dict) else {})[:_MOST_FIELDS]:
        part = properties[name] if isinstance(properties[name], dict) else {}
        yield _field(name, part, isinstance(required, list) and name in required, sent)


def _field(name: str, part: Mapping[str, Any], is_required: bool, sent: Mapping[str, str] | None) -> Field:
    kind = _kind(part)
    has_default = "default" in part
    shown = ""
    if sent is not None:
        shown = sent.get(name, "")
    elif has_default:
        default = part["default"]
        shown = default if isinstance(default, str) and kind in ("text", "long") else _json(default)
    is_checked = kind == "check" and (name in sent if sent is not None else part.get("default") is True)
    words = [str(part[key]) for key in ("title", "description") if isinstance(part.get(key), str)]
    return Field(
        name,
        kind,
        shown,
        ". ".join(words),
        is_required and not has_default,
        is_checked,
        _choices(part) if kind == "choice" else (),
        "1" if part.get("type") == "integer" else "any",
        _number(part.get("minimum")),
        _number(part.get("maximum")),
    )


def _kind(part: Mapping[str, Any]) -> str:
    if isinstance(part.get("enum"), list) and part["enum"]:
        return "choice"
    kind = part.get("type")
    if kind == "boolean":
        return "check"
    if kind in ("integer", "number"):
        return "number"
    if kind == "string":
        default = part.get("default")
        return "long" if isinstance(default, str) and (len(default) > _LONG or "\n" in default) else "text"
    return "json"


def _choices(part: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((_json(one), one if isinstance(one, str) else _json(one)) for one in part["enum"])


def _number(value: Any) -> str:
    return _json(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
