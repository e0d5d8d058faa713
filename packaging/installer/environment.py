"""The virtual environments of the workers and of the gateway: this checkout's package and its dependencies.

They are two, because on Python 3.9 no version of urllib3 suits both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from installer import wheels
from installer.layout import InstallError, Layout
from installer.manifest import Manifest, checksum_of
from installer.payload import Checkout

_REMEDY = "Make the folder anew with this host's Python: packaging/wheels DIR, and give it with --wheels DIR"


@dataclass(frozen=True)
class Environment:
    """One of the environments of a server. ``whose``: for whom it is, in words. ``place``: its folder, as the server
    sees it. ``lock``: the name of its lock. ``made``: the record of how it was made; it is empty before that."""

    layout: Layout
    whose: str
    place: str
    lock: str
    made: dict[str, str]

    @property
    def folder(self) -> Path:
        """Its folder, below the root."""
        return self.layout.on_disk(self.place)

    def wanted(self, checkout: Checkout) -> dict[str, str]:
        """The record of an environment that is up to date."""
        python = python_version(self.layout.python)
        return {"fingerprint": checkout.fingerprint(checkout.lock(self.lock)), "python": python}

    def is_usable(self) -> bool:
        """Whether it is there with the right Python, so that we can install packages into it."""
        version = python_version(str(self.folder / "bin" / "python"))
        return bool(version) and version == python_version(self.layout.python)

    def is_current(self, checkout: Checkout) -> bool:
        """Whether it is usable and was made of this checkout and its lock."""
        return self.is_usable() and self.made == self.wanted(checkout)


def of_the_workers(layout: Layout, record: Manifest) -> Environment:
    """The workers' environment."""
    return Environment(layout, "the workers", layout.venv, "worker", record.venv)


def of_the_gateway(layout: Layout, record: Manifest) -> Environment:
    """The gateway's environment."""
    return Environment(layout, "the gateway", layout.gateway_venv, "gateway", record.gateway_venv)


def python_version(python: str) -> str:
    """An interpreter's version, such as ``3.11``; '' when it does not run."""
    return _answer([python, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])


def _answer(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def make(one: Environment, checkout: Checkout, record: Manifest, folder: Path) -> None:
    """Make or update an environment. Packages that the site has added, such as its own roles, stay,
    unless the environment's Python no longer exists."""
    layout, place = one.layout, one.folder
    name, wheel = wheels.own(checkout, folder)
    if not one.is_usable():
        shutil.rmtree(place, ignore_errors=True)
        _remember(one, {"python": "unfinished"})
        record.save(layout)
        _run([layout.python, "-I", "-m", "venv", str(place)], f"cannot make the virtual environment {place}")
    with tempfile.TemporaryDirectory(prefix="compute-to-data-") as scratch:
        ours, others = Path(scratch, name), Path(scratch, "wheels")
        ours.write_bytes(wheel)  # what was compared with the checkout, whatever happens in the folder meanwhile
        others.mkdir()
        wheels.copy(folder, others)
        _install(one, folder, others, checkout.lock(one.lock), ours)
    _relocate(one)
    for known in [known for known in record.files if known.startswith(f"{one.place}/")]:
        del record.files[known]
    for path in _files(place):
        record.files[f"{one.place}/{path.relative_to(place)}"] = [checksum_of(path)]
    _remember(one, one.wanted(checkout))


def _remember(one: Environment, made: dict[str, str]) -> None:
    one.made.clear()
    one.made.update(made)


def _files(place: Path) -> list[Path]:
    found = []
    for folder, folders, names in os.walk(place):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = [name for name in folders if name != "__pycache__" and name not in links]
        found += [Path(folder, name) for name in (*names, *links)]
    return sorted(found)


def _install(one: Environment, folder: Path, copies: Path, lock: Path, ours: Path) -> None:
    """Install wheels of the folder only, from the copies of them. pip refuses what the lock does not name, and runs no
    package's setup."""
    python = str(one.folder / "bin" / "python")
    pip = [python, "-I", "-m", "pip", "--isolated", "--disable-pip-version-check", "--quiet"]
    install = [*pip, "install", "--no-index", "--only-binary", ":all:"]
    why = f"cannot install the packages of {one.whose} from {folder}"
    _run([*install, "--find-links", str(copies), "--require-hashes", "--requirement", str(lock)], why)
    # pip would skip a wheel of the installed version.
    _run([*install, "--no-deps", "--force-reinstall", str(ours)], why)


def _run(command: Sequence[str], why: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        raise InstallError(f"{why}: {command[0]}: {error.strerror}") from error
    if done.returncode != 0:
        last = "\n  ".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise InstallError(f"{why}:\n  {last}\n{_REMEDY}")


def _relocate(one: Environment) -> None:
    """Correct the interpreter's path in the environment's programs: on the server it lacks our root."""
    if one.layout.is_live:
        return
    ours, theirs = str(one.folder).encode(), one.place.encode()
    for path in [*(one.folder / "bin").iterdir(), one.folder / "pyvenv.cfg"]:
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            if ours in content and b"\0" not in content:
                path.write_bytes(content.replace(ours, theirs))
