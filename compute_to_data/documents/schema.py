"""A small JSON Schema validator with messages for people.

An iRODS agent has only the standard library, so this product has its own validator. It supports the
part of draft 2020-12 that the files in ``schemas/`` use; loading a schema with any other keyword is
an error. It accepts the same documents as the draft (a test compares the two). Its messages differ:
one problem for each wrong value, the branch of a choice that the author probably meant, and the name
that was probably misspelt.

A schema's ``title`` is the noun phrase after "expected" in a message.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import Any

from compute_to_data.documents import schema_words as words
from compute_to_data.documents.json_text import read_json
from compute_to_data.documents.schema_values import PREDICATES, has_type
from compute_to_data.errors import ConfigurationError

__all__ = ["Problem", "Schema", "first", "load", "problems", "read_json", "summary"]

_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "schemas")
_SHOWN_PROBLEMS = 10
_MAXIMUM_PROBLEMS = 50

Node = Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """A wrong value: its JSON pointer (RFC 6901; '' is the whole document), what was found there, in
    at most 60 characters, and what was expected."""

    pointer: str
    found: str
    expected: str

    @property
    def cause(self) -> str:
        """What is wrong, without the pointer."""
        return f"found {self.found}, expected {self.expected}"

    @property
    def sentence(self) -> str:
        """``/limits/walltime_seconds: found "ten", expected a number above 0``."""
        return f"{self.pointer or 'document'}: {self.cause}"


def summary(found: Sequence[Problem]) -> tuple[str, str]:
    """Subject and cause for one error about all ``found`` problems. It lists at most ten."""
    causes = [found[0].cause, *(problem.sentence for problem in found[1:_SHOWN_PROBLEMS])]
    if len(found) > _SHOWN_PROBLEMS:
        causes.append("and more")
    return found[0].pointer or "document", "; ".join(causes)


def problems(document: Any, schema: str | Schema) -> list[Problem]:
    """The problems of ``document`` under ``schema``, in the schema's order; [] when it is valid.

    ``schema`` is a :class:`Schema`, or the name of a file in ``schemas/`` without ``.json``.
    """
    chosen = load(schema) if isinstance(schema, str) else schema
    return first(chosen.problems(document))


def first(found: Iterator[Problem]) -> list[Problem]:
    """The first 50 problems. A message lists ten, and a hostile document could have very many."""
    return list(islice(found, _MAXIMUM_PROBLEMS))


@cache
def load(name: str) -> Schema:
    """The schema in ``schemas/<name>.json``. A process reads and checks it once."""
    with open(os.path.join(_FOLDER, name + ".json"), "rb") as file:
        return Schema(read_json(file.read(), f"schema {name}", ConfigurationError), name)


class Schema:
    """A checked schema. ConfigurationError for a keyword that this validator does not support."""

    def __init__(self, document: Node, name: str = "") -> None:
        self._document = document
        self._name = name
        self._check(document, "#")

    @property
    def property_names(self) -> frozenset[str]:
        """The properties that the top level of this schema lists."""
        return frozenset(self._document.get("properties", ()))

    def problems(self, document: Any) -> Iterator[Problem]:
        """The problems of a document under this schema."""
        return self._apply(self._document, document, "")

    # Loading

    def _check(self, node: Any, place: str) -> None:
        if not isinstance(node, dict):
            raise ConfigurationError(f"schema {self._name}{place}", "is not a schema object")
        for keyword, argument in node.items():
            if keyword not in _KEYWORDS:
                raise ConfigurationError(
                    f"schema {self._name}{place}", f"uses {words.quoted(keyword)}, which this validator does not know"
                )
            if keyword == "pattern":
                re.compile(argument)
            elif keyword == "$ref":
                self._resolve(argument, place)
        for keyword, part in _subschemas(node):
            self._check(part, f"{place}/{keyword}")

    def _resolve(self, reference: str, place: str = "") -> tuple[Schema, Node]:
        """The schema that ``#/$defs/name``, ``file.json`` or ``file.json#/$defs/name`` names."""
        file, _, pointer = reference.partition("#")
        owner = load(file[: -len(".json")]) if file else self
        node: Any = owner._document
        for key in pointer.split("/")[1:]:
            if key not in node:
                subject = f"schema {self._name}{place}"
                raise ConfigurationError(subject, f"refers to {reference}, which is not there")
            node = node[key]
        return owner, node

    # Validating

    def _apply(self, node: Node, value: Any, pointer: str) -> Iterator[Problem]:
        if not self._holds(node, value):
            broken = [name for name in node if name in PREDICATES and not PREDICATES[name](node[name], value)]
            yield Problem(pointer, words.shown(value), words.with_bound(self.expectation(node), node, broken))
            return
        for keyword in node:
            if keyword in _APPLICATORS:
                yield from _APPLICATORS[keyword](self, node, value, pointer)

    def _holds(self, node: Node, value: Any) -> bool:
        return all(PREDICATES[keyword](argument, value) for keyword, argument in node.items() if keyword in PREDICATES)

    def expectation(self, node: Node) -> str:
        """What ``node`` expects, as a noun phrase."""
        if "title" in node:
            return str(node["title"])
        if "$ref" in node:
            owner, target = self._resolve(node["$ref"])
            return owner.expectation(target)
        branches = node.get("oneOf") or node.get("anyOf")
        if branches and "type" not in node:
            return words.alternatives([self.expectation(branch) for branch in branches])
        return words.noun_phrase(node)

    def _accepts_type(self, node: Node, value: Any) -> bool:
        if "$ref" in node:
            owner, target = self._resolve(node["$ref"])
            return owner._accepts_type(target, value)
        return "type" not in node or has_type(node["type"], value)

    def _reference(self, node: Node, value: Any, pointer: str) -> Iterator[Problem]:
        owner, target = self._resolve(node["$ref"])
        return owner._apply(target, value, pointer)

    def _properties(self, node: Node, value: Any, pointer: str) -> Iterator[Problem]:
        if isinstance(value, dict):
            for name, subschema in node["properties"].items():
                if name in value:
                    yield from self._apply(subschema, value[name], words.below(pointer, name))

    def _required(self, node: Node, value: Any, pointer: str) -> Iterator[Problem]:
        if isinstance(value, dict):
            yield from self._missing(node, node["required"], value, pointer)

    def _dependent(self, node: Node, value: Any, pointer: str) -> Iterator[Problem]:
        if isinstance(value, dict):
            for name, needed in node["dependentRequired"].items():
                if name in value:
                    yield from self._missing(node, needed, value, pointer)

    def _missing(self, node: Node, names: Sequence[str], value: Node, pointer: str) -> Iterator[Problem]:
        for name in names:
            if name not in value:
                subschema = node.get("properties", {}).get(name)
                expected = self.expectation(subschema) if subschema else f'a property "{name}"'
                yield Problem(words.below(pointer, name), "nothing", expected)

    def _additional(self, node: Node, value: Any, pointer: str) -> Iterator[Problem]:
        subschema = node["additionalProperties"]
        if not isinstance(value, dict) or subschema is True:
            return
        known = node.get("properties", {})
        others = [name for name in value if name not in known]
        if subschema is not False:
            for name in others:
                yield from self._apply(subschema, value[name], words.below(pointer, name))
            return
        for name in others[:_MAXIMUM_PROBLEMS]:
            found = f"an unknown property {words.quoted(name, 40)}"
            yield Problem(words.below(pointer, name), found, words.one_of(known, meant=name))

    def _names(self, node: Node, value: Any, pointer: str) -> Iterator[Problem]:
        if isinstance(value, dict):
            for name in value:
                yield from self._apply(node["propertyNames"], name, words.below(pointer, name))

    def _items(self, node: Node, value: Any, pointer: str) -> Iterator[Problem]:
        if isinstance(value, list):
            for index in range(len(node.get("prefixItems", ())), len(value)):
                yield from self._apply(node["items"], value[index], f"{pointer}/{index}")

    def _prefix(self, node: Node, value: Any, pointer: str) -> Iterator[Problem]:
        if isinstance(value, list):
            for index, (subschema, item) in enumerate(zip(node["prefixItems"], value)):
                yield from self._apply(subschema, item, f"{pointer}/{index}")

    def _not(self, node: Node, value: Any, pointer: str) -> Iterator[Problem]:
        if next(self._apply(node["not"], value, pointer), None) is None:
            yield Problem(pointer, words.shown(value), f"anything but {self.expectation(node['not'])}")

    def _all_of(self, node: Node, value: Any, pointer: str) -> Iterator[Problem]:
        for branch in node["allOf"]:
            yield from self._apply(branch, value, pointer)

    def _any_of(self, node: Node, value: Any, pointer: str) -> Iterator[Problem]:
        outcomes: list[list[Problem]] = []
        for branch in node["anyOf"]:
            outcomes.append(list(self._apply(branch, value, pointer)))
            if not outcomes[-1]:
                return
        yield from self._likeliest(node, node["anyOf"], outcomes, value, pointer)

    def _one_of(self, node: Node, value: Any, pointer: str) -> Iterator[Problem]:
        outcomes = [list(self._apply(branch, value, pointer)) for branch in node["oneOf"]]
        fitting = [branch for branch, outcome in zip(node["oneOf"], outcomes) if not outcome]
        if not fitting:
            yield from self._likeliest(node, node["oneOf"], outcomes, value, pointer)
        elif len(fitting) > 1:
            meanings = "; ".join(self.expectation(branch) for branch in fitting)
            yield Problem(pointer, words.shown(value), f"only one of these: {meanings}")

    def _likeliest(
        self, node: Node, branches: Sequence[Node], outcomes: Sequence[list[Problem]], value: Any, pointer: str
    ) -> list[Problem]:
        """The problems to report when no branch fits.

        These are the problems of the branch that the author probably meant: it has the right type, the constants
        that the value names, and the fewest problems, and among equals the deepest ones. For a value that is wrong
        in every branch, the problem names what each branch expects. When no branch has the right type, or no
        branch has a type, the only problem is about the choice as a whole.
        """
        fitting = [(one, outcome) for one, outcome in zip(branches, outcomes) if self._accepts_type(one, value)]
        named = [outcome for branch, outcome in fitting if _has_constants(branch, value)]
        possible = named or [outcome for _, outcome in fitting]
        if not possible or not any("type" in branch or "$ref" in branch for branch in branches):
            return [Problem(pointer, words.shown(value), self.expectation(node))]
        best = min(possible, key=lambda outcome: (len(outcome), -max(p.pointer.count("/") for p in outcome)))
        return [_for_every_branch(problem, possible) for problem in best]


