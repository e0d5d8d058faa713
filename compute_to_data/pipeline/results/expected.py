"""Checks that a successful program left the outputs that its request and its role expect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from compute_to_data.errors import ReasonCode, TaskFailed
from compute_to_data.pipeline.execution import Execution
from compute_to_data.pipeline.results import placing
from compute_to_data.similar_names import nearest
from compute_to_data.task import RESERVED_NAMES

_NAMED = 10
"""How many outputs a message names."""
_LIKENESS = 0.6
"""How alike two names must be for one to be a misspelling of the other."""


def check(execution: Execution, targets: tuple[str, ...]) -> None:
    """TaskFailed with OUTPUT_MISSING unless each expected name is a file or a directory among the outputs.

    ``targets``: the inputs' paths in the sandbox.
    """
    files = {file.relative for file in execution.files}
    made = execution.task.tes.folders if execution.task.tes else ()
    folders = _folders([*files, *(f"{folder}/" for folder in (*execution.folders, *made))])
    task = execution.task
    put = [one.output for one in task.put if one.output not in RESERVED_NAMES]
    placed = placing.expected(task.tes.placed) if task.tes else ()
    expected = (*task.expected_outputs, *put, *placed, *execution.role.expected_outputs(task, targets))
    missing = [name for name in dict.fromkeys(expected) if name not in files and name not in folders]
    if missing:
        raise _missing(missing, sorted({*files, *execution.folders}), folders)


def _folders(paths: Iterable[str]) -> set[str]:
    """All directories above some paths."""
    return {path[:end] for path in paths for end, letter in enumerate(path) if letter == "/"}


def _missing(missing: Sequence[str], there: Sequence[str], folders: set[str]) -> TaskFailed:
    """The failure, with what the task did write, and what is probably meant."""
    plural, what = ("s", "them") if len(missing) > 1 else ("", "it")
    wrote = f"It wrote {_named(there)}" if there else "It wrote nothing to /outputs"
    cause = f"the task ended successfully but did not write {what}. {wrote}"
    guesses = dict.fromkeys(guess for name in missing[:_NAMED] if (guess := _meant(name, [*there, *folders])))
    remedy = f"Perhaps expected_outputs should say {_named(list(guesses))}" if guesses else ""
    return TaskFailed(ReasonCode.OUTPUT_MISSING, f"output{plural} {_named(missing)}", cause, remedy)


def _meant(name: str, there: Sequence[str]) -> str:
    """The output whose name is most like an expected one, in the same directory or in another; '' for none."""
    lower = {one.lower(): one for one in there}
    last = {one.rpartition("/")[2].lower(): one for one in there}
    for wanted, known in ((name.lower(), lower), (name.rpartition("/")[2].lower(), last)):
        alike = nearest(wanted, known, likeness=_LIKENESS)
        if alike:
            return known[alike]
    return ""


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name if len(name) <= 120 else f"{name[:80]}...{name[-30:]}") for name in names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
