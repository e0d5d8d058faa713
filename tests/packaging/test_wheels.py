"""What root installs: only wheels of the lock and of this checkout, unchanged, and without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from installer import environment
from installer.layout import Layout
from installer.manifest import Manifest
from installer.payload import Checkout

from .conftest import CHECKOUT, Installed, ScratchServer, agents_python, without_network


def _own(folder: Path) -> Path:
    return next(folder.glob("compute_to_data-*.whl"))


def _refused(server: ScratchServer, folder: Path) -> str:
    """Install from a folder that was tampered with; returns why it was refused. Nothing may be left."""
    before = server.contents()
    done = server.run("install", "--wheels", str(folder))
    assert done.returncode == 1, f"it was installed:\n{done.stdout}"
    server.must("uninstall")
    assert server.contents() == before
    return done.stderr


@pytest.fixture
def folder(wheels: Path, tmp_path: Path) -> Path:
    """A folder of wheels that a test may change."""
    return Path(shutil.copytree(wheels, tmp_path / "wheels"))


def test_the_installer_needs_no_network(installed: Installed) -> None:
    if not installed.offline:
        if os.environ.get("CI"):
            pytest.fail("CI must be able to run a program without a network: unshare --net")
        pytest.skip("this host cannot run a program without a network")
    connect = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    done = subprocess.run([*without_network(), "python3", "-c", connect], capture_output=True, text=True, check=False)
    assert "unreachable" in done.stderr, "the network was not off"


def test_the_installer_builds_nothing(server: ScratchServer, tmp_path: Path) -> None:
    done = server.run("install", "--wheels", str(tmp_path))
    assert done.returncode == 1
    assert f"STOP: {tmp_path} has no wheel compute_to_data-" in done.stderr
    assert "make wheels" in done.stderr


def _add_a_module(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("sitecustomize.py", "import os")


def _add_a_module_twice(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("compute_to_data/job.py", "import os")


def _rewrite(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in held.items():
            archive.writestr(name, change(name, content))


def _change_a_module(path: Path) -> None:
    _rewrite(path, lambda name, content: content + b"\n" if name == "compute_to_data/job.py" else content)


def _replace_the_environments_python(path: Path) -> None:
    _rewrite(
        path, lambda name, content: content + b"python = os:abort\n" if name.endswith("entry_points.txt") else content
    )


def _add_a_script(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{path.name.split('-py3')[0]}.data/scripts/python", "#!/bin/sh\n")


def _put_a_pipe_there(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _grow(path: Path) -> None:
    """One module has 300 MB of spaces more, which take 300 kB."""
    _rewrite(path, lambda name, content: content + b" " * 300_000_000 if name == "compute_to_data/job.py" else content)


def _list_the_environments_python(path: Path) -> None:
    _rewrite(path, lambda name, content: content + b"../../../bin/python,,\n" if name.endswith("RECORD") else content)


def _repeat_about(path: Path) -> None:
    _rewrite(path, lambda name, content: content * 1000 if name.endswith("METADATA") else content)


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (_add_a_module, "sitecustomize.py"),
        (_add_a_module_twice, "several files of one name"),
        (_change_a_module, "compute_to_data/job.py differs"),
        (_replace_the_environments_python, "entry_points.txt differs"),
        (_add_a_script, "data/scripts/python"),
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "cannot be read"),
        (_grow, "compute_to_data/job.py differs"),
        (_list_the_environments_python, "RECORD lists other files"),
        (_repeat_about, "has more than 1048576 bytes"),
    ],
)
def test_a_wheel_of_ours_that_is_not_the_checkouts_is_refused(
    server: ScratchServer, folder: Path, tamper: Callable[[Path], object], named: str
) -> None:
    tamper(_own(folder))
    stderr = _refused(server, folder)
    assert f"{_own(folder)} is not the wheel of this checkout" in stderr
    assert named in stderr


def test_a_pipe_in_the_folder_is_not_waited_for(server: ScratchServer, folder: Path) -> None:
    _put_a_pipe_there(next(folder.glob("idna-*.whl")))
    assert "idna" in _refused(server, folder)
    _put_a_pipe_there(_own(folder))
    assert "it is no regular file" in _refused(server, folder)


def test_a_wheel_that_is_exchanged_after_the_check_is_not_installed(
    folder: Path, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can write into the folder exchanges a wheel while pip compares checksums."""
    real = environment._run

    def run(command: Sequence[str], why: str) -> None:
        if "--find-links" in command:
            for wheel in folder.glob("*.whl"):
                wheel.write_bytes(b"something else")
            place = Path(command[command.index("--find-links") + 1])
            assert [path for path in (place, *place.iterdir()) if path.stat().st_mode & 0o022] == []
            assert place.parent.stat().st_mode & 0o077 == 0
        real(command, why)

    monkeypatch.setattr(environment, "_run", run)
    layout = Layout(root=tmp_path / "root", python=agents_python())
    layout.on_disk(layout.prefix).mkdir(parents=True)
    record = Manifest()
    one = environment.of_the_workers(layout, record)
    environment.make(one, Checkout(checkout), record, folder)
    assert one.is_usable()
    assert list(one.folder.glob("lib/*/site-packages/idna/core.py"))


