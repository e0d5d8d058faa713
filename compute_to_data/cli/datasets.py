"""``c2d dataset``: files stored in a project for tasks to read."""

from __future__ import annotations

import shlex
import sys
import threading
import time
from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

from compute_to_data.cli import zone_words
from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.exits import ExitCode
from compute_to_data.cli.zone_words import completes
from compute_to_data.client.task_status.wording import amount, file_count

if TYPE_CHECKING:
    from compute_to_data.client.local_folders.uploading import Moved

_ID = "a dataset's id (d-...), the beginning of one, or its collection's logical path"
_REDRAW_SECONDS = 0.1
_BAR = 24


def register(commands: Commands) -> None:
    """Add this noun's commands."""
    dataset = commands.group("dataset", "store files in the project for tasks to read")
    dataset.add(
        "upload",
        _upload,
        "upload folders and files as a dataset, or update a dataset",
        example="upload measurements",
        arguments=_upload_arguments,
    )
    dataset.add(
        "download",
        _download,
        "download a dataset's files into a folder",
        example="download d-0123456789ab measurements",
        arguments=_download_arguments,
    )
    dataset.add("list", _list, "list the project's datasets, newest first", example="list")
    dataset.add(
        "describe",
        _describe,
        "show what a dataset holds, and which tasks use it",
        example="describe d-0123456789ab",
        arguments=_one,
    )
    dataset.add(
        "remove",
        _remove,
        "remove a dataset with all its files",
        example="remove d-0123456789ab --yes",
        arguments=_remove_arguments,
    )


def _one(parser: ArgumentParser) -> None:
    completes(parser.add_argument("dataset", metavar="ID", help=_ID), zone_words.datasets)


def _upload_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        help="the folder to upload; or a file, or several files and folders, each under its own name",
    )
    parser.add_argument("--name", default="", help="a name for the dataset (default: that of the folder or file)")
    dataset = parser.add_argument(
        "--id", dest="dataset", metavar="ID", default="", help="update or complete this dataset instead of a new one"
    )
    completes(dataset, zone_words.datasets)
    parser.add_argument(
        "--delete", action="store_true", help="also remove files from the dataset that are not in the folder"
    )
    parser.add_argument(
        "--follow-links", action="store_true", help="send what links lead to, instead of refusing links"
    )
    parser.add_argument(
        "--force", action="store_true", help="change the dataset even if a task that has not ended uses it"
    )


def _download_arguments(parser: ArgumentParser) -> None:
    _one(parser)
    parser.add_argument("directory", metavar="DIR", help="the folder for the files; it is created if necessary")