def _has_constants(branch: Node, value: Any) -> bool:
    """Whether a value has constants of a branch, as its kind, and contradicts none."""
    if not isinstance(value, Mapping):
        return False
    parts = branch.get("properties", {}).items()
    agreeing = [value[name] == part["const"] for name, part in parts if name in value and "const" in part]
    return bool(agreeing) and all(agreeing)


def _for_every_branch(problem: Problem, outcomes: Sequence[list[Problem]]) -> Problem:
    """The problem; if every branch has it with the same value, with the expectations of all branches."""
    place = (problem.pointer, problem.found)
    same = [other.expected for outcome in outcomes for other in outcome if (other.pointer, other.found) == place]
    return replace(problem, expected=words.alternatives(same)) if len(same) == len(outcomes) else problem


def _subschemas(node: Node) -> Iterator[tuple[str, Any]]:
    """The schemas inside a schema, each with its place."""
    for keyword in ("items", "not", "propertyNames", "additionalProperties"):
        if keyword in node and not isinstance(node[keyword], bool):
            yield keyword, node[keyword]
    for keyword in ("oneOf", "anyOf", "allOf", "prefixItems"):
        for index, part in enumerate(node.get(keyword, ())):
            yield f"{keyword}/{index}", part
    for keyword in ("properties", "$defs"):
        for name, part in node.get(keyword, {}).items():
            yield f"{keyword}/{name}", part


_APPLICATORS: Mapping[str, Callable[[Schema, Node, Any, str], Iterator[Problem]]] = {
    "$ref": Schema._reference,
    "required": Schema._required,
    "properties": Schema._properties,
    "additionalProperties": Schema._additional,
    "propertyNames": Schema._names,
    "dependentRequired": Schema._dependent,
    "prefixItems": Schema._prefix,
    "items": Schema._items,
    "allOf": Schema._all_of,
    "anyOf": Schema._any_of,
    "oneOf": Schema._one_of,
    "not": Schema._not,
}

_KEYWORDS = {
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "title",
    "description",
    "default",
    "examples",
    *PREDICATES,
    *_APPLICATORS,
}
