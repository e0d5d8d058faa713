"""The formats of a request. Properties that only one format has tell them apart.

The rest of the code sees only our own format. A document with the properties of two formats is
refused, since part of it would be ignored otherwise.

To add a format, write its schema and a module with its ``translate``, both of the same name, and
add a row to :data:`FORMATS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compute_to_data.documents import schema
from compute_to_data.documents import schema_words as words
from compute_to_data.documents.given_beside import GivenBeside
from compute_to_data.errors import InvalidRequest

Roles = Mapping[str, Mapping[str, Any]]
"""The site's roles with their settings, by name."""


@dataclass(frozen=True)
class Format:
    """One way to write a request.

    ``name``: the name of its schema. ``called``: its name in messages. ``translator``: the module of
    this package whose ``translate(document, beside, roles)`` returns the document in our own format,
    or raises InvalidRequest, and whose ``notes(document)`` says what of it has no effect.
    ``role_remedy``: how to say in this format which of a resource's roles is meant.
    ``resource_remedy``: how to name the resource if this format cannot, else ''.
    """

    name: str
    called: str
    translator: str
    role_remedy: str
    resource_remedy: str = ""

    def translate(self, document: Any, beside: GivenBeside, roles: Roles) -> Any:
        """The document in our own format, for :func:`compute_to_data.documents.request.parse`. InvalidRequest.

        Imports the translator only now, because imports cost an agent time.
        """
        if self.resource_remedy and not beside.resource:
            raise InvalidRequest("resource", "is not named", self.resource_remedy)
        module = importlib.import_module(f"{__package__}.{self.translator}")
        return module.translate(document, beside, roles)

    def notes(self, document: Any) -> tuple[str, ...]:
        """What has no effect, or another effect than its author may expect, in a document that
        :meth:`translate` accepted."""
        notes: tuple[str, ...] = importlib.import_module(f"{__package__}.{self.translator}").notes(document)
        return notes

    @property
    def distinctive(self) -> frozenset[str]:
        """The properties that documents of this format may have, and documents of other formats may not."""
        others = [schema.load(other.name).property_names for other in FORMATS if other is not self]
        return schema.load(self.name).property_names.difference(*others)


OWN = Format(
    name="task",
    called="our own format",
    translator="own_format",
    role_remedy='Name one of them: "role" in the request, --role of c2d run and c2d workload start',
)

FORMATS = (
    OWN,
    Format(
        name="training_format",
        called="the 2019 training module's",
        translator="training_format",
        role_remedy="The training module's format has no place for a role. Name a resource that bears only one of "
        'them, or write the request in our own format (docs/task-format.md), with one of them as its "role"',
        resource_remedy="The training module's format has no place for one: name it beside the request",
    ),
    Format(
        name="kotta_format",
        called="Kotta's job description",
        translator="kotta_format",
        role_remedy='Name one of them as "queue", and give the resource beside the job description',
    ),
    Format(
        name="process",
        called="a process definition",
        translator="process_format",
        role_remedy='Write the request in our own format (docs/task-format.md), with one of them as its "role" and '
        'the definition as its "process"',
    ),
)


def format_of(document: Any) -> Format:
    """The format that has the document's distinctive properties; ours when it has none of any format.

    InvalidRequest when the document has distinctive properties of several formats.
    """
    present = frozenset(document) if isinstance(document, Mapping) else frozenset()
    matches = [(known, sorted(present & known.distinctive)) for known in FORMATS]
    candidates = [(known, properties) for known, properties in matches if properties]
    if len(candidates) > 1:
        mixed = " and ".join(f"{words.quoted(properties[0])} of {known.called}" for known, properties in candidates)
        raise InvalidRequest("document", f"mixes several formats: it has {mixed}", "Use the properties of one format")
    return candidates[0][0] if candidates else OWN


def in_our_own(document: Any, beside: GivenBeside, roles: Roles) -> Any:
    """A document of any format, translated into our own; see :meth:`Format.translate`."""
    return format_of(document).translate(document, beside, roles)
