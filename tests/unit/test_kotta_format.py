"""Kotta's job descriptions: translated, or refused with everything that has to change."""

from __future__ import annotations

import copy
import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute_to_data.documents import formats, kotta_format, request
from compute_to_data.documents.given_beside import GivenBeside
from compute_to_data.errors import InvalidRequest
from compute_to_data.model import Avu
from compute_to_data.task import InputKind, InputReference, Put, Task

EXAMPLES = Path(__file__).parents[1] / "data"
ROLES: dict[str, dict[str, Any]] = {"CONTAINER": {}, "TEXT": {"image": "example.org/text:1"}}
GIVEN = {"output_collection": "/tempZone/home/alice/out", "image": "debian:bookworm"}
WORD = 128 * 1024 - 1


def example(name: str, **changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((EXAMPLES / "kotta" / f"{name}.json").read_text("utf-8"))
    return {**document, **changes}


def job(**properties: Any) -> dict[str, Any]:
    return {"queue": "dsp_resc", "executable": "true", **properties}


def understood(document: Any, **given_beside: str) -> Task:
    return request.parse(formats.in_our_own(document, GivenBeside(**{**GIVEN, **given_beside}), ROLES))


def refusal(document: Any, **given_beside: str) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        formats.in_our_own(document, GivenBeside(**{**GIVEN, **given_beside}), ROLES)
    return caught.value


def command(document: Any) -> tuple[str, ...]:
    task = understood(document)
    assert task.process is not None
    (vector,) = request.resolve_arguments(task.process, "/inputs/a", "/outputs/a")
    return vector


def program(document: Any) -> list[str]:
    return list(command(document)[9:])


# Which format a document is in


def test_the_format_of_each_example_is_recognised() -> None:
    for folder, name in (("tasks", "task"), ("training", "training_format"), ("kotta", "kotta_format")):
        for path in (EXAMPLES / folder).glob("*.json"):
            assert formats.format_of(json.loads(path.read_text("utf-8"))).name == name


@pytest.mark.parametrize("document", [None, 5, "script", ["script"], {}, {"inputs": []}, {"unknown": 1}])
def test_a_document_without_distinctive_properties_counts_as_our_own(document: Any) -> None:
    assert formats.format_of(document).name == "task"
    with pytest.raises(InvalidRequest):
        understood(document, image="")


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"container": {}, "jobname": "x"}, ("container", "jobname")),
        ({"resource": "r", "executable": "true"}, ("resource", "executable")),
        ({"external": {}, "process": {}}, ("external", "process")),
        ({"inputs": "/a", "walltime": 1, "output_collection": "/a"}, ("walltime", "output_collection")),
    ],
)
def test_a_document_that_mixes_two_formats_is_refused(document: Any, named: tuple[str, str]) -> None:
    error = refusal(document)
    assert error.subject == "document"
    assert all(f'"{name}"' in error.cause for name in named)


def test_an_image_beside_a_document_overrides_its_own() -> None:
    for folder, name in (("tasks", "stream"), ("tasks", "notebook"), ("training", "accepted")):
        document = json.loads((EXAMPLES / folder / f"{name}.json").read_text("utf-8"))
        task = understood(document, image="other:1", resource="dsp_resc")
        named = task.process or task.notebook
        assert named is not None
        assert named.image == "other:1"


def test_an_image_beside_a_request_that_runs_none_is_refused() -> None:
    assert "other:1" in refusal({"role": "SIGNAL_PROCESSING"}, image="other:1").subject


# What is understood


def test_a_script_with_its_inputs_and_outputs_is_translated() -> None:
    task = understood(example("script"))
    assert (task.name, task.role, task.resource) == ("count words", "", "dsp_resc")
    assert task.inputs == (
        InputReference(InputKind.OBJECT, "/tempZone/home/alice/sea.txt"),
        InputReference(InputKind.OBJECT, "/tempZone/home/alice/a,b"),
    )
    assert task.output_collection == GIVEN["output_collection"]
    assert task.expected_outputs == ("sorted.txt", "words.txt")
    assert task.limits.walltime_seconds == 120
    assert task.metadata == (Avu("jobtype", "script"),)
    assert task.process is not None
    assert task.process.image == "debian:bookworm"
    assert program(example("script")) == ["/bin/sh", "count.sh", "a word", "$HOME"]


