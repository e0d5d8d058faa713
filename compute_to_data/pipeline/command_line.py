"""A program's steps as the one argument vector that a container's first process runs.

The commands of a process definition are vectors: no shell ever reads their words. Where one
vector is enough it is used as it is, so an image needs no shell. Otherwise a constant POSIX
script runs them in order; whatever a user wrote reaches it as positional arguments only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from compute_to_data.errors import InvalidRequest
from compute_to_data.pipeline.hooks import Program, Step

# Arguments: the file for the first command's stdin and for the last one's stdout ('' = none),
# how many commands, then for each: 1 if it may exit nonzero else 0, its number of words, words.
#
# - A POSIX shell has no arrays: `eval` is given the *numbers* of positional arguments.
# - `exec` in a child runs programs only, so that a vector named `cd` or `echo` never meets the
#   shell's builtin of that name.
# - The child runs in the background because a shell that waits for a foreground child handles
#   a trapped SIGTERM only after it. (So, as POSIX has it, the child ignores SIGINT.)
# - A `wait` that a signal interrupts answers with the signal's number: it is asked again, and
#   knows the child no more (127) where its first answer was the child's own status.
# - The c2d_ prefix: a variable of the script that the environment has too would be exported.
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


@dataclass(frozen=True)
class OneContainer:
    """What one container runs: an image by name, one argument vector, and where it begins."""

    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: str = ""


def in_one_container(program: Program) -> OneContainer:
    """The container in which all steps of a program run, one after the other.

    InvalidRequest for a program whose steps need a container each, and as of :func:`command`.
    """
    steps = program.steps
    stdin, stdout = (steps[0].stdin, steps[-1].stdout) if steps else ("", "")
    may_fail = frozenset(index for index, step in enumerate(steps) if step.may_fail)
    vector = command(program.commands, may_fail, stdin=stdin, stdout=stdout)
    for index, step in enumerate(steps):
        for cause in _needs_its_own(step, steps[0], is_last=index == len(steps) - 1):
            remedy = "This version runs all steps of a program in one container. Make several tasks of them"
            raise InvalidRequest(f"step {index + 1} of {len(steps)}", cause, remedy)
    return OneContainer(steps[0].image, vector, steps[0].environment, steps[0].working_directory)


def _needs_its_own(step: Step, first: Step, is_last: bool) -> Iterator[str]:
    """Why a step cannot run in the container of the first one."""
    if step.image != first.image:
        yield f"runs in the image {step.image}, and the first one in {first.image}"
    if step.working_directory != first.working_directory:
        directories = [f"in {one.working_directory or 'the default directory'}" for one in (step, first)]
        yield f"starts {directories[0]}, and the first one {directories[1]}"
    if dict(step.environment) != dict(first.environment):
        yield "has other variables in its environment than the first one"
    if step.stdin and step is not first:
        yield "reads a file as its standard input, which only the first one can"
    if step.stdout and not is_last:
        yield "writes its standard output to a file, which only the last one can"
    if step.stderr:
        yield "writes its standard error to a file, which none can"


def command(
    vectors: Sequence[Sequence[str]],
    allowed_nonzero: AbstractSet[int] = frozenset(),
    stdin: str = "",
    stdout: str = "",
) -> tuple[str, ...]:
    """The argument vector that runs ``vectors`` in order, stopping at the first failure.

    ``allowed_nonzero``: indices, from 0, of vectors whose nonzero exit counts as success.
    ``stdin`` and ``stdout``: paths in the sandbox, for the first vector's standard input and
    the last one's standard output. The exit status is that of the vector that failed, which
    stderr names, or 0; 127 where its program is missing, 126 where it cannot be executed.
    SIGTERM is passed on to the running vector, and no further one is started.

    Errors: InvalidRequest for no vector, for one without a program, for a program whose name
    begins with ``-`` (a shell's ``exec`` would take it for an option), and for NUL characters.
    """
    words = tuple(tuple(vector) for vector in vectors)
    _check(words, stdin, stdout)
    if len(words) == 1 and not (stdin or stdout or 0 in allowed_nonzero):
        return words[0]
    arguments = [stdin, stdout, str(len(words))]
    for index, vector in enumerate(words):
        arguments += ["1" if index in allowed_nonzero else "0", str(len(vector)), *vector]
    return ("/bin/sh", "-c", _SCRIPT, "sh", *arguments)


def _check(vectors: Sequence[Sequence[str]], stdin: str, stdout: str) -> None:
    if not vectors:
        raise InvalidRequest("commands", "there is none", "name at least one program to run")
    for index, vector in enumerate(vectors):
        subject = f"command {index + 1} of {len(vectors)}"
        if not vector or not vector[0]:
            raise InvalidRequest(subject, "it names no program", "its first word is the program to run")
        if vector[0].startswith("-"):
            raise InvalidRequest(subject, f"the program's name {vector[0]!r} begins with '-'", "give its path: './...'")
    if any("\0" in word for vector in vectors for word in vector) or "\0" in stdin + stdout:
        raise InvalidRequest("commands", "an argument holds a NUL character, which no program can receive")
