"""Looks at what a job left in its outputs: at names and kinds only, without reading files or following links.

On the way it releases what outputs take beyond their sizes (``release_space``), so the job must be gone.
The worker opens every directory through a descriptor with ``O_NOFOLLOW``, so the untrusted program cannot
exchange a name between the check and the use.
"""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from compute_to_data.disk_usage import DIRECTORY, MAXIMUM_DEPTH
from compute_to_data.pipeline.vault import release_space, separate_files
from compute_to_data.pipeline.vault.refusals import Refusal, refused, shown_name, unreadable, wrong_kind, wrong_name

MOST_NAME_BYTES = 16 << 20
"""The most bytes that the names of all outputs of a task may have together, as paths below the outputs: the worker
keeps them in memory, and a limit of files does not bound them."""
_BETWEEN = 256
"""Entries between two questions whether to stop."""


@dataclass(frozen=True)
class Found:
    """A file that may become an output: its path below the outputs, its size in bytes, its device and inode, and how
    many names it has (hard links)."""

    relative: str
    size: int
    identity: tuple[int, int]
    links: int = 1


@dataclass(frozen=True)
class Survey:
    """What a directory holds. ``folders``: the directories that hold nothing. ``hidden``: the bytes that files and
    directories take beyond their sizes and that could not be released. ``is_whole``: False when the directory holds
    more entries than the worker looks at. ``name_bytes``: those of all names, as paths below the directory."""

    files: tuple[Found, ...]
    folders: tuple[str, ...]
    refused: tuple[Refusal, ...]
    hidden: int
    is_whole: bool
    name_bytes: int = 0

    @property
    def size(self) -> int:
        """Bytes of all files, with what is hidden."""
        return sum(file.size for file in self.files) + self.hidden


def survey(
    directory: str,
    collection: str,
    *,
    most: int,
    reserved: frozenset[str] = frozenset(),
    between: Callable[[], object] = lambda: None,
) -> Survey:
    """Look at each entry below ``directory``, in the order of the names, without reading the files.

    Names must fit under ``collection`` and may not be one of ``reserved`` at the top. It stops after ``most``
    files, directories that hold nothing, and refused entries. ``between`` is called now and then: it may raise, and
    when it returns something true, no more entries are looked at. TaskFailed when the directory cannot be read.
    """
    try:
        root = os.open(directory, DIRECTORY)
    except OSError as error:
        raise refused([Refusal("/outputs", f"cannot be read ({error.strerror})")]) from None
    try:
        separate_files.discard_unfinished(directory, root)
        walk = _Walk(collection, reserved, most, _owners(os.fstat(root)), between)
        walk.enter(root, "")
    finally:
        os.close(root)
    files, linked = _without_links_elsewhere(walk.files)
    found = files, tuple(walk.folders), (*walk.refused, *linked)
    return Survey(*found, walk.hidden, walk.room >= 0, walk.name_bytes)


def _without_links_elsewhere(files: Sequence[Found]) -> tuple[tuple[Found, ...], list[Refusal]]:
    """The files all of whose names are outputs, and refusals of the others."""
    names = Counter(one.identity for one in files if one.links > 1)
    kept, others = [], []
    for one in files:
        seen = names.get(one.identity, 1)
        if one.links > seen:
            cause = f"has {one.links} hard links, of which {seen} {'is' if seen == 1 else 'are'} in the outputs"
            others.append(Refusal(shown_name(one.relative), cause))
        else:
            kept.append(one)
    return tuple(kept), others


def _owners(directory: os.stat_result) -> frozenset[int]:
    """The uids to which outputs may belong: that of the directory and, unless it is root, that of the worker."""
    return frozenset({directory.st_uid, os.geteuid() or directory.st_uid})


