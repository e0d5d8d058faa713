"""The file that a transfer writes, and the failure of a transfer."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass

from compute_to_data.errors import Code, EngineError, ReasonCode, TaskFailed
from compute_to_data.urls.address import Address

_AGAIN = "Submit the task again; if that does not help, ask the server's administrator"


def failed(address: Address, cause: str, remedy: str = _AGAIN) -> TaskFailed:
    """The failure of a transfer."""
    return TaskFailed(ReasonCode.TRANSFER_FAILED, address.shown, cause, remedy)


@dataclass(frozen=True)
class Received:
    """A fetched file: its size in bytes, and its checksum in the form that iRODS uses."""

    size: int
    checksum: str


class Sink:
    """The file that a transfer writes. ``announced``: its size in bytes, once the server has said it."""

    def __init__(self, path: str, need_room: Callable[[int], None]) -> None:
        """``need_room`` is called with a number of bytes that the file will have; it raises when that is too much."""
        self.size = 0
        self.announced: int | None = None
        self._path = path
        self._need_room = need_room
        self._digest = hashlib.sha256()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._file = os.open(path, flags, 0o644)
        except OSError as error:
            raise self._failed(error) from error

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def announce(self, size: int | None) -> None:
        """Note what the server says about the size."""
        self.announced = size
        self._need_room(size or 0)

    def write(self, block: bytes) -> None:
        """Append to the file."""
        self.size += len(block)
        if self.announced is None:
            self._need_room(self.size)
        self._digest.update(block)
        rest = memoryview(block)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> EngineError:
        cause = f"the worker cannot write a fetched file there ({error.strerror})"
        return EngineError(self._path, cause, "An administrator makes room", code=Code.UNIX_FILE_OPEN_ERR)

    @property
    def progress(self) -> str:
        """How much has arrived, for a message."""
        return f"{self.size} bytes" if self.announced is None else f"{self.size} of {self.announced} bytes"

    def received(self, address: Address, sha256: str) -> Received:
        """The complete file. TaskFailed when its length or its checksum is another one than it should be."""
        if self.announced not in (None, self.size):
            raise failed(address, f"has {self.size} bytes, but the server had announced {self.announced}", _AGAIN)
        if sha256 and self._digest.hexdigest() != sha256:
            cause = f"has the SHA-256 {self._digest.hexdigest()}, but the request expects {sha256}"
            raise failed(address, cause, "See whether the file was changed, and correct the request")
        return Received(self.size, f"sha2:{base64.b64encode(self._digest.digest()).decode('ascii')}")
