"""What a program may give to name a task, a dataset, a workload or a place in the zone.

A person types ids and logical paths. A program also has what earlier calls returned, such as a task's handle or an
entry of a listing, and paths of ``pathlib``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Protocol, Union

from compute_to_data.documents.schema_words import shown
from compute_to_data.errors import InvalidRequest
from compute_to_data.model import name_of


class InACollection(Protocol):
    """Something that has a collection of its own: a handle, an entry of a listing, an upload."""

    @property
    def collection(self) -> str:
        """Its logical path."""


Given = Union[str, "os.PathLike[str]", InACollection]


def text_of(given: Given, what: str) -> str:
    """The id or logical path. InvalidRequest, about ``what``, for anything else, such as None."""
    found = given if isinstance(given, (str, os.PathLike)) else getattr(given, "collection", None)
    path = os.fspath(found) if isinstance(found, (str, os.PathLike)) else None
    if not isinstance(path, str):
        raise InvalidRequest(
            what, f"found {shown(given)}", "Give an id, a logical path, or what an earlier call returned"
        )
    return path


def input_of(given: Given) -> str:
    """The same, for what a task reads: the id of a dataset or a task, whose collection holds more than its files."""
    found = text_of(given, "input")
    return found if isinstance(given, (str, os.PathLike)) else name_of(found)


def several(given: Given | Sequence[Given], what: str) -> tuple[str, ...]:
    """The same of one, or of a list of them."""
    if isinstance(given, Sequence) and not isinstance(given, str):
        return tuple(text_of(one, what) for one in given)
    return (text_of(given, what),)


def need_bytes(given: object, what: str) -> None:
    """InvalidRequest, about ``what``, unless an argument is bytes. Of a text it does not say the text."""
    if not isinstance(given, (bytes, bytearray)):
        found = "a text" if isinstance(given, str) else shown(given)
        raise InvalidRequest(what, f"found {found}, expected bytes", "Encode a text: value.encode()")


def need_seconds(given: object) -> None:
    """InvalidRequest unless a timeout is a number, or None."""
    if given is not None and not (isinstance(given, Real) and given == given):
        raise InvalidRequest("timeout", f"found {shown(given)}, expected a number of seconds, or None")


def need_object(given: Any, pointer: str) -> None:
    """InvalidRequest unless an argument is a dict, or None. ``pointer``: its place in a request."""
    if given is not None and not isinstance(given, Mapping):
        raise InvalidRequest(pointer, f"found {shown(given)}, expected an object")
