"""Translates Cloud Kotta's job description into our own task format.

In Kotta a job started in a folder that held its inputs and its script, and left its outputs there.
Here that folder is ``/outputs``: a fixed shell script links the inputs into it, writes the job's
script, runs the program, and removes links and script again. It gets all values of the description
as positional arguments. URLs that Kotta's own service would have fetched are refused, with a remedy.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from compute_to_data.documents import interpolation
from compute_to_data.documents import schema_words as words
from compute_to_data.documents.given_beside import GivenBeside
from compute_to_data.documents.json_text import check_values
from compute_to_data.documents.schema import Problem, first, problems, summary
from compute_to_data.errors import InvalidRequest
from compute_to_data.model import name_of
from compute_to_data.task import STDERR_NAME, STDOUT_NAME

_SCRIPT_NAME = "script.sh"
_LONGEST_WORD = 128 * 1024 - 1
"""In bytes: Linux's MAX_ARG_STRLEN without the final NUL."""
_MOST_ARGUMENTS = 4000
"""Somewhat less than the limit for a command's words, since the first words are ours."""

# Arguments: the inputs' names separated by /, the script's name and text, file names for standard
# output and error ('' for none), then the program and its words. If the program fails, the script copies
# these two files to the streams, whose last line is the task's reason. Waiting and the prefix of variables
# are as in ``pipeline.command_line``.
_RUN = r"""
c2d_inputs=$1 c2d_name=$2 c2d_script=$3 c2d_stdout=$4 c2d_stderr=$5
shift 5
cd /outputs || exit 126
set -f
IFS=/
for c2d_input in $c2d_inputs; do ln -s "/inputs/$c2d_input" "./$c2d_input" || exit 126; done
if [ -n "$c2d_name" ]; then
  printf %s "$c2d_script" > "./$c2d_name" && chmod 700 "./$c2d_name" || exit 126
fi
(
  if [ -n "$c2d_stdout" ]; then exec > "./$c2d_stdout"; fi
  if [ -n "$c2d_stderr" ]; then exec 2> "./$c2d_stderr"; fi
  unset IFS
  exec "$@"
) &
c2d_child=$!
trap 'c2d_signal=1; kill -TERM "$c2d_child" 2>/dev/null' TERM
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
fi
exit "$c2d_status"
"""


