"""The hint for a person who names a file of their own computer as an input."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from compute_to_data.errors import ComputeToDataError, InvalidRequest, NotFound, ZoneError


@contextmanager
def hint(given: Iterable[str]) -> Iterator[None]:
    """Add how to upload a file to an error about one of these paths, when it is a file of this computer."""
    try:
        yield
    except (InvalidRequest, ZoneError) as error:
        local = next((path for path in given if _is_meant(path, error) and os.path.exists(path)), "")
        if not local:
            raise
        kind = "folder" if os.path.isdir(local) else "file"
        cause = f"is a {kind} of this computer, and a task reads what is in the zone"
        remedy = f"Upload it: c2d dataset upload {local}. Then name the id that this prints as the input"
        kinds = NotFound if isinstance(error, NotFound) else InvalidRequest
        raise kinds(local, cause, remedy, code=error.code) from None


def _is_meant(path: str, error: ComputeToDataError) -> bool:
    """Whether an error is about a path, which a request or an option names."""
    if path.startswith("/"):
        return error.subject == path
    return bool(path) and (error.subject.startswith("/inputs") or path in error.subject)


def named_inputs(document: Any) -> Iterator[str]:
    """The paths and ids that a request names as inputs, except results of tasks."""
    entries = document.get("inputs") if isinstance(document, Mapping) else None
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, Mapping) and "task" not in entry:
            yield from (value for name, value in entry.items() if name != "name" and isinstance(value, str))
