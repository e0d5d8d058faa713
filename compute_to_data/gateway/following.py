"""Followers of tasks' logs share what they follow.

For each user and task one thread follows the log, as ``c2d logs --follow`` does. It writes events to an unnamed file,
in the form of server-sent events, and each of that user's followers reads them from there at its own speed: a slow one
costs no thread and no memory, and asks the catalog nothing. The file is kept for half a minute after the last follower
has left, so that a browser which connects again goes on where it was.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
import os
import secrets
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio.to_thread

from compute_to_data.client import logs
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.errors import ComputeToDataError
from compute_to_data.gateway import problems
from compute_to_data.gateway.metrics import Metrics
from compute_to_data.gateway.room import need_room
from compute_to_data.log_file import STREAMS
from compute_to_data.model import User, name_of
from compute_to_data.records.state import State

MOST_FOLLOWED = 64
"""Tasks that are followed at a time, each by a thread."""
MOST_OF_A_USER = 32
KEPT_SECONDS = 30.0
HEARTBEAT_SECONDS = 15.0
_BLOCK = 1 << 16


class SharedLog:
    """The events of one task for one user. A thread adds them; coroutines of one event loop read them."""

    def __init__(self, task: TaskHandle, loop: asyncio.AbstractEventLoop) -> None:
        self._task = task
        self._loop = loop
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by close()
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in STREAMS}
        self.id = secrets.token_hex(8)
        """Begins the ids of its events."""
        self.size = 0
        self.is_complete = False
        self.is_over = False
        self.changed = asyncio.Event()
        self.followers = 0
        self.left = time.monotonic()
        """When the last follower left."""
        self.was_left = False
        """Whether it has no followers left, so that another task may have its place."""
        threading.Thread(target=self._run, name="follow", daemon=True).start()

    def is_wanted(self) -> bool:
        """Whether somebody follows, or may come back."""
        return not self.is_over and (self.followers > 0 or time.monotonic() - self.left < KEPT_SECONDS)

    def _run(self) -> None:
        try:
            state = logs.follow(
                self._task,
                self._on_output,
                lambda state: self._add("state", {"state": state.value}),
                on_note=lambda text: self._add("note", {"text": text}),
                is_wanted=self.is_wanted,
            )
            self._end(state)
        except ComputeToDataError as error:
            self._add("problem", problems.document(error))
        except ValueError:
            if not self.is_over:  # the file was closed meanwhile
                raise
        finally:
            self._tell(self._completed)

    def _tell(self, what: Callable[[], None]) -> None:
        """Call something in the event loop, unless the gateway has stopped."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what)

    def _end(self, state: State) -> None:
        for name, decoder in self._decoders.items():
            if rest := decoder.decode(b"", True):
                self._add(name, {"text": rest})
        if state.is_final:
            self._add("end", {"state": state.value})

    def _on_output(self, name: str, piece: bytes) -> None:
        need_room(self._file.fileno(), len(piece))  # what a program writes is as much as a site keeps of it
        for start in range(0, len(piece), _BLOCK):
            if text := self._decoders[name].decode(piece[start : start + _BLOCK]):
                self._add(name, {"text": text})

    def _add(self, kind: str, data: Any) -> None:
        end = self.size
        event = f"event: {kind}\ndata: {json.dumps(data)}\nid: {self.id}:"
        # The id says where the next event begins, so it counts its own digits.
        for digits in range(1, 20):
            whole = f"{event}{end + len(event) + digits + 2}\n\n".encode()
            if len(whole) == len(event) + digits + 2:
                break
        written = 0
        while written < len(whole):
            written += os.pwrite(self._file.fileno(), whole[written:], end + written)
        self.size = end + len(whole)
        self._tell(self._notify)

    def _notify(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def _completed(self) -> None:
        self.is_complete = True
        self._notify()

    def read(self, offset: int) -> bytes:
        """Events from ``offset`` on: whole ones, unless an event is larger than a block."""
        return os.pread(self._file.fileno(), min(_BLOCK, self.size - offset), offset)

    def close(self) -> None:
        """Forget the events, and stop following."""
        self.is_over = True
        self._file.close()


class Following:
    """The shared logs of one gateway. Only for its event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._shared: dict[tuple[str, str], SharedLog] = {}
        self._looking: dict[tuple[str, str], asyncio.Future[TaskHandle]] = {}

    def shared(self, task: TaskHandle) -> SharedLog:
        """The shared log of a task whose user may read it. HttpError 503 when too many are followed."""
        self.tend()
        key = (str(task.workbench.user), task.collection)
        found = self._shared.get(key)
        if found is None:
            self._need_place(task)
            found = self._shared[key] = SharedLog(task, asyncio.get_running_loop())
        found.was_left = False
        return found

    def _need_place(self, task: TaskHandle) -> None:
        """HttpError 503 when too many are followed. Logs that are only kept for who comes back make place."""
        user = str(task.workbench.user)
        own, every = self._number(user), self._number()
        while every >= MOST_FOLLOWED or own >= MOST_OF_A_USER:
            left = [
                (log.left, key)
                for key, log in self._shared.items()
                if log.was_left and (own < MOST_OF_A_USER or key[0] == user)
            ]
            if not left:
                cause = f"{own} tasks of yours and {every} in all are followed already"
                raise problems.HttpError(503, f"task {task.id}", cause, headers={"Retry-After": "30"})
            self._shared.pop(min(left)[1]).close()
            own, every = self._number(user), self._number()

    def _number(self, user: str = "") -> int:
        """How many logs there are, of one user or of all."""
        return sum(user in ("", name) for name, _ in self._shared)

    def followed(self, user: User, task_id: str) -> SharedLog | None:
        """The shared log of a task that this user follows already, by the whole id: its thread keeps asking as this
        user, so that nothing more need be asked. None for any other."""
        for (name, collection), log in self._shared.items():
            if name == str(user) and name_of(collection) == task_id and log.followers > 0 and not log.is_complete:
                return log
        return None

    async def found(self, user: User, task_id: str, find: Callable[[], TaskHandle]) -> SharedLog:
        """The shared log of the task that ``find`` finds in a thread, as this user. Those who come while it looks wait
        for what it finds. Errors as for ``find`` and for :meth:`shared`."""
        known = self.followed(user, task_id)
        if known is not None:
            return known
        key = (str(user), task_id)
        looking = self._looking.get(key)
        if looking is None:
            looking = self._looking[key] = asyncio.ensure_future(anyio.to_thread.run_sync(find))
            looking.add_done_callback(lambda _: self._looking.pop(key, None))
        return self.shared(await asyncio.shield(looking))

    async def events(self, log: SharedLog, last_id: str = "") -> AsyncIterator[bytes]:
        """The events of a shared log, after the one with this id if it is one of its own, until the task has ended."""
        log.followers += 1
        self._metrics.followers.inc()
        try:
            offset = self._place(log, last_id)
            if last_id and not offset:
                yield b"event: restart\ndata: {}\n\n"
            while True:
                changed = log.changed
                if offset < log.size:
                    block = log.read(offset)
                    offset += len(block)
                    yield block
                elif log.is_complete:
                    return
                else:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(changed.wait(), HEARTBEAT_SECONDS)
                        continue
                    yield b": still here\n\n"  # so that proxies and we notice a connection that is gone
        finally:
            log.followers -= 1
            log.left = time.monotonic()
            log.was_left = log.followers == 0
            self._metrics.followers.dec()

    @staticmethod
    def _place(log: SharedLog, last_id: str) -> int:
        name, _, offset = last_id.partition(":")
        if name != log.id or not offset.isdecimal() or len(offset) > 18 or int(offset) > log.size:
            return 0
        return int(offset)

    def tend(self) -> None:
        """Forget the logs that nobody wants any more."""
        for key, log in list(self._shared.items()):
            if not log.is_wanted():
                self._shared.pop(key).close()

    def close(self) -> None:
        """Stop following all."""
        for log in self._shared.values():
            log.close()
        self._shared.clear()
