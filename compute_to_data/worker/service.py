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
from dataclasses import replace

from compute_to_data.configuration import Configuration
from compute_to_data.coordination import lock, wakeup
from compute_to_data.coordination.heartbeat import HEARTBEAT_SECONDS
from compute_to_data.errors import (
    Code,
    ComputeToDataError,
    ConfigurationError,
    EngineError,
    ZoneDistrusted,
    zone_error,
)
from compute_to_data.model import Resource
from compute_to_data.pipeline.execution import ServedResource
from compute_to_data.pipeline.watch_job import Watch
from compute_to_data.ports.engine import Engine
from compute_to_data.ports.zone import Storage
from compute_to_data.records.state import State
from compute_to_data.worker import recovery
from compute_to_data.worker.arrivals import Arrivals
from compute_to_data.worker.attempts import Attempts
from compute_to_data.worker.in_flight import Step, TasksInFlight
from compute_to_data.worker.line import Line
from compute_to_data.worker.next_tasks import NextTasks
from compute_to_data.worker.pace import Pace
from compute_to_data.worker.passed_over import PassedOver
from compute_to_data.worker.presence import Presence
from compute_to_data.worker.requests import Requests
from compute_to_data.worker.retries import FIRST_SECONDS, Retries
from compute_to_data.worker.task_runner import Purpose, TaskRunner
from compute_to_data.worker.unused_replicas import UnusedReplicas
from compute_to_data.worker.user_bounds import UserBounds
from compute_to_data.worker.waiting import LOOK_SECONDS, WaitingTasks
from compute_to_data.worker.workload_slots import WorkloadSlots

log = logging.getLogger("compute_to_data.worker")

_DISTRUST_SECONDS = 60.0
"""How long a worker leaves a zone alone whose certificate it does not trust: only an administrator can change that."""
_ERROR_SECONDS = 1.0
"""The least pause after an error of the zone or the engine, unless the worker looks more often in any case."""
_AT_ONCE = 16
"""How many tasks that have waited the worker queues before it renews its heartbeat and fills its slots again."""


