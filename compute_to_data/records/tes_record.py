"""The AVUs by which GA4GH TES tasks are found: one that marks each of them, and one for each of its tags."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from compute_to_data.configuration import Attributes
from compute_to_data.model import Avu
from compute_to_data.task import Task

TES, TAG = "tes", "tes_tag"
"""The facts of a task's collection: its TES name behind a ``=``, since a value cannot be empty; and ``key=value``."""


def avus(attributes: Attributes, task: Task) -> Iterator[Avu]:
    """The AVUs of a task that is a TES task; none for any other."""
    if task.tes is not None:
        document = task.tes.document
        yield Avu(attributes.named(TES), f"={document.get('name', '')}"[:2000])
        for key, value in document.get("tags", {}).items():
            yield Avu(attributes.named(TAG), tag(key, value))


def tag(key: str, value: str) -> str:
    """The value of a tag's AVU."""
    return f"{_escaped(key)}={value}"


def key_of(value: str) -> str:
    """The key in such a value, escaped."""
    return value.partition("=")[0]


def _escaped(key: str) -> str:
    return key.replace("%", "%25").replace("=", "%3D")


def fits(wanted: Mapping[str, str], found: Iterable[str]) -> bool:
    """Whether a task whose tags have these AVUs' values has all wanted ones. An empty value admits any."""
    have = set(found)
    keys = {key_of(one) for one in have}
    return all(tag(key, value) in have if value else _escaped(key) in keys for key, value in wanted.items())
