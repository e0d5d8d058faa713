"""``task.json``: the document that a task's record in the catalog holds."""

from __future__ import annotations

from typing import Any

from compute_to_data.documents import request
from compute_to_data.documents.json_text import MAXIMUM_BYTES
from compute_to_data.documents.schema import read_json
from compute_to_data.errors import InvalidRequest
from compute_to_data.task import Task

LARGEST = MAXIMUM_BYTES
"""The most bytes that a ``task.json`` has."""


def recorded_document(task: Task) -> dict[str, Any]:
    """The content of ``task.json``: the accepted request and the version of the format."""
    return {"version": 1, **request.document(task)}


def recorded_task(content: bytes, subject: str) -> Task:
    """The task in a ``task.json``. InvalidRequest when the content is not valid."""
    document = read_json(content, subject)
    if not isinstance(document, dict) or document.pop("version", None) != 1:
        raise InvalidRequest(subject, "is not a task of version 1")
    return request.parse(document)
