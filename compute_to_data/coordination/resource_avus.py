"""AVUs that a worker keeps on its compute resource, for all users to read."""

from __future__ import annotations

from collections.abc import Set

from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.ports.zone import Catalog


def replace(catalog: Catalog, resource: str, attribute: str, new: Set[Avu]) -> None:
    """Let the resource have exactly these AVUs with this attribute. Needs a rodsadmin's session."""
    entity = Entity(EntityKind.RESOURCE, resource)
    old = set(catalog.avus(entity, attribute))
    if old != new:
        catalog.annotate(entity, remove=old - new, add=new - old)
