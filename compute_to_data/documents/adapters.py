"""Adapters in process definitions: how a program receives its input, and how its output is collected.

The parameters of an adapter may be called ``input_parameters`` or ``input_params``, since process registries used
both names. What this product writes has the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from compute_to_data.documents import schema_words as words
from compute_to_data.documents.interpolation import INPUT_FILE, OUTPUT_FILE
from compute_to_data.documents.schema import Problem
from compute_to_data.task import (
    DEFAULT_CHUNK_BYTES,
    RESERVED_NAMES,
    Adapter,
    Channel,
    ChannelKind,
    FileAdapter,
    Stream,
)

MOST_CHUNK_BYTES = 16 * 1024 * 1024
_SIZE = re.compile(r"([0-9]+) ?([KM]?)B?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20}


def adapter(side: str, document: Mapping[str, Any]) -> Adapter | None:
    """The adapter of a valid definition, None without one. ``side``: ``input`` or ``output``."""
    if f"{side}_adapter" not in document:
        return None
    _, given = _parameters(side, document)
    name = given.get("file_name", "")
    if "tcp_port" in given:
        chunk = chunk_bytes(given["chunk_size"]) if "chunk_size" in given else DEFAULT_CHUNK_BYTES
        return Channel(ChannelKind.TCP, name, port=int(given["tcp_port"]), chunk_bytes=chunk)
    if given.get("file_type") in ("pipe", "append"):
        path = given["file_path"]
        return Channel(ChannelKind(given["file_type"]), name, "" if path in (INPUT_FILE, OUTPUT_FILE) else path)
    stream = given.get("stream_name")
    return FileAdapter(Stream(stream) if stream else None, name)


def document(side: str, adapter: Adapter | None) -> dict[str, Any]:
    """The inverse of :func:`adapter`: the value of ``input_adapter`` or ``output_adapter``; {} for None."""
    if adapter is None:
        return {}
    reference = INPUT_FILE if side == "input" else OUTPUT_FILE
    parameters: dict[str, Any]
    if isinstance(adapter, FileAdapter):
        kind = "file"
        stream = adapter.stream
        parameters = {"file_type": "stream", "stream_name": stream.value} if stream else {"file_path": reference}
    elif adapter.kind is ChannelKind.TCP:
        kind = "tcp"
        parameters = {"tcp_port": adapter.port}
        if adapter.chunk_bytes != DEFAULT_CHUNK_BYTES:
            parameters["chunk_size"] = adapter.chunk_bytes
    else:
        kind = "file"
        parameters = {"file_type": adapter.kind.value, "file_path": adapter.path or reference}
    if adapter.name:
        parameters["file_name"] = adapter.name
    return {f"{side}_type": kind, f"{side}_parameters": parameters}


def chunk_bytes(size: int | str) -> int:
    """The bytes of a ``chunk_size`` that has the form of the schema: a number, or a text such as ``10KB``."""
    if not isinstance(size, str):
        return int(size)
    number, unit = _SIZE.fullmatch(size).groups()  # type: ignore[union-attr]
    return int(number) * _UNITS[unit.lower()]


def _parameters(side: str, document: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The adapter's parameters, and the name that they have in the document."""
    found = document[f"{side}_adapter"]
    name = f"{side}_params" if f"{side}_params" in found else f"{side}_parameters"
    return name, found[name]


def place(side: str, document: Mapping[str, Any]) -> str:
    """The fixed path of a pipe or an appended file; '' for none."""
    if f"{side}_adapter" not in document:
        return ""
    path = str(_parameters(side, document)[1].get("file_path", ""))
    return "" if path in (INPUT_FILE, OUTPUT_FILE) else path


def needs_one_command(adapter: Adapter | None) -> str:
    """What connects to one command only, for a message; '' for what several commands can use."""
    if isinstance(adapter, Channel):
        return {ChannelKind.PIPE: "a named pipe", ChannelKind.APPEND: "an appended file", ChannelKind.TCP: "a port"}[
            adapter.kind
        ]
    return adapter.stream.value if adapter is not None and adapter.stream is not None else ""


_LONGEST_NAME = 255


def disagreements(side: str, document: Mapping[str, Any], pointer: str) -> Iterator[Problem]:
    """What the schema cannot express about the adapter at ``pointer``."""
    if f"{side}_adapter" not in document:
        return
    name, given = _parameters(side, document)
    kind = document[f"{side}_adapter"][f"{side}_type"]
    if (kind == "tcp") != ("tcp_port" in given):
        found, expected = ("tcp", '"tcp_port"') if kind == "tcp" else ("file", '"file_type" or "file_path"')
        yield Problem(f"{pointer}/{name}", f'parameters that a {side}_type "{found}" does not have', expected)
    size = given.get("chunk_size")
    if size is not None and chunk_bytes(size) > MOST_CHUNK_BYTES:
        yield Problem(f"{pointer}/{name}/chunk_size", words.shown(size), f"at most {MOST_CHUNK_BYTES} bytes")
    length = len(str(given.get("file_name", "")).encode())
    if length > _LONGEST_NAME:
        yield Problem(f"{pointer}/{name}/file_name", f"a name of {length} bytes", f"at most {_LONGEST_NAME} bytes")
    if given.get("file_name") in RESERVED_NAMES:
        expected = f"another name than {', '.join(sorted(RESERVED_NAMES))}, which the task's own record uses"
        yield Problem(f"{pointer}/{name}/file_name", words.quoted(given["file_name"]), expected)
