"""docs/failures.md names tests that there are, and every test of a fault is in it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TEXT = (TESTS.parent / "docs" / "failures.md").read_text(encoding="utf-8")
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith(("| fault", "| ---"))]
_NAMED = re.compile(r"`(\w+/\w+\.py)((?:::\w+)*)`")


def _tests_in(file: Path) -> set[str]:
    """``name``, or ``Class::name``, of each test function."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        members = [(node, "")]
        if isinstance(node, ast.ClassDef):
            members = [(member, f"{node.name}::") for member in node.body]
        found |= {f"{above}{one.name}" for one, above in members if isinstance(one, ast.FunctionDef)}
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:60])
def test_each_line_names_tests_that_there_are(row: str) -> None:
    cells = row.strip("|").split("|")
    assert len(cells) == 4, "fault, user, administrator, tests"
    named = _NAMED.findall(cells[3])
    assert named
    assert _NAMED.sub("", cells[3]).strip() == "", "nothing else stands there"
    for file, function in named:
        assert (TESTS / file).is_file(), file
        assert not function or function[2:] in _tests_in(TESTS / file), f"{file}{function}"


def test_each_test_of_a_fault_is_documented() -> None:
    named = {f"{file}{function}" for file, function in _NAMED.findall(TEXT)}
    faults = sorted((TESTS / "recovery").glob("test_faults_*.py"))
    assert len(faults) >= 3
    assert {f"recovery/{file.name}::{test}" for file in faults for test in _tests_in(file)} <= named
