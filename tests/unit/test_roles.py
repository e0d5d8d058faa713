"""Hooks return data, so they are asked without a zone or an engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compute_to_data.documents import request
from compute_to_data.errors import ConfigurationError, InvalidRequest
from compute_to_data.roles.container import Container
from compute_to_data.roles.notebook import NotebookRole
from compute_to_data.roles.signal_processing import SignalProcessing
from compute_to_data.task import Task

STREAMS = {
    "input_adapter": {"input_type": "file", "input_parameters": {"file_type": "stream", "stream_name": "STDIN"}},
    "output_adapter": {"output_type": "file", "output_parameters": {"file_type": "stream", "stream_name": "STDOUT"}},
}
SUPPLIED = {"INPUT_FILE_BASENAME": "x", "IRODS_UID": "998", "IRODS_GID": "997", "TASK_ID": "t"}


def task(**more: Any) -> Task:
    return request.parse({"resource": "r", "inputs": ["/z/a/x"], "output_collection": "/z/out", **more})


def process(*argv: str, **more: Any) -> dict[str, Any]:
    return {"image": "i", "exec": argv[0], "argv": list(argv[1:]), **more}


def test_a_container_runs_its_process() -> None:
    asked = task(process=process("tr", "-d", "x", environment={"A": "%(TASK_ID)s"}, **STREAMS))
    role = Container("CONTAINER", {})
    program = role.program(asked, ("/inputs/x",), SUPPLIED)
    assert program.commands == (("tr", "-d", "x"),)
    (step,) = program.steps
    assert (step.stdin, step.stdout) == ("/inputs/x", "/outputs/x")
    assert step.environment == {**SUPPLIED, "A": "t"}
    assert role.expected_outputs(asked, ("/inputs/x",)) == ("x",)


def test_a_container_without_a_process_is_an_invalid_request() -> None:
    with pytest.raises(InvalidRequest, match="/process"):
        Container("CONTAINER", {}).program(task(), ("/inputs/x",), SUPPLIED)


def test_an_adapter_connects_exactly_one_input() -> None:
    asked = task(process=process("tr", **STREAMS))
    with pytest.raises(InvalidRequest, match="found 2"):
        Container("CONTAINER", {}).program(asked, ("/inputs/x", "/inputs/y"), SUPPLIED)


def _parameters(role: NotebookRole, asked: Task) -> dict[str, Any]:
    ((*_, runner, name, flag, written, report_flag, report),) = role.program(asked, ("/inputs/x",), {}).commands
    assert (runner, flag, report_flag) == ("run-notebook", "--parameters", "--report")
    found: dict[str, Any] = json.loads(written)
    return {"notebook": name, "report": report, **found}


def test_a_signal_is_filtered_whole_by_default() -> None:
    role = SignalProcessing("SIGNAL_PROCESSING", {"image": "i", "notebook": "lpfilter.ipynb"})
    assert _parameters(role, task()) == {
        "notebook": "lpfilter.ipynb",
        "report": "/outputs/lpfilter.html",
        "input_file": "/inputs/x",
        "output_file": "/outputs/lowpass_filtered_x",
        "whole_signal": True,
    }
    assert role.expected_outputs(task(), ("/inputs/x",)) == ("lowpass_filtered_x", "lpfilter.html")


def test_a_tasks_parameters_stand_above_the_roles() -> None:
    role = SignalProcessing("SIGNAL_PROCESSING", {"image": "i", "notebook": "lpfilter.ipynb"})
    asked = task(notebook={"parameters": {"whole_signal": False, "cutoff_frequency_index": 2}, "report": "r.html"})
    found = _parameters(role, asked)
    assert (found["whole_signal"], found["cutoff_frequency_index"]) == (False, 2)
    assert role.expected_outputs(asked, ("/inputs/x",)) == ("lowpass_filtered_x", "r.html")


OTHERS = [{"name": "other.ipynb"}, {"data_object": "/z/home/other.ipynb"}]


@pytest.mark.parametrize("other", OTHERS)
def test_another_notebook_gets_no_parameters_and_leaves_no_outputs_of_the_roles_own(other: dict[str, Any]) -> None:
    role = SignalProcessing("SIGNAL_PROCESSING", {"image": "i", "notebook": "lpfilter.ipynb", "report": "own.html"})
    asked = task(notebook={**other, "parameters": {"msg": "x"}})
    inputs = ("/inputs/x", "/inputs/y", "/notebook/other.ipynb")
    (command,) = role.program(asked, inputs, {}).commands
    assert command[2:6] == ("--parameters", '{"msg": "x"}', "--report", "/outputs/other.html")
    executed = ("other.ipynb",) if "data_object" in other else ()
    assert role.expected_outputs(asked, inputs) == ("other.html", *executed)


def test_the_roles_own_notebook_of_another_image_gets_its_parameters() -> None:
    role = SignalProcessing("SIGNAL_PROCESSING", {})
    assert _parameters(role, task(notebook={"image": "mine"}))["output_file"] == "/outputs/lowpass_filtered_x"


def test_a_signal_is_one_input() -> None:
    role = SignalProcessing("SIGNAL_PROCESSING", {"image": "i", "notebook": "n.ipynb"})
    with pytest.raises(InvalidRequest, match="found 0"):
        role.program(task(inputs=[]), (), {})


def test_a_role_for_signals_runs_a_process_too() -> None:
    role = SignalProcessing("SIGNAL_PROCESSING", {})
    assert role.program(task(process=process("true")), ("/inputs/x",), SUPPLIED).commands == (("true",),)
    assert role.expected_outputs(task(process=process("true")), ("/inputs/x",)) == ()


def test_a_notebook_nobody_names_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="notebook"):
        NotebookRole("NOTEBOOK", {"image": "i"}).program(task(), ("/inputs/x",), {})
