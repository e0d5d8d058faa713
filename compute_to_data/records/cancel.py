"""The request to cancel a task. Only this module writes it.

The request is an AVU on the task's collection. Its value names the user who asked, its units the
compute resource, so that the worker of that resource finds it with one query. A request that
arrives after the task has ended changes nothing, and the worker removes it.
"""

from __future__ import annotations

from compute_to_data.errors import Code, Refused, ZoneError
from compute_to_data.model import Avu, Entity, EntityKind, User
from compute_to_data.records.state import State
from compute_to_data.records.task import CANCEL, TaskRecord


def request_cancel(record: TaskRecord, state: State | None, asked_by: User) -> bool:
    """Ask the worker of ``record.resource`` to end the task. ``state`` is what the caller has just read.

    Returns True when the request is recorded (also when it was before), False when the task is gone
    or hidden. Refused when ``state`` is final; AccessDenied when the session's user may not change
    the task's record.
    """
    if state is not None and state.is_final:
        raise Refused(f"task {record.task_id}", f"has ended already: it is {state.value}")
    request = Avu(record.attributes.named(CANCEL), str(asked_by), record.resource)
    try:
        record.catalog.annotate(Entity(EntityKind.COLLECTION, record.collection), add=[request])
    except ZoneError as error:
        if error.code is not Code.SYS_INVALID_INPUT_PARAM:  # the code for a missing collection
            raise
        return False
    return True
