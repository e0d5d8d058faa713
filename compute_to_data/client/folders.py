"""Folders of this host: list one for upload as a dataset, or fill one from a dataset."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from compute_to_data.client.manifest import HeldFile, HeldFolder, Manifest, parent
from compute_to_data.errors import AlreadyExists, Code, ComputeToDataError, InvalidRequest, zone_error
from compute_to_data.irods_names import check_in_zone
from compute_to_data.local_files import ENDING, Digest, need_names, source

_NAMED: Final = 10
"""How many of the files that cannot be stored an error names."""
_BLOCK: Final = 1 << 20


@dataclass(frozen=True)
class LocalFile:
    """A regular file below the folder: its relative path, size in bytes and modification time."""

    path: str
    size: int
    modified_ns: int


@dataclass(frozen=True)
class Listing:
    """Everything below a folder, sorted by path, so parents come first."""

    directory: str
    files: tuple[LocalFile, ...]
    folders: tuple[HeldFolder, ...]

    def physical_path(self, path: str) -> str:
        """The physical path of a relative path."""
        return os.path.join(self.directory, path)


def listing(directory: str, collection: str) -> Listing:
    """List ``directory``, which is to be stored below ``collection``.

    InvalidRequest names what cannot be stored: links, sockets, devices, pipes, names that iRODS
    cannot hold, folders that cannot be read. Files that an interrupted download left
    (``*.c2d-partial``) are skipped.
    """
    files: list[LocalFile] = []
    folders: list[HeldFolder] = []
    refused: list[str] = []
    if not os.path.isdir(directory):
        raise InvalidRequest(directory, "is not a folder", "Give the folder to upload")
    pile = [""]
    while pile:
        above = pile.pop()
        try:
            entries = sorted(os.scandir(os.path.join(directory, above)), key=lambda entry: entry.name)
        except OSError as error:
            refused.append(f"{above or '.'} ({error.strerror})")
            continue
        for entry in entries:
            path = f"{above}/{entry.name}" if above else entry.name
            cause = _refusal(entry, f"{collection}/{path}")
            found = entry.stat(follow_symlinks=False)
            if cause:
                refused.append(f"{path!r} ({cause})")
            elif stat.S_ISDIR(found.st_mode):
                folders.append(HeldFolder(path, found.st_mtime_ns))
                pile.append(path)
            elif not entry.name.endswith(ENDING):
                files.append(LocalFile(path, found.st_size, found.st_mtime_ns))
    if refused:
        more = f" and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
        remedy = "Nothing was sent. Move them out of the folder, or replace them with regular files"
        raise InvalidRequest(directory, f"holds what cannot be stored: {', '.join(refused[:_NAMED])}{more}", remedy)
    return Listing(directory, tuple(sorted(files, key=_by_path)), tuple(sorted(folders, key=_by_path)))


def _by_path(entry: LocalFile | HeldFolder) -> str:
    return entry.path


def _refusal(entry: os.DirEntry[str], logical_path: str) -> str:
    try:
        check_in_zone(logical_path, logical_path.split("/")[1])
    except ComputeToDataError as error:
        return error.cause
    if entry.is_symlink():
        return "a symbolic link"
    if not entry.is_dir() and not entry.is_file():
        return "neither a file nor a folder"
    return ""


def checksum_of(path: str) -> tuple[str, int]:
    """The checksum (``sha2:<base64>``) and size in bytes of a local file. Raises the errors of
    :func:`~compute_to_data.local_files.source`."""
    digest = Digest()
    with source(path) as opened:
        buffer = bytearray(_BLOCK)
        while count := opened.file.readinto(buffer):  # type: ignore[attr-defined]
            digest.update(memoryview(buffer)[:count])
    return digest.text, digest.size


class Target:
    """A folder that receives a dataset. Links in it are never followed."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)

    def physical_path(self, path: str) -> str:
        """The physical path of a relative path."""
        return os.path.join(self.directory, path)

    def missing(self, manifest: Manifest) -> list[HeldFile]:
        """The files that are not here yet. It changes nothing.

        AlreadyExists when something else is in the place of a file or folder.
        """
        if os.path.lexists(self.directory) and not os.path.isdir(self.directory):
            raise AlreadyExists(self.directory, "is not a folder", "Give a folder, or a name that does not exist yet")
        need_names([*(folder.path for folder in manifest.folders), *(file.path for file in manifest.files)])
        for folder in manifest.folders:
            self._need_folder(folder.path)
        return [file for file in manifest.files if not self._is_here(file)]

    def _need_folder(self, path: str) -> None:
        """AlreadyExists when some part of the path exists and is not a folder."""
        way = path
        while way:
            place = self.physical_path(way)
            if os.path.islink(place) or (os.path.lexists(place) and not os.path.isdir(place)):
                cause = "is a link" if os.path.islink(place) else "is not a folder, and the dataset has a folder there"
                raise AlreadyExists(place, cause, "Move it away, or choose another folder")
            way = parent(way)

    def _is_here(self, file: HeldFile) -> bool:
        self._need_folder(parent(file.path))
        place = self.physical_path(file.path)
        if not os.path.lexists(place):
            return False
        is_file = stat.S_ISREG(os.lstat(place).st_mode)
        if is_file and os.lstat(place).st_size == file.size and checksum_of(place)[0] == file.checksum:
            return True
        cause = "exists, and differs from the dataset's file"
        code = Code.OVERWRITE_WITHOUT_FORCE_FLAG
        raise AlreadyExists(place, cause, "Move it away, or choose another folder", code=code)

    def make_folders(self, manifest: Manifest) -> None:
        """Make all folders of the dataset. AlreadyExists when one is a link; ZoneError -520000."""
        paths = {folder.path for folder in manifest.folders}
        paths |= {parent(file.path) for file in manifest.files}
        try:
            os.makedirs(self.directory, exist_ok=True)
            for path in sorted(paths - {""}):
                self._need_folder(path)
                os.makedirs(self.physical_path(path), exist_ok=True)
        except OSError as error:
            raise zone_error(Code.UNIX_FILE_MKDIR_ERR, str(error.filename), error.strerror or str(error)) from error

    def need_room(self, size: int) -> None:
        """InvalidRequest when ``size`` bytes do not fit on the disk."""
        place = self.directory
        while not os.path.exists(place):
            place = os.path.dirname(place)
        free = shutil.disk_usage(place).free
        if size > free:
            cause = f"the dataset needs {size} bytes, and the disk has {free} bytes free"
            raise InvalidRequest(self.directory, cause, "Choose a folder on a larger disk")

    def set_times(self, manifest: Manifest) -> None:
        """Set the modification times of files, then of folders from the deepest up."""
        folders: Sequence[HeldFolder] = sorted(manifest.folders, key=_by_path, reverse=True)
        times = [(file.path, file.modified_ns) for file in manifest.files]
        times += [(folder.path, folder.modified_ns) for folder in folders]
        for path, modified_ns in times:
            follow = os.utime not in os.supports_follow_symlinks
            os.utime(self.physical_path(path), ns=(modified_ns, modified_ns), follow_symlinks=follow)


def deepest(folders: Sequence[HeldFolder]) -> Iterator[str]:
    """The paths of the folders that have no folder below them. Making these makes all folders."""
    above = {parent(folder.path) for folder in folders}
    return (folder.path for folder in folders if folder.path not in above)
