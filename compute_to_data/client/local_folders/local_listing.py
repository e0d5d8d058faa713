"""What is to be uploaded: files and folders of this host, with their places in a dataset."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from compute_to_data.client.local_folders import patterns
from compute_to_data.client.local_folders.patterns import Pattern
from compute_to_data.errors import ComputeToDataError, InvalidRequest, shortened_in_the_middle
from compute_to_data.irods_names import check_in_zone
from compute_to_data.local_files import ENDING
from compute_to_data.records.manifest import HeldFolder

IGNORE_NAME: Final = ".c2dignore"
"""A file with patterns of what an upload leaves out, in its own folder and below."""
_NAMED: Final = 10
"""How many of the files that cannot be sent an error names. All are in its ``refused``."""
_LEFTOVER: Final = re.compile(rf".*\.?[0-9a-f]{{12}}{re.escape(ENDING)}", re.DOTALL)
_LINK: Final = "a symbolic link"


class CannotBeSent(InvalidRequest):
    """Files that an upload cannot send; nothing was sent. ``refused``: each path with its cause."""

    def __init__(self, subject: str, refused: Sequence[tuple[str, str]]) -> None:
        self.refused = tuple(refused)
        if _base_name(subject) == self.refused[0][0]:  # what the person named, and nothing in it
            cause = f"cannot be stored: {self.refused[0][1]}"
            remedy = "Give a file or a folder; c2d run --stdin reads a pipe"
        else:
            named = ", ".join(f"{shortened_in_the_middle(path)!r} ({cause})" for path, cause in self.refused[:_NAMED])
            more = f" and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
            follow = " Links are sent as what they lead to with: c2d dataset upload --follow-links."
            cause = f"holds what cannot be stored: {named}{more}"
            remedy = f"Move them away, or name them in {IGNORE_NAME}.{follow if _has_links(refused) else ''}"
        super().__init__(subject, cause, f"Nothing was sent. {remedy}")


def _has_links(refused: Sequence[tuple[str, str]]) -> bool:
    return any(cause == _LINK for _, cause in refused)


@dataclass(frozen=True)
class LocalFile:
    """A regular file: its path in the dataset, its size in bytes, its modification time, and its
    physical path, in which no part is a link that the listing followed."""

    path: str
    size: int
    modified_ns: int
    physical_path: str


@dataclass(frozen=True)
class Listing:
    """Everything to send, sorted by path, so parents come first. ``name``: what to call a new dataset.
    ``ignored``: paths that the patterns of ``.c2dignore`` files leave out, and leftovers of interrupted
    downloads. ``is_folder``: it is the content of one folder."""

    name: str
    files: tuple[LocalFile, ...]
    folders: tuple[HeldFolder, ...]
    ignored: tuple[str, ...] = ()
    is_folder: bool = True


def listing(given: Sequence[str], collection: str, *, follow_links: bool = False) -> Listing:
    """List what is to be stored below ``collection``.

    Of one folder, its content is listed. Of several files and folders, each is listed under its own
    name. With ``follow_links``, a link stands for what it leads to. CannotBeSent names everything that
    cannot be stored: links, sockets, devices, pipes, names that iRODS cannot hold, what cannot be read.
    """
    if not given or not all(given):
        raise InvalidRequest("dataset", "no folder is given", "Give the folder to upload, or . for this one")
    for one in given:
        if not os.path.exists(one):
            raise InvalidRequest(one, "is not a folder or a file", "Give the folder or files to upload")
        if os.path.dirname(os.path.abspath(one)) == os.path.abspath(one):
            raise InvalidRequest(one, "is everything on this computer", "Give the folder or files to upload")
    found = _Walk(collection, follow_links)
    is_folder = len(given) == 1 and os.path.isdir(given[0])
    if is_folder:
        found.folder(_Folder("", given[0]))
    else:
        _need_different_names(given)
        for one in given:
            found.entry(_Folder("", os.path.dirname(os.path.abspath(one))), _base_name(one), is_named=True)
    if found.refused:
        raise CannotBeSent(given[0] if len(given) == 1 else "the files to upload", found.refused)
    files = tuple(sorted(found.files, key=lambda file: file.path))
    folders = tuple(sorted(found.folders, key=lambda folder: folder.path))
    return Listing(_name(given), files, folders, tuple(sorted(found.ignored)), is_folder)


def _base_name(path: str) -> str:
    return os.path.basename(os.path.abspath(path))


def _name(given: Sequence[str]) -> str:
    """The name of the first path as UTF-8, which a manifest must be."""
    name = os.fsencode(_base_name(given[0])).decode("utf-8", "backslashreplace")
    return name if len(given) == 1 else f"{name} and {len(given) - 1} more"


def _need_different_names(given: Sequence[str]) -> None:
    known: dict[str, str] = {}
    for one in given:
        name = _base_name(one)
        if name in known:
            cause = f"and {known[name]} would both be {name!r} in the dataset"
            raise InvalidRequest(one, cause, "Rename one, or upload their common folder")
        known[name] = one


@dataclass(frozen=True)
class _Folder:
    """A folder on the way: its path in the dataset, its physical path, the patterns for what is in it,
    each with the path of its own folder, and the folders above it (device and number)."""

    path: str
    physical_path: str
    ignoring: tuple[tuple[str, tuple[Pattern, ...]], ...] = ()
    above: frozenset[tuple[int, int]] = frozenset()

    def below(self, name: str) -> str:
        """The path of a member in the dataset."""
        return f"{self.path}/{name}" if self.path else name

    def ignores(self, path: str, is_folder: bool) -> bool:
        """Whether the patterns leave a member out: the deepest file that decides does."""
        for top, found in reversed(self.ignoring):
            decided = patterns.verdict(found, path[len(top) + 1 :] if top else path, is_folder)
            if decided is not None:
                return decided
        return os.path.basename(path) == IGNORE_NAME


@dataclass
class _Walk:
    """One walk through the folders."""

    collection: str
    follow_links: bool
    files: list[LocalFile] = field(default_factory=list)
    folders: list[HeldFolder] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    def folder(self, top: _Folder) -> None:
        """List a folder's content, without recursion: folders may be deeper than Python's stack."""
        pile = [top]
        while pile:
            here = pile.pop()
            try:
                own = os.stat(here.physical_path)
                names = sorted(os.listdir(here.physical_path))
                inside = self._with_patterns(here, names, (own.st_dev, own.st_ino))
            except OSError as error:
                self.refused.append((here.path or ".", error.strerror or str(error)))
                continue
            for name in names:
                pile.extend(self._member(inside, name))

    def entry(self, here: _Folder, name: str, *, is_named: bool) -> None:
        """List a path that the person named, and what is below it. Like ``cp``, follow a link there."""
        for folder in self._member(here, name, follows=is_named):
            self.folder(folder)

    @staticmethod
    def _with_patterns(here: _Folder, names: Sequence[str], identity: tuple[int, int]) -> _Folder:
        ignoring = here.ignoring
        place = os.path.join(here.physical_path, IGNORE_NAME)
        if IGNORE_NAME in names and os.path.isfile(place):
            with open(place, encoding="utf-8", errors="surrogateescape") as file:
                ignoring = (*ignoring, (here.path, patterns.parsed_all(file)))
        return _Folder(here.path, here.physical_path, ignoring, here.above | {identity})

    def _member(self, here: _Folder, name: str, *, follows: bool = False) -> Iterator[_Folder]:
        """Take in one member of a folder; yields it when it is a folder to list."""
        path, physical_path = here.below(name), os.path.join(here.physical_path, name)
        follows = follows or self.follow_links
        is_link = os.path.islink(physical_path)
        is_folder = os.path.isdir(physical_path) and (follows or not is_link)
        if here.ignores(path, is_folder) or (_LEFTOVER.fullmatch(name) and not is_folder):
            self.ignored.append(path)
            return
        cause = _name_cause(f"{self.collection}/{path}") or (_LINK if is_link and not follows else "")
        try:
            found = os.stat(physical_path)
        except OSError as error:
            cause = cause or ("a link that leads nowhere" if is_link else error.strerror or str(error))
        cause = cause or _cause(found, physical_path, here.above)
        if cause:
            self.refused.append((path, cause))
        elif is_folder:
            self.folders.append(HeldFolder(path, found.st_mtime_ns))
            yield _Folder(path, physical_path, here.ignoring, here.above)
        else:
            real = os.path.realpath(physical_path) if follows else physical_path
            self.files.append(LocalFile(path, found.st_size, found.st_mtime_ns, real))


def _name_cause(logical_path: str) -> str:
    """Why iRODS cannot hold this path; '' when it can."""
    try:
        check_in_zone(logical_path, logical_path.split("/")[1])
    except ComputeToDataError as error:
        return error.cause
    return ""


def _cause(found: os.stat_result, physical_path: str, above: frozenset[tuple[int, int]]) -> str:
    """Why a file or folder cannot be sent; '' when it can."""
    if stat.S_ISDIR(found.st_mode):
        return "a link to a folder that holds it" if (found.st_dev, found.st_ino) in above else ""
    if not stat.S_ISREG(found.st_mode):
        return "neither a file nor a folder"
    return "" if os.access(physical_path, os.R_OK) else "you may not read it"
