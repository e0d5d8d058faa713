"""The formats a request may come in, told apart by the properties that only one of them has.

Whatever the format, the rest of the house sees our own. A document that could be two formats
is refused by name: nobody should find out afterwards which half of it was meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compute_to_data.documents import kotta_format, schema, training_format
from compute_to_data.documents import schema_words as words
from compute_to_data.errors import InvalidRequest

OWN, TRAINING, KOTTA = "task", "training_format", "kotta_format"
"""Named as their schemas are."""

_CALLED = {OWN: "our own format", TRAINING: "the 2019 training module's", KOTTA: "Kotta's job description"}

ROLE_REMEDIES = {
    OWN: 'Name one of them: "role" in the request, --role of c2d run and c2d workload start',
    TRAINING: "The training module's format has no place for a role. Name a resource that bears only one of them, "
    'or write the request in our own format (docs/task-format.md), with one of them as its "role"',
    KOTTA: 'Name one of them as "queue", and give the resource beside the job description',
}
"""By format: how a request in it says which of a resource's roles it means."""


def format_of(document: Any) -> str:
    """OWN, TRAINING or KOTTA: the one whose properties the document has; OWN when it has none.

    InvalidRequest when it has those of several.
    """
    present = frozenset(document) if isinstance(document, Mapping) else frozenset()
    found = {name: sorted(present & _distinctive(name)) for name in _CALLED}
    meant = [name for name, properties in found.items() if properties]
    if len(meant) > 1:
        mixed = " and ".join(f"{words.quoted(found[name][0])} of {_CALLED[name]}" for name in meant)
        raise InvalidRequest("document", f"could be several formats: it has {mixed}", "Keep to the words of one format")
    return meant[0] if meant else OWN


def _distinctive(name: str) -> frozenset[str]:
    others = [schema.load(other).property_names for other in _CALLED if other != name]
    return schema.load(name).property_names.difference(*others)


def in_our_own(
    document: Any,
    *,
    resource: str = "",
    output_collection: str = "",
    image: str = "",
    roles: Mapping[str, Mapping[str, Any]],
) -> Any:
    """The document in our own format, for :func:`compute_to_data.documents.request.parse`.

    What is given beside it stands above what it says. ``roles``: the site's, with their settings.
    """
    found = format_of(document)
    if found == KOTTA:
        return kotta_format.translate(
            document, resource=resource, output_collection=output_collection, image=image, roles=roles
        )
    if found == TRAINING:
        if not resource:
            remedy = "The training module's format has no place for one: name it beside the request"
            raise InvalidRequest("resource", "is not named", remedy)
        return _with_image(training_format.translate(document, resource, output_collection), image)
    if not isinstance(document, Mapping):
        return document
    overriding = {"resource": resource, "output_collection": output_collection}
    return _with_image({**document, **{key: value for key, value in overriding.items() if value}}, image)


def _with_image(document: dict[str, Any], image: str) -> dict[str, Any]:
    """The request with another image, in the part of it that has one."""
    if not image:
        return document
    for part in ("process", "notebook"):
        if isinstance(document.get(part), Mapping):
            return {**document, part: {**document[part], "image": image}}
    raise InvalidRequest(
        f"image {words.quoted(image)}",
        "was given beside a request that has no process and no notebook whose image it could be",
        "Add a notebook: {} stands for the role's own",
    )
