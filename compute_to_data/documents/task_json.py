"""``task.json``: a task as its record in the catalog holds it."""

from __future__ import annotations

from typing import Any

from compute_to_data.documents import request
from compute_to_data.documents.schema import read_json
from compute_to_data.errors import InvalidRequest
from compute_to_data.task import Task


def recorded_document(task: Task) -> dict[str, Any]:
    """``task.json``: the request as accepted, with the version of its format."""
    return {"version": 1, **request.document(task)}


def recorded_task(content: bytes, subject: str) -> Task:
    """The task that a ``task.json`` holds. InvalidRequest when it is not one of ours."""
    document = read_json(content, subject)
    if not isinstance(document, dict) or document.pop("version", None) != 1:
        raise InvalidRequest(subject, "is not a task of version 1")
    return request.parse(document)
