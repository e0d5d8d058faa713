"""The doctor as an administrator's first stop: the lines on the page are lines of the doctor; its exit status."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.site import TrialSite

from compute_to_data.doctor import __main__ as doctor
from compute_to_data.doctor import workers
from compute_to_data.doctor.findings import Finding, ok, problem
from compute_to_data.doctor.report import report

from .conftest import CHECKOUT

PAGE = CHECKOUT / "docs/administrators.md"
LINES = re.findall(r"^ok       (.+)\.$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def _pattern(node: ast.expr, known: dict[str, str]) -> str:
    """What a text in the code can be, as a regular expression."""
    if isinstance(node, ast.Constant):
        return re.escape(str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(_pattern(part, known) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _pattern(node.value, known)
    if isinstance(node, ast.BinOp):
        return _pattern(node.left, known) + _pattern(node.right, known)
    return known.get(node.id, ".+") if isinstance(node, ast.Name) else ".+"


def _findings() -> Iterator[str]:
    """A regular expression for each finding that something is as it should be."""
    for path in (CHECKOUT / "compute_to_data/doctor").glob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            known: dict[str, str] = {}
            for node in ast.walk(function):
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    known[node.targets[0].id] = _pattern(node.value, {})
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ok":
                    link, seen = (_pattern(argument, known) for argument in node.args)
                    yield f"{link}: {seen}"


def test_each_line_on_the_page_is_one_of_the_doctors() -> None:
    assert len(LINES) >= 15
    patterns = [one for one in _findings() if not one.endswith(": .+")]
    unknown = [line for line in LINES if not any(re.fullmatch(one, line) for one in patterns)]
    assert unknown == []


def test_each_step_has_its_lines() -> None:
    steps = re.split(r"^## (?=\d)", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    without = [step.splitlines()[0] for step in steps if not re.search("^ok       ", step, re.MULTILINE)]
    assert without == ["7. Tasks for what arrives"], "which is another page"


def _breaking() -> Iterator[Finding]:
    yield ok("configuration", "x is valid")
    yield problem("zone", "it is gone", "Start it")
    raise RuntimeError("a fault of ours")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_doctor_that_fails_says_that_it_does_not_know(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(_breaking(), as_json=as_json) == 3
    said = capsys.readouterr().out
    if as_json:
        found = json.loads(said)
        assert [one["link"] for one in found] == ["configuration", "zone", "doctor"]
        assert "RuntimeError: a fault of ours" in found[-1]["seen"]
    else:
        assert said.startswith("ok       configuration: x is valid.\nPROBLEM  zone: it is gone.\n")
        assert "PROBLEM  doctor: it failed itself (RuntimeError: a fault of ours)" in said
        assert "test_doctor_page.py:" in said


def test_a_fault_in_one_check_is_not_taken_for_health(
    site: TrialSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> Finding:
        raise TypeError("broken")

    monkeypatch.setattr(workers, "state_directory", fails)
    assert doctor.main(["--configuration", str(site.configuration_file), "--json"]) == 3
    links = [one["link"] for one in json.loads(capsys.readouterr().out)]
    assert "doctor" in links
    assert {"zone", "engine", "delay server"} <= {*links}, "the other checks are made all the same"


def test_wrong_usage_has_a_status_of_its_own() -> None:
    with pytest.raises(SystemExit) as ended:
        doctor.main(["--nonsense"])
    assert ended.value.code == 2


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_findings_that_cannot_be_written_are_no_finding_of_health(site: TrialSite, how: list[str]) -> None:
    command = [sys.executable, "-m", "compute_to_data.doctor", "--configuration", str(site.configuration_file), *how]
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (3, "compute_to_data.doctor: standard output: No space left on device.\n")
