"""The file that a transfer sends."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import AsyncIterator

from compute_to_data.errors import Code, EngineError

BLOCK = 1 << 18


class Source:
    """A file, read while it is sent. ``sent``: how many bytes of it. ``problem``: why it could not be sent."""

    def __init__(self, path: str, size: int, checksum: str) -> None:
        """``size`` and ``checksum`` are those in the catalog: EngineError when the file has others."""
        self.size = size
        self.checksum = checksum
        self.sent = 0
        self.problem: EngineError | None = None
        self._path = path
        self._digest = hashlib.sha256()
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._changed(f"cannot be read ({error.strerror})") from error
        if os.fstat(self._file).st_size != size:
            os.close(self._file)
            raise self._changed("has another size than in the catalog")

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    @property
    def sha256(self) -> str:
        """The expected SHA-256, in base64."""
        return self.checksum.partition(":")[2]

    @property
    def progress(self) -> str:
        """How much was sent, for a message."""
        return f"{self.sent} of {self.size} bytes"

    async def blocks(self) -> AsyncIterator[bytes]:
        """The content. EngineError instead of the last block when it is not what the catalog says."""
        while self.sent < self.size:
            block = os.read(self._file, min(BLOCK, self.size - self.sent))
            self._digest.update(block)
            self.sent += len(block)
            if not block or (self.sent == self.size and self._found() != self.checksum):
                self.problem = self._changed("was changed while it was sent")
                raise self.problem
            yield block

    def _found(self) -> str:
        return f"sha2:{base64.b64encode(self._digest.digest()).decode('ascii')}"

    def _changed(self, cause: str) -> EngineError:
        return EngineError(self._path, f"a result to be put to a URL {cause}", code=Code.UNIX_FILE_OPEN_ERR)
