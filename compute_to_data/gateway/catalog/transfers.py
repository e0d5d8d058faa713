"""Content, streamed in both directions, with its checksum.

What is sent ends with the 32 bytes of its SHA-256. It is stored in the zone only when it has arrived whole and agrees
with them. Until then it is a temporary file of the gateway's host, and nothing of an upload that was cut off is left.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import IO

import anyio
import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from compute_to_data.errors import Code, zone_error
from compute_to_data.gateway import request_bounds
from compute_to_data.gateway.api.common import CONTENT
from compute_to_data.gateway.api.content import HEADERS
from compute_to_data.gateway.problems import HttpError
from compute_to_data.gateway.signing_in.person import Person
from compute_to_data.gateway.who import signed_in
from compute_to_data.local_files import Digest
from compute_to_data.model import DataObject, ReplicaStatus
from compute_to_data.ports import ClientCatalog, OpenDataObject

router = APIRouter()
DIGEST_BYTES = 32
SIZE_HEADER, CHECKSUMS_HEADER = "C2d-Size", "C2d-Checksums"
_BLOCK = 1 << 22
_IN_MEMORY = 1 << 20
PATH = Query(..., max_length=4096, description="the logical path of a data object")


@router.get("/content", summary="The content of a data object", responses={200: {"content": {"*/*": {}}}})
async def download(path: str = PATH, person: Person = Depends(signed_in)) -> Response:
    """The size and the checksums in the catalog are in the headers `C2d-Size` and `C2d-Checksums`."""
    context = person.catalog.open_to_read(path)

    def opened() -> tuple[OpenDataObject, dict[str, str]]:
        found = context.__enter__()
        try:
            return found, _described(person.catalog, path)
        except BaseException as error:
            context.__exit__(type(error), error, None)
            raise

    found, described = await anyio.to_thread.run_sync(opened)
    blocks = _blocks(context, found)
    return StreamingResponse(blocks, headers={**HEADERS, **described}, media_type="application/octet-stream")


def _described(catalog: ClientCatalog, path: str) -> dict[str, str]:
    found = catalog.stat(path)
    if not isinstance(found, DataObject):
        return {}
    checksums = {one.checksum for one in found.replicas if one.status is ReplicaStatus.GOOD} - {""}
    return {SIZE_HEADER: str(found.size), CHECKSUMS_HEADER: json.dumps(sorted(checksums))}


async def _blocks(context: AbstractContextManager[OpenDataObject], found: OpenDataObject) -> AsyncIterator[bytes]:
    offset = 0
    try:
        while block := await anyio.to_thread.run_sync(found.read, offset, _BLOCK):
            offset += len(block)
            yield block
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(context.__exit__, None, None, None)


@router.put("/content", summary="Store a data object", openapi_extra=CONTENT)
async def upload(
    request: Request,
    path: str = PATH,
    resource: str = Query("", max_length=255),
    force: bool = Query(False, description="overwrite it if it is there"),
    person: Person = Depends(signed_in),
) -> Response:
    """The body is the content, and then the 32 bytes of its SHA-256. The answer has the checksum as `result`."""
    with tempfile.NamedTemporaryFile(buffering=0) as file:
        size = await _received(request, file)

        def stored() -> str:
            if size <= _IN_MEMORY:
                file.seek(0)
                content = file.read()
                person.catalog.write(path, content, resource=resource, force=force)
                whole = Digest()
                whole.update(content)
                return whole.text
            return person.catalog.put(file.name, path, resource=resource, force=force)

        checksum = await anyio.to_thread.run_sync(stored)
    return Response(json.dumps({"result": checksum}), media_type="application/json")


async def _received(request: Request, file: IO[bytes]) -> int:
    """Write the content into the file; returns its size. HttpError 400 unless it is whole."""
    digest, waiting, size = hashlib.sha256(), bytearray(), 0

    def take(piece: bytes) -> None:
        request_bounds.need_room(file.fileno(), len(piece))
        digest.update(piece)
        file.write(piece)

    most = int(request.headers["content-length"]) if request.headers.get("content-length", "").isdecimal() else 1 << 62
    try:
        async for piece in request_bounds.content(request, most):
            waiting += piece
            if len(waiting) >= _BLOCK:
                ready = bytes(waiting[:-DIGEST_BYTES])
                del waiting[:-DIGEST_BYTES]
                size += len(ready)
                await anyio.to_thread.run_sync(take, ready)
    except ClientDisconnect:
        raise HttpError(400, "the content", "ended before it was complete") from None
    if len(waiting) < DIGEST_BYTES:
        raise HttpError(400, "the content", "ended before it was complete: its SHA-256 is missing")
    last = bytes(waiting[:-DIGEST_BYTES])
    await anyio.to_thread.run_sync(take, last)
    if digest.digest() != bytes(waiting[-DIGEST_BYTES:]):
        raise zone_error(Code.USER_CHKSUM_MISMATCH, "the content", "does not agree with its SHA-256", "Send it again")
    return size + len(last)