def translate(document: Any, beside: GivenBeside, roles: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The same task in our own format, for :func:`compute_to_data.documents.request.parse`.

    The format names neither an image nor a collection for results, so both come from ``beside``.
    The image may also come from the ``image`` setting of the role that ``queue`` names (``roles``:
    the site's roles with their settings). A resource in ``beside`` overrides a ``queue`` that is
    not a role. InvalidRequest lists everything that has to change.
    """
    check_values(document, "document")
    found = problems(document, "kotta_format")
    if not found:
        document = {name: value for name, value in document.items() if value not in ("", [])}
        role, there = _place(document.get("queue", ""), beside.resource, roles)
        image = beside.image or str(roles.get(role, {}).get("image", ""))
        found = first(_refusals(document, role or there, beside.output_collection, image))
    if found:
        raise InvalidRequest(*summary(found))
    where = {"role": role, "resource": there, "name": document.get("jobname", "")}
    return {
        **{name: value for name, value in where.items() if value},
        "inputs": [{"object": _logical_path(item)} for item in _items(document, "inputs")],
        "output_collection": beside.output_collection,
        "process": {"image": image, "commands": [_command(document)]},
        "expected_outputs": list(dict.fromkeys((*_named_outputs(document), *filter(None, _streams(document))))),
        **({"limits": {"walltime_seconds": float(document["walltime"]) * 60}} if "walltime" in document else {}),
        **({"metadata": [{"attribute": "jobtype", "value": document["jobtype"]}]} if "jobtype" in document else {}),
    }


def _place(queue: str, resource: str, roles: Mapping[str, Any]) -> tuple[str, str]:
    """Role and resource. A queue is a role if the site has a role of that name."""
    return (queue, resource) if queue in roles else ("", resource or queue)


def _items(document: Mapping[str, Any], name: str) -> list[str]:
    """The members of a list, or of a string with commas between them."""
    value = document.get(name, [])
    return [item.strip() for item in value.split(",")] if isinstance(value, str) else list(value)


def _logical_path(item: str) -> str:
    """The path that an input names, plain or after ``irods:``; '' when it names none."""
    if _scheme(item) != "irods":
        return item
    rest = item.partition(":")[2]
    rest = rest[2:] if rest.startswith("///") else rest
    if rest.startswith("//") or "?" in rest or "#" in rest:
        return ""
    from urllib.parse import unquote_to_bytes  # here: slow to import, and rarely needed

    try:
        return unquote_to_bytes(rest).decode()
    except UnicodeDecodeError:
        return ""


def _scheme(item: str) -> str:
    """``http`` for ``http://...``; '' for any logical path."""
    scheme, colon, _ = item.partition(":")
    return scheme.lower() if colon and not item.startswith("/") else ""


def _streams(document: Mapping[str, Any]) -> tuple[str, str]:
    """The files that standard output and error go to; '' for a stream that is kept as usual."""
    out, err = document.get("output_file_stdout", STDOUT_NAME), document.get("output_file_stderr", STDERR_NAME)
    return "" if out == STDOUT_NAME else out, "" if err == STDERR_NAME else err


def _named_outputs(document: Mapping[str, Any]) -> list[str]:
    """The outputs, without the usual names of the streams, which every task keeps anyway."""
    return [name for name in _items(document, "outputs") if name not in (STDOUT_NAME, STDERR_NAME)]


def _command(document: Mapping[str, Any]) -> list[str]:
    given = [_joined_inputs(document), _script_name(document), document.get("script", ""), *_streams(document)]
    return ["/bin/sh", "-c", *map(interpolation.escaped, (_RUN, "sh", *given, *_program(document)))]


def _joined_inputs(document: Mapping[str, Any]) -> str:
    return "/".join(name_of(_logical_path(item)) for item in _items(document, "inputs"))


def _script_name(document: Mapping[str, Any]) -> str:
    return str(document.get("script_name", _SCRIPT_NAME)) if "script" in document else ""


def _program(document: Mapping[str, Any]) -> list[str]:
    """The program and its words.

    A script that the words do not name becomes the first argument. When the script is the program,
    the interpreter of its ``#!`` line runs it, else ``/bin/sh``.
    """
    executable, arguments = document.get("executable", ""), _arguments(document)
    name = _script_name(document)
    if not name:
        return [executable, *arguments]
    if executable in ("", name, f"./{name}"):
        return [*_interpreter(document["script"]), f"./{name}", *arguments]
    named = not {name, f"./{name}"}.isdisjoint(arguments)
    return [executable, *arguments] if named else [executable, f"./{name}", *arguments]


def _arguments(document: Mapping[str, Any]) -> list[str]:
    value = document.get("args", [])
    return shlex.split(value) if isinstance(value, str) else list(value)


def _interpreter(script: str) -> list[str]:
    line = script.partition("\n")[0]
    return (line[2:].split(None, 1) if line.startswith("#!") else []) or ["/bin/sh"]


def _refusals(document: Mapping[str, Any], place: str, output_collection: str, image: str) -> Iterator[Problem]:
    if not place:
        yield Problem("/queue", "nothing", "a role or a resource, here or beside the document")
    if not image:
        yield Problem("image", "none", "one beside the document, or in the role's settings: this format names none")
    if not output_collection:
        expected = "a logical path beside the document: this format names none"
        yield Problem("output collection", "none", expected)
    yield from _unrunnable(document)
    for index, item in enumerate(_items(document, "inputs")):
        yield from _refused_input(f"/inputs/{index}", item)
    yield from _refused_outputs(document)
    yield from _twice(document)


def _unrunnable(document: Mapping[str, Any]) -> Iterator[Problem]:
    if "executable" not in document and "script" not in document:
        yield Problem("/executable", "nothing", 'a program, or a "script"')
    for name, text in (("script", document.get("script", "")), ("inputs", _joined_inputs(document))):
        length = len(interpolation.escaped(text).encode())
        if length > _LONGEST_WORD:
            yield Problem(f"/{name}", f"{length} bytes", f"at most {_LONGEST_WORD} bytes, Linux's limit")
    try:
        if len(_arguments(document)) > _MOST_ARGUMENTS:
            yield Problem("/args", f"{len(_arguments(document))} arguments", f"at most {_MOST_ARGUMENTS}")
    except ValueError:
        yield Problem("/args", words.shown(document["args"]), "a text whose quotes are closed, or a list of arguments")


def _refused_input(pointer: str, item: str) -> Iterator[Problem]:
    if _scheme(item) not in ("", "irods"):
        expected = "a logical path: this product fetches no URLs, so upload it first (iput) and name it here"
        yield Problem(pointer, words.quoted(item), expected)
    elif _wrong("inputs", _logical_path(item)):
        expected = "a logical path such as /tempZone/home/alice/a, or irods:///tempZone/home/alice/a"
        yield Problem(pointer, words.quoted(item), expected)


def _wrong(name: str, item: str) -> list[Problem]:
    """The problems that our own format has with one member of its list ``name``."""
    entry: Any = {"object": item} if name == "inputs" else item
    return problems({name: [entry], "output_collection": "/a", "role": "a"}, "task")


def _refused_outputs(document: Mapping[str, Any]) -> Iterator[Problem]:
    for index, name in enumerate(_named_outputs(document)):
        for problem in _wrong("expected_outputs", name):
            yield Problem(f"/outputs/{index}", words.quoted(name), problem.expected)


def _twice(document: Mapping[str, Any]) -> Iterator[Problem]:
    """Names used twice: inputs, script and streams share one folder, and the script is removed from it."""
    out, err = _streams(document)
    taken = {name_of(_logical_path(item)) for item in _items(document, "inputs")}
    for name, value in (
        ("script_name", _script_name(document)),
        ("output_file_stdout", out),
        ("output_file_stderr", err),
    ):
        if value and value in taken:
            yield Problem(f"/{name}", words.quoted(value), "a name that no other file of the job has")
        taken |= {value}
    if _script_name(document) in _named_outputs(document):
        yield Problem("/outputs", words.quoted(_script_name(document)), "outputs only: the script is not an output")
