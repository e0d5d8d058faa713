"""The arrows of the house run one way, and an agent's import stays cheap."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import compute_to_data

PACKAGE = Path(compute_to_data.__file__).parent
CORE = Path(__file__).resolve().parents[2] / "core.py"

# Each floor may import itself where it is a folder, and every floor below it.
FLOORS = [
    {"errors", "undo", "livelog"},
    {"model", "launcher"},
    {"job", "task"},
    {"ports"},
    {"documents"},
    {"configuration"},
    {"record", "outputs", "workspace", "presence", "notes", "secret", "role_choice"},
    {"staging", "supervision", "sign_of_life", "workload"},
    {"provenance", "selection", "offer"},
    {"crate"},
    {"reuse"},
    {"submission", "roles"},
    {"workloads", "tending", "attempts"},
    {"worker", "rule_boundary", "client", "arrivals"},
    {"dispatch", "rule"},
    {"policy_boundary"},
    {"rulebase", "policies", "demo"},
    {"doctor"},
    {"cli"},
]
ADAPTERS = {"zones", "engines", "images"}
"""Adapters import ports, model, errors and configuration values; nothing but the doors below opens them."""
ADAPTERS_MAY_USE = {"ports", "job", "model", "errors", "configuration", "task", "launcher"}
DOORS = {"worker", "rule_boundary", "client", "demo", "doctor"}


def _modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py"))


def _room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def _imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "compute_to_data":
            below = node.module.split(".")[1:]
            rooms |= {below[0]} if below else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "compute_to_data" and len(parts) > 1:
                    rooms.add(parts[1])
    return rooms - {"__version__"}


def _floor(room: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    raise AssertionError(f"{room} has no floor yet: decide what it may import, and give it one")


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_run_one_way(path: Path) -> None:
    room = _room(path)
    if room == "__init__":
        return  # what it loads when it is imported, and when it is asked for a name, is tested below
    others = _imported_rooms(path) - {room}
    if room in ADAPTERS:
        own = ADAPTERS if room == "zones" and path.name == "agent.py" else set()
        assert others <= ADAPTERS_MAY_USE | own
        return
    if room not in DOORS:
        assert not others & ADAPTERS, f"{room} opens an adapter"
    for other in others - ADAPTERS:
        assert _floor(other) < _floor(room), f"{room} imports {other}, which does not lie below it"


@pytest.mark.parametrize("path", [*_modules(), CORE], ids=str)
def test_syntax_is_python_3_9(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


def _fresh_import(statement: str) -> set[str]:
    """The modules that a fresh interpreter has only because of ``statement``."""
    program = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"sys=__import__('sys'); sys.path[:0]=[{str(PACKAGE.parent)!r}];" + program],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["rulebase", "policies"])
def test_what_every_agent_imports_loads_nothing_but_itself(module: str) -> None:
    loaded = _fresh_import(f"import compute_to_data.{module}")
    assert loaded <= {
        "compute_to_data",
        f"compute_to_data.{module}",
        "compute_to_data.rule",
        "__future__",
    }


def test_the_package_itself_loads_nothing_until_it_is_asked() -> None:
    loaded = _fresh_import("import compute_to_data")
    assert loaded <= {"compute_to_data", "__future__"}


def test_each_name_of_the_api_is_what_it_says() -> None:
    for name in compute_to_data.__all__:
        assert getattr(compute_to_data, name) is not None
    assert set(compute_to_data.__all__) <= set(dir(compute_to_data))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = compute_to_data.nonsense


def test_a_called_rule_needs_the_standard_library_only() -> None:
    """Without site-packages: what is not in the standard library, or ours, could not be imported."""
    program = "import sys; sys.path[:0] = [sys.argv[1]]; import compute_to_data.dispatch; print(*sys.modules)"
    with tempfile.TemporaryDirectory() as alone:
        os.symlink(PACKAGE, os.path.join(alone, "compute_to_data"))
        command = [sys.executable, "-S", "-E", "-c", program, alone]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=alone)
    assert "compute_to_data.submission" in done.stdout.split()


def test_the_rulebase_exports_exactly_the_documented_rules() -> None:
    program = "import core; print(*core.__all__); print(*(n for n in vars(core) if not n.startswith('_')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=".")
    exported, visible = done.stdout.splitlines()
    assert exported.split() == visible.split() == ["container_dispatch", "container_submit"]
