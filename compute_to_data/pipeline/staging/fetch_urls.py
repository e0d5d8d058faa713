"""The part of staging that fetches inputs from URLs into the task's own collection.

The worker writes each file into the task's own directory of the vault, checks it, and registers it in the owner's
session. The file stays where it is, so it is a good replica on the compute resource. A worker that was killed meanwhile
left a checkpoint: its successor removes what was fetched, and begins again. When the task has failed, nothing of it
stays.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence

from compute_to_data.errors import NotFound, ReasonCode, TaskFailed
from compute_to_data.inputs import references
from compute_to_data.irods_names import check_in_zone
from compute_to_data.model import Avu, Entity, EntityKind, Registration, parent_of, zone_of
from compute_to_data.pipeline.checkpoint import ResumePoint
from compute_to_data.pipeline.execution import Execution
from compute_to_data.pipeline.staging.fetch_room import FetchRoom
from compute_to_data.pipeline.vault import workspace
from compute_to_data.pipeline.watch_job import Detached
from compute_to_data.provenance.outcome import URL
from compute_to_data.records import secret
from compute_to_data.task import FETCHED_NAME, InputKind
from compute_to_data.urls import transfer
from compute_to_data.urls.address import parse
from compute_to_data.urls.sink import Received

_BEFORE_THE_JOB = (ResumePoint.FRESH, ResumePoint.UNKNOWN, ResumePoint.STAGED)


def with_urls(execution: Execution, found: references.Resolved) -> references.Resolved:
    """The inputs with those that will be fetched. Refused when the site does not allow a URL of the task;
    ConfigurationError when the worker lacks what it needs for it."""
    record, task = execution.record, execution.task
    for url in (*(one.logical_path for one in task.urls), *(one.url for one in task.put)):
        address = parse(url)
        execution.context.configuration.urls.permit(address)
        transfer.need_libraries(address)
    for one in task.urls:
        check_in_zone(references.fetched_path(one, record.collection), zone_of(record.collection))
    return references.with_fetched(found, task.urls, record.collection, execution.context.catalog.user)


def fetch(execution: Execution, inputs: Sequence[references.Input]) -> None:
    """Fetch the inputs that URLs name, unless an earlier attempt has fetched them and begun the job.

    TaskFailed, which names the URL without credentials, the cause and the remedy; Cancelled; Detached when the worker
    is stopping. All of them together may take as long as the task's walltime.
    """
    wanted = [one for one in inputs if one.reference.kind is InputKind.URL]
    if not wanted or execution.resume_point not in _BEFORE_THE_JOB:
        return
    push_removal(execution)
    execution.journal.save(execution.checkpoint)  # a successor must know the directory before anything is there
    _remove(execution)
    names = execution.task.secrets_of_urls
    secrets = secret.read(execution.record.catalog, zone_of(execution.record.collection), names)
    go_on = going_on(execution, "fetching")
    with FetchRoom(execution) as room:

        def check() -> None:
            go_on()
            room.need_reserve()

        for number, one in enumerate(wanted):
            room.begin(one.data_object.logical_path)
            received = transfer.fetch(
                parse(one.reference.logical_path),
                execution.context.configuration.urls,
                _new_file(execution, number),
                secret=secrets.get(one.reference.secret, b""),
                sha256=one.reference.sha256,
                need_room=room.need,
                check=check,
            )
            room.need(received.size, whole=True)
            _register(execution, one, _file(execution, number), received)
        execution.fetched_bytes = room.fetched


def _register(execution: Execution, one: references.Input, path: str, received: Received) -> None:
    catalog, logical_path = execution.record.catalog, one.data_object.logical_path
    catalog.create_collection(parent_of(logical_path), parents=True)
    file = Registration(logical_path, path, received.size, received.checksum)
    catalog.register(execution.context.resource.name, [file])
    url = Avu(execution.record.attributes.named(URL), parse(one.reference.logical_path).shown)
    catalog.annotate(Entity(EntityKind.DATA_OBJECT, logical_path), add=[url])


def _new_file(execution: Execution, number: int) -> str:
    os.makedirs(_folder(execution), mode=0o755, exist_ok=True)
    return _file(execution, number)


def _file(execution: Execution, number: int) -> str:
    return os.path.join(_folder(execution), str(number))


def _folder(execution: Execution) -> str:
    """The physical directory of what was fetched, which no job can write to."""
    return os.path.join(execution.private, FETCHED_NAME)


def push_removal(execution: Execution) -> None:
    """If the task fails, remove what was fetched for it."""
    if execution.task.urls:
        execution.undo.push(f"remove what was fetched for task {execution.record.task_id}", lambda: _remove(execution))


def _remove(execution: Execution) -> None:
    catalog, collection = execution.record.catalog, execution.record.collection
    catalog.unregister([references.fetched_path(one, collection) for one in execution.task.urls])
    with contextlib.suppress(NotFound):
        catalog.remove(f"{collection}/{FETCHED_NAME}", recursive=True)
    workspace.discard(_folder(execution))


def going_on(execution: Execution, doing: str) -> Callable[[], None]:
    """A function that raises when the task must not go on: when a user cancels it, when it takes longer than the task's
    walltime, and when the worker is stopping. ``doing``: what takes so long."""
    context = execution.context
    seconds = context.configuration.effective_limits(execution.task.limits, None).walltime_seconds
    deadline = time.monotonic() + seconds

    def check() -> None:
        execution.interruption.check()
        if context.stopping():
            raise Detached(execution.job_key)
        if time.monotonic() > deadline:
            raise TaskFailed(
                ReasonCode.WALLTIME_EXCEEDED,
                f"{doing} URLs",
                f"took longer than the task's walltime of {seconds:g} seconds, and the worker stopped it",
                "Ask for more in limits.walltime_seconds",
            )

    return check
