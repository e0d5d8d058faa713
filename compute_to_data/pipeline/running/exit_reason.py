"""Why a job's program did not end well: the site's own limits where one of them ended it, else its own words."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator

from compute_to_data.disk_usage import measure
from compute_to_data.errors import Cancelled, ReasonCode, TaskFailed
from compute_to_data.job import EndedBy, Exit, Limits, Logs
from compute_to_data.pipeline.execution import Execution, printable
from compute_to_data.pipeline.hooks import own_line
from compute_to_data.pipeline.running.run_job import seconds_run
from compute_to_data.pipeline.vault import workspace
from compute_to_data.task import STDERR_NAME, STDOUT_NAME

_TAIL = 4096
"""How many last bytes of each stream may hold words about a limit."""
_FILE_TOO_LARGE = re.compile(r"File size limit exceeded|\[Errno 27\]")
"""What shells say when SIGXFSZ ended a program, and what Python says when it ignores that signal."""
_NO_ROOM = re.compile(r"No space left on device")
_NO_PROCESS = re.compile(
    r"Resource temporarily unavailable|[Cc]annot fork|can't start new thread|create (native )?thread"
)
_NO_MEMORY = re.compile(r"MemoryError|Cannot allocate memory|std::bad_alloc|OutOfMemoryError")
_READ_ONLY = re.compile(r"Read-only file system")
_NO_NETWORK = re.compile(
    r"Network is unreachable|Temporary failure in name resolution|Name or service not known|[Cc]ould not resolve"
)
_CAUSE = 600
"""The most characters of a program's own words in a reason."""


def check(execution: Execution) -> None:
    """TaskFailed unless the program ended well."""
    exit, limits = execution.exit, execution.job.limits
    if exit.ended_by is not None:
        raise _ended_by(exit.ended_by)
    if exit.out_of_memory:
        raise TaskFailed(
            ReasonCode.OUT_OF_MEMORY,
            "memory",
            f"the task needed more than its {limits.memory_bytes} bytes, and the kernel stopped it",
            "Ask for more in limits.memory_bytes",
        )
    if _took_too_long(execution):
        raise TaskFailed(
            ReasonCode.WALLTIME_EXCEEDED,
            "walltime",
            f"the task ran longer than its {limits.walltime_seconds:g} seconds",
            "Ask for more in limits.walltime_seconds",
        )
    if exit.status != 0:
        beyond = _beyond_outputs(execution)
        raise _output_limit(execution, beyond) if beyond else _nonzero(execution)


def _ended_by(outside: EndedBy) -> TaskFailed:
    if outside.reason is ReasonCode.CANCELLED:
        return Cancelled("task", outside.cause)
    return TaskFailed(outside.reason, "job", outside.cause, outside.remedy)


def _took_too_long(execution: Execution) -> bool:
    """Whether the job ended after its walltime while no worker watched: the engine or a worker that was killed then
    ended it, or it ended by itself, too late.

    The exit status cannot tell this: a program may exit with 124, 137 or 143 by itself, and before its walltime. One
    that succeeds has a little longer, since the engine ends jobs a little later than the worker.
    """
    exit, walltime = execution.exit, execution.job.limits.walltime_seconds
    ran = min(exit.finished - exit.started, seconds_run(execution, exit.started))  # the wall clock may jump
    return ran > walltime + execution.job.own_margin or (ran >= walltime and exit.status != 0)


def _beyond_outputs(execution: Execution) -> str:
    """How the program went beyond the limits of its outputs, which made it fail; '' if it did not.

    A file may have reached ``output_bytes``, the most that the kernel lets one have; or all outputs together, with
    project quotas. The signal that reports the first ends a program (SIGXFSZ), or only a child of a shell. Python and
    others ignore it, and get the error EFBIG instead. Project quotas leave a little more than the limit, so it shows in
    what is there.
    """
    limits = execution.job.limits
    too_large = f"wrote more than its {limits.output_bytes} bytes"
    if execution.exit.status == 128 + signal.SIGXFSZ or _FILE_TOO_LARGE.search(_text(execution.logs.stderr)):
        return too_large
    most_entries = 2 * limits.output_files
    found = measure(execution.job.outputs, most_bytes=limits.output_bytes, most_entries=most_entries)
    if found.size > limits.output_bytes:
        return too_large
    return f"made more than twice its {limits.output_files} files" if found.entries > most_entries else ""


def _output_limit(execution: Execution, what: str) -> TaskFailed:
    cause = f"the task {what}, and {_end(execution)}"
    remedy = "Write less, or ask for more in limits.output_bytes or limits.output_files"
    return TaskFailed(ReasonCode.OUTPUT_LIMIT, "outputs", cause, remedy)


def _nonzero(execution: Execution) -> TaskFailed:
    remedies = ". ".join([*_hints(execution), *_where(execution.logs)])
    return TaskFailed(ReasonCode.NONZERO_EXIT, "program", _end(execution), remedies)


def _end(execution: Execution) -> str:
    """``exited with status 3 (command 1 of 2, sh): no such file``."""
    exit = execution.exit
    said = execution.role.explanation(exit, execution.logs)
    shown = said if len(said) <= _CAUSE else f"{said[: _CAUSE - 100]}...{said[-97:]}"
    return f"exited with status {exit.status}{_how(exit, execution.logs)}" + (f": {printable(shown)}" if said else "")


def _how(exit: Exit, logs: Logs) -> str:
    """The signal that ended a program, from a shell's exit status, and which of several commands it was."""
    command = own_line(logs.stderr)
    words = [f"command {command[1]} of {command[2]}, {command[3]}"] if command and command[2] != "1" else []
    with contextlib.suppress(ValueError):
        words.append(f"as {signal.Signals(exit.status - 128).name} ends a program")
    return f" ({'; '.join(words)})" if words else ""


def _hints(execution: Execution) -> Iterator[str]:
    """What to do about a limit of the sandbox that the program met, according to its own words."""
    text, limits = _tail(execution.logs), execution.job.limits
    unused = execution.job.image.unused
    if unused and execution.task.process:
        yield f"The image's {unused} {'are' if ' and ' in unused else 'is'} not used"
    if _NO_ROOM.search(text):
        yield _no_room(execution, limits)
    if _NO_PROCESS.search(text):
        yield f"The task may have {limits.pids} processes and threads at one time; ask for more in limits.pids"
    if _READ_ONLY.search(text):
        yield "A task can write to /outputs and /tmp only"
    if _NO_NETWORK.search(text) and execution.context.engine.sandboxed:
        yield "A task has no network: make what it needs an input, or part of its image"
    if _NO_MEMORY.search(text):
        yield f"The task may use {limits.memory_bytes} bytes of memory; ask for more in limits.memory_bytes"


def _no_room(execution: Execution, limits: Limits) -> str:
    if workspace.is_full(execution.private):
        return f"The vault of resource {execution.context.resource.name} is full; an administrator makes room"
    return f"/tmp holds {limits.tmp_bytes} bytes (limits.tmp_bytes); write larger files to /outputs"


def _where(logs: Logs) -> Iterator[str]:
    names = [name for name, content in ((STDERR_NAME, logs.stderr), (STDOUT_NAME, logs.stdout)) if content]
    if names:
        yield f"{' and '.join(names)} hold{'s' * (len(names) == 1)} what it wrote"
    else:
        yield "It wrote nothing to standard output and error"


def _tail(logs: Logs) -> str:
    return f"{_text(logs.stdout)}\n{_text(logs.stderr)}"


def _text(stream: bytes) -> str:
    return stream[-_TAIL:].decode("utf-8", "replace")
