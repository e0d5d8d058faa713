"""The page of resources: who is alive, how long the lines are, and what runs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from compute_to_data.client import finding, site, task_rows
from compute_to_data.client.site import ComputeResource
from compute_to_data.client.task_status import queue
from compute_to_data.client.task_status.queue import ResourceLine
from compute_to_data.errors import ConfigurationError
from compute_to_data.gateway.gateway import Gateway
from compute_to_data.gateway.pages import rendering
from compute_to_data.gateway.pages.route import PageRoute
from compute_to_data.gateway.pages.visitor import Visitor, gateway_of, visitor
from compute_to_data.model import EntityKind, Query, name_of
from compute_to_data.records.state import UNFINISHED, State, resource_of
from compute_to_data.records.task import timestamp

router = APIRouter(route_class=PageRoute, include_in_schema=False, prefix="/resources")
_MOST_TASKS = 200


@dataclass(frozen=True)
class Running:
    """A task that has begun, or waits in a queue."""

    task_id: str
    state: str
    resource: str
    owner: str
    created: str


@router.get("")
def page(request: Request, known: Visitor = Depends(visitor)) -> Response:
    """All resources that have a role."""
    bench, gateway = known.workbench, gateway_of(request)
    found = [(one, queue.line_of(bench, one.resource)) for one in site.resources(bench)]
    everybodys = _everybodys(gateway, known)
    return rendering.page(
        request,
        "resources.html",
        known,
        resources=found,
        slots={one.resource: _slots(one, line) for one, line in found},
        running=_own(known) if everybodys is None else everybodys,
        is_administrator=everybodys is not None,
        most=_MOST_TASKS,
        user_name=str(known.person.user),
    )


def _slots(resource: ComputeResource, line: ResourceLine) -> list[bool]:
    """For each slot of a resource, whether a task is in it."""
    most = 64  # more would be no picture
    return [place < line.running for place in range(min(most, line.capacity))] if resource.has_worker else []


def _own(known: Visitor) -> list[Running]:
    found: list[Running] = []
    for state in (*UNFINISHED, State.QUEUED):
        left = _MOST_TASKS - len(found)
        chosen = task_rows.Filter(states=(state,))
        for one in finding.tasks(known.workbench, chosen, limit=left, with_course=False) if left else ():
            found.append(Running(one.task_id, one.state, one.resource, one.owner, one.created))
    return found


def _everybodys(gateway: Gateway, known: Visitor) -> list[Running] | None:
    """The tasks of all users, for an administrator of the zone; None for everybody else."""
    with contextlib.suppress(ConfigurationError):  # without an account of its own, the gateway cannot tell
        if gateway.entrance.is_administrator(known.person.user):
            return _of_all(gateway, known)
    return None


def _of_all(gateway: Gateway, known: Visitor) -> list[Running]:
    found: list[Running] = []
    for state in (*UNFINISHED, State.QUEUED):
        attribute = known.workbench.attributes.state
        limit = _MOST_TASKS - len(found)
        query = Query(EntityKind.COLLECTION, attribute, state.value, newest_first=True, limit=limit)
        for row in gateway.entrance.query(query) if limit else ():
            where, when = resource_of(row.units), timestamp(row.created)
            found.append(Running(name_of(row.collection), row.value, where, str(row.owner), when))
    return found
