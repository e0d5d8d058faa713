"""What of a task's or dataset's files a page can show: pictures, tables, text, and reports in a frame.

What a file is follows from its name alone. Nothing looks into the content to find out, and a browser may not either.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from compute_to_data.client import results
from compute_to_data.client.results import Result
from compute_to_data.errors import ComputeToDataError, NotFound
from compute_to_data.gateway.api import content
from compute_to_data.model import DataObject
from compute_to_data.ports.zone import ClientCatalog

PICTURES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "svg": "image/svg+xml",
}
REPORTS = {"html": "text/html; charset=utf-8", "htm": "text/html; charset=utf-8"}
_TABLES = {"csv": ",", "tsv": "\t", "tab": "\t"}
_TEXTS = frozenset(
    [
        "txt",
        "log",
        "md",
        "json",
        "ipynb",
        "py",
        "r",
        "sh",
        "sql",
        "xml",
        "yaml",
        "yml",
        "toml",
        "ini",
        "cfg",
        "fasta",
        "fastq",
        "fa",
        "vcf",
        "bed",
        "dat",
    ]
)
_LARGEST_PICTURE = 32 << 20
_MOST_PICTURES = 12
_MOST_TEXTS = 4
_LITTLE_BYTES, _MORE_BYTES = 8 << 10, 512 << 10
_LITTLE_ROWS, _MORE_ROWS = 12, 1000
_LITTLE_COLUMNS, _MORE_COLUMNS = 12, 100
_LONGEST_CELL = 200


@dataclass(frozen=True)
class Preview:
    """The beginning of a file. ``kind``: ``picture``, ``report``, ``table``, ``text`` or '' for what is only fetched.
    ``is_cut``: the file has more than is shown."""

    name: str
    kind: str
    size: int
    text: str = ""
    rows: tuple[tuple[str, ...], ...] = ()
    is_cut: bool = False


@dataclass(frozen=True)
class Shown:
    """What the page of a task shows at once. ``report``: the name of a file, '' without one."""

    report: str = ""
    pictures: tuple[str, ...] = ()
    more_pictures: int = 0
    texts: tuple[Preview, ...] = ()


def kind_of(name: str, size: int) -> str:
    """The kind of a preview, by a file's name."""
    ending = name.rpartition("/")[2].lower().rpartition(".")[2]
    if ending in PICTURES:
        return "picture" if 0 < size <= _LARGEST_PICTURE else ""
    if ending in REPORTS:
        return "report"
    return "table" if ending in _TABLES else "text" if ending in _TEXTS else ""


def files(catalog: ClientCatalog, collection: str) -> tuple[list[Result], list[Result]]:
    """The files in a task's collection: what its program left, and our own record of the task."""
    every = results.tree(catalog, collection).files
    outputs = results.without_records(every)
    return sorted(outputs.values(), key=_by_name), sorted(
        (every[name] for name in every.keys() - outputs), key=_by_name
    )


def _by_name(file: Result) -> str:
    return file.name


def of_results(outputs: Sequence[Result]) -> Shown:
    """The report, some pictures, and the beginnings of some tables and texts."""
    kinds = {one.name: kind_of(one.name, one.size) for one in outputs}
    stems = {one.name.rpartition(".")[0] for one in outputs if one.name.endswith(".ipynb")}
    reports = [name for name, kind in kinds.items() if kind == "report"]
    reports.sort(key=lambda name: name.rpartition(".")[0] not in stems)
    pictures = [name for name, kind in kinds.items() if kind == "picture"]
    texts = [one for one in outputs if kinds[one.name] in ("table", "text") and one.size]
    texts = [one for one in texts if not one.name.endswith(".ipynb")]
    return Shown(
        reports[0] if reports else "",
        tuple(pictures[:_MOST_PICTURES]),
        max(0, len(pictures) - _MOST_PICTURES),
        tuple(beginning(one, is_little=True) for one in texts[:_MOST_TEXTS]),
    )


def file(catalog: ClientCatalog, collection: str, path: str) -> Result:
    """The file at a path below a collection. NotFound."""
    found = catalog.stat(content.below(collection, path))
    if not isinstance(found, DataObject):
        raise NotFound(path, "is a collection, and only data objects have content")
    return Result(path, found, catalog)


def beginning(file: Result, *, is_little: bool = False) -> Preview:
    """The beginning of a file, as far as a page shows it. A file that cannot be read now is shown as none."""
    kind = kind_of(file.name, file.size)
    if kind in ("picture", "report"):
        return Preview(file.name, kind, file.size)
    most = _LITTLE_BYTES if is_little else _MORE_BYTES
    try:
        with file.catalog.open_to_read(file.path) as opened:
            found = opened.read(0, most)
    except ComputeToDataError:
        return Preview(file.name, "", file.size)
    is_cut = file.size > len(found)
    text = found.decode("utf-8", "replace")
    if not kind and ("\0" in text or "\ufffd" in text[:-1]):
        return Preview(file.name, "", file.size)
    if kind == "table":
        rows, is_short = _rows(text, file.name, is_little, is_cut)
        if rows:
            return Preview(file.name, "table", file.size, rows=rows, is_cut=is_cut or is_short)
    return Preview(file.name, "text", file.size, text.expandtabs(8).replace("\r\n", "\n"), is_cut=is_cut)


def _rows(text: str, name: str, is_little: bool, is_cut: bool) -> tuple[tuple[tuple[str, ...], ...], bool]:
    """The rows of a table, and whether it has more of them or more columns. No rows when it is not a table."""
    most, widest = (_LITTLE_ROWS, _LITTLE_COLUMNS) if is_little else (_MORE_ROWS, _MORE_COLUMNS)
    lines = text.splitlines()[: -1 if is_cut else None]
    delimiter = _TABLES[name.lower().rpartition(".")[2]]
    if delimiter == "," and lines and lines[0].count(";") > lines[0].count(","):
        delimiter = ";"
    try:
        read = [row for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter) if row]
    except csv.Error:
        return (), False
    shown = tuple(tuple(_cell(cell) for cell in row[:widest]) for row in read[:most])
    return shown, len(read) > most or any(len(row) > widest for row in read[:most])


def _cell(text: str) -> str:
    return text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]}…"