def test_a_program_whose_stream_has_a_name_is_translated() -> None:
    task = understood(example("program"))
    assert (task.name, task.role, task.resource) == ("", "CONTAINER", "")
    assert task.expected_outputs == ("count.txt",)
    assert task.limits.walltime_seconds == 30
    assert program(example("program")) == ["wc", "-c", "sea.txt"]


def test_translating_does_not_change_the_document() -> None:
    document = example("script")
    before = copy.deepcopy(document)
    understood(document)
    assert document == before


def test_a_queue_is_a_role_where_the_site_has_one_and_a_resource_elsewhere() -> None:
    where = [
        (understood(job(queue=queue), resource=resource).role, understood(job(queue=queue), resource=resource).resource)
        for queue, resource in (("CONTAINER", ""), ("CONTAINER", "r"), ("dsp_resc", ""), ("dsp_resc", "r"), ("", "r"))
    ]
    assert where == [("CONTAINER", ""), ("CONTAINER", "r"), ("", "dsp_resc"), ("", "r"), ("", "r")]


def test_the_image_comes_from_beside_or_from_the_role() -> None:
    images = []
    for queue, image in (("TEXT", ""), ("TEXT", "mine:1"), ("dsp_resc", "mine:1")):
        process = understood(job(queue=queue), image=image).process
        assert process is not None
        images.append(process.image)
    assert images == ["example.org/text:1", "mine:1", "mine:1"]


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"script": "true"}, ["true", "./script.sh"]),
        ({"script": "true", "script_name": "s", "args": "a b"}, ["true", "./s", "a", "b"]),
        ({"script": "true", "script_name": "s", "args": "-x ./s b"}, ["true", "-x", "./s", "b"]),
        ({"script": "true", "script_name": "s", "executable": "./s", "args": "b"}, ["/bin/sh", "./s", "b"]),
        ({"script": "true", "executable": ""}, ["/bin/sh", "./script.sh"]),
        ({"script": "#!/usr/bin/env python3\n", "executable": ""}, ["/usr/bin/env", "python3", "./script.sh"]),
        ({"script": "#! /bin/sed -n -f\n", "executable": ""}, ["/bin/sed", "-n -f", "./script.sh"]),
        ({"script": "#!\n", "executable": ""}, ["/bin/sh", "./script.sh"]),
        ({"args": "'a b' \"c\" d\\ e"}, ["true", "a b", "c", "d e"]),
        ({"args": ["a b", "", "$(id)"]}, ["true", "a b", "", "$(id)"]),
        ({"args": "${input_file} ; rm -rf / `id`"}, ["true", "${input_file}", ";", "rm", "-rf", "/", "`id`"]),
    ],
)  # fmt: skip
def test_the_program_is_what_the_description_means(properties: dict[str, Any], words: list[str]) -> None:
    assert program(job(**properties)) == words


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"executable": "/bin/bash hello.sh world"}, ["/bin/bash", "hello.sh", "world"]),
        ({"executable": "/bin/echo 'Hello World!'"}, ["/bin/echo", "Hello World!"]),
        ({"executable": "wc -c", "args": "a b"}, ["wc", "-c", "a", "b"]),
        ({"executable": "/bin/echo s", "script": "x", "script_name": "s"}, ["/bin/echo", "s"]),
        ({"executable": "/bin/echo t", "script": "x", "script_name": "s"}, ["/bin/echo", "t"]),
        ({"executable": "./s -v", "script": "x", "script_name": "s", "args": "b"}, ["/bin/sh", "./s", "-v", "b"]),
        ({"executable": "a b | c > d"}, ["/bin/sh", "-c", "a b | c > d"]),
        ({"executable": "cd x&&make"}, ["/bin/sh", "-c", "cd x&&make"]),
        ({"executable": "grep 'a|b' \"c;d\""}, ["grep", "a|b", "c;d"]),
        ({"executable": "echo $HOME *"}, ["echo", "$HOME", "*"]),
    ],
)  # fmt: skip
def test_an_executable_may_be_a_whole_command_line(properties: dict[str, Any], words: list[str]) -> None:
    assert program(job(**properties)) == words


def test_a_script_with_the_line_ends_of_windows_gets_those_of_unix() -> None:
    assert command(job(script="#!/bin/bash\r\necho a\r\n"))[6] == "#!/bin/bash\necho a\n"
    assert program(job(executable="", script="#!/bin/bash\r\n")) == ["/bin/bash", "./script.sh"]


SERVICE = {
    "user_email": "someone@example.org", "username": "someone", "job_id": "7", "status": "pending",
    "submit_time": 1457719200, "submit_stamp": "2016-03-11 18:00:00", "i_token": "very secret",
    "i_user_role": "r", "z_stagein_dur": 0.1, "description": "d", "access_token": "also secret",
}  # fmt: skip


