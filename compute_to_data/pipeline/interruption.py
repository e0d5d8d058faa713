"""How a step learns, within a second or two, that a user wants to cancel its task, and how it leaves long work.

The worker asks the catalog again and again which tasks users want to cancel (``worker.requests``), for all its tasks in
one question. A step that works in pieces looks at the answer between two pieces, which costs nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class CancelRequests:
    """The tasks that users want to cancel, by their collections, as of the worker's last question.

    Threads may share it. ``answers``: how many answers there have been.
    """

    def __init__(self) -> None:
        self.answers = 0
        self.changed = threading.Condition()
        """Notified after each answer, and when work has ended that a step waits for."""
        self._asked: frozenset[str] = frozenset()

    def answer(self, collections: Iterable[str]) -> None:
        """Note the answer to the worker's question."""
        with self.changed:
            self._asked = frozenset(collections)
            self.answers += 1
            self.changed.notify_all()

    def __contains__(self, collection: str) -> bool:
        return collection in self._asked


class _Call(Generic[Result]):
    """A call in a thread of its own. ``is_over``: whether it has ended."""

    def __init__(self, call: Callable[[], Result], changed: threading.Condition, name: str) -> None:
        self.is_over = False
        self._call = call
        self._changed = changed
        self._results: list[Result] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001 - raised again in the step
            self._error = error
        with self._changed:
            self.is_over = True
            self._changed.notify_all()

    def result(self) -> Result:
        """What the call returned, when it is over; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._results[0]


class Interruption:
    """Whether a task goes on. ``confirm`` reads from the task's record, or raises Cancelled."""

    def __init__(self, requests: CancelRequests, collection: str, confirm: Callable[[], None]) -> None:
        self._requests = requests
        self._collection = collection
        self._confirm = confirm
        self._confirmed = -1

    def check(self) -> None:
        """Raise Cancelled when a user has cancelled the task. For use between two pieces of work."""
        if self._is_asked():
            self._confirmed = self._requests.answers  # if the record says otherwise, it need not be read for each piece
            self._confirm()

    def wait_for(self, call: Callable[[], Result], name: str) -> Result:
        """Make a call that cannot be cut into pieces, and wait for its end.

        When a user cancels the task meanwhile, leaves it to itself and raises Cancelled.
        """
        changed = self._requests.changed
        waited = _Call(call, changed, name)
        while True:
            with changed:
                changed.wait_for(lambda: waited.is_over or self._is_asked())
            if waited.is_over:
                return waited.result()
            self.check()

    def acquire(self, turn: threading.Lock | threading.Semaphore) -> None:
        """Acquire what another task may keep for long. Raises Cancelled meanwhile, without it."""
        while not turn.acquire(timeout=_LOOK_SECONDS):
            self.check()

    def _is_asked(self) -> bool:
        return self._collection in self._requests and self._confirmed != self._requests.answers


_LOOK_SECONDS = 0.25
"""How often a task that waits for its turn looks whether it is cancelled."""
