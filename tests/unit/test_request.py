"""Requests: all properties are parsed, and contradictions are refused when the task is submitted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_to_data.documents import interpolation, request
from compute_to_data.documents.interpolation import SUPPLIED_VARIABLES
from compute_to_data.errors import InvalidRequest
from compute_to_data.model import Avu
from compute_to_data.task import (
    LEAST_MEMORY_BYTES,
    RESERVED_NAMES,
    Channel,
    ChannelKind,
    FileAdapter,
    InputKind,
    InputReference,
    Notebook,
    ProcessDefinition,
    Put,
    RequestedLimits,
    StoredDefinition,
    Stream,
    Task,
)

EXAMPLES = sorted((Path(__file__).parents[1] / "data" / "tasks").glob("*.json"))
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "task-format.md"
OTHER_FORMATS = DOCUMENTATION.with_name("other-formats.md")

STDIN = {"input_type": "file", "input_parameters": {"file_type": "stream", "stream_name": "STDIN"}}
STDOUT = {"output_type": "file", "output_parameters": {"file_type": "stream", "stream_name": "STDOUT"}}
BY_NAME_IN = {"input_type": "file", "input_parameters": {"file_path": "${input_file}"}}
BY_NAME_OUT = {"output_type": "file", "output_parameters": {"file_path": "${output_file}"}}


def task(**changes: Any) -> dict[str, Any]:
    document = {"resource": "dsp_resc", "inputs": ["/tempZone/home/alice/a.txt"], "output_collection": "/tempZone/out"}
    return {**document, **changes}


def process(**changes: Any) -> dict[str, Any]:
    return {"image": "debian:bookworm", "exec": "tr", **changes}


def refusal(document: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        request.parse(document)
    return caught.value


def process_refusal(**changes: Any) -> str:
    return str(refusal(task(process=process(**changes))))


# What is understood


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_survives_a_round_trip(path: Path) -> None:
    understood = request.parse(json.loads(path.read_text()))
    document = request.document(understood)
    assert request.parse(json.loads(json.dumps(document))) == understood
    assert request.document(request.parse(document)) == document


def test_a_task_with_stream_adapters_is_parsed() -> None:
    (path,) = [path for path in EXAMPLES if path.stem == "stream"]
    assert request.parse(json.loads(path.read_text())) == Task(
        name="",
        role="",
        resource="dsp_resc",
        inputs=(InputReference(InputKind.OBJECT, "/tempZone/home/alice/a.txt"),),
        output_collection="/tempZone/home/alice/out",
        process=ProcessDefinition(
            image="debian:bookworm",
            commands=(("/usr/bin/tr", "-d", "x"),),
            input_adapter=FileAdapter(Stream.STDIN),
            output_adapter=FileAdapter(Stream.STDOUT),
        ),
    )


def test_all_other_properties_are_parsed() -> None:
    (path,) = [path for path in EXAMPLES if path.stem == "file_path"]
    understood = request.parse(json.loads(path.read_text()))
    assert understood.name == "quieter"
    assert understood.inputs == (InputReference(InputKind.NEXT_OF, "/tempZone/home/alice/recordings"),)
    assert understood.limits == RequestedLimits(900.0, 1073741824, 0.5, 64, 104857600)
    assert understood.metadata == (Avu("instrument", "hydrophone 3"), Avu("sampling rate", "48000", "Hz"))
    assert understood.process is not None
    assert understood.process.timeout_seconds == 600.0
    assert understood.process.working_directory == "/tmp"
    assert understood.process.input_adapter == FileAdapter(None)
    assert understood.process.output_adapter == FileAdapter(None, "sound.mp3")


def test_indices_are_counted_from_0_and_from_the_end() -> None:
    document = process(commands=[["a"], ["b"], ["c"]], allowable_command_indices_for_nonzero_exit_code=[0, -1])
    del document["exec"]
    assert request.parse_process(document).allowed_nonzero == {0, 2}


def test_numbers_get_the_types_of_their_fields() -> None:
    limits = request.parse(task(limits={"walltime_seconds": 10, "memory_bytes": 8388608.0})).limits
    assert (type(limits.walltime_seconds), type(limits.memory_bytes)) == (float, int)


def test_a_recorded_document_is_parsed_again() -> None:
    assert request.parse(task(version=1)) == request.parse(task())
    assert refusal(task(version=2)).subject == "/version"


# Round trip

components = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=12)
paths = (
    st.lists(components.filter(lambda part: part not in (".", "..")), min_size=1, max_size=4)
    .map(lambda parts: "/" + "/".join(parts))
    .filter(lambda path: "++++" not in path)
)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
plain_words = texts.map(interpolation.escaped)
environments = st.dictionaries(
    names.filter(lambda name: name not in SUPPLIED_VARIABLES),
    st.tuples(texts.map(lambda text: text.replace("%", "")), st.sampled_from(["", "%(TASK_ID)s", "%%(NO)s", "%"])).map(
        "".join
    ),
    max_size=3,
)
positive = st.floats(0.001, 1e6)
counts = st.integers(1, 10**12)
memory = st.integers(LEAST_MEMORY_BYTES, 10**12)
parameter_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda part: st.lists(part, max_size=3),
    max_leaves=5,
)
images = st.from_regex(r"[a-z0-9][a-z0-9./:@_-]{0,20}", fullmatch=True)
file_names = components.filter(lambda name: name not in (".", "..") and name not in RESERVED_NAMES).filter(
    lambda name: len(name.encode()) < 200 and "++++" not in name and not name.startswith("-")
)


@st.composite
def processes(draw: st.DrawFn) -> ProcessDefinition:
    commands = draw(
        st.lists(st.lists(plain_words, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3).map(tuple)
    )
    of_one = ["", "name", "stream", "pipe", "fixed", "port"]
    reads = draw(st.sampled_from(of_one if len(commands) == 1 else ["", "name"]))
    writes = draw(st.sampled_from(of_one if len(commands) == 1 else ["", "name"]))
    named = ("name", "pipe")
    extra = (("${input_file}",) if reads in named else ()) + (("--to=${output_file}",) if writes in named else ())
    given = draw(st.sets(st.sampled_from(["level", "_x"])))
    commands = ((*commands[0], *extra, *(f"${{{one}}}" for one in sorted(given))), *commands[1:])
    name = draw(st.just("") | file_names)
    size = draw(st.integers(1, 16 * 1024 * 1024))
    return ProcessDefinition(
        image=draw(images),
        commands=commands,
        allowed_nonzero=draw(st.frozensets(st.integers(0, len(commands) - 1))),
        working_directory=draw(st.sampled_from(["", "/", "/work dir"])),
        environment={name: value for name, value in draw(environments).items() if name not in given},
        parameters={"properties": {one: {"type": "string"} for one in given}} if given else {},
        timeout_seconds=draw(st.none() | positive),
        input_adapter={
            "": None,
            "name": FileAdapter(None),
            "stream": FileAdapter(Stream.STDIN),
            "pipe": Channel(ChannelKind.PIPE),
            "fixed": Channel(ChannelKind.APPEND, path="/tmp/in"),
            "port": Channel(ChannelKind.TCP, port=9000, chunk_bytes=size),
        }[reads],
        output_adapter={
            "": None,
            "name": FileAdapter(None, name),
            "stream": FileAdapter(Stream.STDOUT, name),
            "pipe": Channel(ChannelKind.PIPE, name),
            "fixed": Channel(ChannelKind.APPEND, name, "/tmp/out"),
            "port": Channel(ChannelKind.TCP, name, port=9001),
        }[writes],
    )


notebooks = st.builds(
    Notebook,
    name=st.just("") | file_names,
    image=st.just("") | images,
    parameters=st.dictionaries(names, parameter_values, max_size=3),
    report=st.just("") | file_names,
)


def _may_be_expected(name: str) -> bool:
    parts = name.split("/")
    return "++++" not in name and parts[0] not in RESERVED_NAMES and not any(one.startswith("-") for one in parts)


places = st.just("") | paths.map(lambda path: f"/inputs{path}")
task_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True)
expected_names = paths.map(lambda path: path[1:]).filter(_may_be_expected)


secret_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,63}", fullmatch=True)
definitions = st.builds(StoredDefinition, st.just("tr"), paths, st.just(f"sha2:{'a' * 43}="))
PLAIN = [one for one in InputKind if one not in (InputKind.TASK, InputKind.URL)]
urls = st.builds(
    InputReference,
    st.just(InputKind.URL),
    st.sampled_from(["https://data.example.org/a.csv", "https://data.example.org:8443/?id=1", "s3://bucket/a b?c"]),
    expected_names.filter(lambda name: len(name) < 200 and name.isprintable()).map(lambda name: f"/inputs/{name}"),
    sha256=st.sampled_from(["", "0" * 64]),
    secret=st.just("") | names,
)


puts = st.builds(
    Put,
    expected_names.filter(lambda name: len(name) < 200),
    st.sampled_from(["https://data.example.org/a/", "s3://bucket/a b?c"]),
    st.just("") | names,
)


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    runs = draw(st.none() | processes())
    one = runs is not None and runs.input_adapter is not None
    kinds = [InputKind.OBJECT, InputKind.NEXT_OF] if one else PLAIN
    references = st.one_of(st.builds(InputReference, st.sampled_from(kinds), paths, places), urls)
    inputs = st.lists(references, min_size=int(one), max_size=1 if one else 3)
    avus = st.builds(Avu, texts.filter(lambda a: a and not a.startswith("irods::")), texts.filter(bool), texts)
    return Task(
        name=draw(st.just("") | file_names),
        role=draw(st.sampled_from(["", "SIGNAL_PROCESSING"])),
        resource="dsp_resc",
        inputs=tuple(draw(inputs)),
        output_collection=draw(paths),
        process=runs,
        notebook=draw(st.none() | notebooks) if runs is None else None,
        limits=draw(
            st.builds(
                RequestedLimits, *(st.none() | one for one in (positive, memory, positive, counts, counts, counts))
            )
        ),
        expected_outputs=tuple(draw(st.lists(expected_names, max_size=3))),
        metadata=tuple(draw(st.lists(avus, max_size=3, unique=True))),
        after=tuple(draw(st.lists(st.one_of(task_ids, paths), unique=True, max_size=3))),
        put=tuple(draw(st.lists(puts, unique_by=lambda one: one.url, max_size=2))),
        secrets=tuple(draw(st.lists(secret_names, unique=True, max_size=32))),
        parameters={name: draw(parameter_values) for name in (runs.parameters.get("properties", {}) if runs else {})},
        definition=draw(st.none() | definitions) if runs else None,
    )


@given(tasks())
def test_every_task_survives_a_round_trip(expected: Task) -> None:
    assert request.parse(json.loads(json.dumps(request.document(expected)))) == expected


# What is refused


@pytest.mark.parametrize(
    "logical_path",
    [
        "", "/", "a", "a/b", "/a/", "//a", "/a//b", "/.", "/..", "/a/.", "/a/../b", "/a/./b", "/..\n", "/a\n", "/a\tb",
        "/a\0b", "/a\x7f", "/a\x9b", "/a++++forceFlag=", "/" + "a" * 1087, "/" + "é" * 544,
    ],
)  # fmt: skip
def test_an_invalid_logical_path_is_refused_in_every_property(logical_path: str) -> None:
    assert refusal(task(output_collection=logical_path)).subject == "/output_collection"
    assert refusal(task(inputs=[logical_path])).subject == "/inputs/0"
    for kind in PLAIN:
        assert refusal(task(inputs=[{kind.value: logical_path}])).subject.startswith("/inputs/0")


@pytest.mark.parametrize(
    "logical_path", ["/a", "/a/...", "/a/.b", "/a/b..", "/a b/c'd", "/+++", "/" + "a" * 1086, "/é/💧"]
)
def test_a_valid_logical_path_is_accepted(logical_path: str) -> None:
    assert request.parse(task(output_collection=logical_path)).output_collection == logical_path


@pytest.mark.parametrize("attribute", ["irods::compute_to_data::state", "irods::x", "", "a\0"])
def test_attributes_of_the_system_and_empty_ones_are_refused(attribute: str) -> None:
    assert refusal(task(metadata=[{"attribute": attribute, "value": "v"}])).subject == "/metadata/0/attribute"


def test_a_repeated_avu_is_refused() -> None:
    avu = {"attribute": "a", "value": "b"}
    said = str(refusal(task(metadata=[avu, {**avu, "units": ""}])))
    assert said == '/metadata/1: found "a", expected each AVU once.'


@pytest.mark.parametrize("document", [None, 5, "task", [], {}, {"version": 1}])
def test_a_document_of_another_type_is_refused(document: Any) -> None:
    assert refusal(document)


def test_one_message_lists_all_problems() -> None:
    said = str(refusal(task(limits={"cpus": 0}, inputs=["a"], resource="")))
    for pointer in ("/resource: found", "; /inputs/0: found", "; /limits/cpus: found"):
        assert pointer in said


def test_half_characters_are_refused_in_parsed_documents_too() -> None:
    assert "half a character" in str(refusal(task(output_collection="/\ud800")))


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("${inputfile}", '"${inputfile}"'),
        ("${HOME}", '"${HOME}"'),
        ("${}", '"${}"'),
        ("a${input_file }b", '"${input_file }"'),
        ("${input_file", '"${"'),
        ("${${input_file}}", '"${"'),
        ("$$${${x}", '"${x}"'),
    ],
)
def test_the_error_for_an_unknown_reference_lists_the_known_ones(word: str, found: str) -> None:
    said = process_refusal(argv=["-d", word])
    assert said.startswith(f"/process/argv/1: found {found}, expected ${{input_file}}, ${{output_file}}, or $${{")


@pytest.mark.parametrize("side", ["input", "output"])
def test_a_reference_without_its_adapter_is_refused(side: str) -> None:
    reference = "${" + side + "_file}"
    said = process_refusal(argv=["-i", reference])
    assert said.startswith(f'/process/argv/1: found "{reference}", expected an "{side}_adapter"')
    adapter = {"input": STDIN, "output": STDOUT}[side]
    assert process_refusal(**{"argv": ["-i", reference], f"{side}_adapter": adapter}).startswith("/process/argv/1")


@pytest.mark.parametrize(("side", "adapter"), [("input", BY_NAME_IN), ("output", BY_NAME_OUT)])
def test_an_adapter_that_argv_does_not_use_is_refused(side: str, adapter: Any) -> None:
    for argv in ([], ["$${" + side + "_file}"]):
        said = process_refusal(**{"argv": argv, f"{side}_adapter": adapter})
        assert said.startswith(f"/process/{side}_adapter: found an adapter that argv does not use")


def test_a_stream_needs_exactly_one_command() -> None:
    document = {"image": "a", "commands": [["a"], ["b"]], "input_adapter": STDIN, "output_adapter": STDOUT}
    with pytest.raises(InvalidRequest, match=r"found STDIN for 2 commands.*found STDOUT for 2 commands"):
        request.parse_process(document)


@pytest.mark.parametrize(
    "inputs",
    [[], ["/a", "/b"], [{"collection": "/a"}], ["/a", {"next_of": "/b"}]],
    ids=["none", "two", "collection", "mixed"],
)
@pytest.mark.parametrize(
    "changes",
    [
        {"input_adapter": STDIN},
        {"input_adapter": BY_NAME_IN, "argv": ["${input_file}"]},
        {"environment": {"A": "%(INPUT_FILE_BASENAME)s"}},
    ],
    ids=["stdin", "by name", "variable"],
)
def test_an_adapter_or_the_inputs_name_needs_exactly_one_input(changes: Any, inputs: Any) -> None:
    assert refusal(task(inputs=inputs, process=process(**changes))).subject == "/inputs"
    assert request.parse(task(inputs=[{"next_of": "/a"}], process=process(**changes)))


@pytest.mark.parametrize("index", [2, -3, 10**17])
def test_an_index_without_a_command_is_refused(index: int) -> None:
    document = {"image": "a", "commands": [["a"], ["b"]], "allowable_command_indices_for_nonzero_exit_code": [0, index]}
    assert refusal(task(process=document)).subject == "/process/allowable_command_indices_for_nonzero_exit_code/1"


@pytest.mark.parametrize(
    "name", ["/a", "a/b", ".", "..", "", "a\0", "a\n", "a++++b", "-a", "é" * 128, *sorted(RESERVED_NAMES)]
)
def test_an_output_name_outside_outputs_or_of_the_record_is_refused(name: str) -> None:
    adapter = {**STDOUT, "output_parameters": {"file_type": "stream", "stream_name": "STDOUT", "file_name": name}}
    assert refusal(task(process=process(output_adapter=adapter))).subject.endswith("/output_parameters/file_name")


def test_a_notebook_whose_results_could_not_have_its_name_is_refused() -> None:
    document = {name: value for name, value in task().items() if name != "process"}
    assert refusal({**document, "notebook": {"data_object": "/z/-n.ipynb"}}).subject == "/notebook/data_object"


@pytest.mark.parametrize("image", ["", "-v", "a b", "a\n", "a;b", "a" * 257, "$(a)", "../a"])
def test_an_invalid_image_name_is_refused(image: str) -> None:
    assert refusal(task(process=process(image=image))).subject == "/process/image"


@pytest.mark.parametrize("program", ["", "./a", "bin/a", "a\0"])
def test_a_program_is_an_absolute_path_or_a_name(program: str) -> None:
    assert refusal(task(process=process(exec=program))).subject == "/process/exec"


def test_argv_belongs_to_exec_and_indices_to_commands() -> None:
    with pytest.raises(InvalidRequest):
        request.parse_process({"image": "a", "commands": [["a"]], "argv": ["b"]})
    with pytest.raises(InvalidRequest):
        request.parse_process({"image": "a", "exec": "a", "allowable_command_indices_for_nonzero_exit_code": [0]})


@pytest.mark.parametrize("name", ["A-B", "1A", "", "A=B", "A\n", "A\0"])
def test_an_invalid_variable_name_is_refused(name: str) -> None:
    assert refusal(task(process=process(environment={name: "a"}))).subject.startswith("/process/environment/")


@pytest.mark.parametrize("name", SUPPLIED_VARIABLES)
def test_users_cannot_set_supplied_variables(name: str) -> None:
    assert refusal(task(process=process(environment={name: "a"}))).subject == f"/process/environment/{name}"


def test_an_unknown_variable_is_refused_and_the_known_ones_named() -> None:
    said = process_refusal(environment={"A": "%(INPUT_FILE_BASENAM)s", "B": "b"})
    assert said == (
        '/process/environment/A: found "%(INPUT_FILE_BASENAM)s", expected %(NAME)s with NAME INPUT_FILE_BASENAME '
        "(or IRODS_UID, IRODS_GID, TASK_ID, A, B)."
    )


def test_a_variable_that_refers_to_itself_is_refused() -> None:
    said = process_refusal(environment={"PATH": "/opt/bin:%(PATH)s"})
    assert said.startswith('/process/environment/PATH: found "%(PATH)s", expected a value without itself')


def test_an_environment_that_would_grow_too_long_is_refused_before_it_is_built() -> None:
    environment = {"A": "a" * 30_000, "B": "%(A)s" * 6_000}
    assert refusal(task(process=process(environment=environment))).subject == "/process/environment"


def test_variables_of_the_loader_are_accepted_since_they_stay_in_the_sandbox() -> None:
    assert request.parse(task(process=process(environment={"LD_PRELOAD": "/inputs/x.so"})))


@pytest.mark.parametrize("value", [{}, {"a": 1}, [{}], [[{"a": 1}]]])
def test_a_notebook_s_parameters_are_scalars_and_lists(value: Any) -> None:
    assert refusal(task(notebook={"parameters": {"p": value}})).subject.startswith("/notebook/parameters/p")


# Substitution in words


def definition(*words: str) -> ProcessDefinition:
    return ProcessDefinition(image="a", commands=(words,))


def test_paths_replace_references() -> None:
    commands = request.resolve_arguments(
        definition("ffmpeg", "-i", "${input_file}", "--to=${output_file},${output_file}"), "/inputs/a", "/outputs/b"
    )
    assert commands == (("ffmpeg", "-i", "/inputs/a", "--to=/outputs/b,/outputs/b"),)


def test_a_shell_s_own_braces_are_written_with_two_dollars() -> None:
    words = ("sh", "-c", "echo $${HOME} $HOME $$ $(id) ${input_file}")
    assert request.resolve_arguments(definition(*words), "/inputs/a", "/o") == (
        ("sh", "-c", "echo ${HOME} $HOME $$ $(id) /inputs/a"),
    )


@pytest.mark.parametrize("hostile", ["${output_file}", "$${x}", "%(A)s", "\\1", "\\g<0>", "${"])
def test_replaced_text_in_a_word_is_not_scanned_again(hostile: str) -> None:
    assert request.resolve_arguments(definition("${input_file}!"), hostile, "/outputs/b") == ((hostile + "!",),)


def test_resolving_refuses_an_unknown_reference_too() -> None:
    with pytest.raises(InvalidRequest, match=re.escape('found "${other}"')):
        request.resolve_arguments(definition("${other}"), "/inputs/a", "/outputs/b")


@given(st.text("${}input_file", max_size=20) | texts)
def test_an_escaped_word_reaches_the_program_as_it_was(word: str) -> None:
    assert list(interpolation.references(interpolation.escaped(word))) == []
    assert request.resolve_arguments(definition(interpolation.escaped(word)), "IN", "OUT") == ((word,),)


@given(st.lists(st.sampled_from(["${input_file}", "${output_file}", "$", "{", "}", "x"]), max_size=8), texts, texts)
def test_words_without_escapes_are_replaced_like_text(pieces: list[str], given_input: str, output: str) -> None:
    word = "".join(pieces)
    if "$${" in word or re.search(r"\$\{(?!input_file\}|output_file\})", word):
        return
    expected = "".join({"${input_file}": given_input, "${output_file}": output}.get(piece, piece) for piece in pieces)
    assert request.resolve_arguments(definition(word), given_input, output) == ((expected,),)


# Substitution in the environment

SUPPLIED = {"INPUT_FILE_BASENAME": "input.dat", "TASK_ID": "t1"}


def test_variables_get_supplied_values_and_those_of_other_variables() -> None:
    environment = {
        "IN": "/inputs/%(INPUT_FILE_BASENAME)s",
        "BOTH": "%(INPUT_FILE_BASENAME)s.%(TASK_ID)s",
        "PLAIN": "plain",
        "OTHER": "<%(PLAIN)s>",
    }
    assert request.interpolate(environment, SUPPLIED) == {
        "IN": "/inputs/input.dat",
        "BOTH": "input.dat.t1",
        "PLAIN": "plain",
        "OTHER": "<plain>",
    }


@pytest.mark.parametrize(
    "value", ["100%", "%", "%%", "%s", "%(TASK_ID)d", "%(TASK_ID)", "%()s", "%(a b)s", "%(1)s", "%(TASK_ID )s", "%("]
)
def test_every_other_percent_sign_stays(value: str) -> None:
    assert request.interpolate({"A": value}, SUPPLIED) == {"A": value}


def test_a_doubled_percent_sign_escapes_a_reference() -> None:
    assert request.interpolate({"A": "%%(TASK_ID)s %%(NOBODY)s"}, SUPPLIED) == {"A": "%(TASK_ID)s %(NOBODY)s"}


def test_replaced_text_in_a_value_is_not_scanned_again() -> None:
    supplied = {"INPUT_FILE_BASENAME": "%(TASK_ID)s", "TASK_ID": "t1"}
    assert request.interpolate({"A": "%(INPUT_FILE_BASENAME)s"}, supplied) == {"A": "%(TASK_ID)s"}
    assert request.interpolate({"A": "%(B)s", "B": "%(TASK_ID)s"}, supplied) == {"A": "%(TASK_ID)s", "B": "t1"}


def test_a_supplied_variable_overrides_one_of_the_same_name() -> None:
    assert request.interpolate({"A": "%(TASK_ID)s", "TASK_ID": "mine"}, SUPPLIED)["A"] == "t1"


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match=r'^environment variable A: refers to "TASK", expected TASK_ID \(or '):
        request.interpolate({"A": "%(TASK)s"}, SUPPLIED)


@pytest.mark.parametrize(
    ("environment", "basename"),
    [
        ({"A": "%(INPUT_FILE_BASENAME)s" * 1000}, "x" * 300),
        ({"A": "%(INPUT_FILE_BASENAME)s"}, "x" * (interpolation.MAXIMUM_ENVIRONMENT_CHARACTERS + 1)),
        ({f"A{number}": "%(INPUT_FILE_BASENAME)s" * 40 for number in range(100)}, "x" * 100),
        ({"A": "%(TASK_ID)s" + "x" * interpolation.MAXIMUM_ENVIRONMENT_CHARACTERS}, ""),
    ],
)
def test_a_result_above_the_limit_is_refused(environment: dict[str, str], basename: str) -> None:
    with pytest.raises(InvalidRequest, match="makes the environment longer than 262144 characters"):
        request.interpolate(environment, {"INPUT_FILE_BASENAME": basename, "TASK_ID": "t"})


def test_a_result_of_exactly_the_limit_is_accepted() -> None:
    size = interpolation.MAXIMUM_ENVIRONMENT_CHARACTERS - len("AB")
    environment = {"A": "x" * (size - 10), "B": "%(TASK_ID)s12345678"}
    assert len("".join(request.interpolate(environment, SUPPLIED).values())) == size
    with pytest.raises(InvalidRequest):
        request.interpolate({**environment, "B": "%(TASK_ID)s123456789"}, SUPPLIED)


@given(st.lists(st.sampled_from(["%(A)s", "%(TASK_ID)s", "x", "(", ")s", "{", "é"]), max_size=8), texts)
def test_values_without_escapes_are_replaced_like_text(pieces: list[str], a: str) -> None:
    value = "".join(pieces)
    expected = "".join({"%(A)s": a, "%(TASK_ID)s": "t1"}.get(piece, piece) for piece in pieces)
    assert request.interpolate({"V": value, "A": a.replace("%", "")}, {**SUPPLIED, "A": a})["V"] == expected


# Documentation


def test_every_example_in_the_documentation_is_accepted() -> None:
    text = DOCUMENTATION.read_text("utf-8") + OTHER_FORMATS.read_text("utf-8")
    blocks = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    documents = [json.loads(block) for block in blocks]
    whole = [document for document in documents if "output_collection" in document]
    processes = [document for document in documents if "image" in document]
    assert len(whole) >= 3
    assert len(processes) >= 2
    for document in whole:
        request.parse(document)
    for document in processes:
        request.parse_process(document)


def test_every_property_of_a_request_is_documented() -> None:
    schemas = Path(interpolation.__file__).parent / "schemas"
    text = DOCUMENTATION.read_text("utf-8")
    for schema in ("task", "process"):
        for name in property_names(json.loads((schemas / f"{schema}.json").read_text("utf-8"))):
            assert f"`{name}`" in text, name


def property_names(node: Any) -> Iterator[str]:
    """The names that a schema describes; one may be called like a keyword, such as ``properties``."""
    if isinstance(node, dict):
        yield from node.get("properties", {})
        for keyword, part in node.items():
            below = part.values() if keyword in ("properties", "$defs") else [part]
            for one in below:
                yield from property_names(one)
    elif isinstance(node, list):
        for one in node:
            yield from property_names(one)


@pytest.mark.parametrize(
    "place",
    ["/outputs/a", "/tmp/x", "/inputs/y", "relative", "/a\n", "//outputs/a", "/a/../outputs", "/./a", "/a//b",
     "/proc/self/root/outputs/a", "/proc", "/dev/fd/1", "/output/a"],
)  # fmt: skip
def test_an_invalid_working_directory_is_refused(place: str) -> None:
    assert refusal(task(process={"image": "i", "exec": "x", "cwd": place})).subject.startswith("/process/cwd")


@pytest.mark.parametrize("place", ["/", "/outputs", "/tmp", "/usr/share", "/outputs2/a", "/a/..b/.c", "/processes"])
def test_a_valid_working_directory_is_accepted(place: str) -> None:
    found = request.parse(task(process={"image": "i", "exec": "x", "cwd": place}))
    assert found.process is not None
    assert found.process.working_directory == place