def test_what_only_kottas_service_used_is_accepted_and_named() -> None:
    document = job(**SERVICE)
    assert understood(document) == understood(job())
    (note,) = formats.format_of(document).notes(document)
    assert all(name in note for name in SERVICE)
    assert "secret" not in note
    assert formats.format_of(job()).notes(job()) == ()


def test_outputs_of_kottas_service_may_be_missing_and_are_named() -> None:
    document = job(outputs="a.txt, sub/b.txt", user_email="someone@example.org")
    assert understood(document).expected_outputs == ()
    assert "outputs: the task completes without them" in formats.format_of(document).notes(document)[1]
    assert understood(job(outputs="a.txt, sub/b.txt")).expected_outputs == ("a.txt", "sub/b.txt")


def test_inputs_and_outputs_may_be_objects_with_a_source() -> None:
    inputs = [{"src": "/tempZone/home/alice/sea.txt", "dest": "sea.txt"}]
    document = job(inputs=inputs, outputs=[{"src": "o.txt", "dest": "bucket/o.txt"}])
    task = understood(document)
    assert task.inputs == (InputReference(InputKind.OBJECT, "/tempZone/home/alice/sea.txt"),)
    assert task.expected_outputs == ("o.txt",)
    assert "dest of outputs" in formats.format_of(document).notes(document)[0]


def test_the_worker_fetches_urls_under_the_names_that_the_job_expects() -> None:
    inputs = [
        {"src": "https://example.org/deep/a%20b.txt?x=1", "dest": "sea.txt"},
        {"src": "s3://bucket/deep/c.txt"},
        "/tempZone/home/alice/d.txt",
    ]
    task = understood(job(inputs=inputs))
    assert task.inputs == (
        InputReference(InputKind.URL, "https://example.org/deep/a%20b.txt?x=1", "/inputs/sea.txt"),
        InputReference(InputKind.URL, "s3://bucket/deep/c.txt", "/inputs/c.txt"),
        InputReference(InputKind.OBJECT, "/tempZone/home/alice/d.txt"),
    )
    assert task.process is not None
    assert "sea.txt/c.txt/d.txt" in task.process.commands[0]
    in_a_string = understood(job(inputs="https://example.org/a%20b.txt, s3://bucket/c.txt"))
    assert [one.path for one in in_a_string.inputs] == ["/inputs/a b.txt", "/inputs/c.txt"]


def test_outputs_are_sent_to_the_urls_that_they_name() -> None:
    outputs = [{"src": "o.txt", "dest": "s3://bucket/o.txt"}, {"src": "p.txt", "dest": "kept/p.txt"}, "q.txt"]
    document = job(outputs=outputs)
    task = understood(document)
    assert task.put == (Put("o.txt", "s3://bucket/o.txt"),)
    assert task.expected_outputs == ("o.txt", "p.txt", "q.txt")
    assert len(formats.format_of(document).notes(document)) == 1
    only = job(outputs=outputs[:1])
    assert formats.format_of(only).notes(only) == ()
    assert refusal(job(outputs=[{"src": "o", "dest": "https://a@example.org/o"}])).subject == "/outputs"


# What is refused


