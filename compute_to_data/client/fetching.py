"""Fetching a task's results into a folder of this host: whole and verified, without overwriting."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compute_to_data.client import results
from compute_to_data.client.local_folders import folders
from compute_to_data.client.local_folders.patterns import is_pattern, parsed_all, verdict
from compute_to_data.client.results import Result, Tree
from compute_to_data.errors import AlreadyExists, Code, ComputeToDataError, InvalidRequest, OutOfReach
from compute_to_data.local_files import ENDING, need_storable
from compute_to_data.model import name_of
from compute_to_data.records.manifest import ancestors
from compute_to_data.task import FETCHED_NAME, LOG_NAMES

if TYPE_CHECKING:
    from compute_to_data.ports.zone import ClientCatalog

_EARLIER_PARTIAL = ".c2d-part"
"""What earlier versions added to the name of a file that was arriving."""


@dataclass(frozen=True)
class Fetched:
    """What fetching into ``directory`` did. Names are relative to the task's collection.
    ``kept`` were already there with the same content. ``missing`` are outputs that the task made
    and that the zone no longer has. ``damaged`` do not match the checksum in the catalog. ``failed``
    could not be fetched, each for the cause given."""

    directory: str
    fetched: tuple[str, ...]
    kept: tuple[str, ...]
    missing: tuple[str, ...]
    damaged: tuple[str, ...]
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether everything is there."""
        return not self.missing and not self.damaged and not self.failed


def fetch_words(
    catalog: ClientCatalog,
    collection: str,
    words: Sequence[str],
    *,
    directory: str = "",
    force: bool = False,
    moved: Callable[[int, int], None] = lambda done, total: None,
) -> Fetched:
    """Fetch what a person's words name: paths in the task, and unless ``directory`` is given, as the last
    word perhaps the folder to fetch into. See :func:`fetch`."""
    tree = results.tree(catalog, collection)
    paths = tuple(words)
    if not directory:
        paths, directory = divided(tree, paths, (*LOG_NAMES, *results.expected(catalog, collection)))
    return fetch(catalog, collection, directory, paths=paths, force=force, moved=moved, tree=tree)


def divided(tree: Tree, words: Sequence[str], also: Iterable[str] = ()) -> tuple[tuple[str, ...], str]:
    """The paths among the words of a person, and the folder to fetch into: ``.``, unless the last word is
    a path outside the tree. NotFound when it is most probably a path in the tree that is misspelled.
    ``also``: further names that a person may expect in the tree."""
    if not words:
        return (), "."
    *paths, last = words
    if last in also or (tree.named(last) and (is_pattern(last) or not os.path.isabs(last))):
        return tuple(words), "."
    if not os.path.isdir(last) and (is_pattern(last) or (not os.path.isabs(last) and tree.closest(last))):
        tree.chosen([last])  # which raises the error
    return tuple(paths), last


def fetch(
    catalog: ClientCatalog,
    collection: str,
    directory: str,
    *,
    folder: str = "",
    paths: Sequence[str] = (),
    force: bool = False,
    moved: Callable[[int, int], None] = lambda done, total: None,
    tree: Tree | None = None,
) -> Fetched:
    """Fetch everything in a task's collection, except inputs that were fetched from URLs, into
    ``<directory>/<folder>``, by default ``<directory>/<task id>``; or what ``paths`` choose (see
    :meth:`results.Tree.chosen`) into ``directory`` itself, in the same subfolders.

    Files that are already there with the right content are kept, so calling this again continues an
    interrupted fetch. Before anything is fetched, it raises AlreadyExists for a file with other
    content (unless ``force``) and for a link in the place of a folder, NotFound for a path that names
    nothing, and InvalidRequest when the folder cannot take the files. Then a file that cannot be
    fetched does not stop the others. ``moved`` receives the bytes done so far and the total.
    ``tree``: what :func:`results.tree` has found in the collection.
    """
    found = tree or results.tree(catalog, collection)
    lost = [name for name in results.expected(catalog, collection) if name not in found.files]
    logs = [name for name in LOG_NAMES if name not in found.files]
    target = os.path.abspath(directory)
    if paths:
        logs = [name for name in logs if name in paths]
        lost = [name for name in lost if _is_meant(name, paths)]
        found = found.chosen([path for path in paths if path not in (*logs, *lost)])
    else:
        found = found.without(FETCHED_NAME)
        below = folder or name_of(collection)
        for one in (below, *ancestors(below)):
            _refuse_link(os.path.join(target, one))
        target = os.path.join(target, below)
    run = _Fetch(target, found, logs, moved)
    run.look_over(force)
    run.fetch_all()
    return Fetched(target, tuple(run.fetched), tuple(run.kept), tuple(lost), tuple(run.damaged), run.failed)


def is_copy(catalog: ClientCatalog, collection: str, folder: str) -> bool:
    """Whether a folder of this computer holds nothing but what a task has in the zone, unchanged."""
    found = results.tree(catalog, collection)
    for place, folders_here, files in os.walk(folder):
        for name in (*files, *folders_here):
            path = os.path.join(place, name)
            inside = os.path.relpath(path, folder)
            if name in folders_here:
                is_ours = inside in found.folders and not os.path.islink(path)
            elif inside in found.files:
                is_ours = _is_same(path, found.files[inside])
            else:
                is_ours = inside in LOG_NAMES and _is_empty(path)
            if not is_ours:
                return False
    return True


def _is_meant(name: str, paths: Sequence[str]) -> bool:
    """Whether paths or patterns would choose a file that is no longer there."""
    if {path.strip("/") for path in paths} & {name, *ancestors(name)}:
        return True
    return any(verdict(parsed_all([path]), name, False) for path in paths if is_pattern(path))


