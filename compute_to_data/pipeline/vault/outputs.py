"""Reads a job's outputs safely: follows no links, hashes each file once, and refuses what is unusual.

An untrusted program wrote the directory. The worker opens every level through a descriptor with
``O_NOFOLLOW``, so the program cannot exchange a name between the check and the read. An entry that is
neither a directory nor a regular file is no output: it fails the task. So does a file that has another name elsewhere
(a hard link). Of a file with several names in the outputs, each becomes a file of its own.

:func:`inventory` is for a program that succeeded: one entry that is no output makes it raise an error.
:func:`left_behind` is for a program that failed: it leaves out what is no output.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Union

from compute_to_data import large_files
from compute_to_data.disk_usage import DIRECTORY
from compute_to_data.job import OutputFile
from compute_to_data.pipeline.vault.refusals import (
    Refusal,
    over_bytes,
    over_files,
    over_names,
    refused,
    shown_name,
    unreadable,
    wrong_kind,
)
from compute_to_data.pipeline.vault.separate_files import Stopped, separate
from compute_to_data.pipeline.vault.survey import MOST_NAME_BYTES, Found, Survey, survey

_AT_ONCE = 1000
"""How many files the worker looks at again between two questions whether to go on."""
if hasattr(os, "O_NOFOLLOW"):  # clients on Windows import this module, too, and read no outputs
    _FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Inventory:
    """The outputs of a job, sorted by name, each read and hashed once. ``folders``: directories that hold nothing.
    ``refused``: what is left out."""

    files: tuple[OutputFile, ...]
    folders: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()


def inventory(
    directory: str,
    collection: str,
    *,
    size_limit: int,
    file_limit: int,
    reserved: frozenset[str],
    between: Callable[[], object] = lambda: None,
) -> Inventory:
    """Every file below ``directory``. Names must fit under ``collection`` and may not be one of ``reserved`` at
    the top. ``between`` is called before each block that is read, and during the survey: it may raise.

    TaskFailed with OUTPUT_REFUSED, which names the entries, or OUTPUT_LIMIT.
    """
    found = survey(directory, collection, most=file_limit, reserved=reserved, between=between)
    if found.name_bytes > MOST_NAME_BYTES:
        raise over_names(MOST_NAME_BYTES)
    if not found.is_whole:
        raise over_files(file_limit)
    if found.refused:
        raise refused(found.refused)
    if found.size > size_limit:
        raise over_bytes(size_limit)
    files = []
    for one in _read_each(directory, found.files, between):
        if isinstance(one, Refusal):
            raise refused([one])
        files.append(one)
    return Inventory(tuple(sorted(files, key=lambda file: file.relative)), found.folders)


def left_behind(
    directory: str,
    collection: str,
    *,
    most_bytes: int,
    most_files: int,
    look_at: int,
    enough: Callable[[], bool] = lambda: False,
) -> Inventory:
    """What can be kept below ``directory`` of a job that failed, and what not.

    If not all files fit the limits, the smallest ones stay: a file that grew without end then costs no other
    file. ``look_at``: after how many entries it stops. ``enough``: whether to look at no more entries, and to read no
    further; files that are not read have no checksum (''). TaskFailed when the directory cannot be read.
    """
    found = survey(directory, collection, most=look_at, between=enough)
    kept, left_out = _that_fit(found.files, most_bytes, most_files)
    problems = list(found.refused)
    problems += [Refusal(shown_name(one.relative), _too_big(most_bytes, most_files)) for one in left_out]
    if not found.is_whole:
        problems.append(Refusal("...", _more_than(look_at, found)))
    files = []
    for one in _read_each(directory, kept, enough):
        if isinstance(one, Refusal):
            problems.append(one)
        else:
            files.append(one)
    folders = found.folders[: max(0, most_files - len(files))]
    return Inventory(tuple(sorted(files, key=lambda file: file.relative)), folders, tuple(problems))


def _more_than(look_at: int, found: Survey) -> str:
    seen = len(found.files) + len(found.folders) + len(found.refused)
    if seen < look_at:
        return f"the directory holds more than the {seen} entries that the worker could look at in time"
    return f"the directory holds more than the {look_at} entries that the worker looks at"


def _too_big(most_bytes: int, most_files: int) -> str:
    return f"does not fit in the {most_bytes} bytes and {most_files} files that are kept"


def _that_fit(files: Sequence[Found], most_bytes: int, most_files: int) -> tuple[list[Found], list[Found]]:
    """The files that fit the limits, the smallest first, and the others; both in their order."""
    fitting, total = set(), 0
    for one in sorted(files, key=lambda file: (file.size, file.relative))[:most_files]:
        total += one.size
        if total > most_bytes:
            break
        fitting.add(one.relative)
    return [one for one in files if one.relative in fitting], [one for one in files if one.relative not in fitting]


def still_there(directory: str, files: Sequence[OutputFile], between: Callable[[], object] = lambda: None) -> None:
    """TaskFailed unless each name is still the inode that the worker read: see :func:`exchanged`. ``between`` is called
    now and then: it may raise."""
    found: list[tuple[OutputFile, Refusal]] = []
    for start in range(0, len(files), _AT_ONCE):
        between()
        found += exchanged(directory, files[start : start + _AT_ONCE])
    if found:
        raise refused([refusal for _, refusal in found])


def exchanged(directory: str, files: Iterable[OutputFile]) -> Iterator[tuple[OutputFile, Refusal]]:
    """The files whose names are no longer the inodes that the worker read.

    For use after registration: the catalog registers by name, and a process of the job could have
    exchanged the name between reading and registering.
    """
    with _Folders(directory) as folders:
        for file in files:
            folder, _, name = file.relative.rpartition("/")
            try:
                status = os.stat(name, dir_fd=folders.descriptor(folder), follow_symlinks=False)
            except OSError as error:
                yield file, Refusal(shown_name(file.relative), f"changed while it was registered ({error.strerror})")
                continue
            if (status.st_dev, status.st_ino) != file.identity or status.st_size != file.size:
                yield file, Refusal(shown_name(file.relative), "was exchanged while it was registered")


class _Folders:
    """Opens folders below a directory by descriptor, part by part without following links. It keeps only those
    open that lead to the last one."""

    def __init__(self, directory: str) -> None:
        self._parts: list[str] = []
        self._descriptors = [os.open(directory, DIRECTORY)]

    def __enter__(self) -> _Folders:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)

    def descriptor(self, folder: str) -> int:
        """The descriptor of a folder; '' is the directory itself. OSError."""
        parts = folder.split("/") if folder else []
        while parts[: len(self._parts)] != self._parts:
            self._parts.pop()
            os.close(self._descriptors.pop())
        for part in parts[len(self._parts) :]:
            self._descriptors.append(os.open(part, DIRECTORY, dir_fd=self._descriptors[-1]))
            self._parts.append(part)
        return self._descriptors[-1]


def _read_each(
    directory: str, files: Iterable[Found], between: Callable[[], object]
) -> Iterator[Union[OutputFile, Refusal]]:
    """Read and hash files; a Refusal for each that is not what the survey found, or cannot be read. ``between`` is
    called before each block: it may raise; when it returns something true, the file is read no further.
    """
    with _Folders(directory) as folders:
        for found in files:
            folder, _, name = found.relative.rpartition("/")
            try:
                place = folders.descriptor(folder)
                descriptor = os.open(name, _FILE, dir_fd=place)
            except OSError as error:
                yield Refusal(shown_name(found.relative), unreadable(error))
                continue
            try:
                descriptor, one = _separated(directory, place, name, descriptor, found, between)
                yield one if isinstance(one, Refusal) else _read(descriptor, one, between)
            finally:
                os.close(descriptor)


def _separated(
    directory: str, folder: int, name: str, descriptor: int, found: Found, between: Callable[[], object]
) -> tuple[int, Found | Refusal]:
    """Make a name of a file with several names a file of its own; also the last name, since what the file takes beyond
    its size was not released. Returns the descriptor of what has the name; the given one is closed if that is
    another."""
    status = os.fstat(descriptor)
    if found.links == 1 or (status.st_dev, status.st_ino) != found.identity:
        return descriptor, found
    try:
        copy = separate(directory, folder, name, descriptor, between)
    except Stopped:
        return descriptor, Refusal(shown_name(found.relative), f"{_links(status)}, and there was no time to copy it")
    except OSError as error:
        return descriptor, Refusal(
            shown_name(found.relative), f"{_links(status)}, and cannot be copied ({error.strerror})"
        )
    os.close(descriptor)
    status = os.fstat(copy)
    return copy, replace(found, identity=(status.st_dev, status.st_ino))


def _links(status: os.stat_result) -> str:
    return f"has {status.st_nlink} hard links"


def _read(descriptor: int, found: Found, between: Callable[[], object]) -> OutputFile | Refusal:
    status = os.fstat(descriptor)
    cause = wrong_kind(status) or (_links(status) if status.st_nlink != 1 else "")
    if cause:
        return Refusal(shown_name(found.relative), cause)
    if status.st_mode & 0o7000:  # a vault must not hold a set-user-id file of the service account
        os.fchmod(descriptor, status.st_mode & 0o777)
    digest = hashlib.sha256()
    identity = (status.st_dev, status.st_ino)
    size = large_files.add_file(digest, descriptor, between)
    if size is None:
        return OutputFile(found.relative, status.st_size, "", identity)
    if (identity, size) != (found.identity, found.size):
        return Refusal(shown_name(found.relative), "changed while it was read")
    return OutputFile(found.relative, size, checksum_text(digest.digest()), identity)


def checksum_text(digest: bytes) -> str:
    """A SHA-256 digest in the form that iRODS uses: ``sha2:`` and base64."""
    return f"sha2:{base64.b64encode(digest).decode('ascii')}"


def checksum_of(content: bytes) -> str:
    """The checksum of bytes in memory, in the form that iRODS uses."""
    return checksum_text(hashlib.sha256(content).digest())
