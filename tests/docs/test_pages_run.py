"""Each command, program and request on the pages is run as it is written, in the shell of a new user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.console import Page, Shell
from support.pages import PAGES, ROOT, Block, blocks, commands

from compute_to_data.model import User
from compute_to_data.zones.embedded import EmbeddedZone

IMAGES = ("debian:bookworm", "python:3.11-slim-bookworm")
"""What readers pull from a registry. Tests have none, and let the base image have these names."""
BASE_IMAGE = "compute-to-data/base:bookworm"
FROM_NOTHING = ("README.md", "docs/tutorial.md")
"""Pages that begin in a checkout, with the installation."""
OBJECTS = {"a.txt": b"axbxc\n", "sea.txt": b"a whale, and another whale\n"}
"""Data objects in the home of alice, for pages that begin with a zone."""
RUN = [page for page in PAGES if any(not one.reason and one.language != "text" for one in blocks(page))]


@pytest.fixture(scope="module")
def images(docker_answers: None) -> Iterator[None]:
    """The images of the pages, until the tests have ended."""
    inspect = ["docker", "image", "inspect"]
    missing = [name for name in IMAGES if subprocess.run([*inspect, name], capture_output=True).returncode]
    for name in missing:
        subprocess.run(["docker", "tag", BASE_IMAGE, name], check=True)
    yield
    for name in missing:
        subprocess.run(["docker", "rmi", "--no-prune", name], check=True, capture_output=True)


@pytest.mark.docker
@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_happens(page: Path, tmp_path: Path) -> None:
    reader = Reader(page, tmp_path)
    with reader.shell:
        reader.prepare()
        found = blocks(page)
        for place, block in enumerate(found):
            after = found[place + 1] if place + 1 < len(found) else None
            if not block.reason:
                reader.follow(block, after.content if after and after.language == "text" else None)


class Reader:
    """A person who has only ``c2d`` on their PATH, and does what a page says."""

    def __init__(self, page: Path, folder: Path) -> None:
        self._name = str(page.relative_to(ROOT))
        self._files = folder / "files"
        self._home = folder / "home"
        self._files.mkdir()
        self._home.mkdir()
        self._page = Page()
        beginning = self._checkout() if self._name in FROM_NOTHING else self._home
        self.shell = Shell(beginning, self._environment(), self._files)

    def prepare(self) -> None:
        """What this person has done before they read this page."""
        if self._name in FROM_NOTHING:
            return
        self._must("c2d zone create my-zone --user alice")
        self._must("mkdir measurements && seq 512 > measurements/input.dat")
        with EmbeddedZone(str(self._home / "my-zone" / "zone")) as zone:
            catalog = zone.session(User("alice", "tempZone"))
            catalog.create_collection("/tempZone/home/alice/out")
            for name, content in OBJECTS.items():
                catalog.write(f"/tempZone/home/alice/{name}", content)

    def follow(self, block: Block, shown: str | None) -> None:
        """Do what a block says. ``shown`` is the text below it, which counts for a program."""
        if block.language == "console":
            self._type(block)
        elif block.language == "python":
            file = self._file("program.py", block.content)
            self._must(f"python3 '{file}'", shown.rstrip("\n") if shown else None, block.place)
        elif block.language == "json" and "output_collection" in json.loads(block.content):
            self._must(f"c2d submit --wait '{self._file('task.json', block.content)}'", place=block.place)

    def _type(self, block: Block) -> None:
        found = commands(block)
        for place, command in enumerate(found):
            following = found[place + 1].text if place + 1 < len(found) else ""
            may_fail = following.startswith("echo $?")
            self._must(command.text, command.shown, command.place, may_fail=may_fail)

    def _must(self, command: str, shown: str | None = None, place: str = "", *, may_fail: bool = False) -> None:
        status, printed = self.shell.run(self._page.command(command))
        assert may_fail or status == 0, f"{place}: {command}\nexit status {status}\n{printed}"
        if shown is not None:
            assert self._page.shows(shown, printed), f"{place}: {command}\nshown:\n{shown}\nprinted:\n{printed}"

    def _file(self, name: str, content: str) -> Path:
        file = self._files / name
        file.write_text(content, encoding="utf-8")
        return file

    def _environment(self) -> dict[str, str]:
        programs = self._files / "programs"
        programs.mkdir()
        if self._name not in FROM_NOTHING:  # whose reader installs these
            for name, what in (("c2d", " -m compute_to_data.cli.main"), ("python3", "")):
                (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable}{what} "$@"\n')
                (programs / name).chmod(0o755)
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("C2D_", "IRODS_", "XDG_"))}
        return {**plain, "HOME": str(self._home), "PATH": f"{programs}:{os.environ['PATH']}"}

    def _checkout(self) -> Path:
        """A copy of what the installation reads."""
        folder = self._files / "compute-to-data"
        shutil.copytree(ROOT / "compute_to_data", folder / "compute_to_data")
        for name in ("pyproject.toml", "README.md", "LICENSE", "core.py"):
            shutil.copy(ROOT / name, folder)
        return folder
