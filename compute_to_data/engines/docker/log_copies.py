"""Copies what the jobs in containers write into their logs, while they write it.

The engine attaches to a container before it starts it, so the copy has every byte. One thread copies for all jobs.
When it is slow, the daemon waits, and then the job. A worker that finds a job of an earlier worker, or whose
connection breaks, continues from the daemon's own log.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from compute_to_data import log_file
from compute_to_data.engines.docker import backlog
from compute_to_data.engines.docker.client import LogStreams
from compute_to_data.engines.docker.log_connection import LogConnection
from compute_to_data.engines.docker.log_copy import MARGIN, Copy, Source
from compute_to_data.engines.docker.log_tail import Tail
from compute_to_data.engines.docker.presence import Presence
from compute_to_data.engines.docker.sandbox import container_name, daemon_log_size
from compute_to_data.engines.log_writer import LogWriter, check_whole, created
from compute_to_data.errors import EngineError, EngineOutOfReach
from compute_to_data.job import JobKey, JobState, JobStatus

log = logging.getLogger(__name__)

_Served = TypeVar("_Served", bound=LogConnection)
_LOOK_AGAIN = 5.0
_PATIENCE = 20.0
"""For how many seconds after a job's end the daemon may be silent before the engine reads the log in another way."""
_TRIES = 4


