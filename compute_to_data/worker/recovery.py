"""What a worker does when it starts, and when it has lost the zone or a task: it finds the tasks that were begun. It
removes all other jobs, directories and journals."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import replace

from compute_to_data.job import JobKey
from compute_to_data.model import EntityKind, Query, Row
from compute_to_data.pipeline import journal
from compute_to_data.pipeline.execution import ServedResource
from compute_to_data.pipeline.vault import removal
from compute_to_data.records.state import UNFINISHED, State, queue_levels

log = logging.getLogger("compute_to_data.worker")

_OF_ONE_USER = 2048
"""How many unfinished tasks of one user a worker resumes when it starts. None can have begun more."""
_MOST_QUEUED = 65_536
"""With more queued tasks, the journals of tasks that are gone stay: there are few of them."""


def tasks_in(served: ServedResource, state: State) -> Query:
    """Asks for the resource's tasks in a state."""
    here = served.resource.name
    units = queue_levels(here) if state is State.QUEUED else here
    return Query(EntityKind.COLLECTION, served.configuration.attributes.state, state.value, units)


def unfinished_tasks(served: ServedResource) -> Iterator[Row]:
    """The tasks that an earlier worker, or this one, has begun. A task may come twice while its state changes.

    Of each user at most :data:`_OF_ONE_USER` in each state: anybody can tag any number of collections so.
    """
    storage = served.storage
    for state in UNFINISHED:
        query = tasks_in(served, state)
        for owner in dict.fromkeys(one.owner for one in storage.count_by_owner(query, most=1)):
            yield from storage.query(replace(query, owner=owner, limit=_OF_ONE_USER))


def gone(served: ServedResource, collections: Collection[str]) -> frozenset[str]:
    """Those tasks that a user seems to have removed or moved while their jobs run. Nothing else would tell the worker
    before the jobs' ends."""
    query = Query(EntityKind.COLLECTION, served.configuration.attributes.state, units=served.resource.name)
    there = (one for each in query.among_each(collections) for one in served.storage.find(each))
    return frozenset(collections).difference(there)


def remove_what_is_left(served: ServedResource, unfinished: Collection[str]) -> None:
    """Remove jobs, directories and journals of tasks that are over; ``unfinished`` are the others, by collection."""
    known = {JobKey.of(served.scope, one) for one in unfinished}
    in_line = served.storage.find(replace(tasks_in(served, State.QUEUED), limit=_MOST_QUEUED + 1))
    removal.remove_what_is_left(served.journal_folder, known)
    if len(in_line) <= _MOST_QUEUED:
        queued = {JobKey.of(served.scope, one) for one in in_line}
        journal.sweep(served.journal_folder, known | queued)
    for job in served.engine.jobs(served.scope):
        if job not in known:
            log.warning("removing job %s: it belongs to no unfinished task", job)
            served.engine.remove(job)
