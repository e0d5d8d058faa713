"""What Slurm says about all jobs of a worker: one question a poll, by one thread.

A slurmctld that does not answer changes nothing: the last answer stays, and says when it was given.
"""

from __future__ import annotations

import logging
import os
import pwd
import threading
import time
from dataclasses import dataclass

from compute_to_data.engines.changes import Changes
from compute_to_data.engines.slurm import commands
from compute_to_data.engines.slurm.settings import SlurmSettings
from compute_to_data.engines.slurm.states import GONE, Meaning, Phase, meaning
from compute_to_data.errors import EngineError
from compute_to_data.job import JobKey

log = logging.getLogger(__name__)

_UNSETTLED = (Phase.WAITS, Phase.RUNS)


@dataclass(frozen=True)
class View:
    """What Slurm says about a job, and since when it has said so, on the monotonic clock."""

    meaning: Meaning
    since: float

    @property
    def is_over(self) -> bool:
        """Whether the job has ended, as far as Slurm knows."""
        return self.meaning.phase not in _UNSETTLED


class Queue:
    """The jobs in Slurm that a worker watches. Threads may share it. Its own thread ends when there are none."""

    def __init__(self, settings: SlurmSettings, changes: Changes) -> None:
        """``changes`` gets each job about which Slurm says something new."""
        self._settings = settings
        self._changes = changes
        self._lock = threading.Lock()
        self._watched: dict[str, tuple[JobKey, float]] = {}
        self._views: dict[str, View] = {}
        self._asked_accounting: dict[str, str] = {}
        self._next = 0.0
        self._answered = 0.0
        self._thread: threading.Thread | None = None
        self._is_away = False
        self.questions = 0
        """How often slurmctld was asked about jobs."""

    def watch(self, identity: str, key: JobKey) -> None:
        """Ask about a job from now on."""
        with self._lock:
            self._watched.setdefault(identity, (key, time.monotonic()))
            if self._thread is None:
                self._thread = threading.Thread(target=self._poll, name="slurm-queue", daemon=True)
                self._thread.start()

    def forget(self, identity: str) -> None:
        """Ask no more about a job."""
        with self._lock:
            self._watched.pop(identity, None)
            self._views.pop(identity, None)
            self._asked_accounting.pop(identity, None)

    def view(self, identity: str) -> View | None:
        """What Slurm says about a job; None when it has not been asked yet."""
        with self._lock:
            return self._views.get(identity)

    def ask(self) -> dict[str, tuple[str, str]]:
        """State and name of all jobs of this account. EngineError, EngineOutOfReach."""
        self.questions += 1
        words = commands.queue_of(_account())
        return commands.states(commands.run(words, self._settings.timeout_seconds))

    def _poll(self) -> None:
        while True:
            with self._lock:
                if not self._watched:
                    self._thread = None
                    return
            pause = self._next - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            self._next = time.monotonic() + self._settings.poll_seconds
            try:
                self._look()
            except EngineError as error:
                if not self._is_away:
                    log.warning("jobs go on, but the worker cannot ask about them: %s", error)
                self._is_away = True
            except Exception:  # this thread serves all tasks
                log.exception("unexpected error in asking Slurm, trying again")

    def _look(self) -> None:
        asked = time.monotonic()
        answer = self.ask()
        if self._is_away:
            log.warning("Slurm answers again")
        self._is_away = False
        with self._lock:
            old = {one: key for one, (key, since) in self._watched.items() if since <= asked}
            # After a crash, slurmctld may give an id once more.
            answer = {one: answer[one] for one, key in old.items() if _is_about(answer.get(one), key)}
            unheard = [one for one in old if one not in answer and one not in self._asked_accounting]
        if unheard:
            self._ask_accounting(unheard)
        with self._lock:
            for identity in old:
                if identity in self._watched:
                    self._note(identity, answer[identity][0] if identity in answer else "", asked)
            self._answered = asked

    def _note(self, identity: str, state: str, asked: float) -> None:
        state = state or self._asked_accounting.get(identity, "")
        found, before = meaning(state) if state else GONE, self._views.get(identity)
        is_new = before is None or before.meaning != found
        view = View(found, asked) if before is None or is_new else before
        self._views[identity] = view
        # The note of its node may be late. The last report is the one after which it counts as lost.
        may_be_noted = view.is_over and self._answered - view.since <= self._settings.notes_seconds
        if is_new or may_be_noted:
            self._changes.add(self._watched[identity][0])

    def _ask_accounting(self, identities: list[str]) -> None:
        """Ask Slurm's accounting, if there is one, about jobs that slurmctld has forgotten."""
        try:
            words = commands.ended_long_ago(identities)
            states = commands.ended_states(commands.run(words, self._settings.timeout_seconds))
        except EngineError as error:
            log.info("Slurm's accounting says nothing: %s", error)
            states = {}
        with self._lock:
            self._asked_accounting.update({one: states.get(one, "") for one in identities})


def _is_about(answer: tuple[str, str] | None, key: JobKey) -> bool:
    return answer is not None and answer[1] == commands.name_of(key)


def _account() -> str:
    """The account of this process, as Slurm takes it."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
