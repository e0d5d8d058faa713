"""Translates a process definition that stands alone, as in a process registry, into a task without inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compute_to_data.documents import own_format
from compute_to_data.documents.given_beside import GivenBeside
from compute_to_data.documents.json_text import check_values
from compute_to_data.documents.schema import problems, summary
from compute_to_data.errors import InvalidRequest


def translate(document: Any, beside: GivenBeside, roles: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A task that runs the definition, in our own format. Without a resource beside it, its role is CONTAINER.

    InvalidRequest for what is wrong in the definition, and without a collection for results beside it.
    """
    check_values(document, "document")
    found = problems(document, "process")
    if found:
        raise InvalidRequest(*summary(found))
    if not beside.output_collection:
        remedy = "A process definition names none: give one beside it, or write a task (docs/task-format.md)"
        raise InvalidRequest("output collection", "is not named", remedy)
    where = {"resource": beside.resource} if beside.resource else {"role": "CONTAINER"}
    task = {**where, "inputs": [], "output_collection": beside.output_collection, "process": document}
    return own_format.with_image(task, beside.image)


def notes(document: Mapping[str, Any]) -> tuple[str, ...]:
    """As in a task of our own format."""
    return own_format.notes({"process": document})
