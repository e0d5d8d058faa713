"""Takes the steps of tasks, and keeps the errors of one task away from the others."""

from __future__ import annotations

import logging
from collections import Counter

from compute_to_data.errors import AccessDenied, ComputeToDataError, NotFound, OutOfReach
from compute_to_data.pipeline.checkpoint import Ending
from compute_to_data.pipeline.execution import ServedResource
from compute_to_data.pipeline.watch_job import Detached, Watch
from compute_to_data.task import REQUEST_NAME
from compute_to_data.worker.in_flight import Step
from compute_to_data.worker.passed_over import PassedOver
from compute_to_data.worker.presence import Presence
from compute_to_data.worker.retries import Retries
from compute_to_data.worker.task_runner import NotEnded, TaskRunner, Unintelligible

log = logging.getLogger("compute_to_data.worker")


class Attempts:
    """The attempts at the tasks of one worker. Threads may share it."""

    def __init__(
        self,
        served: ServedResource,
        passed_over: PassedOver,
        presence: Presence,
        runner: TaskRunner,
        retries: Retries,
    ) -> None:
        self._served = served
        self._passed_over = passed_over
        self._presence = presence
        self._runner = runner
        self._retries = retries
        self._lost: set[str] = set()
        self._failures: Counter[str] = Counter()

    def take(self, collection: str, step: Step) -> Watch | bool:
        """Take one step of a task. Returns the job to watch next, or whether the worker must try the task again.

        No error leaves it. A task that fails more than ``worker.attempts`` times, through no fault that ends it, is
        ignored until the worker starts again. If its owner may not end it, it ends with the service account's rights.
        """
        try:
            self._presence.confirm()  # this host may have hung, and another worker may have ended the task
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
            if self._retries.has_tried(collection) and self._is_gone(collection):
                self._lost.add(collection)
        except OutOfReach as error:  # not the task's fault: try again without a limit
            log.warning("%s waits: %s", collection, error)
            return True
        except Exception as error:
            if self._is_gone(collection):  # a user may have moved it: the worker finds it again by its state
                log.warning("%s was removed or moved before its end", collection)
                self._lost.add(collection)
                return False
            log.exception("the worker could not run %s to its end", collection)
            return self._has_another(collection, error)
        return False

    def has_lost(self, collection: str) -> bool:
        """Whether an attempt found that a task is no longer where it was, so that the worker must look for its
        unfinished tasks again. True only once."""
        if collection in self._lost:
            self._lost.discard(collection)
            return True
        return False

    def forget(self, collection: str) -> None:
        """Forget the failures of a task that is over."""
        self._failures.pop(collection, None)

    def _has_another(self, collection: str, error: Exception) -> bool:
        """Whether a task that has failed may be tried again. Else it has been ended, or is ignored from now on."""
        self._failures[collection] += 1
        if self._failures[collection] <= self._served.configuration.worker.attempts:
            return True
        cause = error.__cause__
        if isinstance(error, NotEnded) and isinstance(cause, AccessDenied):  # which no further attempt would change
            try:
                self._runner.give_up(collection, cause)
                return False
            except OutOfReach as unreachable:
                log.warning("%s waits: %s", collection, unreachable)
                return True
            except Exception:
                log.exception("the worker could not end %s", collection)
        log.error("ignoring %s until the worker starts again", collection)
        self._passed_over.add(collection)
        return False

    def _is_gone(self, collection: str) -> bool:
        try:
            self._served.storage.owner(f"{collection}/{REQUEST_NAME}")
        except NotFound:
            return True
        except ComputeToDataError:
            return False
        return False
