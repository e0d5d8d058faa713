"""Local files that a client sends to a zone, or receives from one.

These functions never follow links and never overwrite a file. A new file gets its own name only when
it is complete: until then it has another name in the same directory.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import secrets
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final

from compute_to_data.errors import AlreadyExists, Code, InvalidRequest, ZoneError, zone_error
from compute_to_data.pools import pool

Moved = Callable[[int], None]
"""A function that receives the number of bytes moved since its last call."""


def silent(count: int) -> None:
    """A :data:`Moved` that does nothing."""


_BLOCK: Final = 1 << 20
_STRIDE: Final = 1 << 24
_NO_COPY_IN_THE_KERNEL: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})
ENDING: Final = ".c2d-partial"
_CAREFUL: Final = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
"""The flags that this platform has. Without ``O_NOFOLLOW`` the code checks for links beforehand."""
_WINDOWS_ONLY: Final = frozenset('\\:*?"<>|')


def need_names(paths: Iterable[str], platform: str = sys.platform) -> None:
    """InvalidRequest for a relative path that this platform cannot use, or that leaves its folder.

    A zone's names may hold backslashes and colons, which Windows takes for folders, drives and
    streams.
    """
    for path in paths if platform == "win32" else ():
        if _WINDOWS_ONLY & set(path) or any(part != part.rstrip(". ") for part in path.split("/")):
            raise InvalidRequest(path, "cannot be the name of a file on Windows", "Fetch it on another system")


def need_storable(directory: str, path: str) -> None:
    """InvalidRequest when this host cannot have a file or folder of this relative path in a directory. It
    asks the system, which knows its file systems' limits, and changes nothing."""
    need_names([path])
    try:
        os.lstat(os.path.join(directory, path))
    except (FileNotFoundError, NotADirectoryError):
        return  # the directory or a part of the path is not there yet; what is in its place is an error of its own
    except (OSError, ValueError) as error:
        cause = f"cannot be the name of a file here: {getattr(error, 'strerror', None) or error}"
        raise InvalidRequest(path, cause, "Fetch it into another folder, or on another system") from None


class Digest:
    """Computes a SHA-256 checksum block by block, in the form that iRODS uses."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.size = 0

    def update(self, block: bytes | bytearray | memoryview) -> None:
        """Add the next bytes."""
        self._sha256.update(block)
        self.size += len(block)

    @property
    def digest(self) -> bytes:
        """The 32 bytes of the SHA-256 of all bytes so far."""
        return self._sha256.digest()

    def need(self, sha256: bytes) -> None:
        """ZoneError (-314000) unless all bytes so far have this SHA-256."""
        if self.digest != sha256:
            cause = "does not agree with its SHA-256"
            raise zone_error(Code.USER_CHKSUM_MISMATCH, "the content", cause, "Send it again")

    @property
    def text(self) -> str:
        """``sha2:<base64>`` of all bytes so far."""
        return "sha2:" + base64.b64encode(self.digest).decode("ascii")


class Source:
    """A file that is being sent. ``size``: its size in bytes when it was opened."""

    def __init__(self, path: str, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self._turn = threading.Lock()
        self._before = os.fstat(file.fileno())
        self.size = self._before.st_size

    def read_at(self, offset: int, room: memoryview) -> memoryview:
        """Fill ``room`` with the bytes from ``offset`` on; returns the part that was filled.

        This is less than ``room`` only when the file has become shorter. Safe in any thread.
        """
        filled = 0
        while filled < len(room) and (count := self._piece(offset + filled, room[filled:])):
            filled += count
        return room[:filled]

    def _piece(self, offset: int, room: memoryview) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self.file.fileno(), [room], offset)
        with self._turn:  # Windows
            self.file.seek(offset)
            return self.file.readinto(room)  # type: ignore[attr-defined,no-any-return]

    def need_unchanged(self) -> None:
        """ZoneError (-314000) when a program has written to the file since it was opened."""
        now = os.fstat(self.file.fileno())
        if (now.st_size, now.st_mtime_ns) != (self._before.st_size, self._before.st_mtime_ns):
            raise self.changed()

    def changed(self) -> ZoneError:
        """The error for a file that changed after it was opened."""
        cause = "the file changed while it was read"
        return zone_error(Code.USER_CHKSUM_MISMATCH, self.path, cause, "Send it again when no program writes to it")


@contextmanager
def source(path: str) -> Iterator[Source]:
    """Open a regular file for reading.

    ZoneError -317000 for a link, a directory or a device; -310000 when the file does not exist;
    -510000 when it cannot be read.
    """
    if not hasattr(os, "O_NOFOLLOW") and os.path.islink(path):
        raise _unreadable(path, OSError(errno.ELOOP, ""))
    try:
        descriptor = os.open(path, os.O_RDONLY | _CAREFUL)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise zone_error(Code.USER_INPUT_PATH_ERR, path, "not a regular file")
    with open(descriptor, "rb", buffering=0) as file:
        yield Source(path, file)


def _unreadable(path: str, error: OSError) -> ZoneError:
    if error.errno == errno.ELOOP:
        return zone_error(Code.USER_INPUT_PATH_ERR, path, "a symbolic link, and this program does not follow links")
    code = Code.USER_FILE_DOES_NOT_EXIST if error.errno == errno.ENOENT else Code.UNIX_FILE_OPEN_ERR
    return zone_error(code, path, error.strerror or str(error))


@contextmanager
def arriving(path: str) -> Iterator[BinaryIO]:
    """Open a new file for writing.

    The file gets its name when the block ends without an error; otherwise it is removed.
    AlreadyExists (-312000) when there is a file of that name, at the beginning or at the end;
    ZoneError -510000 when the file cannot be made.
    """
    if os.path.lexists(path):
        raise _in_the_way(path)
    partial = f"{_shortened(path)}.{secrets.token_hex(6)}{ENDING}"
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | _CAREFUL, 0o666)
    except OSError as error:
        raise zone_error(Code.UNIX_FILE_OPEN_ERR, path, error.strerror or str(error)) from error
    try:
        with open(descriptor, "r+b", buffering=0) as file:
            yield file
        _name(partial, path)
    except OSError as error:
        raise zone_error(Code.UNIX_FILE_OPEN_ERR, path, error.strerror or str(error)) from error
    finally:
        with suppress(OSError):
            os.unlink(partial)


def _shortened(path: str) -> str:
    """The path with its name cut to 50 characters, to leave room for an ending in a name's 255 bytes."""
    directory, name = os.path.split(path)
    return os.path.join(directory, name[:50])


