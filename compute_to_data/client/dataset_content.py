"""What the catalog holds of a dataset, under the name by which client programs import it."""

from __future__ import annotations

from compute_to_data.records.dataset_content import checksum_of, contents, manifest_of

__all__ = ["checksum_of", "contents", "manifest_of"]
