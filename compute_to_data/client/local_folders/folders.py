"""Fills a folder of this host with the files of a dataset."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from compute_to_data.errors import AlreadyExists, Code, ComputeToDataError, InvalidRequest, zone_error
from compute_to_data.local_files import Digest, Moved, need_storable, silent, source
from compute_to_data.records.manifest import HeldFile, HeldFolder, Manifest, ancestors, parent

_BLOCK: Final = 1 << 20
_COARSEST_NANOSECONDS: Final = 2_000_000_000
"""FAT, the coarsest file system in use, keeps even seconds."""


def checksum_of(path: str, moved: Moved = silent) -> tuple[str, int]:
    """The checksum (``sha2:<base64>``) and size in bytes of a local file. ``moved`` may raise an error to end it.
    Raises the errors of :func:`~compute_to_data.local_files.source`."""
    digest = Digest()
    with source(path) as opened:
        buffer = bytearray(_BLOCK)
        while count := opened.file.readinto(buffer):  # type: ignore[attr-defined]
            digest.update(memoryview(buffer)[:count])
            moved(count)
    return digest.text, digest.size


class Target:
    """A folder that receives a dataset. Links in it are never followed. ``failures``: the files and
    folders that this host cannot hold, by their paths; the others are not affected."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)
        self.failures: dict[str, ComputeToDataError] = {}

    def physical_path(self, path: str) -> str:
        """The physical path of a relative path."""
        return os.path.join(self.directory, path)

    def missing(self, manifest: Manifest) -> list[HeldFile]:
        """The files that are not here yet. It changes nothing.

        AlreadyExists when something else is in the place of a file or folder.
        """
        if os.path.lexists(self.directory) and not os.path.isdir(self.directory):
            raise AlreadyExists(self.directory, "is not a folder", "Give a folder, or a name that does not exist yet")
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
        """Make all folders of the dataset. AlreadyExists when one is a link; ZoneError -520000 when the
        folder itself cannot be made."""
        _make(self.directory)
        paths = {folder.path for folder in manifest.folders}
        paths |= {parent(file.path) for file in manifest.files}
        for path in sorted(paths - {""}):
            self._need_folder(path)
            try:
                need_storable(self.directory, path)
                _make(self.physical_path(path))
            except ComputeToDataError as error:
                self.failures[path] = error

    def storable(self, files: Sequence[HeldFile]) -> list[HeldFile]:
        """The files that this host can hold. Call it after :meth:`make_folders`."""
        able = []
        for file in files:
            if any(above in self.failures for above in ancestors(file.path)):
                continue  # the error of its folder is enough
            try:
                need_storable(self.directory, file.path)
                able.append(file)
            except InvalidRequest as error:
                self.failures[file.path] = error
        return able

    def need_room(self, size: int) -> None:
        """InvalidRequest when ``size`` bytes do not fit on the disk."""
        place = self.directory
        while not os.path.exists(place):
            place = os.path.dirname(place)
        free = shutil.disk_usage(place).free
        if size > free:
            cause = f"the dataset needs {size} bytes, and the disk has {free} bytes free"
            raise InvalidRequest(self.directory, cause, "Choose a folder on a larger disk")

    def set_times(self, manifest: Manifest) -> tuple[str, ...]:
        """Set the modification times of files, then of folders from the deepest up, where they are here.
        Returns the paths whose times this host cannot hold."""
        folders = sorted(manifest.folders, key=lambda folder: folder.path, reverse=True)
        times = [(file.path, file.modified_ns) for file in manifest.files]
        times += [(folder.path, folder.modified_ns) for folder in folders]
        present = [(path, modified_ns) for path, modified_ns in times if os.path.lexists(self.physical_path(path))]
        return tuple(path for path, modified_ns in present if not _set_time(self.physical_path(path), modified_ns))


def _make(directory: str) -> None:
    """Make a folder. ZoneError -520000."""
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise zone_error(Code.UNIX_FILE_MKDIR_ERR, directory, error.strerror or str(error)) from error


def _set_time(place: str, modified_ns: int) -> bool:
    """Whether a file or folder has this modification time now, as precisely as the file system can tell."""
    try:
        follow = os.utime not in os.supports_follow_symlinks
        os.utime(place, ns=(modified_ns, modified_ns), follow_symlinks=follow)
        return abs(os.lstat(place).st_mtime_ns - modified_ns) <= _COARSEST_NANOSECONDS
    except (OSError, OverflowError):
        return False


def deepest(folders: Sequence[HeldFolder]) -> Iterator[str]:
    """The paths of the folders that have no folder below them. Making these makes all folders."""
    above = {parent(folder.path) for folder in folders}
    return (folder.path for folder in folders if folder.path not in above)
