"""What a job left behind: looked at without following anything, hashed once, or refused.

The directory was written by a program nobody trusts. Every step down is taken through a
descriptor with ``O_NOFOLLOW``, so that no name can lead elsewhere between looking and reading,
and whatever is not a plain file of one link, or a directory, refuses the whole task by name.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from compute_to_data.errors import ReasonCode, TaskFailed
from compute_to_data.irods_names import MAXIMUM_PATH_BYTES
from compute_to_data.job import OutputFile

_BLOCK = 1 << 20
if hasattr(os, "O_DIRECTORY"):  # clients on Windows import this module, too, and walk nowhere
    _DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    _FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
MAXIMUM_DEPTH = 64


@dataclass(frozen=True)
class Usage:
    """What a directory holds: bytes (allocated or apparent, whichever is more) and entries.

    ``hidden``: a place that cannot be looked into (no permission, or deeper than any output may
    lie), which could hold anything.
    """

    size: int
    entries: int
    hidden: bool = False


def measure(directory: str, stop_above: int) -> Usage:
    """Bytes and entries below ``directory``; ends early once ``stop_above`` bytes are passed.

    Used while the job runs, so names that vanish under the walk are passed over; links are
    counted, never followed.
    """
    size = entries = 0
    pile = [(directory, 0)]
    while pile and size <= stop_above:
        place, depth = pile.pop()
        if depth > MAXIMUM_DEPTH:
            return Usage(size, entries, hidden=True)
        try:
            with os.scandir(place) as found:
                for entry in found:
                    entries += 1
                    status = entry.stat(follow_symlinks=False)
                    if _is_directory(status):
                        pile.append((entry.path, depth + 1))
                    else:
                        size += max(status.st_size, status.st_blocks * 512)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return Usage(size, entries, hidden=True)
    return Usage(size, entries)


def inventory(
    directory: str, collection: str, *, size_limit: int, file_limit: int, reserved: frozenset[str]
) -> tuple[OutputFile, ...]:
    """Every file below ``directory``, sorted by name, each read and hashed once.

    Names must fit under ``collection`` and may not be one of ``reserved`` at the top.
    TaskFailed with OUTPUT_REFUSED (naming the entry) or OUTPUT_LIMIT.
    """
    files: list[OutputFile] = []
    total = 0
    root = os.open(directory, _DIRECTORY)
    try:
        for found in _walk(root, "", collection, reserved, file_limit):
            total += found.size
            files.append(found)
            if len(files) > file_limit:
                raise _over_limit(f"more than {file_limit} files")
            if total > size_limit:
                raise _over_limit(f"more than {size_limit} bytes")
    finally:
        os.close(root)
    return tuple(sorted(files, key=lambda file: file.relative))


def still_there(directory: str, files: tuple[OutputFile, ...]) -> None:
    """TaskFailed unless each file is, without following a link, the inode that was read.

    Asked after registration: the catalog registers by name, and a name can be made to lead
    elsewhere between reading and registering.
    """
    folders: dict[str, int] = {"": os.open(directory, _DIRECTORY)}
    try:
        for file in files:
            folder, _, name = file.relative.rpartition("/")
            try:
                status = os.stat(name, dir_fd=_descend(folders, folder), follow_symlinks=False)
            except OSError as error:
                raise _refused(file.relative, f"changed while it was registered ({error.strerror})") from None
            if (status.st_dev, status.st_ino) != file.identity or status.st_size != file.size:
                raise _refused(file.relative, "was exchanged while it was registered")
    finally:
        for descriptor in folders.values():
            os.close(descriptor)


def _descend(folders: dict[str, int], folder: str) -> int:
    """The descriptor of a folder below the root, opened part by part without following links."""
    if folder not in folders:
        parent, _, name = folder.rpartition("/")
        folders[folder] = os.open(name, _DIRECTORY, dir_fd=_descend(folders, parent))
    return folders[folder]


def _walk(
    descriptor: int, prefix: str, collection: str, reserved: frozenset[str], file_limit: int
) -> Iterator[OutputFile]:
    if prefix.count("/") > MAXIMUM_DEPTH:
        raise _refused(prefix, f"lies more than {MAXIMUM_DEPTH} directories deep")
    with os.scandir(descriptor) as entries:
        found = sorted(islice(entries, file_limit + 1), key=lambda entry: entry.name)
    if len(found) > file_limit:
        raise _over_limit(f"more than {file_limit} files")
    for entry in found:
        relative = f"{prefix}{entry.name}"
        _check_name(entry.name, relative, collection, frozenset() if prefix else reserved)
        if entry.is_dir(follow_symlinks=False):
            below = _open(entry.name, _DIRECTORY, descriptor, relative)
            try:
                yield from _walk(below, f"{relative}/", collection, reserved, file_limit)
            finally:
                os.close(below)
        else:
            if not entry.is_file(follow_symlinks=False):
                _check_kind(relative, entry.stat(follow_symlinks=False))
            yield _read(entry.name, descriptor, relative)


def _read(name: str, directory: int, relative: str) -> OutputFile:
    descriptor = _open(name, _FILE, directory, relative)
    try:
        status = os.fstat(descriptor)
        _check_kind(relative, status)
        if status.st_mode & 0o7000:  # a set-user-id file of the service account has no place in a vault
            os.fchmod(descriptor, status.st_mode & 0o777)
        digest = hashlib.sha256()
        size = 0
        wanted = min(status.st_size + 1, _BLOCK)  # a buffer of a block would cost more than a small file
        while True:
            block = os.read(descriptor, wanted)
            digest.update(block)
            size += len(block)
            if len(block) < wanted:  # a regular file gives less only at its end
                break
    finally:
        os.close(descriptor)
    return OutputFile(relative, size, checksum_text(digest.digest()), (status.st_dev, status.st_ino))


def checksum_text(digest: bytes) -> str:
    """A SHA-256 digest as iRODS writes it: ``sha2:`` and base64."""
    return f"sha2:{base64.b64encode(digest).decode('ascii')}"


def _open(name: str, flags: int, directory: int, relative: str) -> int:
    try:
        return os.open(name, flags, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENOENT):
            raise _refused(relative, "changed while it was read") from None
        raise _refused(relative, f"cannot be read ({error.strerror})") from None


_KINDS = (
    (stat.S_ISLNK, "is a symbolic link"),
    (stat.S_ISFIFO, "is a FIFO"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)


def _check_kind(relative: str, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        if status.st_nlink != 1:
            raise _refused(relative, f"has {status.st_nlink} hard links; an output must be a file of its own")
        return
    what = next((what for matches, what in _KINDS if matches(status.st_mode)), "is not a regular file")
    raise _refused(relative, f"{what}; only regular files and directories become outputs")


_UNSPEAKABLE = re.compile(r"[\x00-\x1f\x7f]")


def _check_name(name: str, relative: str, collection: str, reserved: frozenset[str]) -> None:
    try:
        logical = len(collection.encode()) + 1 + len(relative.encode())
    except UnicodeEncodeError:
        raise _refused(relative, "has a name that is not UTF-8") from None
    if _UNSPEAKABLE.search(name):
        raise _refused(relative, "has a control character in its name")
    if name.startswith("-"):
        raise _refused(relative, "has a name that begins with '-', which commands take for an option")
    if "++++" in name:
        raise _refused(relative, "has '++++' in its name, which separates keywords in iRODS calls")
    if logical > MAXIMUM_PATH_BYTES:
        raise _refused(relative, f"has a name too long for iRODS ({logical} bytes as a logical path)")
    if name in reserved:
        raise _refused(relative, "has a name that this product keeps for the task's own record")


def _is_directory(status: os.stat_result) -> bool:
    return stat.S_ISDIR(status.st_mode)


def _refused(relative: str, cause: str) -> TaskFailed:
    shown = relative.encode("utf-8", "backslashreplace").decode("utf-8")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    if len(shown) > 120:
        shown = f"{shown[:80]}...{shown[-30:]}"
    return TaskFailed(ReasonCode.OUTPUT_REFUSED, f"output '{shown}'", cause)


def _over_limit(found: str) -> TaskFailed:
    return TaskFailed(
        ReasonCode.OUTPUT_LIMIT,
        "outputs",
        f"the task left {found}",
        "Write less, or ask for a larger output limit",
    )


def checksum_of(content: bytes) -> str:
    """The checksum of bytes in memory, as iRODS writes it."""
    return checksum_text(hashlib.sha256(content).digest())
