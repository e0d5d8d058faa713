"""``container_dispatch`` behind its rule: submit, wake the worker, wait, report."""

from __future__ import annotations

import time

from compute_to_data import presence, submission
from compute_to_data.errors import Code, InvalidRequest
from compute_to_data.model import name_of
from compute_to_data.record import State, TaskRecord
from compute_to_data.rule_boundary import Site

_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.1
_CALL_AGAIN_SECONDS = 5.0
"""A worker on demand may have been killed: look again every so often."""


def run(site: Site, command: str, configuration_object: str, resource: str, output_locator: str, task_id: str) -> int:
    """Returns 0 for COMPLETED, else the iRODS code of the failure, after telling the user why."""
    if command != "containers.run":
        raise InvalidRequest(
            "docker command",
            f"found {command[:80]!r}, expected 'containers.run'",
            "Images are brought to the compute resource by its administrator, never by a rule",
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
    site.tell(f"task {submitted.task_id} queued on {submitted.resource} ({submitted.choice})")
    record = TaskRecord(site.catalog, site.configuration.attributes, submitted.collection, submitted.resource)
    return _report(site, record, follow(site, record))


def follow(site: Site, record: TaskRecord) -> State:
    """Wait for the final state, telling each state as it is seen."""
    zone = site.catalog.user.zone
    pause, next_call, seen = _FIRST_PAUSE, 0.0, State.QUEUED
    while True:
        state = record.state()
        if state is None:
            raise InvalidRequest(record.collection, "is gone, or bears no state any more")
        if state is not seen:
            site.tell(f"task {record.task_id} {state.value}")
            seen, pause = state, _FIRST_PAUSE
        if state.is_final:
            return state
        if time.monotonic() >= next_call:
            presence.call_worker(site.configuration, zone, record.resource)
            next_call = time.monotonic() + _CALL_AGAIN_SECONDS
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _report(site: Site, record: TaskRecord, state: State) -> int:
    if state is State.COMPLETED:
        names = [name_of(child.logical_path) for child in site.catalog.children(record.collection)]
        site.tell(f"results in {record.collection}: {', '.join(names)}")
        return 0
    facts = record.facts()
    site.tell(f"task {record.task_id} {state.value}: {facts.get('reason', 'no reason was recorded')}")
    code = int(facts.get("error_code", "0"))
    return code if code < 0 else int(Code.SYS_INTERNAL_ERR)
