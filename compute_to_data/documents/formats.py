"""The formats a request may come in, told apart by the properties that only one of them has.

Whatever the format, the rest of the house sees our own. A document that could be two formats
is refused by name: nobody should find out afterwards which half of it was meant.

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

    ``name``: its schema's name. ``called``: what messages call it. ``translator``: the module of
    this package whose ``translate(document, beside, roles)`` gives the document in our own format,
    or raises InvalidRequest. ``role_remedy``: how a request in it says which of a resource's roles it
    means. ``resource_remedy``: what to do about the resource, for a format that cannot name one, else ''.
    """

    name: str
    called: str
    translator: str
    role_remedy: str
    resource_remedy: str = ""

    def translate(self, document: Any, beside: GivenBeside, roles: Roles) -> Any:
        """The document in our own format, for :func:`compute_to_data.documents.request.parse`. InvalidRequest.

        The translator is loaded now, not with this module: an agent pays for each import.
        """
        if self.resource_remedy and not beside.resource:
            raise InvalidRequest("resource", "is not named", self.resource_remedy)
        module = importlib.import_module(f"{__package__}.{self.translator}")
        return module.translate(document, beside, roles)

    @property
    def distinctive(self) -> frozenset[str]:
        """The properties that a document of this format may have and one of no other format may."""
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
)


def format_of(document: Any) -> Format:
    """The format whose own properties the document has; ours when it has those of none.

    InvalidRequest when it has those of several.
    """
    present = frozenset(document) if isinstance(document, Mapping) else frozenset()
    found = [(one, sorted(present & one.distinctive)) for one in FORMATS]
    meant = [(one, properties) for one, properties in found if properties]
    if len(meant) > 1:
        mixed = " and ".join(f"{words.quoted(properties[0])} of {one.called}" for one, properties in meant)
        raise InvalidRequest("document", f"could be several formats: it has {mixed}", "Keep to the words of one format")
    return meant[0][0] if meant else OWN


def in_our_own(document: Any, beside: GivenBeside, roles: Roles) -> Any:
    """The document in our own format, whichever it is in; see :meth:`Format.translate`."""
    return format_of(document).translate(document, beside, roles)
