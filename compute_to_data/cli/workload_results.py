"""Fetching the results of all tasks of a workload."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compute_to_data.cli.exits import ExitCode

if TYPE_CHECKING:
    from compute_to_data.cli.command import Call


def is_workload(given: str) -> bool:
    """Whether a word on the command line means a workload: an id, the beginning of one, or a logical path."""
    name = given.rstrip("/").rpartition("/")[2]
    return name.startswith("w-") and set(name[2:]) <= set("0123456789abcdef") and len(name) <= len("w-0123456789ab")


def fetch_all(call: Call, given: str, directory: str) -> int:
    """Fetch the results of a workload into a folder, and print the tasks' folders."""
    workload = call.session.workload(given)
    done = workload.download(
        directory,
        force=call.options.force,
        fetched=lambda number, of: call.out.progress(f"{number} of {of} tasks" if number < of else ""),
    )
    document: dict[str, Any] = {"workload": workload.id, "folders": dict(done.folders)}
    document |= {"unfinished": list(done.unfinished), "incomplete": list(done.incomplete), "failed": done.failed}
    call.out.result(document, "\n".join(done.folders.values()))
    lacking = "are missing or damaged. See which: c2d fetch"
    call.out.notes(f"incomplete: results of task {task} {lacking} {task}" for task in done.incomplete)
    call.out.notes(f"not fetched: task {task}: {error}" for task, error in done.failed.items())
    if done.unfinished:
        call.out.note(f"tasks that have not ended yet: {len(done.unfinished)}")
    return ExitCode.DONE if done.is_complete else ExitCode.INCOMPLETE
