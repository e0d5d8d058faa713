"""Why a task does not go on, and where in the line a QUEUED one stands. Each reason is one function here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from compute_to_data.client.task_status import queue
from compute_to_data.client.task_status.status import TaskStatus
from compute_to_data.client.workbench import Workbench
from compute_to_data.configuration import Attributes
from compute_to_data.coordination import published_line
from compute_to_data.coordination.published_line import PublishedLine
from compute_to_data.errors import NotFound, Refused
from compute_to_data.model import Entity, EntityKind, Query, name_of, parent_of
from compute_to_data.ports.zone import ClientCatalog
from compute_to_data.records.state import UNFINISHED, State
from compute_to_data.records.task import TaskRecord
from compute_to_data.records.workload import INSTANCES, instances_of, is_workload_id

_SHOWN = 3
"""How many names a reason has: of tasks that a task waits for, or of inputs that its resource receives."""


def waiting_for(workbench: Workbench, catalog: ClientCatalog, status: TaskStatus) -> str:
    """What a task that has not ended waits for, in one line; '' when its program runs. ``catalog``: a session in
    which the task can be read."""
    if status.state is State.WAITING:
        return _awaited_by(catalog, workbench.attributes, status)
    if status.state is State.QUEUED:
        return "; ".join((*_noted(status), _queued(workbench, status.collection, status.resource)))
    return _stopped_by(workbench, status.resource) or _held_up(status)


def _awaited_by(catalog: ClientCatalog, attributes: Attributes, status: TaskStatus) -> str:
    """Which tasks a WAITING task waits for: the first few that have not completed, with their states."""
    shown: list[str] = []
    left = 0
    for collection in status.after:
        if len(shown) == _SHOWN:
            left += 1
            continue
        state = _state_of(catalog, attributes, collection)
        if state is not State.COMPLETED:
            shown.append(f"{name_of(collection)} ({state.value if state else 'not to be seen'})")
    text = ", ".join(shown) + (f" and perhaps {left} more" if left else "")
    if not shown:
        return "all that it waits for has completed; the worker will queue it"
    return f"the success of {text}"


def _state_of(catalog: ClientCatalog, attributes: Attributes, collection: str) -> State | None:
    try:
        return TaskRecord(catalog, attributes, collection, "").state()
    except (NotFound, Refused):
        return None


def _queued(workbench: Workbench, collection: str, resource: str) -> str:
    """Why a task that is queued on a resource waits: what holds it up, and then its place."""
    published = published_line.read(workbench.catalog, workbench.attributes, resource)
    running = queue.own_running(workbench, resource)
    hindrances = _hindrances(workbench, collection, resource, published, running)
    return "; ".join((*hindrances, _place(workbench, collection, resource, published, running)))


def _noted(status: TaskStatus) -> Iterator[str]:
    """What the worker has noted that a task waits for."""
    if status.waiting_for:
        yield f"{status.waiting_for} The worker tries again"


def _held_up(status: TaskStatus) -> str:
    """What a task that has begun waits for, where that may take long; '' when its program runs."""
    for reason in _noted(status):
        return reason
    if status.state is not State.STAGING_IN or not status.staged:
        return ""
    shown = ", ".join(status.staged[:_SHOWN]) + (", ..." if len(status.staged) > _SHOWN else "")
    return f"{status.resource} receives its inputs: {shown}"


def _stopped_by(workbench: Workbench, resource: str) -> str:
    """What keeps a task that has begun on a resource from going on, in one line; '' when nothing does."""
    published = published_line.read(workbench.catalog, workbench.attributes, resource)
    without = list(_without_worker(workbench, resource, published))
    if without:
        return "; ".join((*without, "it goes on when a worker runs there again"))
    held_up = published.held_up if published is not None else ""
    return held_up if published_line.NO_JOBS in held_up else ""


def _without_worker(workbench: Workbench, resource: str, published: PublishedLine | None) -> Iterator[str]:
    """That the resource has no live worker, and what that worker said last."""
    if queue.has_worker(workbench, resource):
        return
    yield f"{resource} has no live worker"
    if published is not None and published.held_up:  # a worker that cannot run jobs shows no sign of life
        yield published.held_up


def _hindrances(
    workbench: Workbench, collection: str, resource: str, published: PublishedLine | None, running: int
) -> Iterator[str]:
    """``running``: how many of the person's own tasks have begun on the resource."""
    without = list(_without_worker(workbench, resource, published))
    if without:
        yield from without
        return
    yield from _workload_is_full(workbench, parent_of(collection))
    if published is None:
        return
    if published.held_up:
        yield published.held_up
    bound = published.running_bound
    if bound is not None and running >= bound:
        yield f"you have {running} running task{'s' * (running != 1)} on {resource}, and each user may have {bound}"
    if 0 < published.capacity <= published.running:
        many = published.capacity > 1
        yield f"all {published.capacity} slots of {resource} are busy" if many else f"the slot of {resource} is busy"


def _workload_is_full(workbench: Workbench, workload: str) -> Iterator[str]:
    """Whether as many tasks of the task's workload run as it has instances."""
    if not is_workload_id(name_of(workload)):
        return
    attribute = workbench.attributes.named(INSTANCES)
    avus = workbench.catalog.avus(Entity(EntityKind.COLLECTION, workload), attribute)
    most = instances_of(avus)
    state = Query(EntityKind.COLLECTION, workbench.attributes.state, within=workload, limit=most)
    begun = (workbench.catalog.find(replace(state, value=one.value)) for one in UNFINISHED)
    if sum(map(len, begun)) >= most:
        yield f"{name_of(workload)} runs {most} task{'s' * (most > 1)} at a time"


def _place(workbench: Workbench, collection: str, resource: str, published: PublishedLine | None, running: int) -> str:
    """The tasks of the same user that begin before it, and the other users who have their turn before it."""
    own = queue.own_tasks(workbench, resource)
    before = own.index(collection) if collection in own else len(own)
    turns = queue.turns_before(published, running, len(own)) or 0
    parts = [f"{before} task{'s' * (before > 1)}"] if before else []
    parts += [f"{turns} other user{'s' * (turns > 1)}"] if turns else []
    return f"{' and '.join(parts)} before it on {resource}" if parts else f"it is next on {resource}"
