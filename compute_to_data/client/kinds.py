"""What ids and logical paths stand for, as values. ``naming`` finds them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from compute_to_data.records.manifest import FILES


class Kind(str, Enum):
    """What a name stands for."""

    TASK = "task"
    DATASET = "dataset"
    WORKLOAD = "workload"
    COLLECTION = "collection"


@dataclass(frozen=True)
class Named:
    """A task, dataset, workload or other collection. ``id``: its id; for others the logical path."""

    kind: Kind
    id: str
    collection: str

    def __str__(self) -> str:
        return f"{self.kind.value} {self.id}"

    @property
    def top(self) -> str:
        """The collection that holds its files."""
        return f"{self.collection}/{FILES}" if self.kind is Kind.DATASET else self.collection
