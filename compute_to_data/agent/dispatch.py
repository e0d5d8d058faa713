"""What the two rules do: submit a task, wake the worker and, for one of them, wait and report."""

from __future__ import annotations

import functools
import math
import re
import time

from compute_to_data.agent.boundary import Site, with_code
from compute_to_data.coordination.pauses import WaitingPauses
from compute_to_data.errors import Code, EngineError, InvalidRequest, TooLarge, ZoneError
from compute_to_data.model import Entity, EntityKind, name_of
from compute_to_data.records.state import State, resource_of
from compute_to_data.records.task import TaskRecord
from compute_to_data.submission import submit as submission

CALL = "containers.call"
"""What a rule says to the server of a task's resource: wake its worker, or start it."""
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 5.0
_LOOK_SECONDS = 0.2
"""How often to look whether the client is there. That asks the catalog nothing."""
_CALL_AGAIN_SECONDS = 5.0
"""How often to call a worker on demand again, because it may have been killed."""
_VAIN_CALLS = 4
"""After more calls in a row without a worker, we conclude that the worker cannot start."""

_LISTED = 1024
"""Of more results, the rule does not name any."""


def run(site: Site, command: str, configuration_object: str, resource: str, output_locator: str, task_id: str) -> int:
    """Run a task. Returns 0 for COMPLETED, else the iRODS code of the failure, after telling the user why.

    A delayed rule does not wait: it would occupy one of the zone's few delay executors, and no client
    would read its output. It returns 0 when the task is queued.
    """
    if command == CALL:
        return _answer_call(site, configuration_object)
    record = _submit(site, command, configuration_object, resource, output_locator, task_id)
    if site.delayed:
        call_worker(site, record)
        return 0
    state = follow(site, record)
    if not state.is_final:
        site.log(f"the client that waited for {record.collection} has disconnected; the task continues")
        return 0
    return _report(site, record, state)


def submit(
    site: Site, command: str, configuration_object: str, resource: str, output_locator: str, task_id: str
) -> int:
    """Queue a task, return its id in ``task_id``, and return 0 at once."""
    call_worker(site, _submit(site, command, configuration_object, resource, output_locator, task_id))
    return 0


def _submit(
    site: Site, command: str, configuration_object: str, resource: str, output_locator: str, task_id: str
) -> TaskRecord:
    if command != "containers.run":
        raise InvalidRequest(
            "docker command",
            f"found {command[:80]!r}, expected 'containers.run'",
            "To get an image onto the compute resource, ask its administrator; a rule cannot do it",
        )
    document = submission.read_request(site.catalog, configuration_object)
    submitted = submission.submit(
        site.catalog,
        site.configuration,
        document,
        resource=resource,
        output_collection=output_locator,
        task_id=task_id,
    )
    site.hand_back("task_id", submitted.task_id)
    site.tell(f"task {submitted.task_id} queued on {submitted.resource} ({submitted.choice})")
    for note in submitted.notes:
        site.tell(f"note: {note}")
    return TaskRecord(site.catalog, site.configuration.attributes, submitted.collection, submitted.resource)


def follow(site: Site, record: TaskRecord) -> State:
    """Wait for the final state, and tell the client each state. Stop waiting when the client has
    disconnected. Returns the last state seen.

    EngineError when a worker should start on demand and does not.
    """
    pauses = WaitingPauses(_FIRST_PAUSE, _LONGEST_PAUSE, functools.partial(_sleep, site))
    next_call, seen, vain = 0.0, State.QUEUED, 0
    while True:
        state = record.state()
        if state is None:
            raise InvalidRequest(record.collection, "was removed, or no longer has a task's state")
        if state is not seen:
            site.tell(f"task {record.task_id} {state.value}")
            seen = state
            pauses.restart()
        if state.is_final or site.abandoned():
            return state
        if time.monotonic() >= next_call:
            vain = 0 if call_worker(site, record) else vain + 1
            if vain > _VAIN_CALLS and state in (State.WAITING, State.QUEUED):
                raise _no_worker(site, record)
            is_started_here = site.configuration.worker.on_demand  # others look at their queues by themselves
            next_call = time.monotonic() + (_CALL_AGAIN_SECONDS if is_started_here else math.inf)
        pauses.pause()


def _sleep(site: Site, seconds: float) -> None:
    """Sleep, until the client disconnects."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not site.abandoned():
        time.sleep(min(left, _LOOK_SECONDS))


def call_worker(site: Site, record: TaskRecord) -> bool:
    """As :func:`submission.call_worker`, but what goes wrong goes to the server's log. A worker on demand whose
    resource is on another server of the zone is called by a rule there, in the name of the same user."""

    def there(host: str) -> None:
        site.run_there(host, f'container_dispatch("{CALL}", "{_in_a_rule(record.collection)}", "", "", "");')

    where = record.collection, record.resource, site.hosts, there
    try:
        return submission.call_worker(site.catalog, site.configuration, *where)
    except (OSError, ZoneError) as error:
        site.log(f"the worker of {record.resource} cannot be called: {error}")
        return True


def _in_a_rule(text: str) -> str:
    """Text between the double quotes of a string in the rule language, which would read more into these."""
    return re.sub(r'[\\"*$`]', r"\\\g<0>", text)


def _answer_call(site: Site, collection: str) -> int:
    """Wake or start the worker of a task that another server has queued for a resource of this one."""
    states = site.catalog.avus(Entity(EntityKind.COLLECTION, collection), site.configuration.attributes.state)
    resource = next((resource_of(avu.units) for avu in states), "")
    if not resource:
        raise InvalidRequest(collection, "is no task", "Name the collection of a task")
    submission.call_worker(site.catalog, site.configuration, collection, resource, site.hosts)
    return 0


def _no_worker(site: Site, record: TaskRecord) -> EngineError:
    return EngineError(
        f"resource {record.resource}",
        f"its worker does not start, and task {record.task_id} stays queued",
        f"Ask an administrator: the .log files in {site.configuration.worker.state_directory} have the reason",
    )


def _named(site: Site, collection: str) -> str:
    """The names of the results; nothing when there are too many to read."""
    try:
        return ": " + ", ".join(name_of(child.logical_path) for child in site.catalog.children(collection, _LISTED))
    except TooLarge:
        return ""


def _report(site: Site, record: TaskRecord, state: State) -> int:
    if state is State.COMPLETED:
        site.tell(f"results in {record.collection}{_named(site, record.collection)}")
        return 0
    facts = record.facts("error_code", "reason")
    recorded = int(facts.get("error_code", "0"))
    code = recorded if recorded < 0 else int(Code.SYS_INTERNAL_ERR)
    reason = facts.get("reason", "no reason was recorded")
    site.tell(with_code(f"task {record.task_id} {state.value}: {reason}", code))
    return code
