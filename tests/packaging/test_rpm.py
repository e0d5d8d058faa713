"""The RPM package: build it from the same files, install it with its scriptlets into a root of its own, upgrade it,
and remove it without a trace."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from support.debian_packages import need_packages
from support.site import BASE_IMAGE

from .conftest import ADMIN_CORE, ScratchServer, make_server

pytestmark = pytest.mark.docker  # the root is that of an image

CONFIGURATION = "/etc/irods/compute_to_data.json"
PREFIX = "/opt/compute-to-data"
ACCOUNTS = {"etc/.pwd.lock", "etc/passwd", "etc/passwd-", "etc/group", "etc/group-", "etc/shadow", "etc/gshadow"}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, checkout: Path, wheels: Path) -> tuple[Path, Path]:
    """This version's package, and one of an earlier version with a module that this one no longer has."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("CI must run this test as root: rpm enters a root")
        pytest.skip("only root can enter a root of its own, as rpm does for scriptlets")
    need_packages("rpm")
    stage, output = tmp_path_factory.mktemp("stage"), tmp_path_factory.mktemp("rpm")
    new = _built(checkout, wheels, stage, output)
    older = tmp_path_factory.mktemp("older") / "checkout"
    shutil.copytree(checkout, older)
    version = older / "compute_to_data/__init__.py"
    version.write_text(version.read_text().replace('__version__ = "', '__version__ = "0.0.'))
    # Only the version and the agents' package differ: making the environments anew takes minutes.
    spec = older / "packaging/rpm/compute-to-data.spec"
    before = "/opt/compute-to-data/agent/compute_to_data/before.py"
    spec.write_text(spec.read_text().replace("\n%files\n", f"\ntouch %{{buildroot}}{before}\n\n%files\n"))
    build = older / "packaging/rpm/build"
    text = build.read_text()
    step = text[text.index('"$here/../install" install') : text.index("# rpm keeps its own")]
    build.write_text(text.replace(step, "").replace('rm "$stage/opt', 'rm -f "$stage/opt'))
    return _built(older, wheels, stage, output), new


def _built(checkout: Path, wheels: Path, stage: Path, output: Path) -> Path:
    command = [str(checkout / "packaging/rpm/build"), "--wheels", str(wheels), "--output", str(output)]
    done = subprocess.run([*command, "--stage", str(stage)], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    built = Path(done.stdout.strip())
    assert built.is_file()
    return built


@pytest.fixture
def server(docker_answers: None, tmp_path: Path, checkout: Path) -> ScratchServer:
    """A root of its own with a system in it, which has our files of an iRODS server."""
    root = tmp_path / "root"
    root.mkdir()
    made = subprocess.run(["docker", "create", BASE_IMAGE], capture_output=True, text=True, check=True, timeout=60)
    container = made.stdout.strip()
    try:
        with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as exported:
            skip = ["--exclude=dev", "--exclude=proc", "--exclude=sys"]
            subprocess.run(["tar", "-x", *skip, "-C", str(root)], stdin=exported.stdout, check=True, timeout=300)
    finally:
        subprocess.run(["docker", "rm", container], capture_output=True, check=True, timeout=60)
    for folder in ("dev", "proc", "sys"):
        (root / folder).mkdir(exist_ok=True)
    for folder in ("usr/lib/systemd/system", "usr/lib/sysusers.d"):  # which systemd brings
        (root / folder).mkdir(parents=True, exist_ok=True)
    os.mknod(root / "dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    return make_server(root, checkout)


def _rpm(server: ScratchServer, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["rpm", f"--root={server.root}", "--nodeps", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def _must(server: ScratchServer, *words: str) -> str:
    done = _rpm(server, *words)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def _contents(server: ScratchServer) -> dict[str, str]:
    """Without rpm's own database, and what the system beside us keeps."""
    skip = ("var/lib/rpm", "root/.rpmdb", "usr/lib/sysimage", *ACCOUNTS)
    return {name: what for name, what in server.contents().items() if not name.startswith(skip)}


def _asked(package: Path, *words: str) -> str:
    done = subprocess.run(["rpm", "-qp", *words, str(package)], capture_output=True, text=True, check=True)
    return done.stdout


def test_it_needs_only_this_python_and_its_files_are_roots(packages: tuple[Path, Path]) -> None:
    package = packages[1]
    requires = {line for line in _asked(package, "--requires").split("\n") if line and not line.startswith("rpmlib(")}
    minor = subprocess.run(["/usr/bin/python3", "-c", "import sys; print(sys.version_info[1])"], capture_output=True)
    assert requires == {"/bin/sh", f"/usr/bin/python3.{minor.stdout.decode().strip()}"}
    assert "irods-rule-engine-plugin-python" in _asked(package, "--recommends")
    listed = _asked(package, "--queryformat", "[%{FILEUSERNAME}:%{FILEGROUPNAME}\n]")
    assert set(listed.split()) == {"root:root"}
    names = _asked(package, "--list").splitlines()
    assert not [name for name in names if "__pycache__" in name or name.endswith("manifest.json")]
    assert set(_asked(package, "--configfiles").split()) == {CONFIGURATION, "/etc/compute_to_data/gateway.json"}


def test_installed_upgraded_and_removed(packages: tuple[Path, Path], server: ScratchServer) -> None:
    older, newer = packages
    before = _contents(server)
    _must(server, "--install", str(older))
    core = server.path("/etc/irods/core.py")
    assert core.read_bytes().startswith(ADMIN_CORE)
    assert b"compute_to_data.rulebase" in core.read_bytes()
    agent = server.path(f"{PREFIX}/agent/compute_to_data")
    assert list(agent.glob("__pycache__/before.*")), "agents cannot write there, so the package compiles"
    for environment, module in (("venv", "docker, irods, compute_to_data.worker"), ("gateway-venv", "fastapi, irods")):
        inside = ["chroot", str(server.root), f"{PREFIX}/{environment}/bin/python", "-I", "-c", f"import {module}"]
        subprocess.run(inside, check=True, timeout=60)
    assert server.path("/usr/lib/systemd/system/compute-to-data-gateway.service").exists()

    server.path(CONFIGURATION).write_text("{}")
    _must(server, "--upgrade", str(newer))
    assert server.path(CONFIGURATION).read_text() == "{}", "an edited configuration survives an upgrade"
    assert not list(agent.rglob("before.*")), "neither the module nor what was compiled of it"
    assert b"compute_to_data.rulebase" in core.read_bytes(), "the scriptlet of the older package leaves the rules"
    done = server.run("install", "--no-venv")
    assert done.returncode == 1
    assert "the RPM package compute-to-data is installed" in done.stderr

    _must(server, "--erase", "compute-to-data")
    assert core.read_bytes() == ADMIN_CORE
    left = {name: what for name, what in _contents(server).items() if before.get(name) != what}
    assert {name for name in left if not name.endswith(".rpmsave")} == set()
    assert set(left) == {f"{CONFIGURATION.lstrip('/')}.rpmsave"}
    assert set(before) <= set(_contents(server))


def test_it_does_not_overwrite_the_other_installers_files(packages: tuple[Path, Path], server: ScratchServer) -> None:
    server.must("install", "--no-venv")
    before = _contents(server)
    done = _rpm(server, "--install", str(packages[1]))
    assert done.returncode != 0
    assert "packaging/install" in done.stderr
    assert _contents(server) == before
