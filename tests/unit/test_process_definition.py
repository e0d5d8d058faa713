"""Process definitions as registries write them: both spellings, adapters, parameters."""

from __future__ import annotations

from typing import Any

import pytest

from compute_to_data.documents import interpolation, process_definition, request
from compute_to_data.errors import InvalidRequest
from compute_to_data.task import Channel, ChannelKind, FileAdapter, Stream

IMAGE = "debian:bookworm"


def parsed(**changes: Any) -> Any:
    return process_definition.parse_process({"image": IMAGE, "exec": "tr", "argv": ["-d", "x"], **changes})


def refusal(**changes: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        parsed(**changes)
    return str(caught.value)


def adapter(side: str, kind: str = "file", spelling: str = "parameters", **parameters: Any) -> dict[str, Any]:
    return {f"{side}_adapter": {f"{side}_type": kind, f"{side}_{spelling}": parameters}}


def test_the_registrys_own_examples_are_understood() -> None:
    """With either spelling, and with the name of the image as the application."""
    for spelling in ("parameters", "params"):
        tr = process_definition.parse_process(
            {
                "exec": "/usr/bin/tr",
                "application": "debian:bookworm",
                "process_type": "single",
                "timeout": 60,
                "cwd": "/tmp",
                "environment": {"LC_ALL": "C"},
                "argv": ["-d", "x"],
                **adapter("input", spelling=spelling, file_type="stream", stream_name="STDIN"),
                **adapter("output", spelling=spelling, file_type="stream", stream_name="STDOUT"),
            }
        )
        assert (tr.image, tr.commands) == ("debian:bookworm", (("/usr/bin/tr", "-d", "x"),))
        assert (tr.input_adapter, tr.output_adapter) == (FileAdapter(Stream.STDIN), FileAdapter(Stream.STDOUT))
        ffmpeg = process_definition.parse_process(
            {
                "exec": "ffmpeg",
                "application": "ffmpeg:6",
                "args": ["-i", "${input_file}", "-q:a", "2", "${output_file}"],
                **adapter("input", spelling=spelling, file_path="${input_file}"),
                **adapter("output", spelling=spelling, file_path="${output_file}"),
            }
        )
        assert ffmpeg.commands == (("ffmpeg", "-i", "${input_file}", "-q:a", "2", "${output_file}"),)


def test_both_spellings_together_are_refused() -> None:
    stream = {"file_type": "stream", "stream_name": "STDIN"}
    both = {"input_type": "file", "input_parameters": stream, "input_params": stream}
    assert refusal(input_adapter=both).startswith("/input_adapter: ")
    assert refusal(input_adapter={"input_type": "file"}).startswith("/input_adapter: ")
    assert 'both "argv" and "args"' in refusal(args=["a"])


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"tcp_port": 9000}, Channel(ChannelKind.TCP, port=9000)),
        ({"tcp_port": 9000, "chunk_size": "10KB"}, Channel(ChannelKind.TCP, port=9000, chunk_bytes=10240)),
        ({"tcp_port": 9000, "chunk_size": "1 MB"}, Channel(ChannelKind.TCP, port=9000, chunk_bytes=1 << 20)),
        ({"tcp_port": 9000, "chunk_size": 7}, Channel(ChannelKind.TCP, port=9000, chunk_bytes=7)),
        ({"file_type": "pipe", "file_path": "/tmp/in"}, Channel(ChannelKind.PIPE, path="/tmp/in")),
        ({"file_type": "append", "file_path": "/tmp/in"}, Channel(ChannelKind.APPEND, path="/tmp/in")),
    ],
)
def test_each_channel_is_understood_and_written_again(parameters: dict[str, Any], expected: Channel) -> None:
    kind = "tcp" if "tcp_port" in parameters else "file"
    found = parsed(**adapter("input", kind, **parameters))
    assert found.input_adapter == expected
    assert process_definition.parse_process(process_definition.process_document(found)) == found


