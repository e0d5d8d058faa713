"""Operations on disk: directories, whole files, links, digests. They do not use the catalog.

Vault files have mode 0644 and their directories 0755, regardless of the umask: a job runs under an
unprivileged uid and must be able to read its bind-mounted input, even when root made the zone. The
zone's own directory above them has 0700, so other users have no access.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO

from compute_to_data import large_files
from compute_to_data.errors import Code, ZoneError, zone_error
from compute_to_data.local_files import Digest, Moved, Source, copy

_DIRECTORY_MODE = 0o755
_FILE_MODE = 0o644
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_BLOCK = 1 << 20

_NOT_LINKABLE = frozenset(
    {errno.EEXIST, errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV, errno.ENOSYS, errno.ENAMETOOLONG}
)
"""The name is taken or longer than the file system can have, or it has no hard links."""


def blocks_of(file: BinaryIO, digest: Digest) -> Iterator[bytes]:
    """The rest of a file in blocks, each of which is added to ``digest``."""
    for block in iter(lambda: file.read(_BLOCK), b""):
        digest.update(block)
        yield block


def checksum_of_file(file: BinaryIO) -> str:
    """``sha2:<base64>`` of a file."""
    digest = Digest()
    large_files.add_file(digest, file.fileno())
    return digest.text


def make_directories(directory: str) -> None:
    """Make a directory and its missing parents. ZoneError -520000."""
    missing = []
    while not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    try:
        for one in reversed(missing):
            with suppress(FileExistsError):
                os.mkdir(one)
                os.chmod(one, _DIRECTORY_MODE)
    except OSError as error:
        raise failure(Code.UNIX_FILE_MKDIR_ERR, error, missing[0]) from error


def new_file(physical_path: str) -> BinaryIO:
    """Open a new file for writing, and make its directory if needed. ZoneError -510000 or -520000."""
    make_directories(os.path.dirname(physical_path))
    try:
        file = open(os.open(physical_path, _NEW, _FILE_MODE), "wb")  # noqa: SIM115 - the caller closes it
        os.fchmod(file.fileno(), _FILE_MODE)
    except OSError as error:
        raise failure(Code.UNIX_FILE_OPEN_ERR, error, physical_path) from error
    return file


def create(physical_path: str, source: Iterable[bytes]) -> None:
    """Write blocks to a new file, and make its directory if needed. ZoneError -510000 or -520000."""
    try:
        with new_file(physical_path) as file:
            for block in source:
                file.write(block)
    except OSError as error:
        raise failure(Code.UNIX_FILE_OPEN_ERR, error, physical_path) from error


def copy_in(source: Source, physical_path: str, moved: Moved) -> Digest:
    """Copy a user's file to a new file. Errors as for :func:`create`, and -314000 for a source that
    changed in the meantime."""
    make_directories(os.path.dirname(physical_path))
    try:
        source.file.seek(0)
        with open(os.open(physical_path, _NEW, _FILE_MODE), "r+b", buffering=0) as file:
            os.fchmod(file.fileno(), _FILE_MODE)
            digest = copy(source.file, file, moved)
    except OSError as error:
        raise failure(Code.UNIX_FILE_OPEN_ERR, error, physical_path) from error
    source.need_unchanged()
    return digest


def link(existing: str, physical_path: str) -> bool:
    """Give a file a second name. False when the name is taken, or when hard links are not possible."""
    try:
        os.link(existing, physical_path, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NOT_LINKABLE:
            return False
        raise failure(Code.UNIX_FILE_OPEN_ERR, error, physical_path) from error
    return True


def same_file(one: str, other: str) -> bool:
    """Whether two names refer to the same file."""
    try:
        return os.path.samestat(os.lstat(one), os.lstat(other))
    except OSError:
        return False


def unlink(physical_path: str) -> bool:
    """Remove a file. True when there is nothing more to do.

    This is also true when the file is gone, is not a regular file, or may not be removed, such as a
    registered file of another owner: like iRODS, the catalog then forgets it. False: try again later.
    """
    try:
        os.unlink(physical_path)
    except OSError as error:
        settled = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
        return error.errno in settled
    return True


def remove_empty(directories: Iterable[str]) -> None:
    """Remove directories that are empty. Others hold files that the catalog does not know, such as the
    output of a running job."""
    for directory in directories:
        with suppress(OSError):
            os.rmdir(directory)


def failure(code: Code, error: OSError, physical_path: str) -> ZoneError:
    """A ZoneError for an error of the operating system about a file."""
    return zone_error(code, physical_path, error.strerror or str(error))
