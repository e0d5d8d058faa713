"""``c2d map``: run a program for each file of a dataset, many at a time."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import TYPE_CHECKING

from compute_to_data.cli import run_inputs, zone_words
from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.exits import ExitCode
from compute_to_data.cli.interrupts import can_ask, confirmed
from compute_to_data.cli.many_tasks import finish
from compute_to_data.cli.task_options import (
    at_least_one,
    environment_argument,
    image_argument,
    limit_arguments,
    of_a_workload,
    place_arguments,
    secret_argument,
)
from compute_to_data.cli.zone_words import completes

if TYPE_CHECKING:
    from compute_to_data.client.workloads import WorkloadHandle


def register(commands: Commands) -> None:
    """Add this noun's commands."""
    commands.add(
        "map",
        _map,
        "run a program for each file of a dataset, as the tasks of one workload",
        example="map debian:bookworm --input d-0123456789ab --each '*.csv' -- wc -l {}",
        arguments=_arguments,
        takes_program=True,
    )


def _arguments(parser: ArgumentParser) -> None:
    parser.usage = f"{parser.prog} IMAGE --input DATASET [options] -- PROGRAM [ARGUMENT ...]"
    image_argument(parser)
    dataset = parser.add_argument(
        "--input",
        required=True,
        metavar="DATASET",
        help="a dataset's id (d-...), a collection, or a folder of this computer, which is uploaded: all of it is at "
        "/input",
    )
    completes(dataset, zone_words.datasets)
    parser.add_argument(
        "--each",
        default="*",
        metavar="PATTERN",
        help="a task for each file whose name matches, such as '*.csv'; with a slash, of those in a subfolder, such as "
        "'2026/**/*.csv' (default: for each file)",
    )
    parser.add_argument(
        "--replace",
        default="{}",
        metavar="MARK",
        help="what stands for the file's path in the program's words (default: {})",
    )
    parser.add_argument("--jobs", type=at_least_one, metavar="N", help="how many tasks run at the same time, at most")
    parser.add_argument("-d", "--detach", action="store_true", help="do not wait: print the workload's id")
    parser.add_argument(
        "--workload",
        default="",
        metavar="ID",
        help="continue this one: only files without a task that completed or runs",
    )
    place_arguments(parser)
    parser.add_argument("--name", default="", help="a name for the workload")
    environment_argument(parser)
    secret_argument(parser)
    limit_arguments(parser)


class _Map:
    """One call: the workload, and how many tasks it has so far."""

    def __init__(self, call: Call) -> None:
        from compute_to_data.records.workload import new_workload_id

        self.call = call
        self.id = call.options.workload or new_workload_id()
        self.workload: WorkloadHandle | None = None
        self.tasks: list[str] = []
        self.files: list[str] = []
        self.dataset: str = call.options.input
        self.asked = of_a_workload(call.options, call.options.jobs)

    def submit(self) -> WorkloadHandle:
        """Start the workload, unless it is continued, and submit its tasks."""
        from compute_to_data.client import mapping, workloads
        from compute_to_data.client.this_computer import local_inputs

        call, options, session = self.call, self.call.options, self.call.session
        if not options.workload:  # one that continues has its dataset
            self.dataset = run_inputs.dataset(call, options.input, self._check)
        with local_inputs.hint([options.input]):
            collection = workloads.collection_of(session, self.dataset)
        self.files = mapping.matching(session.catalog, collection, options.each)
        self.workload = workload = self._workload()
        count = len(self.files)
        call.out.note(f"workload {workload.id}: {count} file{'s' * (count != 1)}")
        asked = {"mark": options.replace, "secrets": options.secret, "on_note": call.out.note}
        for task in mapping.submit(workload, self.files, options.program, **asked):
            self.tasks.append(task.collection)
            call.out.progress(f"{workload.id}: {len(self.tasks)} of {len(self.files)} submitted")
        call.out.progress("")
        if len(self.tasks) < len(self.files):
            already = len(self.files) - len(self.tasks)
            call.out.note(f"{already} file{'s have' if already != 1 else ' has'} a task already")
        return workload

    def _workload(self) -> WorkloadHandle:
        from compute_to_data.client import mapping

        options, session = self.call.options, self.call.session
        files = options.image, self.dataset, options.each
        if options.workload:
            return mapping.continued(session, self.id, *files, **self.asked)
        return mapping.start(session, *files, **self.asked, workload_id=self.id)

    def _check(self, local: str) -> None:
        """Raise what the workload would raise, before a folder or file of this computer is uploaded for it."""
        from compute_to_data.client import datasets, mapping, workloads

        options, session = self.call.options, self.call.session
        mapping.matched((one.path for one in datasets.look_over(session, local).files), options.each, local)
        workloads.check(session, options.image, **{**self.asked, "instances": options.jobs or 1})

    def explain_or_discard(self) -> None:
        """After an error: a new workload without tasks goes, of any other it says how to go on."""
        from compute_to_data.client import mapping

        self.call.out.progress("")
        is_new = not self.call.options.workload
        if self.workload is not None and not (is_new and mapping.discarded(self.workload)):
            self.explain()

    def explain(self) -> None:
        """Say what there is after an interruption or an error, and how to go on."""
        if self.workload is None and not self._was_started():
            self.call.out.note("no task was submitted")
            return
        again = f"--workload {self.id}"
        if self.dataset != self.call.options.input:
            again = f"--input {self.dataset} {again}"
        self.call.out.note(
            f"workload {self.id} continues. Wait for it: c2d wait {self.id}. Stop it: c2d workload stop {self.id}. "
            f"Run files again that have no task, or whose task failed: the same command with {again}"
        )

    def _was_started(self) -> bool:
        from compute_to_data.errors import ComputeToDataError

        try:
            self.workload = self.call.session.workload(self.id)
        except ComputeToDataError:
            return False
        return True


def _map(call: Call) -> int:
    from compute_to_data.errors import ComputeToDataError

    one = _Map(call)
    try:
        workload = one.submit()
        if call.options.detach:
            call.out.result({"workload": workload.id, "collection": workload.collection}, workload.id)
            return ExitCode.DONE
        code = finish(call, workload)
        workload.stop()
        return code
    except KeyboardInterrupt:
        return _interrupted(call, one)
    except ComputeToDataError:
        one.explain_or_discard()
        raise


def _interrupted(call: Call, one: _Map) -> int:
    """After Ctrl-C the workload continues, unless the person at the terminal answers to stop it."""
    one.explain()
    if one.workload is not None and can_ask():
        try:
            if confirmed(f"Stop workload {one.id}, and cancel its tasks?"):
                stopped = one.workload.stop()
                call.out.note(f"cancelling {len(stopped)} tasks")
        except KeyboardInterrupt:
            call.out.note("")
    return ExitCode.INTERRUPTED