def _remove_arguments(parser: ArgumentParser) -> None:
    _one(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    parser.add_argument("--force", action="store_true", help="remove it even if a task or workload uses it")


class Bar:
    """A progress line: how much is transferred, how fast, and how long the rest will take."""

    def __init__(self, call: Call) -> None:
        self._out = call.out
        self._lock = threading.Lock()
        self._began = self._drawn = time.monotonic()
        self._size = self._files = self._moved = self._done = 0

    def begin(self, size: int, files: int) -> None:
        self._size, self._files = size, files
        self._began = time.monotonic()

    def moved(self, size: int, files: int) -> None:
        with self._lock:
            self._moved += size
            self._done += files
            now = time.monotonic()
            if now - self._drawn >= _REDRAW_SECONDS:
                self._drawn = now
                self._out.progress(self.line(now - self._began))

    def line(self, seconds: float) -> str:
        """The text of the line, this many seconds after the beginning."""
        share = min(1.0, self._moved / self._size) if self._size else 1.0
        rate = self._moved / seconds if seconds > 0 else 0.0
        left = clock((self._size - self._moved) / rate) if rate else "?"
        bar = "=" * int(share * _BAR)
        return (
            f"[{bar:{_BAR}}] {share:4.0%}  {amount(self._moved)} of {amount(self._size)}"
            f"  {self._done}/{self._files} files  {amount(rate)}/s  {left} left"
        )

    def end(self) -> None:
        """Erase the line."""
        self._out.progress("")


def clock(seconds: float) -> str:
    """A duration for people: ``1:05``, ``2:00:00``."""
    whole = max(0, round(seconds))
    minutes = f"{whole // 60 % 60}:{whole % 60:02}"
    return minutes if whole < 3600 else f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _upload(call: Call) -> int:
    from compute_to_data.client import datasets

    options = call.options
    bar = Bar(call)
    dataset = options.dataset
    try:
        _look_over(call)  # fail before creating anything in the zone
        dataset = dataset or datasets.reserve(call.session)
        done = datasets.upload(
            call.session,
            options.paths,
            name=options.name,
            dataset=dataset,
            delete=options.delete,
            follow_links=options.follow_links,
            force=options.force,
            progress=bar,
        )
    except BaseException:
        bar.end()
        if dataset and not options.dataset:
            again = shlex.join(["c2d", "dataset", "upload", *options.paths, "--id", dataset])
            links = " --follow-links" if options.follow_links else ""
            call.out.note(f"Files already uploaded are kept. To continue: {again}{links}")
        raise
    bar.end()
    return _report(call, done, "sent")


def _look_over(call: Call) -> None:
    """Raise what prevents the upload; name each file that cannot be sent."""
    from compute_to_data.client import datasets
    from compute_to_data.client.local_folders.local_listing import CannotBeSent

    options = call.options
    try:
        datasets.look_over(call.session, options.paths, follow_links=options.follow_links)
    except CannotBeSent as error:
        for path, cause in error.refused:
            call.out.note(f"{path}: {cause}")
        raise


def _download(call: Call) -> int:
    from compute_to_data.client import datasets
    from compute_to_data.errors import Incomplete

    bar = Bar(call)
    try:
        done = datasets.download(call.session, call.options.dataset, call.options.directory, progress=bar)
    except Incomplete as error:
        bar.end()
        call.out.notes(f"not fetched: {path}: {failure.cause}" for path, failure in error.failures.items())
        raise
    finally:
        bar.end()
    return _report(call, done, "fetched")


def _report(call: Call, done: Moved, word: str) -> int:
    document = {**vars(done), "ignored": list(done.ignored), "untimed": list(done.untimed)}
    call.out.result(document, done.dataset)
    there = ", the others were already there" if done.sent < done.files else ""
    removed = f", {done.removed} removed" if done.removed else ""
    removed += f", {len(done.ignored)} ignored" if done.ignored else ""
    for path in done.untimed:
        call.out.note(f"{path}: this computer cannot keep its modification time")
    call.out.note(
        f"{done.name}: {file_count(done.files)}, {amount(done.size)};"
        f" {file_count(done.sent)} {word} ({amount(done.sent_size)}){there}{removed}."
    )
    return ExitCode.DONE


def _list(call: Call) -> int:
    from compute_to_data.client import datasets

    rows: list[dict[str, Any]] = []
    for one in datasets.listed(call.session):
        rows.append({**vars(one), "amount": amount(one.size) if one.is_complete else "incomplete"})
    columns = {"dataset": "DATASET", "name": "NAME", "files": "FILES", "amount": "SIZE", "created": "CREATED"}
    if call.out.form == "json":
        call.out.result([{name: value for name, value in row.items() if name != "amount"} for row in rows])
        return ExitCode.DONE
    if call.out.form == "raw":
        columns = {"dataset": "", "name": "", "files": "", "size": "", "created": "", "complete": ""}
        rows = [{**row, "complete": "complete" if row["is_complete"] else "incomplete"} for row in rows]
    call.out.table(rows, columns, empty="No datasets in this project yet.", free=["name"])
    return ExitCode.DONE


def _describe(call: Call) -> int:
    from compute_to_data.client import datasets

    found = datasets.describe(call.session, call.options.dataset)
    one, document = found.listed, found.document()
    lines = [
        ("dataset", one.dataset),
        ("name", one.name),
        ("collection", one.collection),
        ("input", str(document["input"])),
        ("complete", "yes" if one.is_complete else "no: its upload was interrupted"),
        ("files", str(one.files)),
        ("folders", str(one.folders)),
        ("size", amount(one.size)),
        ("created", one.created),
    ]
    lines += [("task", f"{task} {state}") for task, state in found.tasks.items()]
    lines += [("workload", workload) for workload in found.workloads]
    lines += [("", "more tasks or workloads use it than are listed here")] if found.has_more else []
    call.out.facts(document, lines)
    return ExitCode.DONE


def _remove(call: Call) -> int:
    from compute_to_data.client import datasets
    from compute_to_data.errors import InvalidRequest

    dataset = call.options.dataset
    if not call.options.yes:
        if not sys.stdin.isatty():
            cause = "removing it needs a confirmation, and standard input is not a terminal"
            raise InvalidRequest(f"dataset {dataset}", cause, "Confirm it with --yes")
        found = datasets.describe(call.session, dataset).listed
        call.out.note(f"Remove {found.dataset} ({found.name}: {file_count(found.files)}, {amount(found.size)})? [y/N]")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            call.out.note("Nothing was removed.")
            return ExitCode.REFUSED
    collection = datasets.remove(call.session, dataset, force=call.options.force)
    call.out.result({"removed": collection}, collection)
    return ExitCode.DONE
