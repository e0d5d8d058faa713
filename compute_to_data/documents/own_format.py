"""Our own task format: nothing to translate but what is given beside a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compute_to_data.documents import schema_words as words
from compute_to_data.documents.given_beside import GivenBeside
from compute_to_data.errors import InvalidRequest


def translate(document: Any, beside: GivenBeside, roles: Mapping[str, Mapping[str, Any]]) -> Any:
    """The document with what is given beside it in place of what it says.

    What is no object stays as it is: :func:`compute_to_data.documents.request.parse` refuses it.
    InvalidRequest for an image beside a document that has no place for one.
    """
    if not isinstance(document, Mapping):
        return document
    given = {"resource": beside.resource, "output_collection": beside.output_collection}
    return with_image({**document, **{name: value for name, value in given.items() if value}}, beside.image)


def with_image(document: dict[str, Any], image: str) -> dict[str, Any]:
    """A document in our own format with another image, in the part of it that has one; '' changes nothing."""
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
