"""Downloading a dataset's files into a folder of this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compute_to_data.client.local_folders import transfers
from compute_to_data.client.local_folders.folders import Target
from compute_to_data.client.local_folders.transfers import Transfer
from compute_to_data.client.local_folders.uploading import Moved, Progress
from compute_to_data.errors import ComputeToDataError, Incomplete
from compute_to_data.records.manifest import FILES, Manifest

if TYPE_CHECKING:
    from compute_to_data.ports.zone import ClientCatalog


def download(catalog: ClientCatalog, collection: str, held: Manifest, directory: str, progress: Progress) -> Moved:
    """Download the files that the manifest ``held`` names, from the dataset in ``collection``. See
    :func:`~compute_to_data.client.datasets.download`."""
    target = Target(directory)
    missing = target.missing(held)
    target.need_room(sum(file.size for file in missing))
    target.make_folders(held)
    missing = target.storable(missing)
    size = sum(file.size for file in missing)
    progress.begin(size, len(missing))
    top = f"{collection}/{FILES}/"
    chosen = [Transfer(target.physical_path(one.path), f"{top}{one.path}", one.size, one.checksum) for one in missing]
    lost = transfers.fetch(catalog, chosen, progress=progress.moved)
    untimed = target.set_times(held)
    _need_all({**target.failures, **{path[len(top) :]: error for path, error in lost.items()}}, held, directory)
    return Moved(held.dataset, collection, held.name, len(held.files), held.size, len(missing), size, untimed=untimed)


def _need_all(failures: dict[str, ComputeToDataError], held: Manifest, directory: str) -> None:
    """Raise the error of the only file that failed, or one that names all of them."""
    if len(failures) == 1:
        raise next(iter(failures.values()))
    if failures:
        cause = f"{len(failures)} of its files and folders could not be fetched into {directory}"
        raise Incomplete(f"dataset {held.dataset}", cause, failures, "The others are there")
