"""Many files between this machine and a zone, several at a time.

Small files go in batches, over :data:`LANES` connections; large ones one after the other, each over
several connections of its own. The first failure ends it, after the files under way; what has
arrived stays, so that the same call again does the rest. So does an interruption.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

from compute_to_data.errors import Code, zone_error
from compute_to_data.ports import ClientCatalog

LANES: Final = 8
"""Connections at a time; one's server has few sessions of its database to give."""
LARGE: Final = 16 * 1024 * 1024
"""Bytes from which on a file may go over several connections."""
_BATCH_FILES: Final = 64
_BATCH_BYTES: Final = 16 * 1024 * 1024

Progress = Callable[[int, int], None]
"""Is told how many bytes and files have gone since it was last told, from any thread."""


def unheard(moved: int, files: int) -> None:
    """A :data:`Progress` that tells nobody."""


@dataclass(frozen=True)
class Transfer:
    """One file: its physical path here, its logical path there, its size in bytes, and, of one that
    comes, the checksum it must have ('': what the catalog says)."""

    file: str
    data_object: str
    size: int
    checksum: str = ""


def send(
    catalog: ClientCatalog, transfers: Iterable[Transfer], *, force: bool = False, progress: Progress = unheard
) -> dict[str, str]:
    """Store them; the checksum of each, by its logical path. The collections must be there.

    ``force``: what stands there is overwritten. Errors as ``ClientCatalog.put``, of the first that failed.
    """
    checksums: dict[str, str] = {}

    def one_batch(batch: Sequence[Transfer], moved: Callable[[int], None]) -> None:
        files = [(one.file, one.data_object) for one in batch]
        found = catalog.put_all(files, force=force, moved=moved)
        checksums.update(zip((one.data_object for one in batch), found))

    _Run(one_batch, progress).all_of(transfers)
    return checksums


def fetch(catalog: ClientCatalog, transfers: Iterable[Transfer], *, progress: Progress = unheard) -> dict[str, str]:
    """Bring them here; the checksum of each, by its logical path. The directories must be there.

    Errors as ``ClientCatalog.get``, of the first that failed.
    """
    checksums: dict[str, str] = {}

    def one_batch(batch: Sequence[Transfer], moved: Callable[[int], None]) -> None:
        for one in batch:
            came = catalog.get(one.data_object, one.file, moved=moved)
            if one.checksum and came != one.checksum:
                os.unlink(one.file)  # it was not there before
                cause = f"has the checksum {came}, expected {one.checksum}: it was changed"
                raise zone_error(Code.USER_CHKSUM_MISMATCH, one.data_object, cause, "Have it uploaded again")
            checksums[one.data_object] = came

    _Run(one_batch, progress).all_of(transfers)
    return checksums


class _Stopped(Exception):
    """Another file failed, or the person has had enough."""


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
            self._stopped.set()  # at once, lest this lane takes up another batch
            raise

    def _moved(self, count: int) -> None:
        if self._stopped.is_set():
            raise _Stopped
        self._progress(count, 0)


def _raise_first(ended: Iterable[Future[None]]) -> None:
    """The error that stopped the others, which were cancelled or are :class:`_Stopped`."""
    for future in ended:
        error = None if future.cancelled() else future.exception()
        if error is not None and not isinstance(error, _Stopped):
            raise error


def _batches(transfers: Sequence[Transfer]) -> Iterator[list[Transfer]]:
    """So few that every lane has some, and not too many bytes in one."""
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
