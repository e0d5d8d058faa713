"""The request to end a task: the one place that writes it.

The request is an AVU on the task's collection. Its value names who asked, its units name the
compute resource, so that the worker of that resource finds it by one query. A request that arrives
after the task has ended changes nothing, and the worker removes it.
"""

from __future__ import annotations

from compute_to_data.errors import Code, Refused, ZoneError
from compute_to_data.model import Avu, Entity, EntityKind, User
from compute_to_data.records.task import CANCEL, State, TaskRecord


def request_cancel(record: TaskRecord, state: State | None, asked_by: User) -> bool:
    """Ask the worker of ``record.resource`` to end the task, whose state the caller has just read.

    Returns True when the request stands on the task (also when it did before), False when the task
    is gone or hidden. Refused when ``state`` is final; AccessDenied when the session of ``record``
    may not write to the task.
    """
    if state is not None and state.is_final:
        raise Refused(f"task {record.task_id}", f"has ended already: it is {state.value}")
    request = Avu(record.attributes.named(CANCEL), str(asked_by), record.resource)
    try:
        record.catalog.annotate(Entity(EntityKind.COLLECTION, record.collection), add=[request])
    except ZoneError as error:
        if error.code is not Code.SYS_INVALID_INPUT_PARAM:  # the code for an unknown bearer
            raise
        return False
    return True
