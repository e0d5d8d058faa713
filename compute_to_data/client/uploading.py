"""Uploading a folder as a dataset: find out what to send, send it, and write the manifest."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from compute_to_data.client import folders, transfers
from compute_to_data.client import manifest as manifests
from compute_to_data.client.dataset_content import checksum_of, contents, manifest_of
from compute_to_data.client.folders import Listing, LocalFile
from compute_to_data.client.manifest import FILES, MANIFEST_NAME, HeldFile, Manifest
from compute_to_data.client.transfers import Transfer
from compute_to_data.model import DataObject, name_of
from compute_to_data.records.task import timestamp

if TYPE_CHECKING:
    from compute_to_data.ports import ClientCatalog

_THREADS: Final = 4


class Progress(Protocol):
    """Receives the progress of a transfer. Any thread may call it."""

    def begin(self, size: int, files: int) -> None:
        """The transfer starts, with this many bytes and files."""

    def moved(self, size: int, files: int) -> None:
        """This many bytes and files were transferred since the last call."""


class NoProgress:
    """A :class:`Progress` that does nothing."""

    def begin(self, size: int, files: int) -> None:
        pass

    def moved(self, size: int, files: int) -> None:
        pass


@dataclass(frozen=True)
class Moved:
    """What an upload or download did. ``files`` and ``size`` (bytes) are those of the dataset. Of
    these, ``sent`` files with ``sent_size`` bytes were transferred. ``removed`` files were removed
    from the dataset."""

    dataset: str
    collection: str
    name: str
    files: int
    size: int
    sent: int
    sent_size: int
    removed: int = 0


class Upload:
    """One upload into an existing collection."""

    def __init__(self, catalog: ClientCatalog, collection: str, local: Listing, progress: Progress) -> None:
        self._catalog = catalog
        self._collection = collection
        self._top = f"{collection}/{FILES}"
        self._local = local
        self._progress = progress

    def run(self, name: str, delete: bool) -> Moved:
        before = manifest_of(self._catalog, self._collection)
        there, collections = contents(self._catalog, self._top)
        checksums = self._same(there)
        new = [file for file in self._local.files if file.path not in there]
        changed = [file for file in self._local.files if file.path in there and file.path not in checksums]
        mine = {file.path for file in self._local.files}
        others = {path: found for path, found in there.items() if path not in mine}
        gone = others if delete else {path: found for path, found in others.items() if not checksum_of(found)}
        is_changed = bool(new or changed or gone)
        if is_changed and before is not None:
            self._catalog.remove(f"{self._collection}/{MANIFEST_NAME}")
        for path in gone:
            self._catalog.remove(f"{self._top}/{path}")
        self._make_collections(collections, delete)
        self._progress.begin(sum(file.size for file in (*new, *changed)), len(new) + len(changed))
        checksums.update(self._send(new, force=False))
        checksums.update(self._send(changed, force=True))
        kept = {path: found for path, found in others.items() if path not in gone}
        made = self._manifest(name, before, checksums, kept)
        if is_changed or made != before:
            self._catalog.write(f"{self._collection}/{MANIFEST_NAME}", made.content(), force=True)
        sent = (*new, *changed)
        return Moved(
            name_of(self._collection),
            self._collection,
            made.name,
            len(made.files),
            made.size,
            len(sent),
            sum(file.size for file in sent),
            len(gone),
        )

    def _same(self, there: Mapping[str, DataObject]) -> dict[str, str]:
        """The checksums of the local files that the dataset already has with the same content."""
        likely = [file for file in self._local.files if file.path in there and checksum_of(there[file.path])]
        likely = [file for file in likely if there[file.path].size == file.size]
        with ThreadPoolExecutor(_THREADS, "checksum") as pool:
            own = pool.map(lambda file: folders.checksum_of(self._local.physical_path(file.path))[0], likely)
            found = {file.path: checksum for file, checksum in zip(likely, own)}
        return {path: checksum for path, checksum in found.items() if checksum == checksum_of(there[path])}

    def _make_collections(self, there: Iterable[str], delete: bool) -> None:
        known = set(there)
        for path in folders.deepest(self._local.folders):
            if path not in known:
                self._catalog.create_collection(f"{self._top}/{path}", parents=True)
        if not delete:
            return
        mine = {folder.path for folder in self._local.folders}
        for path in sorted(known - mine, key=len):
            if manifests.parent(path) in {"", *mine}:
                self._catalog.remove(f"{self._top}/{path}", recursive=True)

    def _send(self, files: Iterable[LocalFile], *, force: bool) -> dict[str, str]:
        chosen = [
            Transfer(self._local.physical_path(file.path), f"{self._top}/{file.path}", file.size) for file in files
        ]
        sent = transfers.send(self._catalog, chosen, force=force, progress=self._progress.moved)
        return {logical_path[len(self._top) + 1 :]: checksum for logical_path, checksum in sent.items()}

    def _manifest(
        self, name: str, before: Manifest | None, checksums: Mapping[str, str], kept: Mapping[str, DataObject]
    ) -> Manifest:
        files = [HeldFile(file.path, file.size, checksums[file.path], file.modified_ns) for file in self._local.files]
        mine = {folder.path: folder for folder in self._local.folders}
        times = {file.path: file.modified_ns for file in before.files} if before is not None else {}
        for path, found in kept.items():
            modified = times.get(path, int(found.modified) * 1_000_000_000)
            files.append(HeldFile(path, found.size, checksum_of(found), modified))
        if before is not None and kept:
            above = {ancestor for path in kept for ancestor in manifests.ancestors(path)}
            mine.update({folder.path: folder for folder in before.folders if folder.path in above - set(mine)})
        created = before.created if before is not None else timestamp(time.time())
        ordered = tuple(sorted(files, key=lambda file: file.path))
        held = tuple(sorted(mine.values(), key=lambda folder: folder.path))
        known = before.name if before is not None else os.path.basename(os.path.abspath(self._local.directory))
        return Manifest(name_of(self._collection), name or known, created, ordered, held)