class LogCopies:
    """All copies of one engine. Threads may share it. Its own thread ends when there is nothing to copy."""

    def __init__(self, logs: LogStreams, status: Callable[[JobKey], JobStatus]) -> None:
        """``logs``: where the output comes from. ``status``: asks for a job's status."""
        self._logs = logs
        self._status = status
        self._lock = threading.Lock()
        self._copies: dict[JobKey, Copy] = {}
        self._new: list[LogConnection] = []
        self._daemon: Presence | None = None
        self._suspects: dict[Copy, float] = {}
        self._thread: threading.Thread | None = None
        self._reader, self._waker = socket.socketpair()
        self._reader.setblocking(False)
        weakref.finalize(self, _close, self._reader, self._waker)

    def attach(self, key: JobKey, file: str, bound: int) -> None:
        """Copy what a container will write that was created and not started. OSError, ValueError."""
        writer = created(file, bound)
        try:
            daemon = self._present()
            connection, received = self._logs.attach(container_name(key))
        except BaseException:
            writer.close(complete=False)
            raise
        self._add(Copy(Source.CONTAINER, key, writer, connection, received, daemon=daemon))

    def _present(self) -> Presence:
        with self._lock:
            if self._daemon is None or self._daemon.has_ended():
                self._daemon = Presence(self._logs.idle())
            return self._daemon

    def resume(self, key: JobKey, file: str, bound: int) -> None:
        """Continue the log of a job that an earlier worker started, unless this or another worker does so already.
        OSError, ValueError."""
        with self._lock:
            if key in self._copies:
                return
        if log_file.is_closed(file):
            return
        try:
            writer = LogWriter.reopen(file, bound)
        except BlockingIOError:
            return
        try:
            self._add(self._from_the_daemons_log(Source.GROWING_LOG, key, writer))
        except BaseException:
            writer.close(complete=False)
            raise

    def _from_the_daemons_log(self, source: Source, key: JobKey, writer: LogWriter, tail: Tail | None = None) -> Copy:
        name, full = container_name(key), daemon_log_size(writer.layout.bound)
        if source is Source.GROWING_LOG and (tail is None or tail.ended.is_set()):
            tail = self._tail_of(name)
        starts = backlog.starts(self._logs, name, writer.file, full)
        connection, received = self._logs.stored(name, follow=source is Source.GROWING_LOG)
        return Copy(source, key, writer, connection, received, starts, tail=tail)

    def _tail_of(self, name: str) -> Tail | None:
        """What a container writes from now on. None when it has ended meanwhile."""
        try:
            attached = self._logs.beside(name)
        except (OSError, ValueError) as error:
            log.info("%s: its output comes from the daemon's log alone: %r", name, error)
            return None
        return None if attached is None else self._served_by_the_thread(Tail(*attached))

    def finish(self, key: JobKey, file: str, bound: int, finished: float) -> None:
        """Return when the log has all that an ended job wrote. ``finished``: when it ended, in Unix seconds.

        EngineOutOfReach when the daemon does not give it; EngineError when the disk does not take it.
        """
        tries, until = 0, time.monotonic() + _PATIENCE
        while not log_file.is_closed(file):
            copy = self._copies.get(key)
            if copy is None:
                if time.monotonic() > until:
                    raise EngineOutOfReach(key.task, "another process writes its log", "See whether two workers run")
                self.resume(key, file, bound)
                copy = self._copies.get(key)
                if copy is None:
                    time.sleep(0.02)
                    continue
            if not copy.ended.wait(1.0) and time.monotonic() - copy.moved < _PATIENCE:
                continue
            if copy.has_all(finished):
                if copy.tail is not None:
                    copy.tail.ended.wait(_PATIENCE)
                copy.complete(finished)
                break
            tries += 1
            if tries > _TRIES:
                raise EngineOutOfReach(key.task, "the Docker daemon does not give the job's output")
            self._again(copy, Source.WHOLE_LOG)

        self.forget(key)
        check_whole(file)

    def _again(self, copy: Copy, source: Source) -> None:
        """Continue with the daemon's log where a connection broke, unless another thread does so."""
        if not self._remove(copy):
            return
        try:
            self._add(self._from_the_daemons_log(source, copy.key, copy.writer, copy.tail))
        except BaseException:
            copy.writer.close(complete=False)
            raise

    def forget(self, key: JobKey) -> None:
        """Stop copying for a job. Does nothing when there is no copy."""
        copy = self._copies.get(key)
        if copy is not None and self._remove(copy):
            copy.writer.close(complete=False)
            if copy.tail is not None:
                copy.tail.shut()

    def _remove(self, copy: Copy) -> bool:
        """Remove a copy. False when another thread has removed it."""
        with self._lock:
            if self._copies.get(copy.key) is not copy:
                return False
            del self._copies[copy.key]
        copy.shut()
        self._wake()
        return True

    def _add(self, copy: Copy) -> None:
        with self._lock:
            self._copies[copy.key] = copy
        self._served_by_the_thread(copy)

    def _served_by_the_thread(self, one: _Served) -> _Served:
        one.connection.setblocking(False)
        with self._lock:
            self._new.append(one)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="docker-logs", daemon=True)
                self._thread.start()
        self._wake()
        return one

    def _wake(self) -> None:
        with suppress(OSError):
            self._waker.send(b"!", socket.MSG_DONTWAIT)

    # In the thread

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._reader, selectors.EVENT_READ)
            while self._has_work(selector):
                for ready, _ in selector.select(_LOOK_AGAIN / 5 if self._suspects else None):
                    self._serve(selector, ready.data)
                self._look_at_suspects()

    def _has_work(self, selector: selectors.BaseSelector) -> bool:
        """Take over new copies. False, and the thread ends, when there are none left."""
        with self._lock:
            new, self._new = self._new, []
            if not (new or self._copies or len(selector.get_map()) > 1):
                self._thread = None
                return False
        for copy in new:
            selector.register(copy.connection, selectors.EVENT_READ, copy)
            if copy.received:
                self._serve(selector, copy)
        return True

    def _serve(self, selector: selectors.BaseSelector, one: LogConnection | None) -> None:
        if one is None:
            with suppress(BlockingIOError):
                self._reader.recv(1 << 12)
        elif not one.take():
            selector.unregister(one.connection)
            one.end()
            if isinstance(one, Copy):
                self._suspects[one] = time.monotonic() + MARGIN

    def _look_at_suspects(self) -> None:
        """Close the logs of jobs that have ended. Continue with the daemon's log where a job still runs."""
        now = time.monotonic()
        for copy, due in list(self._suspects.items()):
            if self._copies.get(copy.key) is not copy:
                del self._suspects[copy]
            elif now >= due:
                self._suspects[copy] = now + _LOOK_AGAIN
                try:
                    self._look_at(copy)
                except (OSError, ValueError, EngineError) as error:
                    log.warning("%s: the worker cannot read its output at the moment: %r", copy.key.task, error)

    def _look_at(self, copy: Copy) -> None:
        status = self._status(copy.key)
        if status.state is JobState.RUNNING:
            self._again(copy, Source.GROWING_LOG)
        elif (copy.tail is None or copy.tail.ended.is_set()) and status.exit and copy.has_all(status.exit.finished):
            copy.complete(status.exit.finished)


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        one.close()
