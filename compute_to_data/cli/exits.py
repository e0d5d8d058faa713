"""The exit codes of ``c2d``, for scripts."""

from __future__ import annotations

from enum import IntEnum

from compute_to_data.errors import (
    AccessDenied,
    AlreadyExists,
    Code,
    ComputeToDataError,
    ConfigurationError,
    Incomplete,
    NotFound,
    ReasonCode,
    Refused,
    TaskFailed,
)


class ExitCode(IntEnum):
    """The exit codes of ``c2d``."""

    DONE = 0
    PROGRAM_FAILED = 1
    USAGE = 2
    REFUSED = 3
    NOT_FOUND = 4
    WALLTIME_EXCEEDED = 5
    CANCELLED = 6
    UNREACHABLE = 7
    TASK_FAILED = 8
    INCOMPLETE = 9
    INTERRUPTED = 130


MEANINGS: dict[ExitCode, str] = {
    ExitCode.DONE: "success; if the command waited for tasks, all of them COMPLETED",
    ExitCode.PROGRAM_FAILED: "the task FAILED because its program ended with a status other than 0",
    ExitCode.USAGE: "the command line or a settings file is wrong",
    ExitCode.REFUSED: "refused: a malformed request, a rule of the site, no live worker, no access, not logged in",
    ExitCode.NOT_FOUND: "something that the command or request names does not exist, or you may not see it",
    ExitCode.WALLTIME_EXCEEDED: "the task FAILED because it ran longer than its walltime",
    ExitCode.CANCELLED: "the task was CANCELLED",
    ExitCode.UNREACHABLE: "the zone cannot be reached, or the zone or this computer failed",
    ExitCode.TASK_FAILED: "the task FAILED for another reason: its memory, its output, the system",
    ExitCode.INCOMPLETE: "not everything could be fetched: results are missing or damaged",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C)",
}

_OF_REASON = {
    ReasonCode.COMPLETED: ExitCode.DONE,
    ReasonCode.NONZERO_EXIT: ExitCode.PROGRAM_FAILED,
    ReasonCode.WALLTIME_EXCEEDED: ExitCode.WALLTIME_EXCEEDED,
    ReasonCode.CANCELLED: ExitCode.CANCELLED,
    ReasonCode.REFUSED: ExitCode.REFUSED,
}

_MALFORMED = (Code.USER_INPUT_PATH_ERR, Code.SYS_INVALID_FILE_PATH, Code.CAT_INVALID_ARGUMENT)
"""The codes of a zone for an invalid name."""


def of_reason(reason: str) -> ExitCode:
    """The exit code for a task that has ended, from its recorded ``reason_code``."""
    known = reason in {one.value for one in ReasonCode}
    return _OF_REASON.get(ReasonCode(reason), ExitCode.TASK_FAILED) if known else ExitCode.TASK_FAILED


def of_error(error: ComputeToDataError) -> ExitCode:
    """The exit code for an error that ended a command."""
    if isinstance(error, TaskFailed):
        return of_reason(error.reason.value)
    if isinstance(error, Incomplete):
        return ExitCode.INCOMPLETE
    if isinstance(error, NotFound):
        return ExitCode.NOT_FOUND
    if isinstance(error, (Refused, AccessDenied, AlreadyExists)) or error.code in _MALFORMED:
        return ExitCode.REFUSED
    return ExitCode.USAGE if isinstance(error, ConfigurationError) else ExitCode.UNREACHABLE
