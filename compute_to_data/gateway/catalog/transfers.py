"""Content, streamed in both directions, with its checksum."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager

import anyio
import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from compute_to_data.gateway import sending_files
from compute_to_data.gateway.api.common import CONTENT
from compute_to_data.gateway.api.content import ANSWERS, HEADERS, leaving, send_content
from compute_to_data.gateway.catalog import uploading
from compute_to_data.gateway.gateway import Gateway
from compute_to_data.gateway.signing_in.person import Person
from compute_to_data.gateway.who import signed_in
from compute_to_data.model import DataObject, ReplicaStatus
from compute_to_data.ports.zone import ClientCatalog, OpenDataObject
from compute_to_data.zones.entrance import FileOfThisHost

router = APIRouter()
SIZE_HEADER, CHECKSUMS_HEADER = "C2d-Size", "C2d-Checksums"
_BLOCK = 1 << 20
PATH = Query(..., max_length=4096, description="the logical path of a data object")


@router.get("/content", summary="The content of a data object", response_class=Response, responses=ANSWERS)
async def download(request: Request, path: str = PATH, person: Person = Depends(signed_in)) -> Response:
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
    if isinstance(found, FileOfThisHost) and sending_files.sender(request.scope) is not None:
        return _FileResponse(context, found, os.fstat(found.fileno()).st_size, path, {**HEADERS, **described})
    return _BlocksResponse(context, found, {**HEADERS, **described})


def _described(catalog: ClientCatalog, path: str) -> dict[str, str]:
    found = catalog.stat(path)
    if not isinstance(found, DataObject):
        return {}
    checksums = {one.checksum for one in found.replicas if one.status is ReplicaStatus.GOOD} - {""}
    return {SIZE_HEADER: str(found.size), CHECKSUMS_HEADER: json.dumps(sorted(checksums))}


class _FileResponse(Response):
    """Sends a data object that is open already, and closes it."""

    media_type = "application/octet-stream"

    def __init__(
        self,
        context: AbstractContextManager[OpenDataObject],
        opened: OpenDataObject,
        size: int,
        path: str,
        headers: dict[str, str],
    ) -> None:
        super().__init__(None, headers={**headers, "Content-Length": str(size)})
        self._context, self._opened, self._size, self._path = context, opened, size, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it."""
        async with leaving(self._context):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send_content(Request(scope, receive), send, self._opened, 0, self._size, self._path)


class _BlocksResponse(StreamingResponse):
    """Sends an open data object block by block. Closes it also when the client has taken no block."""

    media_type = "application/octet-stream"

    def __init__(
        self, context: AbstractContextManager[OpenDataObject], opened: OpenDataObject, headers: dict[str, str]
    ) -> None:
        super().__init__(_blocks(opened), headers=headers)
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it."""
        async with leaving(self._context):
            await super().__call__(scope, receive, send)


async def _blocks(found: OpenDataObject) -> AsyncIterator[bytes]:
    offset = 0
    while block := await anyio.to_thread.run_sync(found.read, offset, _BLOCK):
        offset += len(block)
        yield block


@router.put("/content", summary="Store a data object", openapi_extra=CONTENT)
async def upload(
    request: Request,
    path: str = PATH,
    resource: str = Query("", max_length=255),
    force: bool = Query(False, description="overwrite it if it is there"),
    person: Person = Depends(signed_in),
) -> Response:
    """The body is the content, and then the 32 bytes of its SHA-256. The answer has the checksum as `result`."""
    gateway: Gateway = request.app.state.gateway
    checksum = await uploading.stored(request, person.catalog, path, resource, force, gateway.room)
    if isinstance(checksum, Response):
        return checksum
    return Response(json.dumps({"result": checksum}), media_type="application/json")
