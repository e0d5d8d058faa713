"""Whoever writes the notes between worker and nodes decides what runs on the nodes. So both refuse a directory in which
another account can write. These tests need no Slurm: the node's program is started by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.nobody import NOBODY

from compute_to_data.engines.slurm import node
from compute_to_data.engines.slurm.notes import Directory
from compute_to_data.errors import EngineError

NONCE = "0123456789abcdef"


def _forged(directory: Path) -> Path:
    """A folder of a job with a request, as an attacker would write it."""
    folder = directory / "jobs" / "attack"
    for one in (directory, folder, directory / "events", directory / "nodes"):
        one.mkdir(mode=0o700, parents=True, exist_ok=True)
    for one in (directory, directory / "jobs"):
        one.chmod(0o700)
    (folder / "request.json").write_text(json.dumps({"nonce": NONCE, "job": {}, "sandbox": {}}))
    return folder


def _of_nobody(place: Path) -> None:
    os.chown(place, NOBODY, NOBODY)


def _open_to_all(place: Path) -> None:
    place.chmod(0o777)


def _a_link(place: Path) -> None:
    place.rename(place.with_name("elsewhere"))
    place.symlink_to("elsewhere")


FOLDERS = ["jobs", "events", "nodes"]
WAYS: list[tuple[Callable[[Path], None], str]] = [
    *((spoil, name) for spoil in (_of_nobody, _open_to_all) for name in ("", *FOLDERS)),
    *((_a_link, name) for name in FOLDERS),  # the path of the directory itself is the administrator's
]


@pytest.mark.parametrize(("spoil", "name"), WAYS)
def test_notes_that_another_account_can_write(tmp_path: Path, name: str, spoil: Callable[[Path], None]) -> None:
    directory = tmp_path / "notes"
    folder = _forged(directory)
    Directory(str(directory)).need_own()
    if spoil is _of_nobody and os.geteuid() != 0:
        pytest.skip("only root can give a folder to another account")
    spoil(directory / name)
    for refuses in (
        lambda: Directory(str(directory)).make(),
        lambda: node.run(str(folder), NONCE),
        lambda: node.probe(str(directory), "probe-1.json"),
        lambda: node.clean(str(directory)),
    ):
        with pytest.raises(EngineError, match="other accounts may use it, or it is another account's"):
            refuses()
    assert os.listdir(directory / "nodes") == [], "nothing was prepared on the node"


def test_the_program_of_a_node_says_why_it_refuses(tmp_path: Path) -> None:
    """In the job's log of Slurm, with what to do."""
    folder = _forged(tmp_path / "notes")
    (tmp_path / "notes").chmod(0o777)
    command = [sys.executable, "-m", "compute_to_data.engines.slurm.node", "run", str(folder), NONCE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert f"chmod 700 {tmp_path / 'notes'}" in done.stderr
