"""Reads, checks and writes the entries of a request's ``inputs``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compute_to_data.documents import schema_words as words
from compute_to_data.documents import url_entries
from compute_to_data.documents.schema import Problem
from compute_to_data.errors import InvalidRequest
from compute_to_data.irods_names import MAXIMUM_PATH_BYTES
from compute_to_data.task import INPUTS, InputKind, InputReference

_KINDS = (InputKind.OBJECT, InputKind.COLLECTION, InputKind.NEXT_OF, InputKind.PATH, InputKind.URL)
"""The kinds of entries without ``task``; an entry has one of them."""
_LONGEST_PART = 255
"""Linux holds no longer name, in bytes, between two slashes."""


def reference(entry: Any, plain: InputKind = InputKind.OBJECT) -> InputReference:
    """The reference that an entry stands for. ``plain``: the kind of a logical path that is a plain string."""
    if url_entries.url_of(entry):
        return url_entries.reference(entry)
    if isinstance(entry, str):
        return InputReference(plain if entry.startswith("/") else InputKind.PATH, entry)
    place = f"{INPUTS}/{entry['name']}" if "name" in entry else ""
    if "task" in entry:
        return InputReference(InputKind.TASK, entry["task"], place, entry.get("path", ""))
    (kind,) = (kind for kind in _KINDS if kind.value in entry)
    return InputReference(kind, entry[kind.value], place)


def entry(reference: InputReference) -> dict[str, str]:
    """The inverse of :func:`reference`. InvalidRequest for a path outside ``/inputs``."""
    if reference.path and not reference.path.startswith(f"{INPUTS}/"):
        raise InvalidRequest("task", "names paths in the sandbox, which our own format cannot express")
    optional = {
        "path": reference.result,
        "name": reference.path[len(INPUTS) + 1 :],
        "sha256": reference.sha256,
        "secret": reference.secret,
    }
    given = {name: value for name, value in optional.items() if value}
    return {reference.kind.value: reference.logical_path, **given}


def disagreements(entries: Sequence[Any]) -> Iterator[Problem]:
    """Problems of entries that the schema cannot express."""
    for index, one in enumerate(entries):
        pointer = f"/inputs/{index}"
        kinds = [kind.value for kind in _KINDS if kind.value in one] if isinstance(one, Mapping) else []
        if isinstance(one, Mapping) and "task" not in one and len(kinds) != 1:
            found = " and ".join(map(words.quoted, kinds)) or words.shown(one)
            yield Problem(pointer, found, words.one_of(kind.value for kind in _KINDS))
            continue
        if url_entries.url_of(one):
            yield from url_entries.disagreements(pointer if isinstance(one, str) else f"{pointer}/url", one)
            continue
        yield from too_long(pointer, reference(one).logical_path)
        if isinstance(one, Mapping):
            for name in ("name", "path") if "task" in one else ("name",):
                yield from _unusable_name(f"{pointer}/{name}", one.get(name, ""))


def too_long(pointer: str, logical_path: str) -> Iterator[Problem]:
    """The problem of a path that is too long for the catalog."""
    length = len(logical_path.encode())
    if length > MAXIMUM_PATH_BYTES:
        yield Problem(pointer, f"a path of {length} bytes", f"at most {MAXIMUM_PATH_BYTES} bytes in UTF-8")


def _unusable_name(pointer: str, name: str) -> Iterator[Problem]:
    """Names that no file system holds."""
    longest = max(len(part.encode()) for part in name.split("/"))
    if longest > _LONGEST_PART:
        yield Problem(pointer, f"a name of {longest} bytes", f"at most {_LONGEST_PART} bytes between two slashes")
    yield from too_long(pointer, name)
