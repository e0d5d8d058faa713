"""Files for the account of jobs: root changes their owner; any other worker owns them without a system call."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import pytest

import compute_to_data
from compute_to_data.engines import ownership
from compute_to_data.engines.docker import confidential
from compute_to_data.engines.docker.warm_channel import Channel
from compute_to_data.errors import EngineError
from compute_to_data.job import Image, Job, JobKey, Limits
from compute_to_data.model import User

PACKAGE = Path(compute_to_data.__file__).parent
PRIVILEGED = frozenset(
    ("chown", "fchown", "lchown", "chroot", "initgroups", "setuid", "setgid", "setgroups", "setresuid", "setresgid")
)
"""Functions of ``os`` and ``shutil`` that an ordinary account may not use."""
LIMITS = Limits(60, 64 << 20, 1, 32, 4 << 20, 100, 4 << 20, 1 << 16)


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Make this process look like a worker that is not root, under the worker's unit. Returns its uid and gid."""

    def forbidden(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    account = os.getuid() or 990, os.getgid() or 990
    monkeypatch.setattr(os, "geteuid", lambda: account[0])
    for name in ("chown", "fchown", "lchown"):
        monkeypatch.setattr(os, name, forbidden)
    return account


def test_outputs_of_an_ordinary_worker_are_its_own(ordinary: tuple[int, int], tmp_path: Path) -> None:
    ownership.make_outputs(str(tmp_path / "outputs"), ordinary)
    assert (tmp_path / "outputs").stat().st_mode & 0o777 == 0o700


def test_pipes_of_an_ordinary_worker_are_its_own(ordinary: tuple[int, int], tmp_path: Path) -> None:
    Channel(str(tmp_path), ordinary).close()


def test_an_ordinary_worker_makes_nothing_for_another_account(ordinary: tuple[int, int], tmp_path: Path) -> None:
    outputs = str(tmp_path / "outputs")
    words = rf"^{outputs}: it must belong to uid 4321, but the worker has uid {ordinary[0]}.*Run the worker as uid"
    with pytest.raises(EngineError, match=words):
        ownership.make_outputs(outputs, (4321, 4321))
    assert os.listdir(tmp_path) == []


def test_an_ordinary_worker_puts_no_secret_where_another_account_needs_it(ordinary: tuple[int, int]) -> None:
    image = Image("i", "sha256:1")
    job = Job(JobKey("1-owner"), User("a", "z"), "r", image, ("x",), LIMITS, "/o", "/l", secrets={"TOKEN": b"value"})
    with pytest.raises(EngineError, match=r"1-owner: it must belong to uid 4321"):
        confidential.put(job, (4321, 4321))
    assert confidential.left("r") == []


def test_a_file_system_that_keeps_owners_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def squashed(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", squashed)
    with pytest.raises(
        EngineError, match=r"outputs: the worker cannot change its owner to uid 9, gid 8 \(Operation.*file system"
    ):
        ownership.make_outputs(str(tmp_path / "outputs"), (9, 8))


def test_few_modules_do_what_needs_privileges() -> None:
    """All other code calls them: one changes the owners of files, one opens files as a job, and one gives the copy of
    an output the output's own owner."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in PRIVILEGED:
                found.add((str(path.relative_to(PACKAGE)), node.attr))
    observer = {("engines/guard.py", one) for one in ("setgroups", "setresgid", "setresuid")}
    assert found == {
        ("engines/job_files.py", "chown"),
        ("pipeline/vault/separate_files.py", "fchown"),
        *observer,
    }