def test_a_dependencys_wheel_that_was_changed_is_refused(server: ScratchServer, folder: Path) -> None:
    with zipfile.ZipFile(next(folder.glob("idna-*.whl")), "a") as archive:
        archive.writestr("idna/more.py", "")
    stderr = _refused(server, folder)
    assert "idna" in stderr and "hash" in stderr.lower()


def test_a_lock_that_lost_its_hashes_is_refused(server: ScratchServer, folder: Path, tmp_path: Path) -> None:
    """pip by itself compares hashes only when the lock has some."""
    other = ScratchServer(server.root, tmp_path / "checkout")
    shutil.copytree(server.checkout, other.checkout)
    lock = other.checkout / "packaging" / "locks" / "worker.txt"
    lock.write_text(re.sub(r"\s*\\\s*--hash=\S+", "", lock.read_text()))
    assert "--hash" not in lock.read_text()
    assert "hash" in _refused(other, folder).lower()


def test_a_source_archive_is_refused(server: ScratchServer, folder: Path, tmp_path: Path) -> None:
    """Its build would run its author's program as root."""
    wheel = next(folder.glob("defusedxml-*.whl"))
    name = "-".join(wheel.name.split("-")[:2])
    source = tmp_path / name
    source.mkdir()
    mark = tmp_path / "built"
    (source / "setup.py").write_text(f"open({str(mark)!r}, 'w')")
    shutil.make_archive(str(folder / name), "gztar", tmp_path, name)
    wheel.unlink()
    assert "defusedxml" in _refused(server, folder)
    assert not mark.exists()


def test_the_wheel_has_the_checkouts_files_and_no_more(wheels: Path, checkout: Path) -> None:
    with zipfile.ZipFile(_own(wheels)) as archive:
        packed = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == Checkout(checkout).package()


def test_what_an_earlier_build_left_in_a_checkout_is_not_packed(checkout: Path, tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    shutil.copytree(checkout, copy)
    left = copy / "build/lib/compute_to_data/removed_long_ago.py"
    left.parent.mkdir(parents=True)
    left.write_text("")
    before = sorted(copy.rglob("*"))
    subprocess.run([str(copy / "packaging/wheels"), str(tmp_path / "made")], check=True, capture_output=True)
    with zipfile.ZipFile(_own(tmp_path / "made")) as archive:
        assert not [name for name in archive.namelist() if "removed_long_ago" in name]
    assert sorted(copy.rglob("*")) == before


def test_wheels_of_an_index_that_lies_are_refused(folder: Path, checkout: Path, tmp_path: Path) -> None:
    """An index, or someone between it and us, hands out another file of the same name and version."""
    copy = tmp_path / "checkout"
    shutil.copytree(checkout, copy)
    lock = copy / "packaging/locks/worker.txt"
    lock.write_text(re.sub(r"(?<=sha256:)[0-9a-f]{64}", "0" * 64, lock.read_text()))
    made = tmp_path / "made"
    done = subprocess.run([str(copy / "packaging/wheels"), str(made)], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "hash" in done.stderr.lower()
    assert not list(made.glob("*.whl"))


def test_the_checkout_is_complete(checkout: Path) -> None:
    """The copies in these tests have what a checkout has."""
    copy, original = Checkout(checkout), Checkout(CHECKOUT)
    for lock in ("worker", "gateway"):
        assert copy.fingerprint(copy.lock(lock)) == original.fingerprint(original.lock(lock))
