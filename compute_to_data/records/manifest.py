"""A dataset's manifest: the list of what it holds, stored as the data object ``manifest.json``.

An upload writes it last, so a dataset with a manifest is complete. Every user who may write to the
collection can change it, so :func:`parsed` checks the names in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from compute_to_data.documents.json_entries import entries
from compute_to_data.errors import InvalidRequest
from compute_to_data.irods_names import MAXIMUM_PATH_BYTES

MANIFEST_NAME: Final = "manifest.json"
FILES: Final = "files"
"""The collection of a dataset that holds its files."""
DATASET_ID: Final = re.compile(r"d-[0-9a-f]{12}")
_CHECKSUM: Final = re.compile(r"sha2:[A-Za-z0-9+/]{43}=")
_MOST_BYTES: Final = 1 << 63
_MOST_NANOSECONDS: Final = (1 << 63) * 1_000_000_000
"""Seconds since 1970 are 64-bit numbers in every system call that returns or sets a file's time."""
LARGEST: Final = 256 * 1024 * 1024
"""How many bytes of a manifest are read."""
LARGEST_OF_INPUTS: Final = 24 * 1024 * 1024
"""How many a worker reads, when a task reads the dataset: it serves all users at once. About 100,000 files."""


@dataclass(frozen=True)
class HeldFile:
    """A file of a dataset: its relative path, size in bytes, checksum (``sha2:<base64>``), and
    modification time in nanoseconds since 1970."""

    path: str
    size: int
    checksum: str
    modified_ns: int


@dataclass(frozen=True)
class HeldFolder:
    """A folder of a dataset. It may be empty."""

    path: str
    modified_ns: int


@dataclass(frozen=True)
class Manifest:
    """``created`` is a time in ISO 8601, UTC (``2026-01-31T12:00:00Z``)."""

    dataset: str
    name: str
    created: str
    files: tuple[HeldFile, ...]
    folders: tuple[HeldFolder, ...]

    @property
    def size(self) -> int:
        """The size of all files together, in bytes."""
        return sum(file.size for file in self.files)

    def content(self) -> bytes:
        """The content of ``manifest.json``. :func:`parsed` is the inverse."""
        document = {
            "version": 1,
            "dataset": self.dataset,
            "name": self.name,
            "created": self.created,
            "files": [vars(file) for file in self.files],
            "folders": [vars(folder) for folder in self.folders],
        }
        return json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8")


def is_checksum(text: Any) -> bool:
    """Whether a manifest can hold this checksum."""
    return isinstance(text, str) and _CHECKSUM.fullmatch(text) is not None


def need_readable(made: Manifest, subject: str) -> None:
    """InvalidRequest unless :func:`parsed` takes what ``made`` would be as ``manifest.json``. An upload asks
    this before it sends anything."""
    try:
        content = made.content()
    except UnicodeEncodeError:
        cause = f"the name {made.name!r} has characters that UTF-8 cannot hold"
        raise InvalidRequest(subject, cause, "Choose another one with --name") from None
    if len(content) > LARGEST:
        cause = f"its manifest would have {len(content)} bytes, and at most {LARGEST} are read"
        raise InvalidRequest(subject, cause, "Upload it as several datasets")
    try:
        _check(made, subject)
    except InvalidRequest as error:
        remedy = "Nothing was sent. Rename it, or upload a new dataset"
        raise InvalidRequest(subject, f"its manifest {error.cause}", remedy) from None


def parsed(content: bytes, subject: str) -> Manifest:
    """The manifest in the content of ``manifest.json``. InvalidRequest when the content is not a
    manifest, or when a name in it would lead out of the folder."""
    try:
        document: dict[str, Any] = {}
        files: list[HeldFile] = []
        folders: list[HeldFolder] = []
        for name, value in entries(content, frozenset({"files", "folders"})):
            if name == "files":
                files.append(HeldFile(**value))
            elif name == "folders":
                folders.append(HeldFolder(**value))
            else:
                document[name] = value
        if document["version"] != 1:
            raise _wrong(subject, f"has version {document['version']!r}, and this program knows version 1")
        dataset, name, created = (str(document[key]) for key in ("dataset", "name", "created"))
        found = Manifest(dataset, name, created, tuple(files), tuple(folders))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _wrong(subject, f"is not the manifest of a dataset: {type(error).__name__} {error}") from error
    _check(found, subject)
    return found


def _check(manifest: Manifest, subject: str) -> None:
    if not DATASET_ID.fullmatch(manifest.dataset):
        raise _wrong(subject, f"names the dataset {manifest.dataset!r}, which is not the id of a dataset")
    times = [(file.path, file.modified_ns) for file in manifest.files]
    times += [(folder.path, folder.modified_ns) for folder in manifest.folders]
    for path, modified_ns in times:
        cause = unsafe(path)
        if cause:
            raise _wrong(subject, f"has the path {path!r}: {cause}")
        if not _is_count(modified_ns, -_MOST_NANOSECONDS, _MOST_NANOSECONDS):
            raise _wrong(subject, f"has no valid modification time for {path!r}")
    for file in manifest.files:
        if not _is_count(file.size, 0, _MOST_BYTES) or not is_checksum(file.checksum):
            raise _wrong(subject, f"has no valid size or checksum for {file.path!r}")
    clash = _clash(manifest)
    if clash:
        raise _wrong(subject, f"has {clash!r} twice, or as a file and as a folder")


def _is_count(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value < most


def _clash(manifest: Manifest) -> str:
    """A path that occurs twice, or that is a file with something below it; '' when there is none."""
    files = {file.path for file in manifest.files}
    seen: set[str] = set()
    for path in (*(file.path for file in manifest.files), *(folder.path for folder in manifest.folders)):
        if path in seen:
            return path
        seen.add(path)
    looked_at: set[str] = set()
    for path in seen:
        for above in ancestors(path):
            if above in files:
                return above
            if above in looked_at:
                break
            looked_at.add(above)
    return ""


def parent(path: str) -> str:
    """The folder of a relative path; '' for the top."""
    return path.rpartition("/")[0]


def ancestors(path: str) -> Iterator[str]:
    """The folders above a relative path, nearest first."""
    while path := parent(path):
        yield path


def unsafe(path: Any) -> str:
    """Why a relative path must not be used below a folder or collection; '' when it is safe."""
    if not isinstance(path, str) or not path:
        return "not a path"
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        return "characters that UTF-8 cannot hold"
    if "\0" in path:
        return "a NUL character"
    if path.startswith("/"):
        return "an absolute path"
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "it contains an empty name, '.' or '..'"
    if len(encoded) > MAXIMUM_PATH_BYTES:
        return f"longer than {MAXIMUM_PATH_BYTES} bytes"
    return ""


def _wrong(subject: str, cause: str) -> InvalidRequest:
    return InvalidRequest(subject, cause, "Upload the dataset again, or ask the person who uploaded it")
