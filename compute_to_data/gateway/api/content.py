"""The content of data objects as answers: streamed, in parts on demand, and never taken for a page.

A slow client holds a connection and an open data object, but no thread: a thread reads a block, and then the event
loop waits until the client has taken it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any
from urllib.parse import quote

import anyio
import anyio.to_thread
from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from compute_to_data.errors import NotFound
from compute_to_data.gateway import sending_files
from compute_to_data.gateway.problems import HttpError
from compute_to_data.model import DataObject, ReplicaStatus, name_of
from compute_to_data.ports.zone import ClientCatalog, OpenDataObject
from compute_to_data.zones.entrance import FileOfThisHost

_BLOCK = 1 << 22
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
HEADERS = {"Content-Security-Policy": "sandbox; default-src 'none'", "Accept-Ranges": "bytes"}
"""Whatever the content is, a browser shows no page of it with the gateway's rights."""
ANSWERS: dict[int | str, dict[str, Any]] = {200: {"content": {"*/*": {}}}, 206: {"content": {"*/*": {}}}}
"""What OpenAPI says of an endpoint that answers with the content of a data object."""


async def data_object(request: Request, catalog: ClientCatalog, logical_path: str) -> Response:
    """A data object as an attachment, or the part of it that the header Range asks for.

    NotFound; HttpError 416 for a range past the end.
    """
    found = await anyio.to_thread.run_sync(catalog.stat, logical_path)
    if not isinstance(found, DataObject):
        raise NotFound(logical_path, "is a collection, and only data objects have content")
    tag = _tag(found)
    headers = {
        **HEADERS,
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name_of(logical_path), safe='')}",
    }
    headers.update({"ETag": tag} if tag else {})
    if _names(request, "if-match", {tag}) is False:
        raise HttpError(412, logical_path, "is not, or no longer, what the header If-Match names", "Ask without it")
    if _names(request, "if-none-match", {tag, f"W/{tag}"}):
        return Response(status_code=304, headers=headers)
    wanted = _range(request, found.size, tag)
    begin, end = wanted or (0, found.size)
    if wanted:
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{found.size}"
    headers["Content-Length"] = str(end - begin)
    return DataObjectResponse(catalog, logical_path, begin, end, 206 if wanted else 200, headers)


def _tag(found: DataObject) -> str:
    """The entity tag: the checksum of a good replica; '' when the catalog has none."""
    good = (one for one in found.replicas if one.status is ReplicaStatus.GOOD and one.checksum)
    return next((f'"{one.checksum}"' for one in good if '"' not in one.checksum), "")


def _names(request: Request, header: str, tags: set[str]) -> bool | None:
    """Whether a header names one of these entity tags, or any (``*``); None without the header."""
    given = ",".join(request.headers.getlist(header))
    names = {one.strip() for one in given.split(",")} - {""}
    return bool(names & {*tags, "*"}) if given else None


def _range(request: Request, size: int, tag: str) -> tuple[int, int] | None:
    """The first byte and the one after the last, of a single range; None for the whole."""
    header = request.headers.get("range", "")
    condition = request.headers.get("if-range", "")
    asked = _RANGE.fullmatch(header.replace(" ", ""))
    if asked is None or (condition and condition != tag) or not any(asked.groups()):
        return None  # several ranges, or another unit: RFC 9110 lets us send the whole
    first, last = asked.groups()
    if not first:
        begin, end = max(0, size - int(last)), size
    else:
        begin, end = int(first), min(size, int(last) + 1 if last else size)
    if begin >= size or begin >= end:
        cause = f"the range lies past the end: there are {size} bytes"
        raise HttpError(416, "header Range", cause, headers={"Content-Range": f"bytes */{size}"})
    return begin, end


class DataObjectResponse(Response):
    """Sends the bytes from ``begin`` to ``end``. When they cannot be read any more it breaks the connection off, so
    that the client does not take a part for the whole."""

    media_type = "application/octet-stream"

    def __init__(
        self, catalog: ClientCatalog, logical_path: str, begin: int, end: int, status: int, headers: dict[str, str]
    ) -> None:
        super().__init__(None, status, headers)
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        self.raw_headers.append((b"content-length", str(end - begin).encode()))
        self._opening = functools.partial(catalog.open_to_read, logical_path)
        self._name = logical_path
        self._begin = begin
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open the data object, then send it block by block."""
        context: AbstractContextManager[OpenDataObject] = self._opening()
        opened = await anyio.to_thread.run_sync(context.__enter__)
        async with leaving(context):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send_content(Request(scope, receive), send, opened, self._begin, self._end, self._name)


@asynccontextmanager
async def leaving(context: AbstractContextManager[OpenDataObject]) -> AsyncIterator[None]:
    """Leave the context of an open data object in a thread at the end, also when the client is gone."""
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(context.__exit__, None, None, None)


async def send_content(
    request: Request, send: Send, opened: OpenDataObject, begin: int, end: int, logical_path: str
) -> None:
    """Send bytes of an open data object as the body of an answer whose length is said already.

    NotFound when they are over before that; nothing when the client is gone.
    """
    offset = begin
    send_file = sending_files.sender(request.scope)
    if isinstance(opened, FileOfThisHost) and send_file is not None:
        offset += await send_file(opened.fileno(), begin, end - begin)
    while offset < end:
        block = await anyio.to_thread.run_sync(opened.read, offset, min(_BLOCK, end - offset))
        if await request.is_disconnected():
            return
        if not block:
            raise NotFound(logical_path, f"ended after {offset} bytes, before the size in the catalog")
        offset += len(block)
        await send({"type": "http.response.body", "body": block, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def below(collection: str, path: str) -> str:
    """The logical path of a file below a collection. NotFound for a path that could lead elsewhere."""
    parts = path.split("/")
    if not path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise NotFound(path[:200], "names nothing there")
    return f"{collection}/{path}"
