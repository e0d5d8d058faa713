"""The Snakefile of the examples. Snakemake is used where it is installed. It would be the largest of the packages that
tests need, so the rules are also run without it, each when its input is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.people import settings_of
from support.site import BASE_IMAGE, TrialSite

SNAKEFILE = Path(__file__).resolve().parents[2] / "examples" / "snakemake" / "Snakefile"
_RULE = re.compile(r"^rule (\w+):\n((?:    .*\n)+)", re.MULTILINE)
_WORDS = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Rule:
    """One rule of a Snakefile that has at most one input, one output, and a command."""

    def __init__(self, text: str) -> None:
        parts = dict(re.findall(r"^    (\w+):((?:.*\n)(?:     .*\n)*)", text, re.MULTILINE))
        self.command = "".join(_WORDS.findall(parts["shell"]))
        self.input = "".join(_WORDS.findall(parts.get("input", "")))
        self.output = "".join(_WORDS.findall(parts["output"]))


def rules() -> list[Rule]:
    """In an order in which each finds its input."""
    left = [Rule(text) for _, text in _RULE.findall(SNAKEFILE.read_text(encoding="utf-8"))]
    found: list[Rule] = []
    while left:
        ready = [one for one in left if not one.input or one.input in {other.output for other in found}]
        assert ready, f"nothing makes {left[0].input}"
        found += ready
        left = [one for one in left if one not in ready]
    return found


@pytest.fixture
def site(docker_answers: None, tmp_path: Path) -> TrialSite:
    return TrialSite(tmp_path, {"name": "docker"}, BASE_IMAGE)


@pytest.fixture
def person(site: TrialSite, tmp_path: Path) -> dict[str, str]:
    """The environment of somebody with a folder of measurements and ``c2d`` on their PATH."""
    folder = tmp_path / "person"
    (folder / "measurements").mkdir(parents=True)
    (folder / "measurements" / "input.dat").write_text("".join(f"{n % 24}\n" for n in range(512)), encoding="utf-8")
    config = folder / "config.json"
    config.write_text(json.dumps(settings_of(site, "alice")), encoding="utf-8")
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "C2D_CONFIG_FILE": str(config),
        "C2D_SESSION_FILE": str(folder / "session.json"),
        "HOME": str(folder),
    }


def typed(command: str, person: dict[str, str]) -> subprocess.CompletedProcess[str]:
    words = ["bash", "-euo", "pipefail", "-c", command]
    return subprocess.run(
        words, cwd=person["HOME"], env=person, capture_output=True, text=True, check=False, timeout=600
    )


@pytest.mark.parametrize("program", ["rules", *(["snakemake"] if shutil.which("snakemake") else [])])
def test_it_does_what_the_page_says(site: TrialSite, person: dict[str, str], program: str) -> None:
    shutil.copy(SNAKEFILE, person["HOME"])
    commands = [f"snakemake --jobs 2 --config image={site.image}"]
    if program == "rules":
        names = {"IMAGE": site.image, "DATA": "measurements"}
        commands = [one.command.format(input=one.input, output=one.output, **names) for one in rules()]
    with site.working():
        for command in commands:
            done = typed(command, person)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert (Path(person["HOME"]) / "summary.txt").read_text(encoding="utf-8") == "24\n"
    listed = json.loads(typed("c2d list --output json", person).stdout)
    assert sorted(one["name"] for one in listed) == ["count", "sort", "unique"]


def test_a_step_that_fails_fails_its_rule(site: TrialSite, person: dict[str, str]) -> None:
    """The exit code of ``c2d wait`` is what lets Snakemake remove the step's file."""
    (rule,) = (one for one in rules() if one.output == "sort.task")
    command = rule.command.replace("sort -n", "false").format(output="sort.task", IMAGE=site.image, DATA="measurements")
    with site.working():
        done = typed(command, person)
    assert done.returncode != 0
    assert "nonzero_exit" in done.stderr or "exited with status" in done.stderr + done.stdout
