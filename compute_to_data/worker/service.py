"""The worker: runs the queued tasks of one compute resource. Each resource has one worker.

After a worker was killed, the next one finds all that it needs in the catalog, in the engine and in the
journals. So every start is a recovery: the worker resumes unfinished tasks and removes jobs without a task.
A worker that is stopped (SIGTERM) leaves running jobs alone, and the next worker adopts them.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence

from compute_to_data.configuration import Configuration
from compute_to_data.coordination import capabilities, lock, wakeup
from compute_to_data.coordination.heartbeat import HEARTBEAT_SECONDS, Heartbeat, heartbeats
from compute_to_data.errors import (
    Code,
    ComputeToDataError,
    ConfigurationError,
    OutOfReach,
    zone_error,
)
from compute_to_data.job import JobKey
from compute_to_data.model import EntityKind, Query, Resource
from compute_to_data.pipeline import journal
from compute_to_data.pipeline.checkpoint import Ending
from compute_to_data.pipeline.execution import ServedResource
from compute_to_data.pipeline.watch_job import QUESTION_EVERY, Detached, Watch
from compute_to_data.ports import Engine, Storage
from compute_to_data.records.task import CANCEL, UNFINISHED, State
from compute_to_data.worker.in_flight import Step, TasksInFlight
from compute_to_data.worker.slot import Purpose, TaskRunner, Unintelligible
from compute_to_data.worker.waiting import LOOK_SECONDS, WaitingTasks
from compute_to_data.worker.workload_slots import WorkloadSlots

log = logging.getLogger("compute_to_data.worker")

_AT_ONCE = 16
"""How many tasks the worker cancels in the queue, or queues that have waited, before it renews its heartbeat and fills
its slots again."""


class Worker:
    """Serves one compute resource. Create it, then ``serve`` in the main thread."""

    def __init__(self, configuration: Configuration, resource: str, storage: Storage, engine: Engine) -> None:
        scope = lock.scope(configuration, storage.zone, resource)
        self._served = served = ServedResource(configuration, storage, engine, _resource(storage, resource), scope)
        self._lock = lock.ResourceLock(configuration, storage.zone, resource)
        self._bell = wakeup.Bell(configuration, storage.zone, resource)
        self._sign = Heartbeat(storage.catalog, configuration, resource)
        self._workload_slots = WorkloadSlots(served)
        self._stopping = threading.Event()
        self._waiting_tasks = WaitingTasks(served)
        self._runner = TaskRunner(served, self._workload_slots.directories, self._waiting_tasks, self._stopping.is_set)
        self._in_flight = TasksInFlight(
            served,
            begin=functools.partial(self._runner.run, purpose=Purpose.RUN),
            attempt=self._attempt,
            over=self._over,
        )
        self._need_not_wait: list[str] = []
        self._passed_over: set[str] = set()
        self._failures: Counter[str] = Counter()
        self._interrupted = True
        self._begun: set[str] = set()
        self._next_heartbeat = 0.0
        self._next_question = 0.0

    def stop(self) -> None:
        """Take no more tasks and end soon, while running jobs go on. Safe in a signal handler."""
        self._stopping.set()
        self._bell.ring()

    def serve(self, *, on_demand: bool = False) -> None:
        """Work until :meth:`stop`; with ``on_demand``, also end after some time without tasks.

        AlreadyServed when another worker serves the resource, or took it over while this worker could not reach the
        zone. EngineError when the engine does not answer.
        """
        self._served.engine.check()
        self._lock.acquire()
        self._bell.listen()
        log.info("serving %s with %d slots", self._served.scope, self._served.configuration.worker.slots)
        try:
            with self._in_flight:
                self._work(on_demand)
            if self._stopping.is_set():
                self._workload_slots.leave()
        finally:
            if self._lock.is_ours:
                self._withdraw_heartbeat()
            self._bell.close()
            self._lock.release()

    def _work(self, on_demand: bool) -> None:
        settings = self._served.configuration.worker
        idle_since = time.monotonic()
        while not self._stopping.is_set():
            try:
                self._heartbeat()
                if self._interrupted:
                    self._interrupted = False
                    self._recover()
                self._queue_waiting()
                self._take()
                self._cancel_queued()
            except lock.AlreadyServed:
                self.stop()
                raise
            except ComputeToDataError as error:
                log.error("the zone or the engine does not answer, trying again: %s", error)
                self._interrupted = True
            except Exception:  # an adapter may raise anything, and this worker serves all users
                log.exception("unexpected error, trying again")
                self._interrupted = True
            waits = self._waiting_tasks.any()
            if self._in_flight.collections() or waits or self._interrupted:  # unfinished tasks are work, too
                idle_since = time.monotonic()
            elif on_demand and time.monotonic() - idle_since > settings.idle_seconds and self._may_leave():
                return
            longest = LOOK_SECONDS if waits else HEARTBEAT_SECONDS
            if self._bell.wait(min(settings.poll_seconds, longest)):
                self._waiting_tasks.call()

    def _may_leave(self) -> bool:
        """Release the lock, then look for tasks once more. While the lock was held, submitting a task started no
        other worker; a task that is submitted later finds the lock free."""
        self._workload_slots.leave()  # while this worker holds the lock, so that it removes only its own sandboxes
        self._withdraw_heartbeat()
        self._lock.release()
        try:
            if not self._waiting(1) and not self._tasks(State.WAITING, limit=1):
                return True
        except ComputeToDataError as error:
            log.warning("the worker stays, because it cannot find out whether a task waits: %s", error)
        with contextlib.suppress(lock.AlreadyServed):
            self._lock.acquire()
            self._next_heartbeat = 0.0
            return False
        return True

    def _queue_waiting(self) -> None:
        """Queue waiting tasks for which all others have completed, and end those that would wait in vain."""
        if not self._need_not_wait and self._waiting_tasks.due():
            self._need_not_wait = [one for one in self._waiting_tasks.look() if one not in self._passed_over]
        now, self._need_not_wait = self._need_not_wait[:_AT_ONCE], self._need_not_wait[_AT_ONCE:]
        for collection in now:
            self._attempt(collection, functools.partial(next, self._runner.run(collection, purpose=Purpose.QUEUE)))
            self._waiting_tasks.report(collection)
        if now:
            self._bell.ring()

    def _take(self) -> None:
        in_flight = self._in_flight
        free = in_flight.capacity + in_flight.slots - len(in_flight.collections())  # one more for each slot
        if free > 0:
            for collection in self._waiting(free):
                in_flight.take(collection)

    def _waiting(self, most: int) -> list[str]:
        """The next queued tasks, oldest first, without those in flight and those passed over."""
        held = self._in_flight.collections()  # before asking: what ends meanwhile is no news
        admitted: list[str] = []
        while len(admitted) < most:
            taken = [*held, *admitted]
            known = {*taken, *self._passed_over}
            # A full workload may have thousands of tasks that are older than all others.
            full = self._workload_slots.full(taken)
            queued = self._tasks(State.QUEUED, excluding=full, limit=most - len(admitted) + len(known))
            found = [one for one in queued if one not in known]
            more = self._workload_slots.admitted(found, taken)
            admitted += more
            if len(more) == len(found):
                break
        return admitted[:most]

    def _tasks(self, state: State, *, excluding: Sequence[str] = (), limit: int | None = None) -> tuple[str, ...]:
        attribute, here = self._served.configuration.attributes.state, self._served.resource.name
        query = Query(EntityKind.COLLECTION, attribute, state.value, here, excluding=tuple(excluding), limit=limit)
        return self._served.storage.find(query)

    def _cancel_queued(self) -> None:
        """End queued tasks that users have cancelled, without waiting for a slot. The watcher does this for
        tasks that run. While the worker has no tasks at all, it asks nothing."""
        has_tasks = self._in_flight.collections() or self._waiting_tasks.any()
        if not has_tasks or time.monotonic() < self._next_question:
            return
        self._next_question = time.monotonic() + QUESTION_EVERY
        not_ours = self._passed_over | self._begun
        known = {*self._in_flight.collections(), *not_ours}
        request, most = self._served.configuration.attributes.named(CANCEL), _AT_ONCE + len(known)
        query = Query(EntityKind.COLLECTION, request, units=self._served.resource.name, limit=most)
        found = self._served.storage.find(query)
        ended = 0
        for collection in found:
            if collection not in not_ours and self._in_flight.withdraw(collection):
                self._attempt(collection, functools.partial(next, self._runner.run(collection, purpose=Purpose.CANCEL)))
                self._waiting_tasks.report(collection)
                ended += 1
            if ended == _AT_ONCE:  # first the heartbeat, then the others
                self._next_question = 0.0
                self._bell.ring()
                return

    def _recover(self) -> None:
        """Resume every task that an earlier worker or a lost connection left unfinished, and remove jobs
        without an unfinished task."""
        unfinished = [one for state in UNFINISHED for one in self._tasks(state)]
        self._begun = set(unfinished)
        known = {JobKey.of(self._served.scope, one) for one in (*unfinished, *self._in_flight.collections())}
        queued = {JobKey.of(self._served.scope, one) for one in self._tasks(State.QUEUED)}
        journal.sweep(self._served.journal_folder, known | queued)
        for job in self._served.engine.jobs(self._served.scope):
            if job not in known:
                log.warning("removing job %s: it belongs to no unfinished task", job)
                self._served.engine.remove(job)
        for collection in unfinished:
            if collection not in self._in_flight.collections() and collection not in self._passed_over:
                log.info("resuming %s", collection)
                self._in_flight.take(collection)

    def _over(self, collection: str, again: bool) -> None:
        """Called when a task is no longer in flight. ``again``: the worker must try it again."""
        if again:
            self._interrupted = True
        else:
            self._waiting_tasks.report(collection)
        self._bell.ring()

    def _attempt(self, collection: str, step: Step) -> Watch | bool:
        """Take one step of a task. Returns the job to watch next, or whether the worker must try the task again.

        This is the boundary that keeps the errors of one task away from others.
        """
        try:
            return step()
        except StopIteration as course:
            ending: Ending | None = course.value
            if ending is not None:
                log.info("%s %s %s", collection, ending.state.value, ending.text)
        except Detached:
            log.info("the job of %s runs on without this worker", collection)
        except Unintelligible as error:
            log.warning("ignoring %s: %s", collection, error)
            self._passed_over.add(collection)
        except OutOfReach as error:  # not the task's fault: try again without a limit
            log.warning("%s waits: %s", collection, error)
            return self._later()
        except Exception:
            log.exception("the worker could not run %s to its end", collection)
            self._failures[collection] += 1
            if self._failures[collection] <= self._served.configuration.worker.attempts:
                return self._later()
            log.error("ignoring %s until the worker starts again", collection)
            self._passed_over.add(collection)
        return False

    def _later(self) -> bool:
        self._stopping.wait(min(1.0, self._served.configuration.worker.poll_seconds))
        return True

    def _heartbeat(self) -> None:
        """Renew the heartbeat and the published capabilities while the engine answers. A worker that cannot start
        a job shows no heartbeat.

        AlreadyServed when another worker has published its heartbeat.
        """
        if time.monotonic() < self._next_heartbeat:
            return
        self._served.engine.check()
        self._sign.renew()
        capabilities.publish(self._served.storage.catalog, self._served.configuration, self._served.resource.name)
        self._workload_slots.tend(self._in_flight.collections())
        self._next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS

    def _withdraw_heartbeat(self) -> None:
        with contextlib.suppress(ComputeToDataError):
            self._sign.withdraw()
            served = self._served
            published = served.storage.catalog, served.configuration, served.resource.name
            if not heartbeats(*published):
                capabilities.withdraw(*published)


def _resource(storage: Storage, name: str) -> Resource:
    for resource in storage.catalog.resources():
        if resource.name == name:
            if not resource.is_storage:
                raise ConfigurationError(
                    f"resource {name}", "is a coordinating resource", "Name the storage resource below it"
                )
            return resource
    raise zone_error(Code.SYS_RESC_DOES_NOT_EXIST, f"resource {name}", "does not exist")