class _Walk:
    """One walk through an outputs directory. ``room``: how many more entries it looks at; -1 when there were more.
    ``owners``: the uids to which entries may belong."""

    def __init__(
        self,
        collection: str,
        reserved: frozenset[str],
        most: int,
        owners: frozenset[int],
        between: Callable[[], object],
    ) -> None:
        self.files: list[Found] = []
        self.folders: list[str] = []
        self.refused: list[Refusal] = []
        self.hidden = self.name_bytes = 0
        self.room = most
        self._collection = collection
        self._reserved = reserved
        self._owners = owners
        self._between = between
        self._looks = 0

    def enter(self, descriptor: int, prefix: str) -> None:
        """Look at a directory. ``prefix``: its path below the outputs with a slash at the end; '' for the top."""
        if prefix.count("/") > MAXIMUM_DEPTH:
            self._refuse(prefix, f"lies more than {MAXIMUM_DEPTH} directories deep")
            return
        try:
            self.hidden += release_space.hidden_size(release_space.of_directory(descriptor))
        except OSError as error:
            self._refuse(prefix or ".", release_space.failed(error))
            return
        names = self._entries(descriptor)
        if not names and prefix:
            self.room -= 1
            self.folders.append(prefix[:-1])
        for entry in names:
            self._looks += 1
            if self.room <= 0 or (self._looks % _BETWEEN == 0 and self._between()):
                self.room = -1
                return
            self._look_at(entry, descriptor, prefix)

    def _entries(self, descriptor: int) -> list[os.DirEntry[str]]:
        """The entries sorted by name; of more than the walk looks at, the first."""
        with os.scandir(descriptor) as entries:
            found = list(islice(entries, self.room + 1))
            if len(found) > self.room:
                found = heapq.nsmallest(self.room + 1, chain(found, entries), key=lambda entry: entry.name)
        return sorted(found, key=lambda entry: entry.name)

    def _look_at(self, entry: os.DirEntry[str], descriptor: int, prefix: str) -> None:
        relative = f"{prefix}{entry.name}"
        self.name_bytes += len(os.fsencode(relative))
        if self.name_bytes > MOST_NAME_BYTES:
            self.room = -1
            return
        cause = wrong_name(entry.name, relative, self._collection, frozenset() if prefix else self._reserved)
        if cause:
            self._refuse(relative, cause)
        elif entry.is_dir(follow_symlinks=False):
            self._enter_below(entry.name, descriptor, relative)
        else:
            status = entry.stat(follow_symlinks=False)
            cause = wrong_kind(status) or self._wrong_owner(status)
            if cause:
                self._refuse(relative, cause)
            else:
                self._keep(entry.name, descriptor, relative, status)

    def _keep(self, name: str, descriptor: int, relative: str, status: os.stat_result) -> None:
        try:
            # A file with several names may have one elsewhere. If not, each becomes a copy, which takes no more.
            if status.st_nlink == 1:
                self.hidden += release_space.hidden_size(release_space.of_file(name, descriptor, status))
        except OSError as error:
            self._refuse(relative, release_space.failed(error))
            return
        self.room -= 1
        self.files.append(Found(relative, status.st_size, (status.st_dev, status.st_ino), status.st_nlink))

    def _enter_below(self, name: str, descriptor: int, relative: str) -> None:
        try:
            below = os.open(name, DIRECTORY, dir_fd=descriptor)
        except OSError as error:
            self._refuse(relative, unreadable(error))
            return
        try:
            cause = self._wrong_owner(os.fstat(below))
            if cause:
                self._refuse(relative, cause)
            else:
                self.enter(below, f"{relative}/")
        finally:
            os.close(below)

    def _wrong_owner(self, status: os.stat_result) -> str:
        """Why an entry's owner is none that outputs have; '' when it may be an output."""
        return "" if status.st_uid in self._owners else f"belongs to uid {status.st_uid}, not to the task"

    def _refuse(self, relative: str, cause: str) -> None:
        self.room -= 1
        self.refused.append(Refusal(shown_name(relative), cause))
