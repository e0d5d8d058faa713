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

# From low to high. A package may import those in the rows below it, and those to its left in its own row.
ROWS = [
    ["errors", "this_host", "model", "bounds", "plain_text", "similar_names", "urls"],
    [
        "job",
        "tes_task",
        "task",
        "irods_names",
        "pools",
        "local_files",
        "log_file",
        "disk_usage",
        "large_files",
        "engine_promises",
        "catalog_json",
    ],
    ["ports", "catalog_tree", "documents", "configuration", "site_file"],
    ["records", "coordination"],
    ["inputs", "provenance"],
    ["submission", "pipeline"],
    ["roles", "client", "agent"],
    ["worker", "rule", "rulebase", "policies"],
    ["doctor", "gateway", "cli"],
]
PLACE = {package: (row, column) for row, packages in enumerate(ROWS) for column, package in enumerate(packages)}
ASIDE = {"submission": "pipeline", "client": "agent"}
"""Neighbours in a row that do not know each other."""
ADAPTERS = {"zones", "engines"}
ADAPTERS_MAY_USE = {*ROWS[0], *ROWS[1], "ports", "configuration", "site_file"}
DOORS = {"worker", "agent", "client", "doctor", "gateway"}
"""What opens an adapter; all others know the ports only."""


def _modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py"))


def _dotted(path: Path) -> tuple[str, ...]:
    """A module's place below the package: ``("pipeline", "stage_in")``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


MODULES = {_dotted(path): path for path in _modules()}


def _imported(path: Path) -> set[tuple[str, ...]]:
    """The modules of ours that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "compute_to_data":
            above = tuple(node.module.split(".")[1:])
            below = [(*above, alias.name) for alias in node.names]
            found |= {one if one in MODULES else above for one in below}
        elif isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
            found |= {name[1:] for name in names if name[0] == "compute_to_data"}
    return found - {()}


@pytest.mark.parametrize("place", [place for place in MODULES if place], ids="/".join)
def test_arrows_run_one_way(place: tuple[str, ...]) -> None:
    package = place[0]
    others = {other[0] for other in _imported(MODULES[place])} - {package}
    if package in ADAPTERS:
        assert others <= ADAPTERS_MAY_USE
        return
    if package not in DOORS:
        assert not others & ADAPTERS, f"{package} opens an adapter"
    for other in others - ADAPTERS:
        assert PLACE[other] < PLACE[package], f"{package} imports {other}, which does not lie below it"
        assert ASIDE.get(other) != package, f"{package} imports {other}, which stands beside it"


def test_every_package_has_a_place() -> None:
    assert {place[0] for place in MODULES if place} == PLACE.keys() | ADAPTERS


def _folders() -> set[tuple[str, ...]]:
    return {place[:-1] for place in MODULES if place}


@pytest.mark.parametrize("folder", sorted(_folders()), ids=lambda folder: "/".join(folder) or "package")
def test_no_two_neighbours_import_each_other(folder: tuple[str, ...]) -> None:
    """Nor three in a circle: of what lies in one folder, each module and subfolder counts as one."""
    depth = len(folder)
    arrows: dict[str, set[str]] = {}
    for place, path in MODULES.items():
        if place[:depth] == folder and len(place) > depth:
            inside = {other for other in _imported(path) if other[:depth] == folder and len(other) > depth}
            arrows.setdefault(place[depth], set()).update(other[depth] for other in inside)
    left = {name: others - {name} for name, others in arrows.items()}
    while left:
        free = [name for name, others in left.items() if not others & left.keys()]
        assert free, f"a circle of imports among {sorted(left)}"
        for name in free:
            del left[name]


@pytest.mark.parametrize("path", [*_modules(), CORE], ids=str)
def test_syntax_is_python_3_9(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


def test_one_module_writes_the_request_to_cancel() -> None:
    """The others only read it: who asks goes through ``records.cancel``."""
    writers = set()
    for place, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in (
                "Avu",
                "remember",
                "decide",
            ):
                names = {ast.unparse(one) for one in ast.walk(node) if isinstance(one, (ast.Name, ast.Constant))}
                writers |= {place} if names & {"CANCEL", "'cancel'"} else set()
    assert writers == {("records", "cancel")}


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
    program = "import sys; sys.path[:0] = [sys.argv[1]]; import compute_to_data.agent.dispatch; print(*sys.modules)"
    with tempfile.TemporaryDirectory() as alone:
        os.symlink(PACKAGE, os.path.join(alone, "compute_to_data"))
        command = [sys.executable, "-S", "-E", "-c", program, alone]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=alone)
    assert "compute_to_data.submission.submit" in done.stdout.split()


def test_the_rulebase_exports_exactly_the_documented_rules() -> None:
    program = "import core; print(*core.__all__); print(*(n for n in vars(core) if not n.startswith('_')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=".")
    exported, visible = done.stdout.splitlines()
    assert exported.split() == visible.split() == ["container_dispatch", "container_submit"]
