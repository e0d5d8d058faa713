"""Quotas, as the catalog has them: for users or groups, on one resource or on all of them together."""

from __future__ import annotations

from collections.abc import Sequence

from irods.connection import Connection

from compute_to_data.model import User
from compute_to_data.zones.irods import lookup
from compute_to_data.zones.irods.query import Among, Column, select

_ALL_RESOURCES = 0
"""In place of a resource's id: the quota is for all resources together."""
_AT_ONCE = 100


def left(connection: Connection, user: User, resources: Sequence[str]) -> int | None:
    """As ``Storage.quota_left``.

    The catalog has how far each quota is exceeded (negative: how much is left), as of the last ``iadmin cq``. The
    server takes 0 as "not counted yet", and so do we.
    """
    holders = lookup.memberships(connection, user)
    places = [_ALL_RESOURCES, *(lookup.resource_id(connection, one) for one in resources)]
    columns = [Column.QUOTA_USER_ID, Column.QUOTA_RESC_ID, Column.QUOTA_OVER]
    exceeded = []
    for start in range(0, len(holders), _AT_ONCE):
        some = Among(Column.QUOTA_USER_ID, holders[start : start + _AT_ONCE])
        rows = select(connection, columns, [some, Among(Column.QUOTA_RESC_ID, places)])
        exceeded += [int(over) for _, _, over in rows if int(over) != 0]
    return -max(exceeded) if exceeded else None
