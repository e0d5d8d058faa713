"""The standard input of a task of a workload, as a person gives it: bytes, a file, or what a program still writes."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, BinaryIO, Union

from compute_to_data.documents.schema_words import shown
from compute_to_data.errors import InvalidRequest
from compute_to_data.submission import workloads

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench

StandardInput = Union[bytes, BinaryIO, "os.PathLike[str]"]


def need_bytes(stdin: object) -> None:
    """InvalidRequest for what cannot be standard input."""
    if isinstance(stdin, str):
        raise InvalidRequest("stdin", "is text, and a program reads bytes", "Encode it: stdin=text.encode()")
    if isinstance(stdin, io.TextIOBase):
        raise InvalidRequest("stdin", "is a file opened for text, and a program reads bytes", 'Open it with "rb"')
    is_content = stdin is None or isinstance(stdin, (bytes, bytearray, memoryview, os.PathLike))
    if not is_content and not hasattr(stdin, "read"):
        raise InvalidRequest("stdin", f"found {shown(stdin)}", "Give bytes, a binary file, or a pathlib.Path")


def put(workbench: Workbench, collection: str, stdin: StandardInput) -> str:
    """Store standard input in a workload; returns its data object. Of a pipe, a file of this computer has it first."""
    place = workbench.catalog, workbench.attributes, collection
    if isinstance(stdin, os.PathLike):
        return workloads.put_stdin(*place, os.fspath(stdin))
    if isinstance(stdin, (bytes, bytearray, memoryview)):
        return workloads.put_stdin(*place, bytes(stdin))
    with tempfile.TemporaryDirectory(prefix="c2d-") as folder:
        file = os.path.join(folder, "stdin")
        with open(file, "wb") as copy:
            shutil.copyfileobj(stdin, copy)
        return workloads.put_stdin(*place, file)
