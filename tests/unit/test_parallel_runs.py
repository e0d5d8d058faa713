"""``pytest -n``: tests that share something do not run beside one another."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

SAMPLE = """
import os
from pathlib import Path
import pytest

@pytest.fixture
def docker_engine():
    pass

@pytest.fixture
def wheels():
    pass

def note(group):
    name = os.environ["PYTEST_CURRENT_TEST"].split(" ")[0].replace("/", "_").partition("@")[0]
    (Path({folder!r}) / "ran" / name).write_text(group + " " + os.environ["PYTEST_XDIST_WORKER"])

@pytest.mark.parametrize("number", range(4))
def test_with_the_engine(docker_engine, number):
    note("docker")

@pytest.mark.docker
def test_that_is_marked():
    note("docker")

@pytest.mark.parametrize("number", range(4))
def test_with_wheels(wheels, number):
    note("wheels")
"""


def test_the_tests_of_a_group_run_on_one_process(tmp_path: Path) -> None:
    (tmp_path / "ran").mkdir()
    shutil.copy(TESTS / "conftest.py", tmp_path)
    for name in ("test_one.py", "test_another.py"):
        (tmp_path / name).write_text(SAMPLE.format(folder=str(tmp_path)))
    many = '@pytest.mark.parametrize("number", range(5))'
    zone = f'import pytest\nfrom test_one import note\n{many}\ndef test_it(number): note("zone")\n'
    (tmp_path / "test_irods_sample.py").write_text(zone)
    options = ["-n", "3", "-q", "-c", str(TESTS.parent / "pyproject.toml"), "--rootdir", str(tmp_path)]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(tmp_path), *options, "-p", "no:cacheprovider"],
        env={**variables, "PYTHONPATH": f"{TESTS}:{tmp_path}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    processes, tests = defaultdict(set), defaultdict(int)
    for file in (tmp_path / "ran").iterdir():
        group, process = file.read_text().split()
        processes[group].add(process)
        tests[group] += 1
    assert tests == {"docker": 10, "wheels": 8, "zone": 5}
    assert {group: len(found) for group, found in processes.items()} == {"docker": 1, "wheels": 1, "zone": 1}
