"""Turns a program's steps into the one argument vector that a container's first process runs.

The commands of a process definition are argument vectors, and no shell parses their words. A single
command is used as it is, so its image needs no shell. Several commands are run in order by a constant
POSIX script, which receives the user's words as positional arguments only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from compute_to_data.errors import InvalidRequest
from compute_to_data.pipeline.hooks import Program, Step

# Arguments: the file for the first command's stdin and for the last one's stdout ('' = none),
# how many commands, then for each: 1 if it may exit nonzero else 0, its number of words, words.
#
# - A POSIX shell has no arrays: the script gives `eval` the *numbers* of positional arguments.
# - `exec` in a child runs programs only, so a command named `cd` or `echo` never runs the shell's builtin.
# - The child runs in the background: a shell that waits for a foreground child handles a trapped
#   SIGTERM only when the child has ended. (POSIX says that such a child ignores SIGINT.)
# - When a signal interrupts `wait`, it returns the signal's number, so the script waits again. The second
#   `wait` returns 127 if the first one returned the child's own status.
# - The c2d_ prefix: the shell would export a variable of the script that the environment also has.
_SCRIPT = r"""
c2d_stdin=$1 c2d_stdout=$2 c2d_total=$3 c2d_index=0 c2d_stopping='' c2d_child=''
shift 3
trap 'c2d_stopping=1 c2d_signal=1; [ -z "$c2d_child" ] || kill -TERM "$c2d_child" 2>/dev/null' TERM
while [ "$#" -gt 0 ]; do
  c2d_allowed=$1 c2d_count=$2 c2d_number=1 c2d_line=exec c2d_child=''
  c2d_index=$((c2d_index + 1))
  shift 2
  while [ "$c2d_number" -le "$c2d_count" ]; do
    c2d_line="$c2d_line \"\${$c2d_number}\""
    c2d_number=$((c2d_number + 1))
  done
  if [ "$c2d_index" -eq 1 ] && [ -n "$c2d_stdin" ]
  then c2d_line="$c2d_line <\"\$c2d_stdin\""
  else c2d_line="$c2d_line </dev/null"
  fi
  if [ "$c2d_index" -eq "$c2d_total" ] && [ -n "$c2d_stdout" ]
  then c2d_line="$c2d_line >\"\$c2d_stdout\""
  fi
  eval "$c2d_line &"
  c2d_child=$!
  [ -z "$c2d_stopping" ] || kill -TERM "$c2d_child" 2>/dev/null
  c2d_status=''
  while :; do
    c2d_signal=''
    wait "$c2d_child" 2>/dev/null
    c2d_answer=$?
    [ "$c2d_answer" -eq 127 ] && [ -n "$c2d_status" ] || c2d_status=$c2d_answer
    [ -n "$c2d_signal" ] || break
  done
  if [ "$c2d_status" -ne 0 ] && { [ "$c2d_allowed" -eq 0 ] || [ -n "$c2d_stopping" ]; }; then
    printf 'command %s of %s (%s) exited %s\n' "$c2d_index" "$c2d_total" "$1" "$c2d_status" >&2
    exit "$c2d_status"
  fi
  if [ -n "$c2d_stopping" ] && [ "$c2d_index" -lt "$c2d_total" ]; then
    printf 'stopped after command %s of %s (%s)\n' "$c2d_index" "$c2d_total" "$1" >&2
    exit 143
  fi
  shift "$c2d_count"
