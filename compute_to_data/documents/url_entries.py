"""Reads and checks what a request says about URLs: the entries of ``inputs`` that name one, and ``put``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compute_to_data.documents import schema_words as words
from compute_to_data.documents.schema import Problem
from compute_to_data.task import INPUTS, InputKind, InputReference
from compute_to_data.urls import address
from compute_to_data.urls.address import is_url

_LONGEST_NAME = 255


def url_of(entry: Any) -> str:
    """The URL of an entry; '' for an entry without one."""
    if isinstance(entry, Mapping):
        return str(entry.get("url", ""))
    return entry if isinstance(entry, str) and is_url(entry) else ""


def reference(entry: Any) -> InputReference:
    """The reference that an entry with a URL stands for. ValueError for an invalid URL."""
    url = url_of(entry)
    described = entry if isinstance(entry, Mapping) else {}
    name = described.get("name") or address.parse(url).name
    credentials = {name: described[name] for name in ("sha256", "secret") if name in described}
    return InputReference(InputKind.URL, url, f"{INPUTS}/{name}", **credentials)


def disagreements(pointer: str, entry: Any) -> Iterator[Problem]:
    """Problems of an entry with a URL that the schema cannot express. They show no credentials."""
    url = url_of(entry)
    shown = words.quoted(address.without_credentials(url))
    try:
        found = address.parse(url)
    except ValueError as error:
        yield Problem(pointer, shown, str(error))
        return
    name = entry.get("name", "") if isinstance(entry, Mapping) else ""
    if not name and not _is_usable(found.name):
        yield Problem(pointer, shown, 'a "name" beside it: the last part of the URL cannot name a file')
    elif name and not all(_is_usable(part) for part in name.split("/")):
        expected = f"names of at most {_LONGEST_NAME} bytes that do not begin with -, without ++++"
        yield Problem(pointer, f"the name {words.quoted(name)}", expected)


def unusable_targets(entries: Sequence[Mapping[str, str]]) -> Iterator[Problem]:
    """Problems of a request's ``put`` that the schema cannot express. They show no credentials."""
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        pointer, shown = f"/put/{index}/url", words.quoted(address.without_credentials(entry["url"]))
        try:
            found = address.parse(entry["url"]).text
        except ValueError as error:
            yield Problem(pointer, shown, str(error))
            continue
        if found in seen:
            yield Problem(pointer, shown, "each URL once")
        seen.add(found)


def _is_usable(name: str) -> bool:
    """Whether a name can be one in ``/inputs`` and in a collection."""
    is_odd = name in ("", ".", "..") or name.startswith("-") or "++++" in name or "/" in name
    return not is_odd and name.isprintable() and len(name.encode("utf-8", "replace")) <= _LONGEST_NAME