@pytest.mark.parametrize(
    ("properties", "pointer"),
    [
        ({"inputs": "https://someone@example.org/a.txt"}, "/inputs/0"),
        ({"inputs": "https://example.org/"}, "/inputs/0"),
        ({"inputs": [{"src": "https://example.org/a", "dest": "sub/a"}]}, "/inputs/0/dest"),
        ({"inputs": ["https://example.org/s"], "script": "x", "script_name": "s"}, "/script_name"),
        ({"inputs": "/tempZone/a,HTTP://example.org/a.txt"}, "/inputs/1"),
        ({"inputs": ["s3://bucket"]}, "/inputs/0"),
        ({"inputs": ["file:///etc/passwd"]}, "/inputs/0"),
        ({"inputs": "irods://other.example.org/tempZone/a"}, "/inputs/0"),
        ({"inputs": "irods:///tempZone/../a"}, "/inputs/0"),
        ({"inputs": "irods:///tempZone/%2e%2e/a"}, "/inputs/0"),
        ({"inputs": "irods:///tempZone/a?x=1"}, "/inputs/0"),
        ({"inputs": "irods:///tempZone/%ff"}, "/inputs/0"),
        ({"inputs": "a.txt"}, "/inputs/0"),
        ({"inputs": "/tempZone/a,,/tempZone/b"}, "/inputs/1"),
        ({"inputs": [5]}, "/inputs/0"),
        ({"outputs": "../a"}, "/outputs/0"),
        ({"outputs": "a,/etc/passwd"}, "/outputs/1"),
        ({"outputs": "-a"}, "/outputs/0"),
        ({"outputs": "s", "script": "x", "script_name": "s"}, "/outputs"),
        ({"inputs": "/tempZone/s", "script": "x", "script_name": "s"}, "/script_name"),
        ({"inputs": "/tempZone/s", "output_file_stdout": "s"}, "/output_file_stdout"),
        ({"output_file_stderr": "s", "output_file_stdout": "s"}, "/output_file_stderr"),
        ({"output_file_stdout": "../s"}, "/output_file_stdout"),
        ({"script": "x", "script_name": "../s"}, "/script_name"),
        ({"script": "x", "script_name": "-s"}, "/script_name"),
        ({"script": "x" * (WORD + 1)}, "/script"),
        ({"script": "é" * 66_000}, "/script"),
        ({"script": "a\0b"}, "/script"),
        ({"args": "'open"}, "/args"),
        ({"args": "a " * 4001}, "/args"),
        ({"executable": "a | b", "args": "c"}, "/args"),
        ({"executable": "echo 'open"}, "/executable"),
        ({"executable": " "}, "/executable"),
        ({"executable": "", "i_script": "true", "i_script_name": "s"}, "/i_script"),
        ({"inputs": [{"src": "/tempZone/a", "dest": "b"}]}, "/inputs/0/dest"),
        ({"outputs": [{"dest": "b"}]}, "/outputs/0/src"),
        ({"executable": ""}, "/executable"),
        ({"executable": "-c"}, "/executable"),
        ({"walltime": 0}, "/walltime"),
        ({"walltime": "0.0"}, "/walltime"),
        ({"walltime": "ten"}, "/walltime"),
        ({"walltime": -1}, "/walltime"),
        ({"queue": ""}, "/queue"),
        ({"queue": "a b"}, "/queue"),
        ({"jobname": "a\nb"}, "/jobname"),
        ({"jobnam": "a"}, "/jobnam"),
        ({"user": "root"}, "/user"),
        ({"privileged": True}, "/privileged"),
    ],
)  # fmt: skip
def test_problems_have_the_pointer_of_the_wrong_value(properties: dict[str, Any], pointer: str) -> None:
    assert refusal(job(**properties)).subject == pointer


@pytest.mark.parametrize("url", ["http://example.org/a", "ftp://someone:word@example.org/a", "gsiftp://example.org/a"])
def test_a_url_that_no_worker_fetches_is_refused_with_a_remedy(url: str) -> None:
    error = refusal(job(inputs=url))
    assert "upload it first" in error.cause
    assert "word" not in str(error)


def test_image_and_output_collection_must_be_given_beside_the_document() -> None:
    error = refusal(job(), image="", output_collection="")
    assert (error.subject, "output collection" in error.cause) == ("image", True)


# The attack: words that a shell would understand, wherever they may stand

awkward = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\0"), min_size=1, max_size=12)
hostile = st.sampled_from(["'", '"; id #', "$(id)", "`id`", "${x}", "$1", "-e", "*", "a b", "&& id", "é", "%s%n"])
texts = awkward | hostile
file_names = texts.filter(lambda n: "/" not in n and not n.startswith("-") and n not in (".", "..") and "++++" not in n)


@given(st.lists(texts, max_size=4))
def test_arguments_reach_the_program_unchanged(arguments: list[str]) -> None:
    assert program(job(args=arguments)) == ["true", *arguments]
    assert program(job(args=shlex.join(arguments))) == ["true", *arguments]