def _refuse_link(place: str) -> None:
    """AlreadyExists for a link in the place of a folder. In a folder that others can write to, such a
    link could make the results overwrite files elsewhere."""
    if os.path.islink(place):
        raise AlreadyExists(place, "is a link", "Move it away, or fetch into another folder")


class _Fetch:
    """One call of :func:`fetch`. ``logs`` are logs that the task does not have, and that become empty files."""

    def __init__(self, target: str, tree: Tree, logs: Sequence[str], moved: Callable[[int, int], None]) -> None:
        self.target = target
        self.tree = tree
        self.logs = logs
        self.fetched: list[str] = []
        self.kept: list[str] = []
        self.damaged: list[str] = []
        self.failed: dict[str, str] = {}
        self._moved = moved
        self._total = self._done = 0
        self._mine: dict[tuple[int, int], str] = {}

    def look_over(self, force: bool) -> None:
        """Find out what is there already; raise what must prevent the fetch."""
        names = (*self.tree.files, *self.logs)
        above = {one for name in (*names, *self.tree.folders) for one in ancestors(name)}
        for folder in sorted({*above, *self.tree.folders}):
            _refuse_link(os.path.join(self.target, folder))
        other: list[str] = []
        for name in names:
            file = os.path.join(self.target, name)
            if os.path.lexists(file):
                result = self.tree.files.get(name)
                same = _is_same(file, result) if result else _is_empty(file)
                (self.kept if same else other).append(name)
        self.kept.sort()
        if other and not force:
            named = ", ".join(sorted(other)[:5]) + (" and more" if len(other) > 5 else "")
            remedy = "Fetch into another folder, or overwrite them with --force"
            raise AlreadyExists(self.target, f"holds files with other content: {named}", remedy)
        kept = set(self.kept)
        self._total = sum(one.size for name, one in self.tree.files.items() if name not in kept)
        _check_room(self.target, self._total)

    def fetch_all(self) -> None:
        """Fetch what is not there. What fails does not stop the rest, unless the zone does not answer."""
        kept = set(self.kept)
        for folder in self.tree.folders:
            self._try(folder, lambda name: _make_folder(self.target, name))
        for name in sorted(self.tree.files):
            if name not in kept:
                self._try(name, self._fetch_one)
        for name in self.logs:
            if name not in kept:
                self._try(name, self._make_empty)

    def _try(self, name: str, step: Callable[[str], None]) -> None:
        try:
            need_storable(self.target, name)
            step(name)
        except OutOfReach:
            raise
        except ComputeToDataError as error:
            if error.code is Code.USER_CHKSUM_MISMATCH:
                self.damaged.append(name)
            else:
                self.failed[name] = error.cause
        except OSError as error:
            self.failed[name] = f"cannot be written: {error.strerror or error}"

    def _fetch_one(self, name: str) -> None:
        """Fetch one result into a file, whole and verified, or not at all."""
        result, file = self.tree.files[name], os.path.join(self.target, name)
        self._prepare(name)
        if not os.path.lexists(file):
            result.catalog.get(result.path, file, moved=self._more)
        else:
            # A name of its own, since a suffix could make the file's name longer than a file system allows.
            arriving = os.path.join(os.path.dirname(file), f".{secrets.token_hex(6)}{ENDING}")
            try:
                result.catalog.get(result.path, arriving, moved=self._more)
                os.replace(arriving, file)
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(arriving)
        self._arrived(name)

    def _make_empty(self, name: str) -> None:
        """Write an empty file for a log that the task does not have."""
        file = os.path.join(self.target, name)
        self._prepare(name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file)
        with open(file, "xb"):
            pass
        self._arrived(name)

    def _prepare(self, name: str) -> None:
        """Make the folder of a file. InvalidRequest when something of the same fetch is in its place already."""
        file = os.path.join(self.target, name)
        _make_folder(self.target, os.path.dirname(name))
        with contextlib.suppress(OSError):
            os.unlink(file + _EARLIER_PARTIAL)
        if not os.path.lexists(file):
            return
        if os.path.isdir(file) and not os.path.islink(file):
            raise InvalidRequest(file, "a folder of that name is there", "Fetch into another folder")
        same = self._mine.get(_identity(file))
        # Another process that fetches into this folder may have replaced ours, and its number is free again.
        if same is not None and _identity(os.path.join(self.target, same)) == _identity(file):
            raise InvalidRequest(name, f"{same} has the same name on this disk, which ignores case or accents")

    def _arrived(self, name: str) -> None:
        self._mine[_identity(os.path.join(self.target, name))] = name
        self.fetched.append(name)

    def _more(self, count: int) -> None:
        self._done += count
        self._moved(self._done, self._total)


def _identity(file: str) -> tuple[int, int]:
    found = os.lstat(file)
    return found.st_dev, found.st_ino


def _make_folder(target: str, name: str) -> None:
    os.makedirs(os.path.join(target, name), exist_ok=True)


def _is_same(file: str, result: Result) -> bool:
    if os.path.islink(file) or not os.path.isfile(file) or os.path.getsize(file) != result.size:
        return False
    return bool(result.checksum) and folders.checksum_of(file)[0] == result.checksum


def _is_empty(file: str) -> bool:
    return not os.path.islink(file) and os.path.isfile(file) and os.path.getsize(file) == 0


def _check_room(target: str, needed: int) -> None:
    """InvalidRequest unless the files can be written there."""
    existing = target
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing):
        raise InvalidRequest(existing, "is not a folder", "Name another one")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InvalidRequest(existing, "you may not write there", "Name another folder")
    free = shutil.disk_usage(existing).free
    if needed > free:
        cause = f"has {free} bytes free, and the results need {needed}"
        raise InvalidRequest(existing, cause, "Name a folder on a larger disk")
