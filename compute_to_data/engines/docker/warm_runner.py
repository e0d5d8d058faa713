"""The runner of a warm sandbox: a few lines of POSIX shell that run one task after another.

Runner and worker communicate through FIFOs in a folder that the sandbox sees read-only: ``requests`` and
``answers`` carry single lines, ``stdout`` and ``stderr`` what the tasks write. A task has the runner's uid and
could write into these FIFOs, so the worker does not trust ``answers`` alone: see ``warm_sandbox``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

FOLDER = "/.compute-to-data"
"""The path at which the sandbox sees the folder of the FIFOs."""
FIFOS = ("requests", "answers", "stdout", "stderr")
DESCRIPTORS = range(3, 7)
"""The runner's descriptors of the FIFOs."""
TASK = "task"
"""The file beside the FIFOs with the script to run next, from :func:`task_script`."""

# Requests: `run N` runs the file `task`; `reset N` asks whether System V objects of a task are left. Answers:
# `ready`; `done N STATUS` when the task's first process has ended; `idle N clean|kept`.
#
# - When the worker is gone, `read` returns the end of the file, and the sandbox ends by itself.
# - A task gets none of the runner's descriptors, and its program runs in its own process (`exec`). Each task opens the
#   streams again, because flags of an open file, such as O_NONBLOCK, would pass to the next task.
# - It runs in the background, and the runner waits again after a signal, as in ``pipeline.running.command_line``.
# - System V objects outlive the processes that made them, and the host cannot see them.
SCRIPT = r"""
exec 3<"$1/requests" 4>"$1/answers" 5>"$1/stdout" 6>"$1/stderr" </dev/null >/dev/null 2>&1
c2d_child='' c2d_stopping=''
trap 'c2d_stopping=1 c2d_signal=1; [ -z "$c2d_child" ] || kill -TERM "$c2d_child"' TERM
echo ready >&4
while [ -z "$c2d_stopping" ] && read -r c2d_what c2d_number <&3; do
  case $c2d_what in
  run)
    { trap - TERM; . "$1/task"; } >"$1/stdout" 2>"$1/stderr" 3<&- 4>&- 5>&- 6>&- &
    c2d_child=$!
    [ -z "$c2d_stopping" ] || kill -TERM "$c2d_child"
    c2d_status=''
    while :; do
      c2d_signal=''
      wait "$c2d_child"
      c2d_answer=$?
      [ "$c2d_answer" -eq 127 ] && [ -n "$c2d_status" ] || c2d_status=$c2d_answer
      [ -n "$c2d_signal" ] || break
    done
    c2d_child=''
    echo "done $c2d_number $c2d_status" >&4
    ;;
  reset)
    c2d_left=clean
    for c2d_kind in shm sem msg; do
      [ -r "/proc/sysvipc/$c2d_kind" ] || continue
      { read -r c2d_line; read -r c2d_line && c2d_left=kept; } <"/proc/sysvipc/$c2d_kind"
    done
    echo "idle $c2d_number $c2d_left" >&4
    ;;
  esac
done
"""

COMMAND = ("/bin/sh", "-c", SCRIPT, "sh", FOLDER)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Shells refuse to set these, or use them themselves while the script runs.
_SHELLS_OWN = frozenset({"PPID", "UID", "EUID", "SHELLOPTS", "BASHOPTS", "BASH_VERSINFO", "IFS", "OPTIND", "_"})


def can_set(names: Sequence[str]) -> bool:
    """Whether a shell can set variables with these names in a program's environment."""
    return all(_NAME.fullmatch(name) and name not in _SHELLS_OWN for name in names)


def task_script(command: Sequence[str], environment: Mapping[str, str], directory: str) -> str:
    """The script with which the runner's child becomes the task's program. Every word is quoted."""
    lines = [f"cd -- {shlex.quote(directory)} || exit 126"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    lines.append("exec " + " ".join(map(shlex.quote, command)))
    return "\n".join(lines) + "\n"
