"""What a notebook in the zone takes as parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compute_to_data.documents import notebook_schema

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench

MOST_BYTES = 64 * 1024 * 1024
"""The most bytes of a notebook whose parameters are looked for."""


def schema_of(workbench: Workbench, data_object: str) -> dict[str, Any]:
    """The parameters as a JSON Schema; {} when the notebook does not show them. InvalidRequest when it is none,
    TooLarge, or the zone's error."""
    return notebook_schema.inferred(workbench.catalog.read(data_object, MOST_BYTES), data_object)
