"""The manifest of a dataset, under the name by which client programs import it."""

from __future__ import annotations

from compute_to_data.records.manifest import (
    DATASET_ID,
    FILES,
    MANIFEST_NAME,
    HeldFile,
    HeldFolder,
    Manifest,
    ancestors,
    is_checksum,
    need_readable,
    parent,
    parsed,
    unsafe,
)

__all__ = [
    "DATASET_ID",
    "FILES",
    "MANIFEST_NAME",
    "HeldFile",
    "HeldFolder",
    "Manifest",
    "ancestors",
    "is_checksum",
    "need_readable",
    "parent",
    "parsed",
    "unsafe",
]
