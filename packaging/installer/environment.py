"""The workers' virtual environment: this checkout's package and its dependencies."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from installer.layout import InstallError, Layout
from installer.manifest import Manifest, checksum_of
from installer.payload import Checkout

EXTRAS = "docker,irods"


def wanted(checkout: Checkout, layout: Layout) -> dict[str, str]:
    """The record of an environment that is up to date."""
    return {"fingerprint": checkout.fingerprint(), "python": python_version(layout.python)}


def python_version(python: str) -> str:
    """An interpreter's version, such as ``3.11``; '' when it does not run."""
    return _answer([python, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])


def _answer(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def is_usable(layout: Layout) -> bool:
    """Whether there is an environment with the right Python, into which we can install packages."""
    version = python_version(str(layout.on_disk(layout.venv) / "bin" / "python"))
    return bool(version) and version == python_version(layout.python)


def make(checkout: Checkout, layout: Layout, record: Manifest, wheels: str) -> None:
    """Make or update the environment. Packages that the site has added, such as its own roles, stay,
    unless the environment's Python no longer exists."""
    place = layout.on_disk(layout.venv)
    is_fresh = not is_usable(layout)
    if is_fresh:
        shutil.rmtree(place, ignore_errors=True)
        record.venv = {"python": "unfinished"}
        record.save(layout)
        _run([layout.python, "-I", "-m", "venv", str(place)], f"cannot make the virtual environment {place}")
    with tempfile.TemporaryDirectory(prefix="compute-to-data-") as folder:
        for name, content in checkout.sources().items():
            target = Path(folder, "source", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        _install(place, f"{folder}/source", wheels, checkout.version, is_fresh)
    _relocate(place, layout)
    forget(record, layout)
    for path in _files(place):
        record.files[f"{layout.venv}/{path.relative_to(place)}"] = [checksum_of(path)]
    record.venv = wanted(checkout, layout)


def forget(record: Manifest, layout: Layout) -> None:
    """Remove the environment's files from the record."""
    for path in [path for path in record.files if path.startswith(f"{layout.venv}/")]:
        del record.files[path]


def _files(place: Path) -> list[Path]:
    found = []
    for folder, folders, names in os.walk(place):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = [name for name in folders if name != "__pycache__" and name not in links]
        found += [Path(folder, name) for name in (*names, *links)]
    return sorted(found)


def _install(place: Path, source: str, wheels: str, version: str, is_fresh: bool) -> None:
    pip = [str(place / "bin" / "python"), "-I", "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    offline = ["--no-index", "--find-links", wheels] if wheels else []
    ready = sorted(Path(wheels).glob(f"compute_to_data-{version}-*.whl")) if wheels else []
    what = str(ready[0]) if ready else source
    why = "cannot install the workers' packages"
    _run([*pip, *offline, "--upgrade", f"{what}[{EXTRAS}]"], why)
    if ready and not is_fresh:  # pip would skip a wheel of the installed version
        _run([*pip, *offline, "--force-reinstall", "--no-deps", what], why)


def _run(command: Sequence[str], why: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        raise InstallError(f"{why}: {command[0]}: {error.strerror}") from error
    if done.returncode != 0:
        last = "\n  ".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        remedy = (
            "If this host cannot reach a package index, make a folder of wheels elsewhere and give it with --wheels"
        )
        raise InstallError(f"{why}:\n  {last}\n{remedy}")


def _relocate(place: Path, layout: Layout) -> None:
    """Correct the interpreter's path in the environment's programs: on the server it lacks our root."""
    if layout.is_live:
        return
    ours, theirs = str(place).encode(), layout.venv.encode()
    for path in [*(place / "bin").iterdir(), place / "pyvenv.cfg"]:
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            if ours in content and b"\0" not in content:
                path.write_bytes(content.replace(ours, theirs))
