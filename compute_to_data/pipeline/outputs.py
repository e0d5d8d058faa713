"""Reads a job's outputs safely: follows no links, hashes each file once, and refuses what is unusual.

An untrusted program wrote the directory. The worker opens every level through a descriptor with
``O_NOFOLLOW``, so the program cannot exchange a name between the check and the read. An entry that is
neither a directory nor a regular file with one link fails the task.
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
    """The size of a directory's content: bytes (the larger of allocated and apparent) and entries.

    ``hidden``: the worker cannot read a directory in it (no permission, or deeper than outputs may be), so
    it could hold anything.
    """

    size: int
    entries: int
    hidden: bool = False


def measure(directory: str, stop_above: int) -> Usage:
    """Bytes and entries below ``directory``; stops early above ``stop_above`` bytes.

    Used while the job runs, so it skips names that vanish meanwhile. It counts links but never follows them.
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
    TaskFailed with OUTPUT_REFUSED, which names the entry, or OUTPUT_LIMIT.
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
    """TaskFailed unless each name is still the inode that :func:`inventory` read.

    For use after registration: the catalog registers by name, and a process of the job could have
    exchanged the name between reading and registering.
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
        if status.st_mode & 0o7000:  # a vault must not hold a set-user-id file of the service account
            os.fchmod(descriptor, status.st_mode & 0o777)
        digest = hashlib.sha256()
        size = 0
        wanted = min(status.st_size + 1, _BLOCK)  # a large buffer costs more time than a small file
        while True:
            block = os.read(descriptor, wanted)
            digest.update(block)
            size += len(block)
            if len(block) < wanted:  # a regular file returns less only at its end
                break
    finally:
        os.close(descriptor)
    return OutputFile(relative, size, checksum_text(digest.digest()), (status.st_dev, status.st_ino))


def checksum_text(digest: bytes) -> str:
    """A SHA-256 digest in the form that iRODS uses: ``sha2:`` and base64."""
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
            raise _refused(relative, f"has {status.st_nlink} hard links; an output must have only one")
        return
    what = next((what for matches, what in _KINDS if matches(status.st_mode)), "is not a regular file")
    raise _refused(relative, f"{what}; only regular files and directories become outputs")


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _check_name(name: str, relative: str, collection: str, reserved: frozenset[str]) -> None:
    try:
        logical = len(collection.encode()) + 1 + len(relative.encode())
    except UnicodeEncodeError:
        raise _refused(relative, "has a name that is not UTF-8") from None
    if _CONTROL.search(name):
        raise _refused(relative, "has a control character in its name")
    if name.startswith("-"):
        raise _refused(relative, "has a name that begins with '-', which commands would read as an option")
    if "++++" in name:
        raise _refused(relative, "has '++++' in its name, which separates keywords in iRODS calls")
    if logical > MAXIMUM_PATH_BYTES:
        raise _refused(relative, f"has a name too long for iRODS ({logical} bytes as a logical path)")
    if name in reserved:
        raise _refused(relative, "has a name that is reserved for the task's own record")


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
        f"the task wrote {found}",
        "Write less, or request a larger output limit",
    )


def checksum_of(content: bytes) -> str:
    """The checksum of bytes in memory, in the form that iRODS uses."""
    return checksum_text(hashlib.sha256(content).digest())
