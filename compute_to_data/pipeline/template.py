"""The Template Method: the steps of every task.

``Role.run`` is the template. Each of its steps is a module beside it: ``stage_in``, ``run_job``,
``check_job``, ``stage_out``, ``retain`` and ``finish``. A role overrides only the methods in ``hooks``.
"""

from __future__ import annotations

import logging

from compute_to_data.documents import parameter_check
from compute_to_data.errors import Code, ComputeToDataError, OutOfReach
from compute_to_data.pipeline import finish
from compute_to_data.pipeline.checked_hooks import CheckedHooks
from compute_to_data.pipeline.checkpoint import Ending, ResumePoint
from compute_to_data.pipeline.execution import Execution, TaskContext
from compute_to_data.pipeline.hooks import Hooks
from compute_to_data.pipeline.results import check_job, put_urls, replacing, retain, stage_out
from compute_to_data.pipeline.running import run_job
from compute_to_data.pipeline.staging import fetch_urls, stage_in, workload_dataset
from compute_to_data.pipeline.watch_job import Detached, Waiting
from compute_to_data.records import readable
from compute_to_data.records.task import TaskRecord
from compute_to_data.task import Task

log = logging.getLogger(__name__)


class Role(Hooks):
    """A kind of computation. One instance serves one task."""

    def run(self, context: TaskContext, record: TaskRecord, task: Task) -> Waiting[Ending]:
        """Run a task from its resume point to its one final state. To wait for its job, it yields the job to
        the watcher, so that no thread blocks.

        Raises only what must not end the task: Detached (the worker is stopping), OutOfReach (the
        zone or the engine does not answer at the moment), and errors in recording the end itself.
        After any of these, another attempt can resume the task.
        """
        hooks = CheckedHooks(self, context.configuration.attributes)
        execution = Execution(hooks, context, record, task)
        try:
            point = execution.resume_point
            if point.has_checkpoint:
                self._expect_leftovers(execution)
            if point is ResumePoint.ENDING:
                return finish.undo(execution, finish.decided(execution))
            if point is ResumePoint.UNKNOWN:
                stage_out.clear_lost(execution)
            if point is ResumePoint.REPLACED:
                replacing.resume(execution)
            elif point is ResumePoint.MOVED:
                retain.complete(execution)
            else:
                yield from self._take_steps(execution)
            facts = replacing.remove(execution)
        except (Detached, OutOfReach):
            raise
        except ComputeToDataError as error:
            if error.code is Code.CAT_INVALID_USER:  # the owner's account is gone: the worker ends the task without it
                raise
            if execution.checkpoint.exit is not None:  # what the program left must not be lost for that
                stage_in.need_resource_up(execution, error)
                retain.need_receiver_up(execution, error)
            readable.need_after(context.catalog, error)
            return finish.fail(execution, error)
        except Exception as error:  # every error must end the task and undo what it did
            log.exception("task %s: unexpected error", record.task_id)
            return finish.fail(execution, error)
        return finish.finish(execution, finish.COMPLETED, facts)

    def _expect_leftovers(self, execution: Execution) -> None:
        """If this attempt fails, also undo what an earlier one may have done."""
        stage_in.push_unclaims(execution)
        fetch_urls.push_removal(execution)
        for logical_path in execution.checkpoint.staged:
            stage_in.push_trim(execution, logical_path)
        run_job.push_removals(execution)
        stage_out.push_unregistering(execution)
        retain.expect_leftovers(execution)

    def _take_steps(self, execution: Execution) -> Waiting[None]:
        if execution.resume_point is ResumePoint.FRESH:  # else there may be something to undo first, or logs to keep
            execution.stop_if_cancelled()
            parameter_check.check_task(execution.task)  # a rule could not
        found = stage_in.authorise(execution)
        stage_in.choose_resource(execution)
        retain.receiving_root(execution)  # refuse now, before anything runs, if no resource may receive the results
        with stage_in.using(execution, found.data_objects):
            stage_in.stage_in(execution, found.inputs)
            if not execution.resume_point.has_exited:
                execution.sandbox = workload_dataset.sandbox(execution)
            yield from run_job.run_in_sandbox(execution)
            execution.stop_if_cancelled()  # a worker that was killed may have stopped the job for that
            check_job.check(execution)
            retain.begin_again(execution)
            results = stage_out.register(execution)
            stage_out.annotate(execution)
            put_urls.put(execution, results)
        execution.stop_if_cancelled()
        retain.retain(execution, results)
