"""What the kernel counts for each uid: no job takes it from other jobs, or from the service account on the host."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.jobs import held, remains
from support.real_docker import open_docker
from support.site import until

from compute_to_data.engines.docker import settings
from compute_to_data.job import Job, Mount

from .conftest import HOSTILE

if TYPE_CHECKING:
    from .conftest import Attacker

pytestmark = pytest.mark.docker
BREACH = "got it"
SHARED = 4322
"""An account that no other test uses. If the tests do not run as root, it is their own instead."""
COUNTED = {
    "inotify instance": "EMFILE",
    "large pipe": "EPERM",
    "timer": "EAGAIN",
    "descriptor on its way": "ETOOMANYREFS",
}
"""What the kernel counts, and its answer to one who has taken all."""


def takes_all(attacker: Attacker) -> Job:
    """A job that has taken all that the kernel grants to its uid, and keeps it."""
    job = attacker.start("python3", "-c", HOSTILE, "take_all", limits=replace(attacker.limits, memory_bytes=256 << 20))

    def said() -> bytes:
        assert held(attacker.engine, job.key).wait(0) is None, remains(job.log_file)
        return remains(job.log_file).stdout

    until(lambda: said().endswith(b"}\n"), "the job to take all")
    assert json.loads(said()) == COUNTED
    return job


@pytest.fixture
def sharing(attacker: Attacker) -> Iterator[Attacker]:
    """The same attacker on a site whose jobs share an account."""
    account = {} if os.geteuid() else {"uid": SHARED, "gid": SHARED}
    engine = open_docker(job_uids=None, **account)
    attacker = replace(attacker, engine=engine, keys=[])
    yield attacker
    attacker.clear()


def share_on_the_host() -> dict[str, str]:
    """One of each, for a process of the account that outputs belong to, on the host."""
    command = ["/usr/bin/python3", "-c", HOSTILE, "take_a_share"]
    own = {} if os.geteuid() else {"user": SHARED, "group": SHARED, "extra_groups": []}
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/", **own)  # type: ignore[call-overload]
    return dict(json.loads(said.stdout))


def test_one_job_takes_nothing_from_another(attacker: Attacker) -> None:
    takes_all(attacker)
    assert attacker.tries("take_a_share") == dict.fromkeys(COUNTED, BREACH)


def test_a_job_takes_nothing_from_the_service_account(attacker: Attacker) -> None:
    takes_all(attacker)
    assert share_on_the_host() == dict.fromkeys(COUNTED, BREACH)


def test_a_job_leaves_pseudo_terminals_to_others(attacker: Attacker) -> None:
    """All containers of a host share some 3,000. A job with the files for all of them gets a few."""
    job = attacker.start("python3", "-c", HOSTILE, "terminals")
    until(lambda: remains(job.log_file).stdout.endswith(b"\n"), "the job to take all")
    assert held(attacker.engine, job.key).wait(0) is None
    assert 1 <= int(remains(job.log_file).stdout) <= 64
    script = "import os; a, b = os.openpty(); os.write(a, b'spoke'); print(os.ttyname(b))"
    assert attacker.said(attacker.start("python3", "-c", script)).startswith("/dev/pts/")


def test_where_jobs_share_an_account_they_take_from_each_other(sharing: Attacker) -> None:
    """What the setting ``"job_uids": null`` costs. It also shows that the attack works."""
    takes_all(sharing)
    assert sharing.tries("take_a_share") == COUNTED
    assert BREACH not in {share_on_the_host()[name] for name in ("inotify instance", "large pipe")}


def test_no_two_jobs_have_the_same_uid(attacker: Attacker) -> None:
    jobs = [attacker.start("sh", "-c", "id -u; id -g; id -G; exec sleep 60") for _ in range(4)]
    for job in jobs:
        until(lambda job=job: remains(job.log_file).stdout.count(b"\n") == 3, "the job to say its ids")  # type: ignore[misc]
    ids = [remains(job.log_file).stdout.split() for job in jobs]
    assert all(len(set(one)) == 1 for one in ids), "the uid, the gid and the only group have the same number"
    assert len({one[0] for one in ids}) == len(jobs)


def test_a_job_cannot_use_the_outputs_of_another(attacker: Attacker, tmp_path: Path) -> None:
    """If a job reached them somehow: as an input with the mode that programs usually give."""
    job = attacker.start("sh", "-c", "umask 077; echo mine > /outputs/x")
    attacker.said(job)
    status = os.stat(f"{job.outputs}/x")
    assert status.st_uid != settings.account(settings.read({}))[0]
    program = (
        "import os, sys; os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[1])); open(sys.argv[3])"
    )
    other = [str(status.st_uid + 1), str(status.st_gid + 1), f"{job.outputs}/x"]
    for folder in (tmp_path, *tmp_path.parents):
        assert folder == Path("/") or folder.chmod(folder.stat().st_mode | 0o011) is None
    done = subprocess.run(["/usr/bin/python3", "-c", program, *other], capture_output=True, text=True, check=False)
    assert "PermissionError" in done.stderr


def test_a_job_reads_a_private_input_and_leaves_no_trace_on_it(attacker: Attacker, tmp_path: Path) -> None:
    """Two jobs at the same time; the file is for its owner only before and afterwards."""
    file = tmp_path / "replica"
    file.write_text("content\n")
    file.chmod(0o600)
    inputs = (Mount(str(file), "/inputs/x"),)
    one = attacker.start("sh", "-c", "cat /inputs/x; until [ -e /outputs/go ]; do sleep 0.1; done", inputs=inputs)
    other = attacker.start("cat", "/inputs/x", inputs=inputs)
    assert attacker.said(other) == "content\n"
    attacker.engine.remove(other.key)
    assert len(os.getxattr(file, "system.posix_acl_access")) == 4 + 5 * 8, "one entry for the job that still runs"
    Path(one.outputs, "go").touch()
    assert attacker.said(one) == "content\n"
    attacker.engine.remove(one.key)
    assert os.listxattr(file) == []
    assert file.stat().st_mode & 0o777 == 0o600
