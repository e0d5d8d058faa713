"""The stage of a submission that puts stored process definitions, and the site's applications, into a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compute_to_data.configuration import Attributes, Configuration
from compute_to_data.documents import process_definition
from compute_to_data.errors import ComputeToDataError, InvalidRequest
from compute_to_data.ports.zone import Catalog
from compute_to_data.records import definition

PIN = "definition"
"""The property of a recorded task that says which stored definition ran."""


@dataclass(frozen=True)
class Filled:
    """A request in which ``process`` is a document. ``notes``: what has no effect."""

    document: Any
    notes: tuple[str, ...] = ()


def filled_in(catalog: Catalog, attributes: Attributes, document: Any) -> Filled:
    """Replace the name or the logical path of a stored definition by the definition, and note which one it is.

    The user's own session reads it. A request that repeats a task has the definition that ran; it keeps its origin if
    the stored one is still the same. NotFound, InvalidRequest, Refused.
    """
    if not isinstance(document, Mapping):
        return Filled(document)
    given = document.get("process")
    if isinstance(given, str):
        if PIN in document:
            raise InvalidRequest(
                f"/{PIN}", "found beside the name of a process", "Leave it out: the submission adds it"
            )
        found = definition.read(catalog, attributes, definition.find(catalog, attributes, given))
        return Filled({**_with(document, found.document), PIN: vars(found.stored)})
    if PIN in document:
        return _verified(catalog, attributes, document)
    return Filled(document)


def _with(document: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The request with what a definition runs: its process, or its notebook with the request's values."""
    if not process_definition.runs_notebook(stored):
        return {**document, "process": stored}
    if "notebook" in document:
        raise InvalidRequest("/notebook", "found beside a process definition that runs a notebook", "Leave it out")
    rest = {name: value for name, value in document.items() if name not in ("process", "parameters")}
    notebook = dict(stored["notebook"])
    if "parameters" in document:
        notebook["parameters"] = document["parameters"]
    if "parameters" in stored:
        notebook["schema"] = stored["parameters"]
    return {**rest, "notebook": notebook}


def _verified(catalog: Catalog, attributes: Attributes, document: Mapping[str, Any]) -> Filled:
    """The document, without its pin unless the stored definition is still the one in the document."""
    pin = document[PIN]
    path = pin.get("data_object") if isinstance(pin, Mapping) else None
    if not isinstance(path, str):
        return Filled(document)  # the schema says what is wrong
    try:
        found = definition.read(catalog, attributes, path)
        if vars(found.stored) == dict(pin) and _same(found.document, document):
            return Filled(document)
        cause = "is not the one of this request any more"
    except ComputeToDataError as error:
        cause = error.cause
    rest = {name: value for name, value in document.items() if name != PIN}
    return Filled(rest, (f"the process definition {path}: {cause}; the request's own copy runs",))


def _same(stored: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    """Whether a request runs what a definition says, perhaps in another image."""
    if process_definition.runs_notebook(stored):
        notebook = document.get("notebook")
        given = {**notebook, "parameters": None} if isinstance(notebook, Mapping) else {}
        expected = {**_with({}, stored)["notebook"], "parameters": None}
        return _without_image(given) == _without_image(expected)
    both = ({"image": "any", **stored}, document.get("process"))
    written = [process_definition.process_document(process_definition.parse_process(one)) for one in both]
    return _without_image(written[0]) == _without_image(written[1])


def _without_image(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "image"}


def with_image_of_application(configuration: Configuration, document: Any) -> Any:
    """A request in our own format whose process has the image that the site's table gives its application."""
    process = document.get("process") if isinstance(document, Mapping) else None
    if not isinstance(process, Mapping) or process.get("image"):
        return document
    application = process.get("application")
    image = configuration.applications.get(application, "") if isinstance(application, str) else ""
    return {**document, "process": {**process, "image": image}} if image else document
