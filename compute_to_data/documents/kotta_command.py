"""The command line that runs a Kotta job: a fixed shell script, and the values that it takes as arguments.

The script makes the folder that Kotta's jobs expect (``kotta_format``). No value becomes part of its
text, so no shell reads them. The exception is an ``executable`` that is a command line for a shell.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from compute_to_data.documents import interpolation

_SCRIPT_NAME = "script.sh"
_SHELL_OPERATORS = frozenset(";&|<>()`")

# Arguments: the inputs' names separated by /, and after line ends the outputs that may be missing; the
# script's name and text; file names for standard output and error ('' for none); then the program and
# its words. If the program fails, the script copies these two files to the streams, whose last line is the
# task's reason. Waiting and the prefix of variables are as in ``pipeline.running.command_line``.
_RUN = r"""
c2d_end='
'
c2d_inputs=${1%%"$c2d_end"*} c2d_name=$2 c2d_script=$3 c2d_stdout=$4 c2d_stderr=$5
c2d_outputs=${1#"$c2d_inputs"}
shift 5
c2d_child='' c2d_stopping=''
trap 'c2d_stopping=1 c2d_signal=1; [ -z "$c2d_child" ] || kill -TERM "$c2d_child" 2>/dev/null' TERM
cd /outputs || exit 126
set -f
IFS=/
for c2d_input in $c2d_inputs; do ln -s "/inputs/$c2d_input" "./$c2d_input" || exit 126; done
if [ -n "$c2d_name" ]; then
  printf %s "$c2d_script" > "./$c2d_name" && chmod 700 "./$c2d_name" || exit 126
fi
(
  trap - TERM
  if [ -n "$c2d_stdout" ]; then exec > "./$c2d_stdout"; fi
  if [ -n "$c2d_stderr" ]; then exec 2> "./$c2d_stderr"; fi
  unset IFS
  exec "$@"
) &
c2d_child=$!
[ -z "$c2d_stopping" ] || kill -TERM "$c2d_child" 2>/dev/null
c2d_status='' c2d_signal=1
while [ -n "$c2d_signal" ]; do
  c2d_signal=''
  wait "$c2d_child"
  c2d_answer=$?
  [ "$c2d_answer" -eq 127 ] && [ -n "$c2d_status" ] || c2d_status=$c2d_answer
done
for c2d_input in $c2d_inputs; do [ ! -L "./$c2d_input" ] || rm -f "./$c2d_input"; done
[ -z "$c2d_name" ] || rm -f "./$c2d_name"
if [ "$c2d_status" -ne 0 ]; then
  [ -z "$c2d_stdout" ] || cat "./$c2d_stdout"
  [ -z "$c2d_stderr" ] || cat "./$c2d_stderr" >&2
  exit "$c2d_status"
fi
IFS=$c2d_end
for c2d_output in $c2d_outputs; do
  [ -e "./$c2d_output" ] || echo "output $c2d_output: the program left no such file" >&2
done
"""


def command(document: Mapping[str, Any], inputs: str, streams: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The argument vector for a description without empty values.

    ``inputs``: the inputs' names, separated by /. ``streams``: file names for standard output and
    error, '' for none. ``wanted``: outputs of which the script says on standard error that they are missing.
    """
    values = ["\n".join((inputs, *wanted)), script_name(document), script_of(document), *streams]
    return ["/bin/sh", "-c", *map(interpolation.escaped, (_RUN, "sh", *values, *program(document)))]


def script_name(document: Mapping[str, Any]) -> str:
    """The name of the job's script; '' without a script."""
    return str(document.get("script_name", _SCRIPT_NAME)) if "script" in document else ""


def program(document: Mapping[str, Any]) -> list[str]:
    """The program and its words.

    As in Kotta, ``executable`` may be a whole command line; then nothing but ``args`` is added to it. A
    script that a single word and its arguments do not name becomes the first argument. When the script
    is the program, the interpreter of its ``#!`` line runs it, else ``/bin/sh``.
    """
    executable, arguments = document.get("executable", ""), arguments_of(document)
    if is_for_a_shell(executable):
        return ["/bin/sh", "-c", executable]
    program, *first = shlex.split(executable) or [""]
    name = script_name(document)
    if not name or program not in ("", name, f"./{name}"):
        needs_script = name and not first and {name, f"./{name}"}.isdisjoint(arguments)
        return [program, *first, *([f"./{name}"] if needs_script else []), *arguments]
    return [*_interpreter(script_of(document)), f"./{name}", *first, *arguments]


def is_for_a_shell(executable: str) -> bool:
    """Whether a command line has an operator such as ``|`` or ``>`` outside quotes."""
    words = shlex.shlex(executable, posix=True, punctuation_chars=";&|<>()`")
    words.whitespace_split, words.commenters = True, ""
    return any(_SHELL_OPERATORS.issuperset(word) for word in words if word)


def arguments_of(document: Mapping[str, Any]) -> list[str]:
    """The words of ``args``. ValueError for a text whose quotes are not closed."""
    value = document.get("args", [])
    return shlex.split(value) if isinstance(value, str) else list(value)


def script_of(document: Mapping[str, Any]) -> str:
    """The script, with the line ends of Unix: Kotta's page sent those of Windows, and its service replaced them."""
    return str(document.get("script", "")).replace("\r\n", "\n")


def _interpreter(script: str) -> list[str]:
    line = script.partition("\n")[0]
    return (line[2:].split(None, 1) if line.startswith("#!") else []) or ["/bin/sh"]
