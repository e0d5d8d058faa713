"""Content that a client sends: the bytes, and then the 32 bytes of their SHA-256.

It goes into the zone as it arrives. No user can read the data object before all of it is there and agrees with its
SHA-256; otherwise the gateway removes it. A zone may have one place only for a data object that is overwritten: such
content waits in a temporary file of the gateway's host.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from typing import Union

import anyio
import anyio.to_thread
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from compute_to_data.errors import AlreadyExists, Code, ComputeToDataError
from compute_to_data.gateway import problems, request_bounds
from compute_to_data.gateway.hidden import raise_as_seen
from compute_to_data.gateway.problems import HttpError
from compute_to_data.gateway.room import Room
from compute_to_data.local_files import Digest
from compute_to_data.model import Access
from compute_to_data.records.access import require
from compute_to_data.zones.entrance import ArrivingDataObject, GatewayCatalog

DIGEST_BYTES = 32
_BLOCK = 1 << 22
_IN_MEMORY = 1 << 20
Pieces = list[Union[bytes, memoryview]]
Take = Callable[[Pieces], None]


async def stored(
    request: Request, catalog: GatewayCatalog, path: str, resource: str, force: bool, room: Room
) -> str | Response:
    """Store the content of a request; returns its checksum, or the answer when that fails. HttpError 400 for content
    that is not whole, 408, 413, 507; the zone's errors. The gateway looks at the place first, and refuses one that
    cannot take the content before it receives much of it."""
    content = _Content(request)
    try:
        return await _stored(content, catalog, path, resource, force, room)
    except ComputeToDataError as error:
        try:
            await anyio.to_thread.run_sync(raise_as_seen, error, catalog, path)
        except ComputeToDataError as seen:
            return _refused(request, content, seen)
        return _refused(request, content, error)


def _refused(request: Request, content: _Content, error: ComputeToDataError) -> Response:
    answer = problems.answered(request, error)
    if content.is_over:
        return answer
    is_waiting = request_bounds.waits_to_be_asked(request) and not content.has_begun
    return request_bounds.AnswerFirst(answer, None if is_waiting else content.take_the_rest)


async def _stored(content: _Content, catalog: GatewayCatalog, path: str, resource: str, force: bool, room: Room) -> str:
    if await content.is_small():
        return await _stored_at_once(content, catalog, path, resource, force)
    try:
        return await _stored_as_it_comes(content, catalog, path, resource)
    except AlreadyExists as error:
        if not force or content.is_taken or error.code is not Code.OVERWRITE_WITHOUT_FORCE_FLAG:
            raise
    await anyio.to_thread.run_sync(_need_overwritable, catalog, path, resource)
    return await _stored_when_whole(content, catalog, path, resource, room)


def _need_overwritable(catalog: GatewayCatalog, path: str, resource: str) -> None:
    require(catalog, path, Access.MODIFY_OBJECT, "to overwrite it")
    catalog.need_overwritable(path, resource=resource)


class _Content:
    """What arrives, in blocks, without the SHA-256 at its end."""

    def __init__(self, request: Request) -> None:
        length = request.headers.get("content-length", "")
        self._length = int(length) if length.isdecimal() else None
        self._pieces = request_bounds.content(request, 1 << 62 if self._length is None else self._length)
        self._waiting: Pieces = []
        self._size = 0
        self.is_taken = False
        """Whether a part of it has been given away."""
        self.has_begun = False
        """Whether any of it has been asked for."""
        self.is_over = False
        """Whether all of it has come."""

    async def is_small(self) -> bool:
        """Whether it is over soon enough to be kept in memory. Reads only so much, and nothing where its length is
        known."""
        if self._length is not None:
            return self._length <= _IN_MEMORY + DIGEST_BYTES
        return not await self._wait_for(_IN_MEMORY + DIGEST_BYTES + 1)

    async def _wait_for(self, size: int) -> bool:
        """Whether so many bytes are waiting now; without them the content is over."""
        self.has_begun = True
        try:
            while self._size < size:
                piece = await self._pieces.__anext__()
                self._waiting.append(piece)
                self._size += len(piece)
        except StopAsyncIteration:
            self.is_over = True
            return False
        except ClientDisconnect:
            raise HttpError(400, "the content", "ended before it was complete") from None
        return True

    async def blocks(self) -> AsyncIterator[Pieces]:
        """The rest, up to the SHA-256, of which the last block is not checked yet."""
        self.is_taken = True
        while await self._wait_for(_BLOCK):
            yield self._all_but_the_end()
        if self._size < DIGEST_BYTES:
            raise HttpError(400, "the content", "ended before it was complete: its SHA-256 is missing")
        yield self._all_but_the_end()

    def _all_but_the_end(self) -> Pieces:
        """What is waiting, without the bytes that may be the SHA-256."""
        last = bytes(self._waiting.pop())
        while len(last) < DIGEST_BYTES:
            last = bytes(self._waiting.pop()) + last
        ready: Pieces = [*self._waiting, memoryview(last)[:-DIGEST_BYTES]]
        self._waiting, self._size = [last[-DIGEST_BYTES:]], DIGEST_BYTES
        return ready

    async def give(self, take: Take) -> bytes:
        """Let a thread take all of it, block by block, while the next one arrives; returns the SHA-256 that came."""
        under_way: asyncio.Future[None] | None = None
        try:
            async for block in self.blocks():
                if under_way is not None:
                    await under_way
                under_way = asyncio.ensure_future(anyio.to_thread.run_sync(take, block))
        finally:
            if under_way is not None:
                with anyio.CancelScope(shield=True):
                    await under_way
        return bytes(self._waiting[0])

    async def take_the_rest(self) -> None:
        """A client that is still sending when the connection closes may lose the answer, which says what is wrong."""
        with contextlib.suppress(HttpError, ClientDisconnect):
            async for _ in self._pieces:
                pass


async def _stored_at_once(content: _Content, catalog: GatewayCatalog, path: str, resource: str, force: bool) -> str:
    held, digest = bytearray(), Digest()

    def take(pieces: Pieces) -> None:
        for piece in pieces:
            held.extend(piece)
            digest.update(piece)

    digest.need(await content.give(take))
    await anyio.to_thread.run_sync(lambda: catalog.write(path, bytes(held), resource=resource, force=force))
    return digest.text


async def _stored_as_it_comes(content: _Content, catalog: GatewayCatalog, path: str, resource: str) -> str:
    async with _opened(catalog, path, resource) as arriving:
        came = await content.give(arriving.write)
        return await anyio.to_thread.run_sync(arriving.finish, came)


@contextlib.asynccontextmanager
async def _opened(catalog: GatewayCatalog, path: str, resource: str) -> AsyncIterator[ArrivingDataObject]:
    context = catalog.open_to_write(path, resource=resource)
    arriving = await anyio.to_thread.run_sync(context.__enter__)
    error: BaseException | None = None
    try:
        yield arriving
    except BaseException as raised:
        error = raised
        raise
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(context.__exit__, type(error) if error else None, error, None)


async def _stored_when_whole(content: _Content, catalog: GatewayCatalog, path: str, resource: str, room: Room) -> str:
    digest = Digest()
    with tempfile.NamedTemporaryFile() as file, room.taking(str(catalog.user)) as taking:

        def take(pieces: Pieces) -> None:
            taking.need(file.fileno(), sum(map(len, pieces)))
            for piece in pieces:
                file.write(piece)
                digest.update(piece)

        digest.need(await content.give(take))
        file.flush()
        return await anyio.to_thread.run_sync(lambda: catalog.put(file.name, path, resource=resource, force=True))