@settings(max_examples=25)
@given(script=texts, name=file_names, arguments=st.lists(texts, max_size=3), given_input=file_names)
def test_the_shell_does_not_interpret_values_of_the_description(
    script: str, name: str, arguments: list[str], given_input: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Runs the real shell, with a program that prints its arguments and its working directory."""
    if given_input == name:
        return
    place = tmp_path_factory.mktemp("job")
    show = "import os,sys,json; f=sys.argv[1]; print(json.dumps([sys.argv[2:], open(f).read(), sorted(os.listdir())]))"
    inputs = "irods:///z/" + "".join(f"%{byte:02x}" for byte in given_input.encode())
    document = job(executable="python3", args=["-c", show, f"./{name}", *arguments], inputs=inputs, script=script)
    done = run(place, {**document, "script_name": name}, {given_input: b"x"})
    shown, text, listed = json.loads(done.stdout)
    assert shown == arguments
    assert text == script
    assert listed == sorted([name, given_input])
    assert os.listdir(place / "outputs") == []


def run(place: Path, document: Any, inputs: dict[str, bytes]) -> subprocess.CompletedProcess[bytes]:
    """The command as a job would run it, but with /inputs and /outputs below ``place``."""
    process = start(place, document, inputs)
    stdout, stderr = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def start(
    place: Path, document: Any, inputs: dict[str, bytes], change: Callable[[str], str] = str
) -> subprocess.Popen[bytes]:
    """``change``: what to do to the script before it starts."""
    for folder in ("inputs", "outputs"):
        (place / folder).mkdir()
    for name, content in inputs.items():
        (place / "inputs" / name).write_bytes(content)
    shell, flag, text, *words = command(document)
    here = text.replace("/outputs", f"{place}/outputs").replace("/inputs", f"{place}/inputs")
    return subprocess.Popen([shell, flag, change(here), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


# What it does where it runs


def test_inputs_and_script_lie_where_the_program_runs_and_are_gone_afterwards(tmp_path: Path) -> None:
    done = run(tmp_path, example("script"), {"sea.txt": b"the sea the", "a,b": b""})
    assert done.returncode == 0, done.stderr
    left = {path.name: path.read_bytes() for path in (tmp_path / "outputs").iterdir()}
    assert left == {"sorted.txt": b"sea\nthe\nthe\n", "words.txt": b"a word|$HOME|"}
    assert (tmp_path / "inputs" / "sea.txt").read_bytes() == b"the sea the"


def test_a_stream_of_another_name_is_an_output(tmp_path: Path) -> None:
    done = run(tmp_path, example("program"), {"sea.txt": b"12345"})
    assert (done.returncode, done.stdout) == (0, b"")
    assert (tmp_path / "outputs" / "count.txt").read_bytes().split() == [b"5", b"sea.txt"]


def test_streams_of_a_failing_program_are_not_lost(tmp_path: Path) -> None:
    document = job(executable="sh", args=["-c", "echo out; echo err >&2; exit 7"])
    done = run(tmp_path, {**document, "output_file_stdout": "o", "output_file_stderr": "e"}, {})
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_outputs_that_may_be_missing_are_named_at_the_end(tmp_path: Path) -> None:
    document = job(executable="sh", args=["-c", "echo x > 'a b'"], outputs=["a b", "c", "d e"], user_email="x")
    done = run(tmp_path, document, {})
    assert done.returncode == 0
    said = "output c: the program left no such file\noutput d e: the program left no such file\n"
    assert done.stderr.decode() == said


@pytest.mark.parametrize(("executable", "status"), [("c2d-no-such-program", 127), ("/", 126), ("cd", 127)])
def test_a_missing_program_has_the_usual_exit_status(tmp_path: Path, executable: str, status: int) -> None:
    if shutil.which(executable) and executable == "cd":
        pytest.skip("this system has a program of that name")
    assert run(tmp_path, job(executable=executable), {}).returncode == status


@pytest.mark.parametrize("is_slow", [False, True], ids=["as it is", "a shell that is slower than the program"])
def test_sigterm_reaches_the_program(tmp_path: Path, is_slow: bool) -> None:
    ready, go_on = tmp_path / "ready", tmp_path / "go on"
    os.mkfifo(ready)
    os.mkfifo(go_on)

    def slower(script: str) -> str:
        begun = ") &\n"
        assert script.count(begun) == 1
        return script.replace(begun, f"{begun}cat '{go_on}'\n")

    # Not a read that blocks: the shell would never look at a signal that came just before it.
    text = f"trap 'echo ended; exit 5' TERM; echo > {ready}; while :; do sleep 0.05; done"
    process = start(tmp_path, job(executable="sh", args=["-c", text]), {}, slower if is_slow else str)
    ready.read_text()
    process.send_signal(signal.SIGTERM)
    if is_slow:
        go_on.write_text("")
    stdout, _ = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (5, b"ended\n")


def test_translate_itself_refuses_half_characters() -> None:
    with pytest.raises(InvalidRequest):
        kotta_format.translate(job(jobname="\ud800"), GivenBeside(**GIVEN), ROLES)