@pytest.mark.parametrize(
    ("kind", "parameters", "pointer"),
    [
        ("tcp", {"tcp_port": 80}, "/input_adapter/input_parameters/tcp_port"),
        ("tcp", {"tcp_port": 70000}, "/input_adapter/input_parameters/tcp_port"),
        ("tcp", {"tcp_port": 9000, "chunk_size": "99MB"}, "/input_adapter/input_parameters/chunk_size"),
        ("tcp", {"tcp_port": 9000, "chunk_size": "10 apples"}, "/input_adapter/input_parameters/chunk_size"),
        ("tcp", {"tcp_port": 9000, "chunk_size": 0}, "/input_adapter/input_parameters/chunk_size"),
        ("tcp", {"file_type": "stream", "stream_name": "STDIN"}, "/input_adapter/input_parameters"),
        ("file", {"tcp_port": 9000}, "/input_adapter/input_parameters"),
        ("file", {"file_type": "pipe", "file_path": "/etc/passwd"}, "/input_adapter/input_parameters/file_path"),
        ("file", {"file_type": "pipe", "file_path": "/tmp/a/b"}, "/input_adapter/input_parameters/file_path"),
        ("file", {"file_type": "pipe", "file_path": "/tmp/.."}, "/input_adapter/input_parameters/file_path"),
    ],
)
def test_a_wrong_adapter_is_refused_where_it_is_wrong(kind: str, parameters: dict[str, Any], pointer: str) -> None:
    assert refusal(**adapter("input", kind, **parameters)).startswith(f"{pointer}: found ")


def test_a_pipe_cannot_be_input_and_output() -> None:
    both = {
        **adapter("input", file_type="pipe", file_path="/tmp/x"),
        **adapter("output", file_type="append", file_path="/tmp/x"),
    }
    assert refusal(**both).startswith('/output_adapter: found "/tmp/x", where the input is')


def test_a_channel_needs_one_command_and_its_word_in_argv() -> None:
    several = {"image": IMAGE, "commands": [["a"], ["b"]], **adapter("input", "tcp", tcp_port=9000)}
    with pytest.raises(InvalidRequest, match="found a port for 2 commands"):
        process_definition.parse_process(several)
    assert "an adapter that argv does not use" in refusal(
        **adapter("input", file_type="pipe", file_path="${input_file}")
    )


LEVEL = {"properties": {"level": {"type": "integer", "default": 3}, "what": {"type": "string"}}}


def test_values_of_parameters_replace_their_words() -> None:
    process = parsed(argv=["-l${level}", "${what}", "$${level}"], parameters=LEVEL)
    assert interpolation.resolve_arguments(process, "", "", {"what": "${level} $(id) '"}) == (
        ("tr", "-l3", "${level} $(id) '", "${level}"),
    )
    assert interpolation.resolve_arguments(process, "", "", {"what": "a", "level": True})[0][1] == "-ltrue"
    assert interpolation.resolve_arguments(process, "", "", {"what": "a", "level": [1, "x"]})[0][1] == '-l[1, "x"]'


def test_a_parameter_has_an_effect_and_a_name_of_its_own() -> None:
    assert '"${level}"' in refusal(argv=["${what}"], parameters=LEVEL)
    said = refusal(argv=["${what}", "${lvel}"], parameters={"properties": {"what": {}}})
    assert said.startswith('/argv/1: found "${lvel}", expected one of ${what}')
    assert "/parameters/properties/A" in refusal(
        argv=["${A}"], parameters={"properties": {"A": {}}}, environment={"A": "x"}
    )
    for name in ("input_file", "a-b", "1a", ""):
        assert "/parameters/properties" in refusal(argv=["x"], parameters={"properties": {name: {}}})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "/parameters/what: found nothing, expected a value"),
        ({"what": "a", "levle": 1}, '/parameters/levle: found an unknown parameter "levle", expected level'),
        ({"what": "a\0b"}, "/parameters/what: found a text with NUL"),
        ({"what": "a" * 131_072}, "/parameters/what: found a long value"),
    ],
)
def test_wrong_values_are_refused_without_the_library(values: dict[str, Any], said: str) -> None:
    process = {"image": IMAGE, "exec": "tr", "argv": ["${level}", "${what}"], "parameters": LEVEL}
    document = {"resource": "r", "output_collection": "/z/o", "process": process, "parameters": values}
    with pytest.raises(InvalidRequest) as caught:
        request.parse(document)
    assert str(caught.value).startswith(said)


def test_values_without_parameters_are_refused() -> None:
    base = {"resource": "r", "output_collection": "/z/o", "parameters": {"a": 1}}
    for more, expected in (({}, "a process that has parameters"), ({"notebook": {}}, '"parameters" of the notebook')):
        with pytest.raises(InvalidRequest, match=expected):
            request.parse({**base, **more})


def test_a_service_runs_for_a_workload_only() -> None:
    process = {"image": IMAGE, "exec": "tr", "process_type": "service"}
    document = {"resource": "r", "output_collection": "/z/o", "process": process}
    with pytest.raises(InvalidRequest, match="/process/process_type"):
        request.parse(document)
    assert request.parse({**document, "workload": "/z/o"}).process is not None
