"""The tasks whose success another task waits for, and whether they have succeeded.

A task names them by their collections, in its ``after`` and among its inputs. They exist before it does, so
they cannot wait for it in turn, unless somebody writes a record by hand.
"""

from __future__ import annotations

from collections.abc import Iterable

from compute_to_data.configuration import Attributes
from compute_to_data.errors import AccessDenied, Cancelled, InvalidRequest, NotFound, Refused
from compute_to_data.model import Access, EntityKind, Query, name_of
from compute_to_data.ports import Catalog
from compute_to_data.records.task import State, TaskRecord, require

_SHOWN = 5


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
        facts = record.facts() if state is not None and state.is_final else {}
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


def collection_of(catalog: Catalog, attributes: Attributes, given: str) -> str:
    """The collection of the task with this id, with an id that begins so, or at this logical path.

    The user's own tasks come first, then others' that the user may read. NotFound, or InvalidRequest when several
    tasks match.
    """
    if given.startswith("/"):
        return given.rstrip("/")
    attribute = attributes.named("task_id")
    for owner in (catalog.user, None):
        query = Query(EntityKind.COLLECTION, attribute, beginning=given, owner=owner, newest_first=True)
        # Every user can write any id on a collection of their own, so the collection's name must agree.
        found = [one for one in catalog.find(query) if name_of(one).startswith(given)]
        found = [one for one in found if name_of(one) == given] or found
        if len(found) > 1:
            several = ", ".join(found[:_SHOWN]) + (" and more" if len(found) > _SHOWN else "")
            raise InvalidRequest(f"task {given}", f"several tasks match: {several}", "Give the path of its collection")
        if found:
            return found[0]
    raise NotFound(f"task {given}", "does not exist, or you may not read it", "List your tasks: c2d list")
