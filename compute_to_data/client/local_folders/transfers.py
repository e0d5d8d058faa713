"""Transfer many files between this host and a zone, several at a time.

Small files go in batches, over :data:`LANES` connections. Large files go one after the other, each
over several connections of its own. The first failure of an upload ends it, after the files under way.
An interruption does the same. A download goes on without the files that fail. Files that have arrived
stay, so repeating the call does the rest.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

from compute_to_data.errors import Code, ComputeToDataError, OutOfReach, zone_error
from compute_to_data.ports.zone import ClientCatalog

LANES: Final = 8
"""Connections at a time. An iRODS server has few database sessions, so there are few lanes."""
LARGE: Final = 16 * 1024 * 1024
"""A file of more bytes may go over several connections."""
_BATCH_FILES: Final = 64
_BATCH_BYTES: Final = 16 * 1024 * 1024

Progress = Callable[[int, int], None]
"""Receives how many bytes and files were transferred since the last call. Any thread may call it."""


def no_progress(moved: int, files: int) -> None:
    """A :data:`Progress` that does nothing."""


@dataclass(frozen=True)
class Transfer:
    """One file: its physical path, its logical path, its size in bytes and, for a download, the
    checksum that it must have ('': the one in the catalog)."""

    file: str
    data_object: str
    size: int
    checksum: str = ""


def send(
    catalog: ClientCatalog, transfers: Iterable[Transfer], *, force: bool = False, progress: Progress = no_progress
) -> dict[str, str]:
    """Upload files; returns each checksum by logical path. The collections must exist.

    ``force``: overwrite existing data objects. Raises the first error of ``ClientCatalog.put``.
    """
    checksums: dict[str, str] = {}

    def one_batch(batch: Sequence[Transfer], moved: Callable[[int], None]) -> None:
        files = [(one.file, one.data_object) for one in batch]
        found = catalog.put_all(files, force=force, moved=moved)
        checksums.update(zip((one.data_object for one in batch), found))

    _Run(one_batch, progress).all_of(transfers)
    return checksums


def fetch(
    catalog: ClientCatalog, transfers: Iterable[Transfer], *, progress: Progress = no_progress
) -> dict[str, ComputeToDataError]:
    """Download files. The directories must exist.

    A file that fails does not stop the others: returns the errors of ``ClientCatalog.get`` by logical
    path. Raises ZoneOutOfReach when the zone does not answer.
    """
    failures: dict[str, ComputeToDataError] = {}

    def one_batch(batch: Sequence[Transfer], moved: Callable[[int], None]) -> None:
        for one in batch:
            try:
                _fetch_one(catalog, one, moved)
            except OutOfReach:
                raise
            except ComputeToDataError as error:
                failures[one.data_object] = error

    _Run(one_batch, progress).all_of(transfers)
    return failures


def _fetch_one(catalog: ClientCatalog, one: Transfer, moved: Callable[[int], None]) -> None:
    came = catalog.get(one.data_object, one.file, moved=moved)
    if one.checksum and came != one.checksum:
        os.unlink(one.file)  # get() has just made this file
        cause = f"has the checksum {came}, expected {one.checksum}: it was changed"
        raise zone_error(Code.USER_CHKSUM_MISMATCH, one.data_object, cause, "Upload the dataset again")


class _Stopped(Exception):
    """Another file failed, or the person interrupted the transfer."""


class _Run:
    """One call of :func:`send` or :func:`fetch`."""

    def __init__(
        self, one_batch: Callable[[Sequence[Transfer], Callable[[int], None]], None], progress: Progress
    ) -> None:
        self._one_batch = one_batch
        self._progress = progress
        self._stopped = threading.Event()

    def all_of(self, transfers: Iterable[Transfer]) -> None:
        chosen = list(transfers)
        for one in chosen:
            if one.size > LARGE:
                self._go([one])
        batches = list(_batches([one for one in chosen if one.size <= LARGE]))
        if len(batches) <= 1:
            for batch in batches:
                self._go(batch)
            return
        with ThreadPoolExecutor(min(LANES, len(batches)), "transfer") as pool:
            started = [pool.submit(self._go, batch) for batch in batches]
            try:
                wait(started, return_when=FIRST_EXCEPTION)
            except BaseException:
                self._stopped.set()
                raise
            finally:
                if self._stopped.is_set():
                    pool.shutdown(wait=False, cancel_futures=True)
        _raise_first(started)

    def _go(self, batch: Sequence[Transfer]) -> None:
        if self._stopped.is_set():
            raise _Stopped
        try:
            self._one_batch(batch, self._moved)
            self._progress(0, len(batch))
        except BaseException:
            self._stopped.set()  # at once, so that this lane does not start another batch
            raise

    def _moved(self, count: int) -> None:
        if self._stopped.is_set():
            raise _Stopped
        self._progress(count, 0)


def _raise_first(ended: Iterable[Future[None]]) -> None:
    """Raise the error that stopped the other batches. Those were cancelled or raised :class:`_Stopped`."""
    for future in ended:
        error = None if future.cancelled() else future.exception()
        if error is not None and not isinstance(error, _Stopped):
            raise error


def _batches(transfers: Sequence[Transfer]) -> Iterator[list[Transfer]]:
    """Batches that give every lane some work, with a limit of files and bytes in each."""
    most = max(1, min(_BATCH_FILES, len(transfers) // (2 * LANES)))
    batch: list[Transfer] = []
    size = 0
    for one in transfers:
        if batch and (len(batch) >= most or size + one.size > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one.size
    if batch:
        yield batch
