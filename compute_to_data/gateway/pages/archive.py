"""Files of a collection as one zip archive, made while it is sent: nothing of it is stored, here or in the zone."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import AsyncIterator, Iterator
from urllib.parse import quote

import anyio
import anyio.to_thread
from starlette.responses import Response, StreamingResponse

from compute_to_data.client import results
from compute_to_data.client.results import Result, Tree
from compute_to_data.errors import Code, NotFound, zone_error
from compute_to_data.local_files import Digest
from compute_to_data.ports.zone import ClientCatalog

_BLOCK = 1 << 20
_FILE, _FOLDER = 0o100644, 0o40755
_FIRST, _LAST = 315532800, 4354819200
"""The years that an archive can express: from 1980 to 2107."""


class _Pipe(io.RawIOBase):
    """Keeps what the archive writes until the response takes it."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: bytes) -> int:  # type: ignore[override]
        self._pieces.append(bytes(piece))
        return len(piece)

    def taken(self) -> bytes:
        """All of it, once."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def response(catalog: ClientCatalog, collection: str, name: str) -> Response:
    """The archive of all files and folders below a collection, in a folder ``name``.

    When a file cannot be read whole, the gateway breaks the connection off, so that a browser reports the archive as
    incomplete.
    """
    tree = results.tree(catalog, collection)
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}.zip"}
    return StreamingResponse(_sent(_pieces(tree, name)), headers=headers, media_type="application/zip")


async def _sent(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Each piece is made in a thread when the client has taken the one before."""
    try:
        while piece := await anyio.to_thread.run_sync(next, pieces, b""):
            yield piece
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(pieces.close)  # type: ignore[attr-defined]


def _pieces(tree: Tree, top: str) -> Iterator[bytes]:
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for folder in tree.folders:  # empty ones, too
            archive.writestr(_entry(f"{top}/{folder}/", _FOLDER, None), b"")
        for one in tree.files.values():
            yield from _one(archive, pipe, one, top)
    yield pipe.taken()


def _entry(name: str, mode: int, modified: float | None) -> zipfile.ZipInfo:
    """What stands before a file or folder: its name, its mode, and if known when it was changed (in UTC)."""
    found = zipfile.ZipInfo(name.replace("\\", "%5C"))  # which separates folders where Windows unpacks it
    found.external_attr = mode << 16
    found.compress_type = zipfile.ZIP_STORED if mode == _FOLDER else zipfile.ZIP_DEFLATED
    if modified is not None and _FIRST <= modified < _LAST:
        found.date_time = time.gmtime(modified)[:6]
    return found


def _one(archive: zipfile.ZipFile, pipe: _Pipe, file: Result, top: str) -> Iterator[bytes]:
    digest = Digest()
    info = _entry(f"{top}/{file.name}", _FILE, file.data_object.modified)
    with file.catalog.open_to_read(file.path) as opened, archive.open(info, "w", force_zip64=True) as entry:
        while digest.size < file.size:
            block = opened.read(digest.size, min(_BLOCK, file.size - digest.size))
            if not block:
                raise NotFound(file.path, f"ended after {digest.size} bytes, before the size in the catalog")
            digest.update(block)
            entry.write(block)
            if made := pipe.taken():
                yield made
    if file.checksum and file.checksum.startswith("sha2:") and digest.text != file.checksum:
        raise zone_error(Code.USER_CHKSUM_MISMATCH, file.path, "its bytes do not match the checksum in the catalog")