class Worker:
    """Serves one compute resource. Create it, then ``serve`` in the main thread."""

    def __init__(self, configuration: Configuration, resource: str, storage: Storage, engine: Engine) -> None:
        scope = lock.scope(configuration, storage.zone, resource)
        self._served = served = ServedResource(configuration, storage, engine, _resource(storage, resource), scope)
        self._lock = lock.ResourceLock(configuration, storage.zone, resource)
        self._bell = wakeup.Bell(configuration, storage.zone, resource)
        self._stopping = threading.Event()
        self._interrupted = True
        """Whether to recover before anything else: at the start, after an error, and for a lost task."""
        self._trusts = True
        self._begun: set[str] = set()
        """The tasks that had begun when this worker recovered last."""
        self._next_heartbeat = 0.0

        self._presence = Presence(served)
        self._workload_slots = WorkloadSlots(served)
        self._waiting_tasks = WaitingTasks(served)
        self._passed_over = PassedOver()
        self._pace = Pace()
        self._retries = Retries(min(FIRST_SECONDS, configuration.worker.poll_seconds))
        self._runner = TaskRunner(
            served, self._workload_slots.directories, self._waiting_tasks, self._presence, self._stopping.is_set
        )
        self._attempts = Attempts(served, self._passed_over, self._presence, self._runner, self._retries)
        self._in_flight = TasksInFlight(
            served,
            begin=functools.partial(self._runner.run, purpose=Purpose.RUN),
            attempt=self._timed_attempt,
            over=self._over,
            is_resumed=lambda collection: collection in self._begun or self._retries.has_tried(collection),
        )
        bounds = UserBounds(served, self._runner.in_use.staged_bytes, self._pace)
        self._line = Line(served, self._workload_slots, bounds.may_begin, self._passed_over)
        self._next_tasks = NextTasks(
            served, self._line, self._in_flight, self._retries, self._passed_over, bounds, self._settle
        )
        self._requests = Requests(
            served,
            self._runner.cancel_requests,
            self._in_flight,
            has_tasks=lambda: self._trusts and (self._has_tasks() or self._next_tasks.is_held_up),
            tried=self._retries.tried,
            not_ours=lambda: {*self._passed_over, *self._begun},
            hurry=self._hurry,
            end=self._end_cancelled,
        )
        self._arrivals = Arrivals(served)
        self._unused_replicas = UnusedReplicas(served, self._runner.transfers.staged, self._runner.in_use)

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
            with self._in_flight, self._requests, self._arrivals, self._unused_replicas:
                self._work(on_demand)
            if self._stopping.is_set():
                self._workload_slots.leave()
        finally:
            if self._lock.is_ours:
                self._presence.withdraw()
            self._bell.close()
            self._lock.release()

    def _work(self, on_demand: bool) -> None:
        idle_seconds = self._served.configuration.worker.idle_seconds
        idle_since = time.monotonic()
        while not self._stopping.is_set():
            try:
                self._heartbeat()
                if self._interrupted:
                    self._interrupted = False
                    self._recover()
                self._queue_waiting()
                self._next_tasks.try_again()
                if not self._next_tasks.line_up():
                    self._bell.ring()  # first the heartbeat, then the others
                self._next_tasks.tend_line()
                self._arrivals.tend()
            except lock.AlreadyServed:
                self.stop()
                raise
            except ZoneDistrusted as error:
                log.error("the worker cannot use the zone, and tries again in %g s: %s", _DISTRUST_SECONDS, error)
                self._interrupted = True
                self._leave_alone()
            except ComputeToDataError as error:
                log.error("the zone or the engine does not answer, trying again: %s", error)
                self._interrupted = True
            except Exception:  # an adapter may raise anything, and this worker serves all users
                log.exception("unexpected error, trying again")
                self._interrupted = True
            waits = self._waiting_tasks.any()
            if self._has_tasks() or self._interrupted or self._pace.due_in() is not None:  # all of this is work, too
                idle_since = time.monotonic()
            elif on_demand and time.monotonic() - idle_since > idle_seconds and self._may_leave():
                return
            rung = self._bell.wait(self._pause(waits))
            if wakeup.ARRIVAL in rung:
                self._arrivals.call()
            if wakeup.TASKS in rung:
                self._waiting_tasks.call()
                self._requests.call()

    def _leave_alone(self) -> None:
        """Ask the zone nothing for a while, because the worker does not trust it. The thread that asks what users want
        of tasks stops asking, too."""
        self._trusts = False
        self._stopping.wait(_DISTRUST_SECONDS)
        self._trusts = True

    def _has_tasks(self) -> bool:
        return bool(self._in_flight.collections() or self._retries.waiting() or self._waiting_tasks.any())

    def _pause(self, waits: bool) -> float:
        """Seconds until the worker looks again, if it is not called before."""
        poll_seconds = self._served.configuration.worker.poll_seconds
        due = [poll_seconds, LOOK_SECONDS if waits else HEARTBEAT_SECONDS, self._line.due_in(), self._retries.due_in()]
        due += [self._arrivals.due_in(), self._pace.due_in()]
        soonest = min(one for one in due if one is not None)
        # After an error, what was due still is: without a pause, the worker would ask a zone without rest that is away.
        return max(soonest, min(_ERROR_SECONDS, poll_seconds)) if self._interrupted else soonest

    def _may_leave(self) -> bool:
        """Release the lock, then look for tasks once more. While the lock was held, submitting a task started no
        other worker; a task that is submitted later finds the lock free."""
        self._workload_slots.leave()  # while this worker holds the lock, so that it removes only its own sandboxes
        self._presence.withdraw()
        self._lock.release()
        try:
            self._line.look(now=True)
            waiting = replace(recovery.tasks_in(self._served, State.WAITING), limit=1)
            if not self._next_tasks.choose(1) and not self._served.storage.find(waiting) and not self._arrivals.any():
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
        decided = [one for one in self._waiting_tasks.next_decided(_AT_ONCE) if one not in self._passed_over]
        for collection in decided:
            self._settle(collection, Purpose.QUEUE)
            self._waiting_tasks.report(collection)
        if decided:
            self._bell.ring()

    def _hurry(self, cancelled: frozenset[str]) -> None:
        """Let cancelled tasks end that wait to be tried again."""
        if self._next_tasks.hurry(cancelled):
            self._bell.ring()

    def _end_cancelled(self, collection: str) -> None:
        """End a task that a user has cancelled before it began."""
        self._settle(collection, Purpose.CANCEL)
        self._waiting_tasks.report(collection)

    def _recover(self) -> None:
        """Resume every task that an earlier worker or a lost connection left unfinished, and remove jobs
        without an unfinished task."""
        rows = list(recovery.unfinished_tasks(self._served))
        unfinished = list(dict.fromkeys(row.collection for row in rows))
        for row in rows:
            self._line.note(row.collection, row.owner)
        self._begun = set(unfinished)
        recovery.remove_what_is_left(self._served, {*unfinished, *self._in_flight.collections()})
        known_here = {*self._in_flight.collections(), *(one.collection for one in self._retries.waiting())}
        for collection in unfinished:
            if collection not in known_here and collection not in self._passed_over:
                log.info("resuming %s", collection)
                self._in_flight.take(collection)

    def _over(self, collection: str, again: bool, had_job: bool) -> None:
        """Called when a task is no longer in flight. ``again``: the worker must try it again."""
        self._pace.over(collection, ended=not again, had_job=had_job)
        if again:
            self._retries.put(collection, had_job)
        else:
            self._retries.drop(collection)
            self._runner.in_use.staged_bytes.release(collection)
            self._attempts.forget(collection)
            self._waiting_tasks.report(collection)
        self._look_for(collection)
        self._bell.ring()

    def _look_for(self, collection: str) -> None:
        """Recover before anything else if a task is lost. Not before it is out of flight: its job and its notes are
        removed only then."""
        if self._attempts.has_lost(collection):
            self._interrupted = True

    def _settle(self, collection: str, purpose: Purpose) -> None:
        """Queue, cancel or refuse a task, without a slot."""
        self._attempts.take(collection, functools.partial(next, self._runner.run(collection, purpose=purpose)))
        self._look_for(collection)

    def _timed_attempt(self, collection: str, step: Step) -> Watch | bool:
        """Take a step of a task in flight, and note the processor time for its owner."""
        owner, began = self._line.owner_of(collection), time.thread_time()
        try:
            return self._attempts.take(collection, step)
        finally:
            self._pace.spent(collection, owner, time.thread_time() - began)

    def _heartbeat(self) -> None:
        """Renew the heartbeat and the published capabilities while the engine answers. A worker that cannot start
        a job shows no heartbeat.

        AlreadyServed when another worker has published its heartbeat.
        """
        if time.monotonic() < self._next_heartbeat:
            return
        self._check_engine()
        self._presence.show()
        self._workload_slots.tend(
            (*self._in_flight.collections(), *(one.collection for one in self._retries.waiting()))
        )
        self._runner.transfers.settle()
        gone = recovery.gone(self._served, self._in_flight.watched())
        if gone:
            self._in_flight.look_at(gone)
        self._next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS

    def _check_engine(self) -> None:
        """EngineError when the engine runs no jobs; those who wait for it learn why."""
        try:
            self._served.engine.check()
        except EngineError as error:
            self._next_tasks.hold_up(error)
            raise


def _resource(storage: Storage, name: str) -> Resource:
    for resource in storage.catalog.resources():
        if resource.name == name:
            if not resource.is_storage:
                raise ConfigurationError(
                    f"resource {name}", "is a coordinating resource", "Name the storage resource below it"
                )
            return resource
    raise zone_error(Code.SYS_RESC_DOES_NOT_EXIST, f"resource {name}", "does not exist")
