"""An identical earlier task, whose results can be taken instead of computing them again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from compute_to_data import staging, submission
from compute_to_data.client import results
from compute_to_data.client.status import TaskStatus
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.errors import ComputeToDataError
from compute_to_data.model import DataObject, name_of
from compute_to_data.record import State
from compute_to_data.task import InputKind, Task

if TYPE_CHECKING:
    from compute_to_data.client.session import Session

_LOOKED_AT = 20
"""So many earlier tasks of the same fingerprint are looked at, the newest first."""


def earlier(session: Session, task: Task) -> TaskHandle | None:
    """One's own newest COMPLETED task with the same process, parameters, expected outputs and
    metadata, the same inputs by name and checksum, and the same content of the image, whose
    outputs are all there; None when there is none, or this cannot be known from here.
    """
    if any(one.kind is InputKind.NEXT_OF for one in task.inputs):
        return None  # each such task takes another input
    digest = _digest_now(session, _image_of(session, task))
    if not digest:
        return None
    found = staging.resolve(session.catalog, task.inputs)
    attribute = session.attributes.named(submission.FINGERPRINT)
    fingerprint = submission.fingerprint(task)
    wanted: list[tuple[str, str]] = []
    for one in session.catalog.bearing(attribute, fingerprint, owner=session.user, limit=_LOOKED_AT):
        handle = TaskHandle(session, one.collection)
        status = handle.status()
        if status.state is not State.COMPLETED or status.image_digest != digest or len(status.inputs) != len(found):
            continue
        if not task.role and status.resource != task.resource:
            continue  # which role it plays follows from the resource
        wanted = wanted or _checksums(session, found)
        if sorted((name_of(path), checksum) for path, checksum in status.inputs.items()) == wanted and _is_whole(
            handle
        ):
            return handle
    return None


def _checksums(session: Session, inputs: Sequence[DataObject]) -> list[tuple[str, str]]:
    """Names and checksums of the inputs as they are now; computed where the catalog has none."""
    return sorted((name_of(one.logical_path), session.catalog.checksum(one.logical_path)) for one in inputs)


def _is_whole(handle: TaskHandle) -> bool:
    present = {one.name for one in results.everything(handle.catalog, handle.collection)}
    return set(results.expected(handle.catalog, handle.collection)) <= present


def _image_of(session: Session, task: Task) -> str:
    """The image that the task would run in; '' where only its worker knows."""
    named = task.process.image if task.process else task.notebook.image if task.notebook else ""
    role = session.configuration.roles.get(task.role)
    return named or (str(role.settings.get("image", "")) if role else "")


def _digest_now(session: Session, image: str) -> str:
    """What is under the image's name today: the one content that the site allows, else what the
    engine of a zone of one's own holds; '' where neither is known."""
    if not image:
        return ""
    rules = [rule for rule in session.configuration.images if rule.covers(image)]
    if len(rules) == 1 and rules[0].digest:
        return rules[0].digest
    if session.site is None or session.settings.zone.kind != "embedded":
        return ""
    from compute_to_data.engines import open_engine

    try:
        return open_engine(session.site.engine, session.site.worker.state_directory).identify(image).digest
    except ComputeToDataError:
        return ""


def said(status: TaskStatus) -> str:
    """What a person is told about a task that is taken instead of a new one."""
    return (
        f"taken instead of a new task: {status.task_id} of {status.times.get('QUEUED', 'an earlier day')} "
        f"had the same request, the same inputs by checksum and the image {status.image_digest[:19]}"
    )
