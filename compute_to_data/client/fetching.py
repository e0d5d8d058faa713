"""Fetching a task's results into a folder of this host: whole and verified, without overwriting."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compute_to_data.client import folders, results
from compute_to_data.client.manifest import ancestors
from compute_to_data.client.results import Result
from compute_to_data.errors import AlreadyExists, Code, InvalidRequest, ZoneError
from compute_to_data.local_files import need_names
from compute_to_data.task import STDERR_NAME, STDOUT_NAME

if TYPE_CHECKING:
    from compute_to_data.ports import ClientCatalog

_PARTIAL = ".c2d-part"


@dataclass(frozen=True)
class Fetched:
    """What fetching a task into ``directory`` did. Names are relative to the task's collection.
    ``kept`` were already there with the same content. ``missing`` are outputs that the task made
    and that the zone no longer has. ``damaged`` do not match the checksum in the catalog."""

    directory: str
    fetched: tuple[str, ...]
    kept: tuple[str, ...]
    missing: tuple[str, ...]
    damaged: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing or damaged."""
        return not self.missing and not self.damaged


def fetch(
    catalog: ClientCatalog,
    collection: str,
    directory: str,
    *,
    force: bool = False,
    moved: Callable[[int, int], None] = lambda done, total: None,
) -> Fetched:
    """Fetch everything in a task's collection into the folder ``<directory>/<task id>``.

    Files that are already there with the right content are kept, so calling this again continues an
    interrupted fetch. Before anything is fetched, it raises AlreadyExists for a file with other
    content (unless ``force``) and for a link in the place of a folder, and InvalidRequest when the
    folder cannot take the files. ``moved`` receives the bytes done so far and the total.
    """
    target = os.path.join(os.path.abspath(directory), collection.rpartition("/")[2])
    wanted = {one.name: one for one in results.everything(catalog, collection)}
    below = sorted(results.folders(catalog, collection))
    need_names([*wanted, *below])
    _refuse_links(target, [*wanted, *(f"{folder}/" for folder in below)])
    empty = [name for name in (STDOUT_NAME, STDERR_NAME) if name not in wanted]
    kept = sorted(_looked_over(target, wanted, empty, force))
    todo = [one for name, one in sorted(wanted.items()) if name not in kept]
    total = sum(one.size for one in todo)
    _check_room(target, total)
    fetched: list[str] = []
    damaged: list[str] = []
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        moved(done, total)

    for result in todo:
        right = _fetch_one(result, os.path.join(target, result.name), more)
        (fetched if right else damaged).append(result.name)
    for name in empty:
        if name not in kept:
            _make_empty(os.path.join(target, name))
            fetched.append(name)
    for folder in below:
        _make_folder(os.path.join(target, folder))
    missing = [name for name in results.expected(catalog, collection) if name not in wanted]
    return Fetched(target, tuple(fetched), tuple(kept), tuple(missing), tuple(damaged))


def _make_folder(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(folder, f"cannot be made: {error.strerror}") from None


def _make_empty(file: str) -> None:
    """Write an empty file for a log that the task does not have."""
    try:
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file)
        with open(file, "xb"):
            pass
    except OSError as error:
        raise InvalidRequest(file, f"cannot be written: {error.strerror}") from None


def _refuse_links(target: str, names: Iterable[str]) -> None:
    """AlreadyExists for a link in the place of a folder. In a folder that others can write to, such a
    link could make the results overwrite files elsewhere."""
    for folder in sorted({"", *(above for name in names for above in ancestors(name))}):
        place = os.path.join(target, folder).rstrip("/")
        if os.path.islink(place):
            raise AlreadyExists(place, "is a link", "Move it away, or fetch into another folder")


def _looked_over(target: str, wanted: Mapping[str, Result], empty: Iterable[str], force: bool) -> set[str]:
    """The names of files that are already there with the right content. AlreadyExists for files with
    other content, unless ``force``."""
    kept, other = set(), []
    for name in (*wanted, *empty):
        file = os.path.join(target, name)
        if not os.path.lexists(file):
            continue
        if _is_same(file, wanted[name]) if name in wanted else _is_empty(file):
            kept.add(name)
        else:
            other.append(name)
    if other and not force:
        named = ", ".join(sorted(other)[:5]) + (" and more" if len(other) > 5 else "")
        remedy = "Fetch into another folder, or overwrite them with --force"
        raise AlreadyExists(target, f"holds files with other content: {named}", remedy)
    return kept


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


def _fetch_one(result: Result, file: str, moved: Callable[[int], None]) -> bool:
    """Fetch one result into a file, whole and verified, or not at all. False when it is damaged."""
    partial = file + _PARTIAL
    try:
        os.makedirs(os.path.dirname(file), exist_ok=True)
        if os.path.isdir(file) and not os.path.islink(file):
            raise InvalidRequest(file, "is a folder, and a result has the same name", "Fetch into another folder")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        result.catalog.get(result.path, partial, moved=moved)
        os.replace(partial, file)
    except ZoneError as error:
        if error.code is Code.USER_CHKSUM_MISMATCH:
            return False
        raise
    except OSError as error:
        raise InvalidRequest(file, f"cannot be written: {error.strerror}") from None
    return True