done
exit 0
"""


# Arguments: the files for stdin, stdout and stderr ('' = none for the first two), then the words of the command.
_REDIRECTED = r"""
exec 2>"$3"
if [ -n "$1" ]; then exec <"$1"; else exec </dev/null; fi
if [ -n "$2" ]; then exec >"$2"; fi
shift 3
exec "$@"
"""


@dataclass(frozen=True)
class OneContainer:
    """What one container runs: an image by name, one argument vector, and its working directory. ``may_fail``: if it
    exits nonzero, the next container runs all the same."""

    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: str = ""
    helper: tuple[str, ...] = ()
    may_fail: bool = False


def containers(program: Program) -> tuple[OneContainer, ...]:
    """The containers that run a program, one after the other. Errors as for :func:`in_one_container`."""
    if not program.apart:
        return (in_one_container(program),)
    alone = (replace(program, steps=(replace(step, may_fail=False),)) for step in program.steps)
    return tuple(replace(in_one_container(one), may_fail=step.may_fail) for one, step in zip(alone, program.steps))


def in_one_container(program: Program) -> OneContainer:
    """The container in which all steps of a program run, one after the other.

    InvalidRequest for steps that cannot share a container, and the errors of :func:`command`.
    """
    steps = program.steps
    stdin, stdout = (steps[0].stdin, steps[-1].stdout) if steps else ("", "")
    stderr = steps[0].stderr if len(steps) == 1 else ""
    may_fail = frozenset(index for index, step in enumerate(steps) if step.may_fail)
    vector = command(program.commands, may_fail, stdin=stdin, stdout=stdout, stderr=stderr)
    for index, step in enumerate(steps):
        for cause in _needs_its_own(step, steps[0], is_last=index == len(steps) - 1):
            remedy = "This version runs all steps of a program in one container. Submit several tasks instead"
            raise InvalidRequest(f"step {index + 1} of {len(steps)}", cause, remedy)
    first = steps[0]
    return OneContainer(first.image, vector, first.environment, first.working_directory, first.helper)


def _needs_its_own(step: Step, first: Step, is_last: bool) -> Iterator[str]:
    """Why a step cannot run in the container of the first one."""
    if step.image != first.image:
        yield f"runs in the image {step.image}, but the first step in {first.image}"
    if step.working_directory != first.working_directory:
        directories = [f"in {one.working_directory or 'the default directory'}" for one in (step, first)]
        yield f"starts {directories[0]}, but the first step {directories[1]}"
    if dict(step.environment) != dict(first.environment):
        yield "has another environment than the first step"
    if step.stdin and step is not first:
        yield "reads its standard input from a file, which only the first step can"
    if step.stdout and not is_last:
        yield "writes its standard output to a file, which only the last step can"
    if step.helper and (step is not first or not is_last):
        yield "has an adapter that a helper serves, which only the only step can have"
    if step.stderr and not (step is first and is_last):
        yield "writes its standard error to a file, which only the only step can"


def command(
    vectors: Sequence[Sequence[str]],
    allowed_nonzero: AbstractSet[int] = frozenset(),
    stdin: str = "",
    stdout: str = "",
    stderr: str = "",
) -> tuple[str, ...]:
    """The argument vector that runs ``vectors`` in order, stopping at the first failure.

    ``allowed_nonzero``: indices, from 0, of vectors whose nonzero exit counts as success.
    ``stdin`` and ``stdout``: paths in the sandbox, for the first vector's standard input and
    the last one's standard output. ``stderr``: for the standard error of an only vector. The exit
    status is 0, or that of the vector that failed: 127 when its program is missing, 126 when it
    cannot be executed. stderr names that vector, unless it has a file of its own. On SIGTERM the
    script passes the signal on to the running vector and starts no other.

    InvalidRequest: no vector, a vector without a program, a program whose name begins with ``-``
    (``exec`` would take it for an option), a NUL character.
    """
    words = tuple(tuple(vector) for vector in vectors)
    _check(words, stdin, stdout + stderr)
    if stderr:
        return ("/bin/sh", "-c", _REDIRECTED, "sh", stdin, stdout, stderr, *words[0])
    if len(words) == 1 and not (stdin or stdout or 0 in allowed_nonzero):
        return words[0]
    arguments = [stdin, stdout, str(len(words))]
    for index, vector in enumerate(words):
        arguments += ["1" if index in allowed_nonzero else "0", str(len(vector)), *vector]
    return ("/bin/sh", "-c", _SCRIPT, "sh", *arguments)


def _check(vectors: Sequence[Sequence[str]], stdin: str, stdout: str) -> None:
    if not vectors:
        raise InvalidRequest("commands", "there is no command", "name at least one program to run")
    for index, vector in enumerate(vectors):
        subject = f"command {index + 1} of {len(vectors)}"
        if not vector or not vector[0]:
            raise InvalidRequest(subject, "it names no program", "its first word is the program to run")
        if vector[0].startswith("-"):
            raise InvalidRequest(subject, f"the program's name {vector[0]!r} begins with '-'", "give its path: './...'")
    if any("\0" in word for vector in vectors for word in vector) or "\0" in stdin + stdout:
        raise InvalidRequest("commands", "an argument contains a NUL character, which no program can receive")
