"""The Template Method: what every task goes through, whatever runs and wherever it was asked for.

``Role.run`` is the template. Its steps are verbs and live beside it in ``stage_in``, ``sandbox``,
``stage_out``, ``retain`` and ``ending``; a role overrides hooks, which are nouns and return data. A hook
never talks to the zone or the engine.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from compute_to_data.errors import Code, ComputeToDataError, OutOfReach
from compute_to_data.model import Avu
from compute_to_data.ports import Exit, Logs
from compute_to_data.record import TaskRecord
from compute_to_data.roles import dataset, ending, retain, sandbox, stage_in, stage_out
from compute_to_data.roles.execution import Bench, Ending, Execution
from compute_to_data.roles.hooks import Program, RequiredAccess, Retention
from compute_to_data.supervision import Detached
from compute_to_data.task import Task

log = logging.getLogger(__name__)


class Role(ABC):
    """A kind of computation. One instance serves one task."""

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        """``name`` is the value of the resource's role AVU, ``settings`` what the site
        configured for it beside the class."""
        self.name = name
        self.settings = settings

    # Hooks: data only. Each may read the task and the role's settings.

    @abstractmethod
    def program(self, task: Task, inputs: tuple[str, ...], supplied: Mapping[str, str]) -> Program:
        """What to run. Asked when the inputs are on the resource; ``inputs`` are their names
        inside the sandbox, ``supplied`` the variables that templates may refer to.
        InvalidRequest when the task does not say what this role needs."""

    def required_access(self, task: Task) -> RequiredAccess:
        """What the owner must be allowed. Asked first. Default: read inputs, own the output
        collection (as the 2019 training module asked)."""
        return RequiredAccess()

    def expected_outputs(self, task: Task, inputs: tuple[str, ...]) -> tuple[str, ...]:
        """Names below ``/outputs`` that a successful run must leave. Default: none."""
        return ()

    def annotations(self, task: Task, exit: Exit) -> tuple[Avu, ...]:
        """AVUs for the results, beside the provenance that the template records. Default: none."""
        return ()

    def metadata_output(self, task: Task, inputs: tuple[str, ...]) -> str:
        """The name below ``/outputs`` of a small JSON file whose members become AVUs on the
        results (``metadata.py`` says which form it has). Asked after the program ended well; a
        file that is missing or malformed fails the task. Default: '', none."""
        return ""

    def results_to(self, task: Task) -> str:
        """The role of the resource that receives the results, instead of the compute resource;
        '' leaves them where the task left them. Asked before the inputs are staged, so that a task
        whose results nobody could receive does not run, and again last. Default: the setting
        ``results_to``."""
        return str(self.settings.get("results_to", ""))

    def retention(self, task: Task) -> Retention:
        """What becomes of replicas that staging made. Asked last. Default: the setting
        ``staged_inputs``, else they stay, so that the next task on the same input finds them."""
        return Retention(self.settings.get("staged_inputs", Retention.KEEP.value))

    def explanation(self, exit: Exit, logs: Logs) -> str:
        """Why the program failed, in its own words, for the task's reason. Default: the last
        line it wrote to standard error."""
        lines = [line.strip() for line in logs.stderr.decode("utf-8", "replace").splitlines()]
        return next((line for line in reversed(lines) if line), "")

    # The template.

    def run(self, bench: Bench, record: TaskRecord, task: Task) -> Ending:
        """Take a task from wherever it is to its one final state.

        Raises only what must not end the task: Detached (the worker is to stop), OutOfReach (the
        zone or the engine does not answer just now), and errors of recording the end itself.
        After any of these another attempt finds everything in place.
        """
        execution = Execution(self, bench, record, task)
        try:
            if execution.resumed:
                self._expect_leftovers(execution)
                decided = ending.decided(execution)
                if decided is not None:
                    return ending.undo(execution, decided)
            elif not execution.queued:
                stage_out.clear_lost(execution)
            if execution.exited_before and retain.has_moved(execution):
                retain.complete(execution)
            else:
                self._take_steps(execution)
        except (Detached, OutOfReach):
            raise
        except ComputeToDataError as error:
            if error.code is Code.CAT_INVALID_USER:  # the owner: nobody is left to take anything back for
                raise
            return ending.fail(execution, error)
        except Exception as error:  # whatever went wrong, the task must end and be undone
            log.exception("task %s: unforeseen", record.task_id)
            return ending.fail(execution, error)
        return ending.finish(execution, ending.COMPLETED)

    def _expect_leftovers(self, execution: Execution) -> None:
        """Whatever an interrupted attempt may have done is to be taken back if this one fails."""
        stage_in.push_unclaims(execution)
        for logical_path in stage_in.staged_here(execution):
            stage_in.push_trim(execution, logical_path)
        sandbox.push_removals(execution)
        stage_out.push_forgetting(execution)
        retain.expect_leftovers(execution)

    def _take_steps(self, execution: Execution) -> None:
        if execution.queued:  # later, there may be something to take back, or a job's words to keep
            execution.stop_if_cancelled()
        inputs = stage_in.authorise(execution)
        stage_in.choose_resource(execution)
        retain.receiving_root(execution)  # before anything runs: results that nobody could receive
        with execution.bench.in_use.using([one.logical_path for one in inputs]):
            stage_in.stage_in(execution, inputs)
            if not execution.exited_before:
                execution.sandbox = dataset.sandbox(execution)
            sandbox.run_in_sandbox(execution)
            execution.stop_if_cancelled()  # a worker killed just then may have ended the job for that
            sandbox.check(execution)
            retain.begin_again(execution)
            results = stage_out.register(execution)
            stage_out.annotate(execution)
        execution.stop_if_cancelled()
        retain.retain(execution, results)
