"""Translates Cloud Kotta's job description into our own task format.

In Kotta a job started in a folder that held its inputs and its script, and left its outputs there.
Here that folder is ``/outputs``: a fixed shell script links the inputs into it, writes the job's
script, runs the program, and removes links and script again. It gets all values of the description
as positional arguments. The worker fetches from and sends to ``https`` and ``s3`` URLs, as Kotta's own service did, if
the site allows their hosts and buckets. Other URLs are refused, with a remedy.
What only that service needed, such as ``user_email``, is accepted and has no effect (:func:`notes`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compute_to_data.documents import interpolation, kotta_command, kotta_files, url_entries
from compute_to_data.documents import schema_words as words
from compute_to_data.documents.given_beside import GivenBeside
from compute_to_data.documents.json_text import check_values
from compute_to_data.documents.kotta_command import arguments_of, is_for_a_shell, script_name, script_of
from compute_to_data.documents.schema import Problem, first, problems, summary
from compute_to_data.errors import InvalidRequest
from compute_to_data.model import name_of
from compute_to_data.task import LOG_NAMES, STDERR_NAME, STDOUT_NAME
from compute_to_data.urls.address import without_credentials

_LONGEST_WORD = 128 * 1024 - 1
"""In bytes: Linux's MAX_ARG_STRLEN without the final NUL."""
_MOST_ARGUMENTS = 4000
"""Somewhat less than the limit for a command's words, since the first words are ours."""

_SERVICE_PROPERTIES = frozenset(
    {
        "access_token",
        "complete_time",
        "description",
        "job_id",
        "jobdesc",
        "reason",
        "refresh_token",
        "status",
        "submit_stamp",
        "submit_time",
        "usage_stats",
        "user_email",
        "username",
    }
)
"""Properties that Kotta's service kept about a job and its user. They do not say what to run."""
_SERVICE_PREFIXES = ("i_", "z_")
"""Of its own, internal properties: credentials (``i_token``), durations (``z_stagein_dur``)."""
_RUN_BY_SERVICE = ("i_script", "i_script_name")
"""Internal properties that say what to run. Ignoring them would run something else."""


