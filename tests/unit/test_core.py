"""``core.py`` brings the zone up whatever has become of the package behind it."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import compute_to_data

CORE = Path(__file__).resolve().parents[2] / "core.py"
PACKAGE = Path(compute_to_data.__file__).parent


class RecordingCallback:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def writeLine(self, where: str, text: str) -> None:
        self.lines.append((where, text))


class ServerCallback(RecordingCallback):
    """One with ``msiExit``, which puts a sentence on the client's error stack and fails."""

    def msiExit(self, code: str, text: str) -> None:
        self.lines.append((code, text))
        raise RuntimeError(f"[iRods__Error__Code:{code}]")


@pytest.fixture
def forgotten_package() -> Iterator[None]:
    """No module of the package is loaded while the test runs."""
    loaded = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "compute_to_data"}
    for name in loaded:
        del sys.modules[name]
    path = list(sys.path)
    finders = list(sys.meta_path)
    sys.meta_path[:] = [one for one in finders if not getattr(one, "__module__", "").startswith("__editable__")]
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "compute_to_data"]:
        del sys.modules[name]
    sys.modules.update(loaded)
    sys.path[:] = path
    sys.meta_path[:] = finders


def _load_core() -> ModuleType:
    specification = importlib.util.spec_from_file_location("core_under_test", CORE)
    assert specification is not None and specification.loader is not None
    core = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(core)
    return core


def _break(folder: Path, name: str, content: str | None) -> None:
    shutil.copytree(PACKAGE, folder / "compute_to_data", ignore=shutil.ignore_patterns("__pycache__"))
    broken = folder / "compute_to_data" / name
    broken.unlink()
    if content is not None:
        broken.write_text(content)


BREAKAGES = {
    "a module of it is gone": ("rule.py", None),
    "a module of it is cut off": ("rulebase.py", "def container_dispatch(rule_args, callb"),
    "it raises": ("__init__.py", "raise RuntimeError('half installed')"),
    "it leaves the interpreter": ("__init__.py", "raise SystemExit(3)"),
    "it holds no rule": ("rulebase.py", "__all__ = []"),
    "a module that a called rule needs is gone": ("agent/boundary.py", None),
    "it is not text": ("__init__.py", "\x00\x01"),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_package_leaves_core_working(tmp_path: Path, forgotten_package: None, breakage: str) -> None:
    _break(tmp_path, *BREAKAGES[breakage])
    sys.path.insert(0, str(tmp_path))
    core = _load_core()
    assert core.__all__ == ["container_dispatch", "container_submit"]
    callback = RecordingCallback()
    first = core.container_dispatch(["a", "b", "c", "d", "e"], callback, None)
    second = core.container_submit(["a", "b", "c", "d", "e"], callback, None)
    assert first == second == -154000
    told_log = [text for where, text in callback.lines if where == "serverLog"]
    assert len(told_log) == 1, "the server log is told once"
    assert "compute_to_data cannot be loaded" in told_log[0]
    assert [where for where, _ in callback.lines].count("stdout") == 2, "each caller is told"


@pytest.mark.parametrize("breakage", ["it raises", "a module that a called rule needs is gone"])
def test_a_broken_package_is_told_on_both_ways_to_the_user(
    tmp_path: Path, forgotten_package: None, breakage: str
) -> None:
    _break(tmp_path, *BREAKAGES[breakage])
    sys.path.insert(0, str(tmp_path))
    callback = ServerCallback()
    assert _load_core().container_dispatch(["a", "b", "c", "d", "e"], callback, None) == -154000
    told = dict(callback.lines)
    assert told["stdout"] == told["-154000"]
    assert "tell the administrator" in told["stdout"] and "-154000" in told["stdout"]


def test_the_guards_own_names_leave_an_administrators_alone(tmp_path: Path, forgotten_package: None) -> None:
    _break(tmp_path, *BREAKAGES["it raises"])
    sys.path.insert(0, str(tmp_path))
    private = {name for name in vars(_load_core()) if name.startswith("_") and not name.startswith("__")}
    assert private and all(name.startswith("_compute_to_data_") for name in private)


def test_a_missing_package_leaves_core_working(forgotten_package: None) -> None:
    sys.path[:] = [entry for entry in sys.path if not (Path(entry or ".") / "compute_to_data").is_dir()]
    core = _load_core()
    assert core.container_dispatch([], RecordingCallback(), None) == -154000


def test_a_rule_outside_any_known_zone_says_so(forgotten_package: None) -> None:
    sys.path.insert(0, str(PACKAGE.parent))
    core = _load_core()
    callback = RecordingCallback()
    code = core.container_dispatch(["containers.run", "/z/home/a/t.json", "r", "", ""], callback, object())
    assert code == -66000
    assert "neither an iRODS agent nor an embedded zone" in callback.lines[0][1]


def test_wrong_arguments_are_told_by_name() -> None:
    callback = RecordingCallback()
    code = _load_core().container_dispatch(["only one"], callback, object())
    assert code == -130000
    assert (
        "container_dispatch(command, configuration_object, resource, output_locator, task_id)" in callback.lines[0][1]
    )
