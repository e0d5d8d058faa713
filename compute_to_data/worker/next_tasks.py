"""Lines up the next tasks of a worker: chooses them fairly, looks whether they are tasks at all, publishes the line.

All of this happens in the worker's main thread and takes no slot.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection

from compute_to_data.coordination import published_line
from compute_to_data.coordination.published_line import PublishedLine, UserNumbers
from compute_to_data.errors import EngineError, NotFound
from compute_to_data.pipeline.execution import ServedResource
from compute_to_data.pipeline.vault.vault_room import VaultRoom
from compute_to_data.task import REQUEST_NAME
from compute_to_data.worker.in_flight import TasksInFlight
from compute_to_data.worker.line import InLine, Line
from compute_to_data.worker.passed_over import PassedOver
from compute_to_data.worker.retries import Retries
from compute_to_data.worker.task_runner import Purpose
from compute_to_data.worker.user_bounds import UserBounds

log = logging.getLogger("compute_to_data.worker")

_LOOKS = 16
"""How many records that are no tasks the worker reads before it renews its heartbeat."""
_READY_SECONDS = 1.0
"""How often the worker asks the engine whether jobs can begin."""
_STATUS_SECONDS = 3.0
"""How often the worker asks whether its resource is marked down, while tasks wait there."""
_PUBLISH_SECONDS, _SHARE = 3.0, 20.0
"""How often the worker publishes its line. It takes at most one part in 20 of its time for that."""


class NextTasks:
    """The next tasks of one worker. Only the worker's main thread uses it."""

    def __init__(
        self,
        served: ServedResource,
        line: Line,
        in_flight: TasksInFlight,
        retries: Retries,
        passed_over: PassedOver,
        bounds: UserBounds,
        settle: Callable[[str, Purpose], None],
    ) -> None:
        """``settle``: ends a task that must not run."""
        self._served = served
        self._line = line
        self._in_flight = in_flight
        self._retries = retries
        self._passed_over = passed_over
        self._bounds = bounds
        self._settle = settle
        self._room = VaultRoom(served.resource, served.configuration.worker.vault_reserve_bytes)
        self._held_up = self._unready = ""
        self._next_question = self._next_status = 0.0
        self._is_down = False
        self._down = f"resource {served.resource.name} is marked down"
        self._sound: set[str] = set()
        self._not_reached: list[str] = []
        self._hurried: deque[str] = deque()
        self._next_publication = 0.0
        self._published_idle = False

    @property
    def is_held_up(self) -> bool:
        """Whether something keeps all tasks from beginning. Threads may ask."""
        return bool(self._held_up)

    def hurry(self, cancelled: Collection[str]) -> bool:
        """Let cancelled tasks begin again at once that wait to be tried again; whether there are any. Threads may call
        it."""
        found = [one for one in cancelled if self._retries.has_tried(one) and not self._in_flight.has_begun(one)]
        self._hurried.extend(found)
        return bool(found)

    def try_again(self) -> None:
        """Take up tasks whose pause is over, or that are cancelled. One that has no job waits in its owner's line."""
        while self._hurried:
            collection = self._hurried.popleft()
            self._retries.no_longer(collection)
            self._line.take_out(collection)
            if collection not in self._in_flight.collections():
                self._in_flight.take(collection)
        for one in self._retries.take_due():
            if one.has_job:
                self._in_flight.take(one.collection)
            else:
                self._line.put_back(one.collection)

    def line_up(self) -> bool:
        """Line up the next tasks: as many as may begin, and one more for each slot; none while something holds all up.
        False when the worker has read, or met, so many records that are no tasks that it must go on soon."""
        self._note_begun()
        self._wait_because(self._hindrance())
        if self._held_up:
            return True
        for _ in range(_LOOKS):
            free = self._in_flight.capacity + self._in_flight.slots - len(self._holding())
            chosen = self.choose(free)
            if chosen and self._resource_is_down():
                self._wait_because(self._down)
                return True
            unknown = self._line_up_tasks(chosen)
            if unknown is None:
                return not self._line.is_cut_short
            self._passed_over.add(unknown)
            self._line.had_a_turn(self._line.owner_of(unknown))
            self._note_begun()
        return False

    def _line_up_tasks(self, chosen: list[str]) -> str | None:
        """Line up those that are tasks, up to the first that is none. Returns that one.

        They may begin while the worker looks at the next: it reads records that are no tasks one by one.
        """
        sound: list[str] = []
        for one in chosen:
            if one not in self._sound:
                self._in_flight.line_up(sound)
                if not self._is_task(one):
                    self._sound = {*sound}
                    self._not_reached = chosen[len(sound) + 1 :]
                    return one
            sound.append(one)
        self._sound = {*sound}
        self._in_flight.line_up(sound)
        return None

    def _note_begun(self) -> None:
        """Let the line know which of the chosen tasks have begun."""
        _, lined_up = self._in_flight.begun_and_lined_up()
        self._line.began({*lined_up, *self._not_reached})
        self._not_reached = []

    def _hindrance(self) -> str:
        """What holds all tasks up, in words; '' for nothing. The engine is asked once a second."""
        name, lack = self._served.resource.name, self._room.lack()
        if lack:
            return f"the vault of {name} {lack}"
        if self._is_down and self._resource_is_down():
            return self._down
        if time.monotonic() >= self._next_question:
            try:
                self._served.engine.need_ready()
                self._unready = ""
            except EngineError as error:
                self._unready = self._unready_because_of(error)
            self._next_question = time.monotonic() + _READY_SECONDS
        return self._unready

    def _resource_is_down(self) -> bool:
        """Whether the resource is marked down, as of some seconds ago. Asked only when a task could begin."""
        if time.monotonic() >= self._next_status:
            here = [one for one in self._served.storage.catalog.resources() if one.name == self._served.resource.name]
            self._is_down = any(not one.is_up for one in here)
            self._next_status = time.monotonic() + _STATUS_SECONDS
        return self._is_down

    def _unready_because_of(self, error: EngineError) -> str:
        if not self._held_up:
            log.warning("the engine cannot run jobs: %s", error)
        return published_line.no_jobs(self._served.resource.name, error)

    def hold_up(self, error: EngineError) -> None:
        """Let no task begin, because the engine runs no jobs, and publish why."""
        self._unready = self._unready_because_of(error)
        self._note_begun()
        self._wait_because(self._unready)
        self.tend_line()

    def _wait_because(self, why: str) -> None:
        """Let no task begin while something holds all up, and publish at once that it does, or no longer does."""
        if bool(why) != bool(self._held_up):
            self._next_publication = 0.0
            log.warning("%s", f"no task begins: {why}" if why else "tasks begin again")
        self._held_up = why
        if why:
            self._in_flight.line_up([])
            self._line.look()  # who waits must be known, to be told

    def choose(self, most: int) -> list[str]:
        """The next queued tasks, in the fair order, without those that have begun."""
        holding = self._holding()  # before asking: what ends meanwhile is no news
        self._line.look()
        return self._line.choose(most, holding, [one.collection for one in self._retries.waiting()])

    def _holding(self) -> list[str]:
        """The tasks that take up a place here: those taken, and those that try again and may have a job."""
        taken, _ = self._in_flight.begun_and_lined_up()
        return [*taken, *(one.collection for one in self._retries.waiting() if one.has_job)]

    def _is_task(self, collection: str) -> bool:
        """Whether a collection holds a request of its owner. A request of another user ends now."""
        try:
            owner = self._served.storage.owner(f"{collection}/{REQUEST_NAME}")
        except NotFound as error:
            if self._retries.has_tried(collection):  # it was one: the next attempt finds that it is gone
                return True
            log.warning("ignoring %s: %s", collection, error)
            return False
        if owner != self._line.owner_of(collection):
            self._settle(collection, Purpose.RUN)
            return False
        self._sound.add(collection)
        return True

    def tend_line(self) -> None:
        """Now and then, publish the line, and end the newest queued tasks of users who have too many."""
        is_idle = self._line.is_empty and not self._holding() and not self._held_up
        if time.monotonic() < self._next_publication or (is_idle and self._published_idle):
            return
        self._published_idle = is_idle
        began = time.monotonic()
        listed = self._line.listed(self._holding())
        self._publish(listed)
        excess = self._bounds.excess(listed)
        for collection in excess:
            if self._in_flight.claim(collection):
                try:
                    self._settle(collection, Purpose.REFUSE)
                finally:
                    self._in_flight.release(collection)
        ended = time.monotonic()
        self._next_publication = ended if excess else ended + max(_PUBLISH_SECONDS, _SHARE * (ended - began))

    def _publish(self, listed: list[InLine]) -> None:
        served, running = self._served, len(self._holding())
        waiting = [one for one in listed if one.waiting]
        line = PublishedLine(
            capacity=served.capacity,
            running=running,
            waiting=sum(one.waiting for one in waiting),
            users=len(waiting),
            first=tuple(UserNumbers(one.here, one.waiting, one.oldest) for one in waiting),
            running_bound=served.configuration.worker.per_user.running,
            held_up=self._held_up,
        )
        idle = not line.waiting and not running and not self._held_up
        place = served.storage.catalog, served.configuration.attributes, served.resource.name
        published_line.publish(*place, None if idle else line)
