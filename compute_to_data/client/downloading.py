"""Downloading a dataset's files into a folder of this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compute_to_data.client import transfers
from compute_to_data.client.folders import Target
from compute_to_data.client.manifest import FILES, Manifest
from compute_to_data.client.transfers import Transfer
from compute_to_data.client.uploading import Moved, Progress

if TYPE_CHECKING:
    from compute_to_data.ports import ClientCatalog


def download(catalog: ClientCatalog, collection: str, held: Manifest, directory: str, progress: Progress) -> Moved:
    """Download the files that the manifest ``held`` names, from the dataset in ``collection``. See
    :func:`~compute_to_data.client.datasets.download`."""
    target = Target(directory)
    missing = target.missing(held)
    size = sum(file.size for file in missing)
    target.need_room(size)
    target.make_folders(held)
    progress.begin(size, len(missing))
    chosen = [
        Transfer(target.physical_path(file.path), f"{collection}/{FILES}/{file.path}", file.size, file.checksum)
        for file in missing
    ]
    transfers.fetch(catalog, chosen, progress=progress.moved)
    target.set_times(held)
    return Moved(held.dataset, collection, held.name, len(held.files), held.size, len(missing), size)