def translate(document: Any, beside: GivenBeside, roles: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The same task in our own format, for :func:`compute_to_data.documents.request.parse`.

    The format names neither an image nor a collection for results, so both come from ``beside``.
    The image may also come from the ``image`` setting of the role that ``queue`` names (``roles``:
    the site's roles with their settings). A resource in ``beside`` overrides a ``queue`` that is
    not a role. InvalidRequest lists everything that has to change.
    """
    check_values(document, "document")
    service = _service_properties(document)
    if service:
        document = {name: value for name, value in document.items() if name not in service}
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
        "inputs": kotta_files.inputs(document),
        "output_collection": beside.output_collection,
        "process": {"image": image, "commands": [_command(document, service)]},
        "expected_outputs": _required_outputs(document, service),
        **({"put": put} if (put := kotta_files.put(document)) else {}),
        **({"limits": {"walltime_seconds": float(document["walltime"]) * 60}} if "walltime" in document else {}),
        **({"metadata": [{"attribute": "jobtype", "value": document["jobtype"]}]} if "jobtype" in document else {}),
    }


def notes(document: Mapping[str, Any]) -> tuple[str, ...]:
    """What has no effect, or less than a person may expect, in a description that :func:`translate` accepted."""
    service = _service_properties(document)
    said = [f"{', '.join(service)}: Kotta's own service used this; it has no effect here"] if service else []
    if service and _named_outputs(document):
        said.append(
            "outputs: the task completes without them, as in Kotta, and STDERR.txt names those that are missing"
        )
    outputs = document.get("outputs", ())
    if any(isinstance(one, Mapping) and one.get("dest") and not kotta_files.is_web(one["dest"]) for one in outputs):
        said.append("dest of outputs: results go to the task's own collection")
    return tuple(said)


def _service_properties(document: Any) -> list[str]:
    """The properties that only Kotta's service used. A description that has some was written for that service."""
    if not isinstance(document, Mapping):
        return []
    prefixed = {name for name in document if name.startswith(_SERVICE_PREFIXES) and name not in _RUN_BY_SERVICE}
    return sorted(_SERVICE_PROPERTIES.intersection(document) | prefixed)


def _place(queue: str, resource: str, roles: Mapping[str, Any]) -> tuple[str, str]:
    """Role and resource. A queue is a role if the site has a role of that name."""
    return (queue, resource) if queue in roles else ("", resource or queue)


def _streams(document: Mapping[str, Any]) -> tuple[str, str]:
    """The files that standard output and error go to; '' for a stream that is kept as usual."""
    out, err = document.get("output_file_stdout", STDOUT_NAME), document.get("output_file_stderr", STDERR_NAME)
    return "" if out == STDOUT_NAME else out, "" if err == STDERR_NAME else err


def _named_outputs(document: Mapping[str, Any]) -> list[str]:
    """The outputs, without the usual names of the streams, which every task keeps anyway."""
    return [name for name in kotta_files.items(document, "outputs") if name not in LOG_NAMES]


def _required_outputs(document: Mapping[str, Any], service: Sequence[str]) -> list[str]:
    """The outputs without which the task fails: in a description for Kotta's service, only the streams' files."""
    named = [] if service else _named_outputs(document)
    return list(dict.fromkeys((*named, *filter(None, _streams(document)))))


def _command(document: Mapping[str, Any], service: Sequence[str]) -> list[str]:
    wanted = _named_outputs(document) if service else []
    return kotta_command.command(document, _joined_inputs(document), _streams(document), wanted)


def _joined_inputs(document: Mapping[str, Any]) -> str:
    return "/".join(kotta_files.input_names(document))


def _refusals(document: Mapping[str, Any], place: str, output_collection: str, image: str) -> Iterator[Problem]:
    if not place:
        yield Problem("/queue", "nothing", "a role or a resource, here or beside the document")
    if not image:
        yield Problem("image", "none", "one beside the document, or in the role's settings: this format names none")
    if not output_collection:
        expected = "a logical path beside the document: this format names none"
        yield Problem("output collection", "none", expected)
    yield from _unrunnable(document)
    for index, (item, name) in enumerate(zip(kotta_files.items(document, "inputs"), kotta_files.input_names(document))):
        yield from _refused_input(f"/inputs/{index}", item, name)
    yield from _renamed_inputs(document)
    yield from _refused_outputs(document)
    yield from _twice(document)


def _unrunnable(document: Mapping[str, Any]) -> Iterator[Problem]:
    if not document.get("executable", "").strip() and "script" not in document:
        yield Problem("/executable", "nothing", 'a program, or a "script"')
    for name, text in (("script", script_of(document)), ("inputs", _joined_inputs(document))):
        length = len(interpolation.escaped(text).encode())
        if length > _LONGEST_WORD:
            yield Problem(f"/{name}", f"{length} bytes", f"at most {_LONGEST_WORD} bytes, Linux's limit")
    yield from _unreadable_words(document)


def _unreadable_words(document: Mapping[str, Any]) -> Iterator[Problem]:
    executable = document.get("executable", "")
    for name in ("executable", "args"):
        try:
            count = len(shlex.split(executable) if name == "executable" else arguments_of(document))
        except ValueError:
            yield Problem(f"/{name}", words.shown(document[name]), "a text whose quotes are closed")
            return
        if count > _MOST_ARGUMENTS:
            yield Problem(f"/{name}", f"{count} words", f"at most {_MOST_ARGUMENTS}")
    if "args" in document and is_for_a_shell(executable):
        expected = "the arguments in the executable, which is a command line for a shell"
        yield Problem("/args", words.shown(document["args"]), expected)


def _refused_input(pointer: str, item: str, name: str) -> Iterator[Problem]:
    if kotta_files.is_web(item):
        yield from url_entries.disagreements(pointer, {"url": item, "name": name})
        if "/" in name:
            yield Problem(f"{pointer}/dest", words.quoted(name), "a name without slashes")
    elif kotta_files.scheme(item) not in ("", "irods"):
        expected = "a logical path, or an https: or s3: URL; else upload it first (iput) and name it here"
        yield Problem(pointer, words.quoted(without_credentials(item)), expected)
    elif _wrong("inputs", kotta_files.logical_path(item)):
        expected = "a logical path such as /tempZone/home/alice/a, or irods:///tempZone/home/alice/a"
        yield Problem(pointer, words.quoted(item), expected)


def _renamed_inputs(document: Mapping[str, Any]) -> Iterator[Problem]:
    for index, item in enumerate(document.get("inputs", ())):
        if (
            isinstance(item, Mapping)
            and not kotta_files.is_web(item["src"])
            and item.get("dest", "") not in ("", name_of(kotta_files.logical_path(item["src"])))
        ):
            expected = "the data object's own name: rename it (imv), or leave this out"
            yield Problem(f"/inputs/{index}/dest", words.quoted(item["dest"]), expected)


def _wrong(name: str, item: str) -> list[Problem]:
    """The problems that our own format has with one member of its list ``name``."""
    entry: Any = {"object": item} if name == "inputs" else item
    return problems({name: [entry], "output_collection": "/a", "role": "a"}, "task")


def _refused_outputs(document: Mapping[str, Any]) -> Iterator[Problem]:
    for index, name in enumerate(_named_outputs(document)):
        for problem in _wrong("expected_outputs", name):
            yield Problem(f"/outputs/{index}", words.quoted(name), problem.expected)
    for problem in url_entries.unusable_targets(kotta_files.put(document)):
        yield Problem("/outputs", problem.found, problem.expected)


def _twice(document: Mapping[str, Any]) -> Iterator[Problem]:
    """Names used twice: inputs, script and streams share one folder, and the script is removed from it."""
    out, err = _streams(document)
    taken = {*kotta_files.input_names(document)}
    for name, value in (
        ("script_name", script_name(document)),
        ("output_file_stdout", out),
        ("output_file_stderr", err),
    ):
        if value and value in taken:
            yield Problem(f"/{name}", words.quoted(value), "a name that no other file of the job has")
        taken |= {value}
    if script_name(document) in _named_outputs(document):
        yield Problem("/outputs", words.quoted(script_name(document)), "outputs only: the script is not an output")
