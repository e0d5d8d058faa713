"""Our own task format: only the values that come beside a request need translation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compute_to_data.documents import schema_words as words
from compute_to_data.documents.given_beside import GivenBeside
from compute_to_data.errors import InvalidRequest


def translate(document: Any, beside: GivenBeside, roles: Mapping[str, Mapping[str, Any]]) -> Any:
    """The document, with the values of ``beside`` in place of its own.

    Returns a document that is not an object unchanged:
    :func:`compute_to_data.documents.request.parse` refuses it. InvalidRequest for an image beside a
    document that has no place for one.
    """
    if not isinstance(document, Mapping):
        return document
    given = {"resource": beside.resource, "output_collection": beside.output_collection}
    return with_image({**document, **{name: value for name, value in given.items() if value}}, beside.image)


def notes(document: Mapping[str, Any]) -> tuple[str, ...]:
    """An application beside another image, which is the one that runs."""
    process = document.get("process", {})
    image, application = process.get("image"), process.get("application")
    if not image or application in (None, image):
        return ()
    return (f"application {words.quoted(application)} has no effect: the process names the image {image}",)


def with_image(document: dict[str, Any], image: str) -> dict[str, Any]:
    """A document in our own format with another image in its process or notebook; '' changes nothing."""
    if not image:
        return document
    for part in ("process", "notebook"):
        if isinstance(document.get(part), Mapping):
            return {**document, part: {**document[part], "image": image}}
    raise InvalidRequest(
        f"image {words.quoted(image)}",
        "was given beside a request that has neither a process nor a notebook",
        'Add "notebook": {} to run the role\'s own notebook in this image',
    )
