"""Files that a form brings (multipart/form-data, RFC 7578), as a browser or ``curl -F`` sends them.

They are written to a temporary folder of the gateway's host while they arrive. Only when all of them are there does
anything happen in the zone, so nothing of an upload that was cut off is left.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

import anyio.to_thread
from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from compute_to_data.errors import InvalidRequest
from compute_to_data.gateway import request_bounds
from compute_to_data.gateway.gateway import Gateway
from compute_to_data.gateway.problems import HttpError
from compute_to_data.gateway.room import Taking

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MOST_FILES = 20_000
_MOST_FIELD_BYTES = 64 << 10
_MOST_HEADER_BYTES = 16 << 10
_MOST_NAME_PARTS = 64
_BLOCK = 1 << 20
CheckFields = Callable[[Mapping[str, str]], None]


@dataclass
class Sent:
    """What a form brought: its ``fields``, and in the folder ``directory`` the files, by their names there."""

    directory: str
    fields: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """The files and folders at the top, as physical paths."""
        return [os.path.join(self.directory, name) for name in sorted(os.listdir(self.directory))]


@contextlib.asynccontextmanager
async def received(
    request: Request, known: Collection[str] = (), check: CheckFields = lambda fields: None
) -> AsyncIterator[Sent]:
    """The form's fields and files, which are there until the context ends.

    ``known``: the names of its fields. ``check``: receives the fields that came before the first file, before that is
    written. HttpError 400 for a form that is none or was cut off, 415, 408, 413, 507; InvalidRequest for a name that
    leads elsewhere, and for a part that would be ignored.
    """
    with contextlib.ExitStack() as stack:
        folder = tempfile.TemporaryDirectory(prefix="c2d-upload-")
        directory = stack.enter_context(folder)
        sent = Sent(directory)
        gateway: Gateway = request.app.state.gateway
        taking = stack.enter_context(gateway.room.taking(request.state.user))
        try:
            await _receive(request, _Parts(sent, known, check, taking))
            yield sent
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(stack.close)


async def _receive(request: Request, parts: _Parts) -> None:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise HttpError(415, "the form", "found another media type, expected multipart/form-data with its boundary")
    parser = MultipartParser(options[b"boundary"], parts.callbacks)
    length = request.headers.get("content-length", "")
    waiting = bytearray()
    try:
        async for piece in request_bounds.content(request, int(length) if length.isdecimal() else 1 << 62):
            waiting += piece
            if len(waiting) >= _BLOCK:
                ready, waiting = bytes(waiting), bytearray()
                await anyio.to_thread.run_sync(parser.write, ready)
        await anyio.to_thread.run_sync(parser.write, bytes(waiting))
    except ClientDisconnect:
        raise _cut_off() from None
    except MultipartParseError as error:
        await request_bounds.drain(request)
        raise HttpError(400, "the form", f"cannot be read: {error}") from None
    except (HttpError, InvalidRequest):
        await request_bounds.drain(request)
        raise
    finally:
        parts.close()
    if not parts.is_whole:
        raise _cut_off()
    parts.check_fields()


def _cut_off() -> HttpError:
    return HttpError(400, "the upload", "ended before it was complete", "Nothing of it is kept. Send it again")


class _Parts:
    """Receives what the parser finds."""

    def __init__(self, sent: Sent, known: Collection[str], check: CheckFields, taking: Taking) -> None:
        self._sent = sent
        self._known = known
        self._taking = taking
        self._check = check
        self._is_checked = False
        self._header = [bytearray(), bytearray()]
        self._header_bytes = 0
        self._disposition: Mapping[bytes, bytes] = {}
        self._value = bytearray()
        self._field_bytes = 0
        self._file: IO[bytes] | None = None
        self.is_whole = False
        """Whether the form's last line has arrived."""
        self.callbacks: MultipartCallbacks = {
            "on_part_begin": self._on_part_begin,
            "on_header_field": lambda data, start, end: self._on_header(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._on_header(1, data[start:end]),
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": lambda data, start, end: self._on_data(data[start:end]),
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def check_fields(self) -> None:
        """Once, before the first file or at the end."""
        if not self._is_checked:
            self._check(self._sent.fields)
            self._is_checked = True

    def close(self) -> None:
        """Close the file that is being written, if any."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _on_part_begin(self) -> None:
        self._disposition, self._value, self._header_bytes = {}, bytearray(), 0

    def _on_header(self, which: int, piece: bytes) -> None:
        self._header_bytes += len(piece)
        if self._header_bytes > _MOST_HEADER_BYTES:
            raise HttpError(400, "the form", f"a part has more than {_MOST_HEADER_BYTES} bytes of headers")
        self._header[which] += piece

    def _on_header_end(self) -> None:
        name, value = (bytes(one) for one in self._header)
        self._header = [bytearray(), bytearray()]
        if name.lower() == b"content-disposition":
            self._disposition = parse_options_header(value)[1]

    def _on_headers_finished(self) -> None:
        name = self._disposition.get(b"filename")
        if name:  # a browser sends '' where no file was chosen
            self.check_fields()
            self._open(_path_of(name))

    def _need_known(self, field: str) -> None:
        if field not in self._known:
            known = f"It may have the fields {', '.join(self._known)}; each file" if self._known else "Each file"
            remedy = f"{known} needs a filename, as in curl -F 'files=@a.csv'"
            raise InvalidRequest(f"form field {field[:80]!r}", "is no file, and not known here", remedy)

    def _keep(self, field: str, value: str) -> None:
        if field in self._sent.fields:
            raise InvalidRequest(f"form field {field[:80]!r}", "is there twice", "Give one value")
        if field in self._known:  # others are empty, so nothing is lost
            self._sent.fields[field] = value

    def _open(self, path: str) -> None:
        if len(self._sent.files) >= MOST_FILES:
            raise HttpError(413, "the upload", f"has more than {MOST_FILES} files", "Upload it with c2d dataset upload")
        place = os.path.join(self._sent.directory, path)
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            self._file = open(place, "xb")  # noqa: SIM115 - closed by _on_part_end or close
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise InvalidRequest(f"file {path[:200]}", "comes twice, or is also a folder") from None
        except OSError as error:
            raise InvalidRequest(f"file {path[:200]}", f"cannot be kept here: {error.strerror}") from None
        self._sent.files.append(path)

    def _on_data(self, piece: bytes) -> None:
        if self._file is not None:
            self._taking.need(self._file.fileno(), len(piece))
            self._file.write(piece)
            return
        if b"filename" in self._disposition:
            raise InvalidRequest("a file of the form", "has content, and no name", "Give it a filename")
        self._need_known(self._field)
        self._field_bytes += len(piece)
        if self._field_bytes > _MOST_FIELD_BYTES:
            raise HttpError(413, "the form", f"has more than {_MOST_FIELD_BYTES} bytes of fields")
        self._value += piece

    def _on_part_end(self) -> None:
        if self._file is not None:
            self.close()
        elif b"filename" not in self._disposition:
            self._keep(self._field, _text(bytes(self._value)))

    @property
    def _field(self) -> str:
        return _text(self._disposition.get(b"name", b""))

    def _on_end(self) -> None:
        self.is_whole = True


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise HttpError(400, "the form", "is not UTF-8") from None


def _path_of(name: bytes) -> str:
    """The path of a file in the upload. InvalidRequest unless it leads to a place below it."""
    path = _text(name).replace("%22", '"').replace("%0A", "\n").replace("%0D", "\r")  # how browsers write them
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts) or len(parts) > _MOST_NAME_PARTS:
        raise InvalidRequest(f"file {path[:200]}", "has no name that leads to a place in the dataset")
    return path
