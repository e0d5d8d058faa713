"""How many tasks of one user may wait on a resource (``worker.per_user.waiting``)."""

from __future__ import annotations

from compute_to_data.configuration import Configuration, PerUser
from compute_to_data.errors import Refused
from compute_to_data.model import EntityKind, Query, User
from compute_to_data.ports.zone import Catalog
from compute_to_data.records.state import State, queue_levels


class TooManyWait(Refused):
    """As many tasks of a user wait on a resource as the site allows."""


def need_room(catalog: Catalog, configuration: Configuration, resource: str) -> None:
    """TooManyWait when as many tasks of the session's user wait on a resource as the site allows."""
    most = configuration.worker.per_user.waiting
    if most is None:
        return
    attribute, found = configuration.attributes.state, 0
    for state, units in ((State.QUEUED, queue_levels(resource)), (State.WAITING, resource)):
        query = Query(EntityKind.COLLECTION, attribute, state.value, units, owner=catalog.user, limit=most)
        found += len(catalog.find(query))
    if found >= most:
        raise too_many(catalog.user, resource, configuration.worker.per_user)


def too_many(owner: User, resource: str, bounds: PerUser) -> Refused:
    """The error for a task beyond those that may wait."""
    tasks = f"task{'s' * (bounds.waiting != 1)}"
    cause = f"has {bounds.waiting} waiting {tasks} on {resource}, and no user may have more there"
    return TooManyWait(f"user {owner}", cause, "Submit it again when some of them have begun (c2d queue)")
