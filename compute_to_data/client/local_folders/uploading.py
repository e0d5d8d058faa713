"""Uploading files as a dataset: find out what to send, send it, and write the manifest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from compute_to_data.client.local_folders import folders, transfers
from compute_to_data.client.local_folders.local_listing import Listing, LocalFile
from compute_to_data.client.local_folders.transfers import Transfer
from compute_to_data.errors import InvalidRequest
from compute_to_data.inputs.readers import withdraw
from compute_to_data.model import DataObject, ReplicaStatus, name_of
from compute_to_data.pools import pool
from compute_to_data.records import manifest as manifests
from compute_to_data.records.dataset_content import checksum_of, contents, manifest_of
from compute_to_data.records.manifest import FILES, MANIFEST_NAME, HeldFile, Manifest
from compute_to_data.records.task import timestamp

if TYPE_CHECKING:
    from compute_to_data.ports.zone import ClientCatalog

_THREADS: Final = 4
_ANY_CHECKSUM: Final = f"sha2:{'A' * 43}="


class _Stopped(Exception):
    """The person interrupted the upload."""


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
    from the dataset. ``ignored`` are the paths that an upload left out, ``untimed`` those whose
    modification times this host could not set."""

    dataset: str
    collection: str
    name: str
    files: int
    size: int
    sent: int
    sent_size: int
    removed: int = 0
    ignored: tuple[str, ...] = ()
    untimed: tuple[str, ...] = ()


class Upload:
    """One upload into an existing collection. ``need_unused`` raises an error when the dataset's files must
    not change now."""

    def __init__(
        self,
        catalog: ClientCatalog,
        collection: str,
        local: Listing,
        progress: Progress,
        need_unused: Callable[[], None],
    ) -> None:
        self._catalog = catalog
        self._collection = collection
        self._top = f"{collection}/{FILES}"
        self._local = local
        self._progress = progress
        self._need_unused = need_unused

    def run(self, name: str, delete: bool) -> Moved:
        """Upload; returns what was done."""
        before = manifest_of(self._catalog, self._collection)
        there, collections = contents(self._catalog, self._top)
        checksums = self._same(there)
        new = [file for file in self._local.files if file.path not in there]
        changed = [file for file in self._local.files if file.path in there and file.path not in checksums]
        mine = {file.path for file in self._local.files}
        others = {path: found for path, found in there.items() if path not in mine}
        kept = {} if delete else self._kept(others)
        gone = others.keys() - kept.keys()
        planned = {file.path: _ANY_CHECKSUM for file in self._local.files}
        manifests.need_readable(
            self._manifest(name, before, planned, kept, delete), f"dataset {name_of(self._collection)}"
        )
        is_changed = bool(new or changed or gone)
        if is_changed:
            withdraw(self._catalog, self._collection, before, self._need_unused)
        for path in gone:
            self._catalog.remove(f"{self._top}/{path}")
        self._make_collections(collections, delete)
        sent = (*new, *changed)
        self._progress.begin(sum(file.size for file in sent), len(sent))
        checksums.update(self._send(new, force=False))
        checksums.update(self._send(changed, force=True))
        made = self._manifest(name, before, checksums, kept, delete)
        if is_changed or made != before:
            self._catalog.write(f"{self._collection}/{MANIFEST_NAME}", made.content(), force=True)
        return self._moved(made, sent, len(gone))

    def _moved(self, made: Manifest, sent: Sequence[LocalFile], removed: int) -> Moved:
        return Moved(
            name_of(self._collection),
            self._collection,
            made.name,
            len(made.files),
            made.size,
            len(sent),
            sum(file.size for file in sent),
            removed,
            self._local.ignored,
        )

    def _kept(self, others: Mapping[str, DataObject]) -> dict[str, HeldFile]:
        """The data objects that stay although they are not among the local files. Those without a good
        replica are leftovers of an interrupted upload, and go. A checksum that another client did not ask
        for is computed now."""
        kept = {}
        for path, found in others.items():
            if any(replica.status is ReplicaStatus.GOOD for replica in found.replicas):
                checksum = checksum_of(found) or self._catalog.checksum(f"{self._top}/{path}")
                if not manifests.is_checksum(checksum):
                    cause = f"has the checksum {checksum}, and a dataset needs SHA-256"
                    raise InvalidRequest(f"{self._top}/{path}", cause, "Remove it with irm, or upload it with c2d")
                kept[path] = HeldFile(path, found.size, checksum, int(found.modified * 1000) * 1_000_000)
        return kept

    def _same(self, there: Mapping[str, DataObject]) -> dict[str, str]:
        """The checksums of the local files that the dataset already has with the same content."""
        likely = [file for file in self._local.files if file.path in there and checksum_of(there[file.path])]
        likely = [file for file in likely if there[file.path].size == file.size]
        stopped = threading.Event()

        def go_on(_: int) -> None:
            if stopped.is_set():
                raise _Stopped

        with pool(_THREADS, "checksum") as threads:
            try:
                own = threads.map(lambda file: folders.checksum_of(file.physical_path, go_on)[0], likely)
                found = {file.path: checksum for file, checksum in zip(likely, own)}
            except BaseException:
                stopped.set()
                raise
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
        chosen = [Transfer(file.physical_path, f"{self._top}/{file.path}", file.size) for file in files]
        sent = transfers.send(self._catalog, chosen, force=force, progress=self._progress.moved)
        return {logical_path[len(self._top) + 1 :]: checksum for logical_path, checksum in sent.items()}

    def _manifest(
        self,
        name: str,
        before: Manifest | None,
        checksums: Mapping[str, str],
        kept: Mapping[str, HeldFile],
        delete: bool,
    ) -> Manifest:
        files = [HeldFile(file.path, file.size, checksums[file.path], file.modified_ns) for file in self._local.files]
        folders = {folder.path: folder for folder in self._local.folders}
        if before is not None:
            times = {file.path: file.modified_ns for file in before.files}
            kept = {path: replace(file, modified_ns=times.get(path, file.modified_ns)) for path, file in kept.items()}
            if not delete:
                folders = {**{folder.path: folder for folder in before.folders}, **folders}
        ordered = tuple(sorted((*files, *kept.values()), key=lambda file: file.path))
        held = tuple(sorted(folders.values(), key=lambda folder: folder.path))
        created = before.created if before is not None else timestamp(time.time())
        known = before.name if before is not None else self._local.name
        return Manifest(name_of(self._collection), name or known, created, ordered, held)
