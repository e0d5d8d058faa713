"""The client without modules that only Unix has. This imitates Windows as far as Unix can."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compute_to_data import local_files
from compute_to_data.errors import InvalidRequest

BARE = """
import importlib, os, pkgutil, sys
sys.modules.update(dict.fromkeys(("fcntl", "grp", "posix_ipc", "pty", "pwd", "resource", "termios")))
for name in ("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "copy_file_range", "geteuid", "getuid", "mkfifo",
             "posix_fallocate", "pread", "preadv", "pwrite", "statvfs"):
    if hasattr(os, name):
        delattr(os, name)
os.supports_follow_symlinks.clear()
"""


def bare(program: str, *arguments: str, home: str = "/nonexistent") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BARE + program, *arguments]
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("C2D_", "IRODS_", "XDG_"))}
    environment = {**variables, "HOME": home, "USERNAME": "alice"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_all_modules_of_the_client_can_be_imported() -> None:
    program = """
import compute_to_data
for package in ("client", "cli", "zones.irods"):
    found = importlib.import_module(f"compute_to_data.{package}")
    for module in pkgutil.walk_packages(found.__path__, f"{found.__name__}."):
        importlib.import_module(module.name)
print(*[getattr(compute_to_data, name) for name in compute_to_data.__all__])
"""
    done = bare(program)
    assert (done.returncode, done.stderr) == (0, "")
    assert "TaskHandle" in done.stdout


def test_files_are_uploaded_and_downloaded(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content" * 1_000_000)
    (tmp_path / "link").symlink_to("a")
    program = """
from compute_to_data import local_files
folder = sys.argv[1]
with local_files.source(f"{folder}/a") as source, local_files.arriving(f"{folder}/b") as target:
    digest = local_files.copy(source.file, target, local_files.silent)
assert digest.size == source.size == os.path.getsize(f"{folder}/b")
try:
    with local_files.source(f"{folder}/link"):
        pass
except Exception as error:
    print(error)
"""
    done = bare(program, str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "a symbolic link, and this program does not follow links" in done.stdout
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "b", "link"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("zone", "create", "here"),
            "needs Python's fcntl, which this system does not have. Use it on Linux or macOS.",
        ),
        (("doctor",), "c2d doctor: checks an iRODS server, and this computer has no"),
    ],
)
def test_operations_that_need_unix_say_so(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    program = "from compute_to_data.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = bare(program, *words, home=str(tmp_path))
    assert said in done.stderr
    assert done.returncode == 2
    assert not list(tmp_path.rglob("config.json"))


@pytest.mark.parametrize("name", ["..\\evil", "C:evil", "a/b:stream", "dots..", "a /b", 'q"', "what?"])
def test_no_name_leads_out_of_a_folder_on_windows(name: str) -> None:
    local_files.need_names(["plain name.txt", "a/b.c", "\u00e9"], "win32")
    local_files.need_names([name], "linux")
    with pytest.raises(InvalidRequest, match="cannot be the name of a file on Windows"):
        local_files.need_names([name], "win32")
