"""The block in core.py is added, replaced and removed without changing other bytes. When the package
is broken, core.py still loads and the administrator's own rules work."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from installer import core_block
from installer.layout import InstallError

from .conftest import ADMIN_CORE, CHECKOUT, agents_python

OUR_CORE = (CHECKOUT / "core.py").read_text(encoding="utf-8")

CORES = {
    "empty": "",
    "no line end at its end": ADMIN_CORE.decode(),
    "a line end at its end": ADMIN_CORE.decode() + "\n",
    "blank lines at its end": ADMIN_CORE.decode() + "\n\n\n",
    "Windows line ends": "def f(rule_args, callback, rei):\r\n    return 0\r\n",
    "a comment at its end": "__all__ = ()  # none\n# the end",
    "ours, copied by hand": OUR_CORE,
}


@pytest.mark.parametrize("text", CORES.values(), ids=CORES.keys())
def test_taking_the_block_out_restores_the_file(text: str) -> None:
    block = core_block.make(OUR_CORE, "/opt/compute-to-data/agent")
    added = core_block.add(text, block)
    assert added.startswith(text)
    assert core_block.find(added) == block
    assert core_block.remove(added) == text


def test_rules_written_below_the_block_stay() -> None:
    block = core_block.make(OUR_CORE, "/old")
    text = core_block.add("a = 1\n", block) + "b = 2\n"
    newer = core_block.make(OUR_CORE, "/new")
    replaced = core_block.add(text, newer)
    assert core_block.find(replaced) == newer
    assert replaced.startswith("a = 1\n")
    assert replaced.endswith("b = 2\n")
    assert core_block.remove(replaced) == "a = 1\nb = 2\n"


@pytest.mark.parametrize("text", [core_block.BEGIN, core_block.END, f"{core_block.END}\n{core_block.BEGIN}\n"])
def test_markers_that_do_not_pair_are_refused(text: str) -> None:
    with pytest.raises(InstallError, match="do not pair"):
        core_block.find(f"a = 1\n{text}\n")


def test_a_core_of_unexpected_form_is_refused() -> None:
    with pytest.raises(InstallError, match="one guarded import"):
        core_block.make("from compute_to_data.rulebase import container_dispatch\n", "/opt")


_CALL = """
import json, sys
sys.path.append(sys.argv[1])  # as an agent does with /etc/irods
import core
lines = []
class Callback:
    def writeLine(self, where, text):
        lines.append([where, text])
codes = [core.container_dispatch([], Callback(), None) for _ in range(2)]
own = core.acPostProcForPut([], Callback(), None)
print(json.dumps({"codes": codes, "own": own, "all": sorted(core.__all__), "lines": lines}))
"""


def _agent(folder: Path) -> dict[str, object]:
    """What an agent sees when it loads the core.py of a folder."""
    command = [agents_python(), "-I", "-B", "-c", _CALL, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"core.py did not load: the zone would be down\n{done.stderr}"
    return dict(json.loads(done.stdout))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the agents' complete package, and an administrator's core.py with our block."""
    agent = tmp_path / "agent"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "compute_to_data", agent / "compute_to_data", ignore=ignored)
    block = core_block.make(OUR_CORE, str(agent))
    (tmp_path / "core.py").write_text(core_block.add(ADMIN_CORE.decode(), block), encoding="utf-8")
    return tmp_path


def test_a_whole_package_gives_its_rules(place: Path) -> None:
    seen = _agent(place)
    assert seen["codes"] == [-130000, -130000], "the real rule checks its arguments"
    assert set(seen["all"]) > {"acPostProcForPut", "container_dispatch"}  # type: ignore[call-overload]


BREAKAGES = {
    "deleted": lambda package: shutil.rmtree(package),
    "an empty folder": lambda package: (shutil.rmtree(package), package.mkdir()),
    "half copied": lambda package: [path.unlink() for path in sorted(package.glob("*.py"))[5:]],
    "cut off in the middle": lambda package: (package / "rulebase.py").write_bytes(
        (package / "rulebase.py").read_bytes()[:700]
    ),
    "broken syntax": lambda package: (package / "__init__.py").write_text("def (:\n"),
    "raising": lambda package: (package / "__init__.py").write_text("raise RuntimeError('half installed')\n"),
    "leaving the interpreter": lambda package: (package / "rulebase.py").write_text("raise SystemExit(3)\n"),
    "a module of a called rule is gone": lambda package: (package / "agent" / "boundary.py").unlink(),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_the_zone_survives_a_package(place: Path, breakage: str) -> None:
    BREAKAGES[breakage](place / "agent" / "compute_to_data")
    seen = _agent(place)
    assert seen["own"] == 0, "the administrator's own rules work"
    assert seen["codes"] == [-154000, -154000]
    logged = [text for where, text in seen["lines"] if where == "serverLog"]  # type: ignore[attr-defined]
    assert len(logged) == 1, "the server log has the error once"
    assert "compute_to_data cannot be loaded" in logged[0]


def test_a_copy_of_the_package_beside_core_is_not_imported(place: Path) -> None:
    stray = place / "compute_to_data"
    stray.mkdir()
    (stray / "__init__.py").write_text("raise RuntimeError('stray')\n")
    assert _agent(place)["codes"] == [-130000, -130000]
