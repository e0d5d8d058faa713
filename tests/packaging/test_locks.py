"""The locks are complete and current: each requirement has a pinned version, with a wheel for each supported system."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from .conftest import CHECKOUT, Installed

LOCKS = CHECKOUT / "packaging" / "locks"
EXTRAS = {"worker": ["docker", "irods", "urls"], "gateway": ["gateway", "irods"], "client": ["irods"]}
IMAGES = {path.parent.name: path.parent for path in CHECKOUT.glob("containers/*/requirements.txt")}
NAMES = ["worker", "gateway", "client", "build", *IMAGES]
PYTHONS = ["3.9", "3.10", "3.11", "3.12", "3.13"]
PLATFORMS = {
    "linux-x86_64": [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)],
    "linux-aarch64": [f"manylinux_2_{minor}_aarch64" for minor in range(28, 16, -1)],
    "alpine-x86_64": ["musllinux_1_2_x86_64", "musllinux_1_1_x86_64"],
    "darwin-arm64": ["macosx_11_0_arm64"],
}


@dataclass(frozen=True)
class Pin:
    requirement: Requirement
    wheels: tuple[str, ...]
    checksums: tuple[str, ...]

    @property
    def version(self) -> Version:
        return Version(str(self.requirement.specifier).removeprefix("=="))


def _pins(name: str) -> Iterator[Pin]:
    wheels: list[str] = []
    text = (IMAGES[name] / "requirements.lock" if name in IMAGES else LOCKS / f"{name}.txt").read_text(encoding="utf-8")
    for line in text.replace("\\\n", " ").splitlines():
        if line.endswith(".whl"):
            wheels.append(line.removeprefix("# "))
        elif not line.startswith("#"):
            requirement, *checksums = line.split("--hash=sha256:")
            yield Pin(Requirement(requirement), tuple(wheels), tuple(one.strip() for one in checksums))
            wheels = []


def _environment(python: str, platform: str) -> dict[str, str]:
    system, _, machine = platform.partition("-")
    system = system.replace("alpine", "linux")
    return {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": system,
        "platform_system": system.capitalize(),
        "platform_machine": machine,
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }


def _in_force(name: str, environment: dict[str, str]) -> dict[str, Pin]:
    found: dict[str, Pin] = {}
    for pin in _pins(name):
        if pin.requirement.marker is None or pin.requirement.marker.evaluate(environment):
            key = canonicalize_name(pin.requirement.name)
            assert key not in found, f"{name}.txt pins {key} twice for {environment}"
            found[key] = pin
    return found


def _required(name: str) -> list[Requirement]:
    if name in IMAGES:
        lines = (IMAGES[name] / "requirements.txt").read_text(encoding="utf-8").splitlines()
        return [Requirement(line) for line in lines if line and not line.startswith("#")]
    text = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
    keys = ["requires"] if name == "build" else EXTRAS[name]
    lists = [re.search(rf"^{key} = \[(.*)\]$", text, re.MULTILINE) for key in keys]
    return [Requirement(one) for found in lists if found for one in re.findall(r'"([^"]+)"', found[1])]


def _tags(python: str, platform: str) -> set[Tag]:
    version = (3, int(python[2:]))
    return {
        *cpython_tags(version, platforms=PLATFORMS[platform]),
        *compatible_tags(version, platforms=PLATFORMS[platform]),
    }


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", NAMES)
def test_each_requirement_is_pinned_and_has_a_wheel(name: str, python: str, platform: str) -> None:
    if name in IMAGES and (python in ("3.9", "3.10") or platform.startswith("darwin")):
        return  # images have Linux, and Python 3.11 or newer
    pins = _in_force(name, _environment(python, platform))
    required = _required(name)
    assert required
    for one in required:
        assert pins[canonicalize_name(one.name)].version in one.specifier, f"run `make lock`: {one} is not satisfied"
    for pin in pins.values():
        usable = [wheel for wheel in pin.wheels if _tags(python, platform) & parse_wheel_filename(wheel)[3]]
        assert usable, f"{pin.requirement} has no wheel for Python {python} on {platform}"


@pytest.mark.parametrize("name", NAMES)
def test_each_wheel_has_its_checksum(name: str) -> None:
    for pin in _pins(name):
        assert len(pin.checksums) == len(set(pin.checksums)) == len(pin.wheels) > 0, pin
        assert all(re.fullmatch("[0-9a-f]{64}", one) for one in pin.checksums)
        for wheel in pin.wheels:
            assert parse_wheel_filename(wheel)[:2] == (canonicalize_name(pin.requirement.name), pin.version)


def test_the_requirements_of_what_is_pinned_are_pinned(installed: Installed) -> None:
    """Of each installed package, by its own metadata, for this Python."""
    site_packages = next(installed.server.path("/opt/compute-to-data/venv/lib").glob("python*/site-packages"))
    pins = {canonicalize_name(pin.requirement.name): pin for pin in _pins("worker")}
    held = {canonicalize_name(one.metadata["Name"]): one for one in _distributions(site_packages)}
    looked = set()
    for name in set(held) & set(pins):
        for text in held[name].requires or ():
            required = Requirement(text)
            if required.marker is None or Marker(str(required.marker)).evaluate({"extra": ""}):
                found = held[canonicalize_name(required.name)]
                assert Version(found.version) in required.specifier, f"{name} requires {required}"
                looked.add(found.metadata["Name"])
    assert {"requests", "urllib3"} <= looked


def _distributions(site_packages: Path) -> list[importlib.metadata.Distribution]:
    return list(importlib.metadata.distributions(path=[str(site_packages)]))


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_takes_only_wheels_of_its_lock(name: str) -> None:
    text = (IMAGES[name] / "Dockerfile").read_text(encoding="utf-8")
    installs = re.findall(r"pip install .*?(?= &&|\n[A-Z])", text, re.DOTALL)
    assert installs
    for one in installs:
        assert "--require-hashes" in one and "--only-binary :all:" in one and "requirements.lock" in one
