"""The inputs and outputs of a Kotta job description: logical paths, and URLs that the worker fetches and writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compute_to_data.model import name_of
from compute_to_data.urls.address import parse


def items(document: Mapping[str, Any], name: str) -> list[str]:
    """The members of a list, or of a string with commas between them. Of an object, its ``src``."""
    value = document.get(name, [])
    if isinstance(value, str):
        return [item.strip() for item in value.split(",")] if value else []
    return [item["src"] if isinstance(item, Mapping) else item for item in value]


def inputs(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """The inputs in our own format. What a URL names may have another name where the program runs (``dest``)."""
    entries = []
    for item, name in zip(items(document, "inputs"), input_names(document)):
        entries.append({"url": item, "name": name} if is_web(item) else {"object": logical_path(item)})
    return entries


def put(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """The outputs that the worker also sends to the URLs that they have as ``dest``."""
    outputs = [one for one in document.get("outputs", ()) if isinstance(one, Mapping)]
    return [{"output": one["src"], "url": one["dest"]} for one in outputs if is_web(one.get("dest", ""))]


def is_web(item: str) -> bool:
    """Whether the worker fetches from and sends to a URL, if the site allows it."""
    return scheme(item) in ("https", "s3")


def input_names(document: Mapping[str, Any]) -> list[str]:
    """The names that the inputs have where the program runs; '' where a URL has no name."""
    given = document.get("inputs", [])
    named = [item.get("dest", "") if isinstance(item, Mapping) else "" for item in given if not isinstance(given, str)]
    names = []
    for index, item in enumerate(items(document, "inputs")):
        wanted = named[index] if named else ""
        names.append(wanted or _name_in(item) if is_web(item) else name_of(logical_path(item)))
    return names


def _name_in(url: str) -> str:
    """The name of the file that a URL names; '' when it names none, or is not valid."""
    try:
        return parse(url).name
    except ValueError:
        return ""


def logical_path(item: str) -> str:
    """The path that an input names, plain or after ``irods:``; '' when it names none."""
    if scheme(item) != "irods":
        return item
    rest = item.partition(":")[2]
    rest = rest[2:] if rest.startswith("///") else rest
    if rest.startswith("//") or "?" in rest or "#" in rest:
        return ""
    from urllib.parse import unquote_to_bytes  # here: slow to import, and rarely needed

    try:
        return unquote_to_bytes(rest).decode()
    except UnicodeDecodeError:
        return ""


def scheme(item: str) -> str:
    """``http`` for ``http://...``; '' for any logical path."""
    scheme, colon, _ = item.partition(":")
    return scheme.lower() if colon and not item.startswith("/") else ""
