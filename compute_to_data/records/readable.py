"""Makes tasks wait for resources that an administrator has marked down, as for maintenance."""

from __future__ import annotations

from compute_to_data.errors import AccessDenied, ComputeToDataError, NotFound, OutOfReach, ZoneError, ZoneOutOfReach
from compute_to_data.model import DataObject, ReplicaStatus
from compute_to_data.ports.zone import Catalog


def down(resource: str, holds: str = "") -> ZoneOutOfReach:
    """The error of a task that waits until a resource is up. ``holds``: the data object for which it needs it."""
    only = f", and no other resource has a good replica of {holds}. The task" if holds else ", and the task"
    remedy = f"An administrator can: iadmin modresc {resource} status up"
    return ZoneOutOfReach(f"resource {resource}", f"is marked down{only} waits until it is up", remedy)


def need_after(catalog: Catalog, error: Exception, logical_path: str = "") -> None:
    """ZoneOutOfReach when the zone could not read a data object because all its good replicas are on resources that
    are marked down. ``logical_path``: the data object, by default what the error is about."""
    if not isinstance(error, ZoneError) or isinstance(error, (AccessDenied, NotFound)):
        return
    try:
        found = catalog.stat(logical_path or error.subject)
    except OutOfReach:
        raise
    except ComputeToDataError:
        return
    if not isinstance(found, DataObject):
        return
    marked = {one.name for one in catalog.resources() if not one.is_up}
    good = [one.hierarchy.split(";") for one in found.replicas if one.status is ReplicaStatus.GOOD]
    lacking = [name for line in good for name in line if name in marked]
    if lacking and all(marked.intersection(line) for line in good):
        raise down(lacking[0], found.logical_path) from error
