"""docs/tutorial.md and docs/workloads.md: run each block as it is written, in the shell of a new user."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
WORKLOADS = TUTORIAL.with_name("workloads.md")
BLOCK = re.compile(r"^```(\w+) ?(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
IMAGE = "compute-to-data/base:bookworm"
"""Replaces the image that a reader pulls, because tests have no network."""
_END = "-- end of block --"
_BEFORE = {
    WORKLOADS: "c2d zone create my-zone --user alice; mkdir measurements; seq 512 > measurements/input.dat",
}
"""What a reader has done before this page."""


def blocks(page: Path = TUTORIAL) -> list[tuple[str, str, str]]:
    """The language, note and content of each block."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def script(page: Path) -> str:
    """All blocks as one script, with a separator line after each."""
    parts = ["set -eu -o pipefail", _BEFORE.get(page, "")]
    for language, note, content in blocks(page):
        if language == "sh" and note == "fails":
            parts.append(f"if {content.strip()}; then exit 99; fi")
        elif language == "sh" and note != "install":
            parts.append(content)
        elif language == "python":
            parts.append(f"python3 - <<'PROGRAM'\n{content}PROGRAM\n")
        if language in ("sh", "python"):
            parts.append(f"echo '{_END}'")
    return "\n".join(parts).replace("debian:bookworm", IMAGE)


def somebody_new(folder: Path) -> dict[str, str]:
    """The environment of a person who has only ``c2d`` on their PATH."""
    programs = folder / "programs"
    programs.mkdir()
    for name, what in (("c2d", " -m compute_to_data.cli.main"), ("python3", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable}{what} "$@"\n')
        (programs / name).chmod(0o755)
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("C2D_", "IRODS_", "XDG_"))}
    return {**plain, "HOME": str(folder), "PATH": f"{programs}:{os.environ['PATH']}"}


@pytest.mark.docker
@pytest.mark.usefixtures("docker_answers")
@pytest.mark.parametrize("page", [TUTORIAL, WORKLOADS], ids=["tutorial", "workloads"])
def test_each_block_prints_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", script(page)],
        cwd=tmp_path,
        env=somebody_new(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = iter(done.stdout.split(f"{_END}\n"))
    said = ""
    for language, note, content in blocks(page):
        if language == "text":
            assert content in said, said
        elif language in ("sh", "python"):
            said = next(printed)
            assert note != "install" or not said
    assert (tmp_path / "results").is_dir()
    assert "reused" in done.stderr or page is not TUTORIAL


def test_the_extras_in_the_installation_block_exist() -> None:
    """The block that we do not run needs a network. We check the extras that it names."""
    (installing,) = (content for _, note, content in blocks() if note == "install")
    project = (TUTORIAL.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    for extra in re.findall(r"compute-to-data\[(\w+)\]", TUTORIAL.read_text(encoding="utf-8")):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE)
    assert "compute-to-data[docker]" in installing
