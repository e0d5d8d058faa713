"""A task's outputs, read as bytes or lines. ``fetching`` copies them into a folder of this host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compute_to_data.catalog_tree import data_objects, walk
from compute_to_data.errors import Code, ZoneError, zone_error
from compute_to_data.local_files import Digest
from compute_to_data.model import DataObject, ReplicaStatus
from compute_to_data.provenance import crate
from compute_to_data.task import (
    CRATE_NAME,
    LIVE_NAMES,
    RESERVED_NAMES,
)

if TYPE_CHECKING:
    from compute_to_data.ports import ClientCatalog

_LIVE = frozenset(LIVE_NAMES)


@dataclass(frozen=True)
class Result:
    """One output of a task. ``name`` is relative to the task's collection; ``size`` in bytes;
    ``checksum`` as the catalog holds it (``sha2:<base64>``, or '')."""

    name: str
    data_object: DataObject
    catalog: ClientCatalog = field(repr=False, compare=False)

    @property
    def path(self) -> str:
        """Its logical path."""
        return self.data_object.logical_path

    @property
    def size(self) -> int:
        """In bytes."""
        return self.data_object.size

    @property
    def checksum(self) -> str:
        """The checksum in the catalog for a good replica; '' when it has none."""
        good = [one for one in self.data_object.replicas if one.status is ReplicaStatus.GOOD and one.checksum]
        return good[0].checksum if good else ""

    def bytes(self) -> bytes:
        """The whole content. ZoneError when it does not match the checksum in the catalog."""
        content = self.catalog.read(self.path)
        digest = Digest()
        digest.update(content)
        if self.checksum and digest.text != self.checksum:
            raise _damaged(self.path)
        return content

    def text(self) -> str:
        """The content as UTF-8."""
        return self.bytes().decode("utf-8")

    def lines(self) -> list[str]:
        """The lines of the text, without their ends."""
        return self.text().splitlines()


def _damaged(logical_path: str) -> ZoneError:
    cause = "its bytes do not match the checksum in the catalog"
    return zone_error(Code.USER_CHKSUM_MISMATCH, logical_path, cause, "Run the task again: c2d rerun")


def everything(catalog: ClientCatalog, collection: str) -> Iterator[Result]:
    """Every data object below a task's collection, except the live output for followers."""
    for found in data_objects(catalog, collection):
        name = found.logical_path[len(collection) + 1 :]
        if name not in _LIVE:
            yield Result(name, found, catalog)


def folders(catalog: ClientCatalog, collection: str) -> Iterator[str]:
    """The collections below a task's collection, by their names relative to it: also those that hold nothing."""
    for _, below, _ in walk(catalog, collection):
        yield from (one.logical_path[len(collection) + 1 :] for one in below)


def outputs(catalog: ClientCatalog, collection: str) -> Mapping[str, Result]:
    """The program's outputs by name, without the request, the logs and the crate."""
    found = {one.name: one for one in everything(catalog, collection) if one.name not in RESERVED_NAMES}
    return dict(sorted(found.items()))


def expected(catalog: ClientCatalog, collection: str) -> tuple[str, ...]:
    """The names of the outputs that the task's crate lists; empty without a crate."""
    try:
        return crate.output_names(catalog.read(f"{collection}/{CRATE_NAME}")) or ()
    except ZoneError:
        return ()
