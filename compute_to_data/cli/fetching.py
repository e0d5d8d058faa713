"""``c2d fetch``: what tasks left, brought to this computer whole or in part."""

from __future__ import annotations

import re
import sys
import time
from argparse import Action, ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

from compute_to_data.cli.command import FORMS, Call, Commands
from compute_to_data.cli.exits import ExitCode
from compute_to_data.cli.output import writing
from compute_to_data.cli.task_arguments import administering, found, task_argument
from compute_to_data.cli.task_printer import state_text
from compute_to_data.cli.workload_results import fetch_all, is_workload
from compute_to_data.errors import InvalidRequest
from compute_to_data.task import FAILED_NAME

if TYPE_CHECKING:
    from compute_to_data.client.fetching import Fetched
    from compute_to_data.client.kinds import Named
    from compute_to_data.ports.zone import ClientCatalog

_BLOCK = 1 << 16
_DATASET = re.compile(r"d-[0-9a-f]{2,12}")


def register(commands: Commands) -> None:
    """Add this command."""
    commands.add(
        "fetch",
        _fetch,
        "fetch the results, logs and records of a task or some of them, or all of a workload",
        example="fetch 3f2a plots '*.csv' --output results",
        arguments=_fetch_arguments,
    )


def _fetch_arguments(parser: ArgumentParser) -> None:
    task_argument(parser)
    parser.add_argument(
        "words",
        metavar="PATH",
        nargs="*",
        default=[],
        help="files and folders of the task, or patterns such as '*.csv' (default: everything);"
        " a last PATH that names nothing in the task is the folder to fetch into",
    )
    parser.add_argument(
        "--output",
        action=_Place,
        default="",
        metavar="DIR",
        help="the folder to fetch into, or - to write one file to standard output; without PATH,"
        " everything goes into a folder with the task's id there. As in every command, pretty, raw and json"
        " are forms of printing: write ./json for a folder of that name",
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that have other content")
    administering(parser)


class _Place(Action):
    """``--output``: one of the forms of printing, as in every command, or a place for files."""

    def __call__(self, parser: ArgumentParser, options: Namespace, value: Any, option: str | None = None) -> None:
        setattr(options, "form" if value in FORMS else self.dest, value)


def _fetch(call: Call) -> int:
    from compute_to_data.client import naming, single_file
    from compute_to_data.client.kinds import Kind
    from compute_to_data.errors import Refused

    if is_workload(call.options.task):
        return _fetch_workload(call)
    if _DATASET.fullmatch(call.options.task):
        named = naming.named(call.session, call.options.task)
        if named.kind is Kind.DATASET:  # and no task that has such an id
            return _fetch_from_dataset(call, named)
    task = found(call, call.options.task)
    status = task.status()
    if not status.state.is_final:
        remedy = f"Wait until it ends: c2d wait {task.id}"
        raise Refused(f"task {task.id}", f"has not ended yet: it is {status.state.value}", remedy)
    if status.state.value != "COMPLETED":
        call.out.note(f"task {task.id} {state_text(status)}")
    options = call.options
    if options.output == "-":
        single_file.pass_on(task.catalog, task.collection, options.words, _write)
        return ExitCode.DONE
    done = _fetched(call, task.catalog, task.collection)
    is_ours = status.state.value != "COMPLETED"  # else the program itself made a folder of that name
    if is_ours and any(name.startswith(f"{FAILED_NAME}/") for name in (*done.fetched, *done.kept)):
        call.out.note(f"{FAILED_NAME}/ holds what the task left when it failed or was cancelled: no results")
    return _report(call, task.id, task.collection, done)


def _fetched(call: Call, catalog: ClientCatalog, collection: str) -> Fetched:
    """Fetch what the command line names of a collection."""
    from compute_to_data.client import fetching

    options = call.options
    return fetching.fetch_words(
        catalog, collection, options.words, directory=options.output, force=options.force, moved=_shown(call)
    )


def _fetch_workload(call: Call) -> int:
    """Fetch the results of all tasks of a workload. The only word is the folder."""
    options = call.options
    if len(options.words) + bool(options.output) > 1 or options.output == "-":
        remedy = "Give only a folder for all of it, or fetch from one of its tasks: c2d task list ID"
        raise InvalidRequest(f"workload {options.task}", "is fetched whole, and single files are named", remedy)
    return fetch_all(call, options.task, options.output or (options.words or ["."])[0])


def _fetch_from_dataset(call: Call, given: Named) -> int:
    """Fetch single files of a dataset. Its download keeps times and verifies the whole, so it is the way to all."""
    from compute_to_data.client import single_file

    options, catalog = call.options, call.session.catalog
    if not options.words:
        remedy = f"Name some of its files, or download it: c2d dataset download {given.id} DIR"
        raise InvalidRequest(str(given), "is a dataset, and no files of it are named", remedy)
    if options.output == "-":
        single_file.pass_on(catalog, given.top, options.words, _write)
        return ExitCode.DONE
    return _report(call, given.id, given.collection, _fetched(call, catalog, given.top))


def _write(content: BinaryIO) -> None:
    """Write a file to stdout: unchanged to a file or a pipe, harmless on a terminal."""
    import shutil

    from compute_to_data.cli.log_printer import LogPrinter

    sys.stdout.flush()
    if sys.stdout.isatty():
        printer = LogPrinter()
        for block in iter(lambda: content.read(_BLOCK), b""):
            printer.print("stdout", block)
        return
    with writing(sys.stdout):
        shutil.copyfileobj(content, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _shown(call: Call) -> Callable[[int, int], None]:
    """Shows the progress, at most ten times a second."""
    last = 0.0

    def moved(done: int, total: int) -> None:
        nonlocal last
        if done >= total or time.monotonic() - last > 0.1:
            last = time.monotonic()
            call.out.progress(f"{done} of {total} bytes" if done < total else "")

    return moved


def _report(call: Call, given: str, collection: str, done: Fetched) -> int:
    gone = f"is an output of task {given} and is no longer in {collection}"
    call.out.notes(f"not available: {name} {gone}" for name in done.missing)
    wrong = "does not match the checksum in the catalog, and was not kept"
    call.out.notes(f"damaged: {name} {wrong}" for name in done.damaged)
    call.out.notes(f"not fetched: {name}: {cause}" for name, cause in done.failed.items())
    document: dict[str, Any] = {"task_id": given, **vars(done)}
    call.out.result(
        {name: list(value) if isinstance(value, tuple) else value for name, value in document.items()}, done.directory
    )
    if done.failed:
        total = len(done.fetched) + len(done.kept)
        call.out.note(
            f"{len(done.failed)} not fetched, {total} there. When the cause is gone, the same command fetches the rest"
        )
    if not done.is_complete:
        return ExitCode.INCOMPLETE
    call.out.note(f"{len(done.fetched)} fetched, {len(done.kept)} already there")
    return 0
