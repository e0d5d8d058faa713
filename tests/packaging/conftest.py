"""An installation in a scratch root. It is made once, because virtual environments take long."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support.site import PATIENCE

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "packaging"))

ADMIN_CORE = b"""import json

__all__ = ["acPostProcForPut"]


def acPostProcForPut(rule_args, callback, rei):
    return 0"""
"""An administrator's core.py. Its last line has no line end."""

SERVER_CONFIG = """{
    "advanced_settings": {"number_of_concurrent_delay_rule_executors": 4},
    "plugin_configuration": {
        "rule_engines": [
            {"instance_name": "native", "plugin_name": "irods_rule_engine_plugin-irods_rule_language"}
        ]
    }
}
"""


@dataclass(frozen=True)
class ScratchServer:
    """A root with the files of an iRODS server, on which we run the installer of a checkout. ``before``: what
    comes before the installer on its command line."""

    root: Path
    checkout: Path
    before: tuple[str, ...] = ()

    def path(self, of_the_server: str) -> Path:
        return self.root / of_the_server.lstrip("/")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*self.before, sys.executable, str(self.checkout / "packaging" / "install"), *arguments]
        options = ["--root", str(self.root), "--python", agents_python()]
        return subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=5 * PATIENCE)

    def must(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def contents(self) -> dict[str, str]:
        """Every file with its mode and checksum, every folder, every link."""
        found = {}
        for folder, folders, names in os.walk(self.root):
            for name in (*folders, *names):
                path = Path(folder, name)
                shown = str(path.relative_to(self.root))
                mode = f"{path.lstat().st_mode:o}"
                if path.is_symlink():
                    found[shown] = f"-> {os.readlink(path)}"
                elif path.is_dir():
                    found[shown] = mode
                else:
                    found[shown] = f"{mode} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        return found


def without_network() -> tuple[str, ...]:
    """What runs a program without any network, not even the host's own loopback; () where nothing can."""
    for command in (("unshare", "--net"), ("unshare", "--map-root-user", "--net")):
        if (
            shutil.which("unshare")
            and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
        ):
            return command
    return ()


def agents_python() -> str:
    """An interpreter outside any virtual environment, like that of agents."""
    return os.path.realpath(sys.executable)


def make_server(root: Path, checkout: Path) -> ScratchServer:
    for name, content in {
        "etc/irods/core.py": ADMIN_CORE,
        "etc/irods/server_config.json": SERVER_CONFIG.encode(),
        "etc/systemd/system/other.service": b"[Unit]\n",
        "lib/systemd/system/other.service": b"[Unit]\n",
        "var/lib/irods/version.json": b'{"irods_version": "5.0.2"}',
        "opt/other/file": b"",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "etc/irods/server_config.json").chmod(0o600)
    return ScratchServer(root, checkout)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, which does not change while the tests run."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("compute_to_data", "packaging", "rules", "docs"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("core.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, folder)
    return folder


@pytest.fixture
def server(tmp_path: Path, checkout: Path) -> ScratchServer:
    """A server without our package."""
    return make_server(tmp_path / "root", checkout)


def make_wheels(factory: pytest.TempPathFactory, checkout: Path, *, seconds: float) -> Path:
    """A folder with a checkout's wheel and the packages of its lock. ``seconds``: the longest time for each Python."""
    folder = factory.mktemp("wheels")
    for python in sorted({agents_python(), os.path.realpath("/usr/bin/python3")}):
        made = factory.mktemp("made")
        command = [str(checkout / "packaging" / "wheels"), "--python", python, str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
        assert done.returncode == 0, f"these tests need a package index that pip can reach:\n{done.stderr}"
        shutil.copytree(made, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Path:
    """This checkout's wheel and the packages of its lock, for our Python and the system's. C2D_TEST_WHEELS names a
    folder that has them, for a host without a package index."""
    if "C2D_TEST_WHEELS" in os.environ:
        return Path(os.environ["C2D_TEST_WHEELS"])
    return make_wheels(tmp_path_factory, checkout, seconds=300)


@dataclass(frozen=True)
class Installed:
    """A server before and after the installation. Tests do not change it. ``offline``: whether the
    installer ran without any network."""

    server: ScratchServer
    before: dict[str, str]
    output: str
    offline: bool


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, checkout: Path, wheels: Path) -> Installed:
    server = make_server(tmp_path_factory.mktemp("installed") / "root", checkout)
    before = server.contents()
    offline = replace(server, before=without_network())
    return Installed(server, before, offline.must("install", "--wheels", str(wheels)), bool(offline.before))


def build_debian_package(server: ScratchServer, wheels: Path, folder: Path) -> Path:
    """The Debian package of a server's checkout. It reuses the server's environment if that has the distribution's
    Python."""
    stage, ours = folder / "stage", Path("opt/compute-to-data")
    shutil.copytree(server.root / ours / "venv", stage / ours / "venv", symlinks=True)
    shutil.copy(server.root / ours / "manifest.json", stage / ours)
    command = [str(server.checkout / "packaging/debian/build"), "--wheels", str(wheels)]
    command += ["--output", str(folder), "--stage", str(stage)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = Path(done.stdout.strip())
    assert built.is_file()
    shutil.rmtree(stage)
    return built


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory, installed: Installed, wheels: Path) -> Path:
    """This checkout's Debian package."""
    return build_debian_package(installed.server, wheels, tmp_path_factory.mktemp("deb"))


def make_package_database(server: ScratchServer) -> None:
    """An empty one, for :func:`dpkg`."""
    for folder in ("var/lib/dpkg/info", "var/lib/dpkg/updates"):
        (server.root / folder).mkdir(parents=True)
    (server.root / "var/lib/dpkg/status").write_text("")


def dpkg(server: ScratchServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run dpkg on a server's root, without a network: the package brings the workers' packages."""
    force = ["--force-script-chrootless", "--force-depends", "--force-not-root", "--force-confdef", "--force-confold"]
    command = [*without_network(), "dpkg", f"--root={server.root}", *force, "--log=/dev/null", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})


def must_dpkg(server: ScratchServer, *arguments: str) -> str:
    """As :func:`dpkg`, which must succeed; returns what it prints."""
    done = dpkg(server, *arguments)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
