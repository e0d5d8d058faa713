"""What the catalog holds of a dataset: its manifest, and the data objects that are really there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compute_to_data.catalog_tree import walk
from compute_to_data.errors import InvalidRequest, NotFound
from compute_to_data.model import DataObject, ReplicaStatus, name_of
from compute_to_data.records import manifest as manifests
from compute_to_data.records.manifest import MANIFEST_NAME, Manifest

if TYPE_CHECKING:
    from compute_to_data.ports.zone import Catalog


def checksum_of(found: DataObject) -> str:
    """The checksum of a good replica; '' when no good replica has one."""
    good = [replica for replica in found.replicas if replica.status is ReplicaStatus.GOOD and replica.checksum]
    return good[0].checksum if good else ""


def contents(catalog: Catalog, top: str) -> tuple[dict[str, DataObject], list[str]]:
    """All data objects and collections below ``top``, by their paths relative to it."""
    beyond = len(top) + 1
    objects: dict[str, DataObject] = {}
    collections: list[str] = []
    for _, below, members in walk(catalog, top):
        collections += [one.logical_path[beyond:] for one in below]
        objects.update({one.logical_path[beyond:]: one for one in members})
    return objects, collections


def manifest_of(catalog: Catalog, collection: str, most_bytes: int = manifests.LARGEST) -> Manifest | None:
    """The dataset's manifest; None when the dataset is not complete. InvalidRequest for a bad manifest, TooLarge for
    one of more than ``most_bytes``."""
    path = f"{collection}/{MANIFEST_NAME}"
    try:
        found = catalog.stat(path)
    except NotFound:
        return None
    if not isinstance(found, DataObject) or not checksum_of(found):
        return None
    made = manifests.parsed(catalog.read(path, most_bytes), path)
    if made.dataset != name_of(collection):
        raise InvalidRequest(path, f"is the manifest of {made.dataset}", "Upload the dataset again")
    return made