def _name(partial: str, path: str) -> None:
    """Give the file its own name with a hard link, since renaming would replace an existing file.

    Renames it where the file system has no hard links.
    """
    try:
        os.link(partial, path, follow_symlinks=os.link not in os.supports_follow_symlinks)
    except FileExistsError as error:
        raise _in_the_way(path) from error
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
            raise
        if os.path.lexists(path):
            raise _in_the_way(path) from error
        os.rename(partial, path)


def _in_the_way(path: str) -> AlreadyExists:
    remedy = "Move it away, or choose another directory"
    return AlreadyExists(path, "there is already a file of that name", remedy, code=Code.OVERWRITE_WITHOUT_FORCE_FLAG)


def copy(source: BinaryIO, target: BinaryIO, moved: Moved) -> Digest:
    """Copy the rest of one file into another; returns the checksum of the written bytes.

    The kernel copies a large file while another thread computes the checksum. Raises OSError.
    """
    digest = Digest()
    block = source.read(_BLOCK)
    while block:
        target.write(block)
        digest.update(block)
        moved(len(block))
        if len(block) == _BLOCK and _copy_large(source, target, digest, moved):
            break
        block = source.read(_BLOCK)
    return digest


def _copy_large(source: BinaryIO, target: BinaryIO, digest: Digest, moved: Moved) -> bool:
    """Like :func:`copy`, from the current positions, in the kernel.

    Returns False, without having copied anything, when the kernel cannot do it.
    """
    if not hasattr(os, "copy_file_range"):
        return False
    with pool(1, "checksum") as hasher:  # the kernel may copy gigabytes ahead of it
        hashed: list[Future[None]] = []
        while True:
            try:
                count = os.copy_file_range(source.fileno(), target.fileno(), _STRIDE)
            except OSError as error:
                if hashed or error.errno not in _NO_COPY_IN_THE_KERNEL:
                    raise
                return False
            if not count:
                break
            hashed.append(hasher.submit(_hash, target.fileno(), digest, count))
            moved(count)
        for future in hashed:
            future.result()
    return True


def _hash(descriptor: int, digest: Digest, length: int) -> None:
    """Add the next ``length`` bytes of the file to the digest."""
    buffer = memoryview(bytearray(min(length, _BLOCK)))
    end = digest.size + length
    while digest.size < end:
        count = os.preadv(descriptor, [buffer[: end - digest.size]], digest.size)
        if not count:
            raise OSError(errno.EIO, "the copy has become shorter while it was read")
        digest.update(buffer[:count])
