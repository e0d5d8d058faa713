"""The tasks whose success another task waits for, and whether they have succeeded.

A task names them by their collections, in its ``after`` and among its inputs. They exist before it does, so
they cannot wait for it in turn, unless a user has written a record by hand.
"""

from __future__ import annotations

from collections.abc import Iterable

from compute_to_data.configuration import Attributes
from compute_to_data.errors import AccessDenied, Cancelled, NotFound, Refused
from compute_to_data.model import Access, name_of
from compute_to_data.ports.zone import Catalog
from compute_to_data.records.access import require
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord


def unfinished(catalog: Catalog, attributes: Attributes, awaited: Iterable[str]) -> tuple[str, ...]:
    """The collections of the tasks that have not ended yet, read in the waiting user's own session.

    Cancelled when one of the tasks can no longer succeed: it FAILED, was cancelled or removed, the user may not
    read it any more, or another user than its owner could have changed its record.
    """
    return tuple(one for one in awaited if not _has_completed(catalog, attributes, one))


def _has_completed(catalog: Catalog, attributes: Attributes, collection: str) -> bool:
    record = TaskRecord(catalog, attributes, collection, "")
    try:
        require(catalog, record.request_path, Access.READ_OBJECT, "to wait for the task")
        record.sealed_owner()
        state = record.state()
        facts = record.facts("reason") if state is not None and state.is_final else {}
    except (NotFound, AccessDenied):
        raise _in_vain(collection, "was removed, or its owner no longer lets you read it") from None
    except Refused as error:
        raise _in_vain(collection, f"has a record that cannot be trusted ({error})") from None
    if state is None:
        raise _in_vain(collection, "was removed in part: it has no state any more")
    if state in (State.FAILED, State.CANCELLED):
        raise _in_vain(collection, f"{state.value}: {facts.get('reason') or 'it recorded no reason'}")
    return state is State.COMPLETED


def _in_vain(collection: str, cause: str) -> Cancelled:
    return Cancelled("task", f"it waited for task {name_of(collection)}, which {cause}")
