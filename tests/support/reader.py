"""A person who reads a page and does what it says."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compute_to_data.model import User
from compute_to_data.zones.embedded import EmbeddedZone
from support.console import Page, Shell
from support.pages import ROOT, Block, commands
from support.site import BASE_IMAGE

FROM_NOTHING = ("README.md", "docs/tutorial.md")
"""Pages that begin in a checkout, with the installation."""
_HOME = "/tempZone/home/alice"
_OBJECTS = {"a.txt": b"axbxc\n", "sea.txt": b"a whale, and another whale\n"}
"""Data objects in the home of alice, for pages that begin with a zone."""


IMAGES = ("debian:bookworm", "python:3.11-slim-bookworm")
"""What readers pull from a registry. Tests have none, and let the base image have these names."""


@contextlib.contextmanager
def images_of_the_pages() -> Iterator[None]:
    """Docker holds the images of the pages; those that were missing are removed at the end."""
    inspect = ["docker", "image", "inspect"]
    missing = [name for name in IMAGES if subprocess.run([*inspect, name], capture_output=True).returncode]
    for name in missing:
        subprocess.run(["docker", "tag", BASE_IMAGE, name], check=True)
    try:
        yield
    finally:
        for name in missing:
            subprocess.run(["docker", "rmi", "--no-prune", name], check=True, capture_output=True)


class Reader:
    """A person who has only ``c2d`` on their PATH, and does what a page says.

    ``installs``: the page begins in a checkout, and this person installs ``c2d`` as it says.
    """

    def __init__(self, page: Path, folder: Path, *, installs: bool) -> None:
        self._installs = installs
        self._begins_with_zone = str(page.relative_to(ROOT)) not in FROM_NOTHING
        self._files = folder / "files"
        self.home = folder / "home"
        self._files.mkdir()
        self.home.mkdir()
        self.page = Page()
        beginning = self._checkout() if installs else self.home
        self.shell = Shell(beginning, self._environment(), self._files)

    def prepare(self) -> None:
        """What this person has done before they read this page."""
        if not self._begins_with_zone:
            return
        self.must("c2d zone create my-zone --user alice")
        self.must("mkdir measurements && seq 512 > measurements/input.dat")
        with EmbeddedZone(str(self.home / "my-zone" / "zone")) as zone:
            zone.add_user("bob")
            catalog = zone.session(User("alice", "tempZone"))
            catalog.create_collection(f"{_HOME}/out")
            for name, content in _OBJECTS.items():
                catalog.write(f"{_HOME}/{name}", content)

    def follow(self, block: Block, shown: str | None) -> None:
        """Do what a block says. ``shown`` is the text below it, which counts for a program."""
        if block.language == "console":
            self._type(block)
        elif block.language == "python":
            file = self._written("program.py", block.content)
            self.must(f"python3 '{file}'", shown.rstrip("\n") if shown else None, block.place)
        elif block.language == "json":
            request = _request(json.loads(self.page.command(block.content)))
            if request:
                file = self._written("task.json", json.dumps(request))
                self.must(f"c2d submit --wait '{file}'", place=block.place)

    def file(self, name: str) -> Path:
        """The one file of a name, which may have ``*``, below the folder where this person is."""
        _, here = self.shell.run("pwd")
        (found,) = Path(here.strip()).glob(name)
        return found

    def _type(self, block: Block) -> None:
        found = commands(block)
        for place, command in enumerate(found):
            following = found[place + 1].text if place + 1 < len(found) else ""
            may_fail = following.startswith("echo $?")
            self.must(command.text, command.shown, command.place, may_fail=may_fail)

    def must(self, command: str, shown: str | None = None, place: str = "", *, may_fail: bool = False) -> None:
        status, printed = self.shell.run(self.page.command(command))
        assert may_fail or status == 0, f"{place}: {command}\nexit status {status}\n{printed}"
        if shown is not None:
            assert self.page.shows(shown, printed), f"{place}: {command}\nshown:\n{shown}\nprinted:\n{printed}"

    def _written(self, name: str, content: str) -> Path:
        file = self._files / name
        file.write_text(content, encoding="utf-8")
        return file

    def _environment(self) -> dict[str, str]:
        programs = self._files / "programs"
        programs.mkdir()
        if not self._installs:
            for name, what in (("c2d", " -m compute_to_data.cli.main"), ("python3", "")):
                (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable}{what} "$@"\n')
                (programs / name).chmod(0o755)
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("C2D_", "IRODS_", "XDG_"))}
        return {**plain, "HOME": str(self.home), "PATH": f"{programs}:{os.environ['PATH']}"}

    def _checkout(self) -> Path:
        """A copy of what the installation reads."""
        folder = self._files / "compute-to-data"
        shutil.copytree(ROOT / "compute_to_data", folder / "compute_to_data")
        for name in ("pyproject.toml", "README.md", "LICENSE", "core.py"):
            shutil.copy(ROOT / name, folder)
        return folder


def _request(document: dict[str, Any]) -> dict[str, Any]:
    """The request that a document is, or that a process definition belongs to; {} for a configuration."""
    if "image" in document:
        place = {"role": "CONTAINER", "inputs": [f"{_HOME}/a.txt"], "output_collection": f"{_HOME}/out"}
        return {**place, "process": document}
    return document if "output_collection" in document else {}
