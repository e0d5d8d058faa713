"""A worker that is not root: its guard has power over its own and its jobs' files, and over nothing else."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.site import until

import compute_to_data

FIRST, COUNT = 900_000, 1_000
JOB = FIRST + 7
ACCOUNT = "daemon"
PYTHON = "/usr/bin/python3"
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process as another account"),
    pytest.mark.xdist_group("subordinate ids"),  # some tests give the account some, and others need it without
]

PROGRAM = """
import json, os, signal, sys
from compute_to_data.engines import guard_client, ownership
from compute_to_data.engines.job_ids import JobIds
from compute_to_data.errors import EngineError

ids, folder = JobIds(900_000, 900_000, 1_000), sys.argv[1]
job, own = (900_007, 900_007), (os.getuid(), os.getgid())

def attempt(way):
    try:
        way()
        return "done"
    except (OSError, EngineError) as error:
        return type(error).__name__

def given(name):
    place = f"{folder}/{name}"
    os.makedirs(f"{place}/below", 0o700)
    os.chmod(place, 0o700)
    with open(f"{place}/below/x", "w") as file:
        file.write("x" * 5000)
    os.chmod(f"{place}/below/x", 0)
    for one in (f"{place}/below/x", f"{place}/below", place):
        ownership.give(one, job)
    return place

def give_and_take(name="given"):
    place = given(name)
    assert os.stat(place).st_uid == job[0]
    ownership.take_back(place, ids, own)
    assert len(open(f"{place}/below/x").read()) == 5000

def measure():
    found = ownership.measure(given("measured"), most_bytes=1 << 20, most_entries=10)
    assert (found.entries, found.hidden, found.is_whole, found.size >= 5000) == (2, False, True, True), found

def empty():
    place = given("emptied")
    ownership.empty(place)
    os.rmdir(place)

def by_the_guard(operation, name, *values):
    with ownership.place_of(f"{folder}/{name}") as place:
        guard_client.do(operation, *values, descriptors=[place])

def family():
    with open("/proc/self/cmdline", "rb") as file:
        mine = file.read()
    for name in set(filter(str.isdigit, os.listdir("/proc"))) - {str(os.getpid())}:
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if file.read() == mine:
                    yield int(name)
        except OSError:
            pass  # it has just ended

def kill_the_guard():
    for one in family():
        os.kill(one, signal.SIGKILL)

before = attempt(lambda: ownership.give(folder, job))
try:
    guard_client.start(ids)
except EngineError as error:
    sys.exit(json.dumps({"refused": str(error)}))
ways = {
    "before": before,
    "give and take": attempt(give_and_take),
    "measure": attempt(measure),
    "empty": attempt(empty),
    "give by itself": attempt(lambda: os.chown(f"{folder}/given", *job)),
    "read by itself": attempt(lambda: os.listdir(given("read"))),
    "read root's": attempt(lambda: open(f"{folder}/root").close()),
    "take root's": attempt(lambda: by_the_guard("give", "root", *own)),
    "measure root's": attempt(lambda: by_the_guard("measure", "of-root", 1, 1)),
    "remove root's": attempt(lambda: by_the_guard("empty", "of-root", "")),
    "give to root": attempt(lambda: by_the_guard("give", "given", 0, 0)),
    "give to another": attempt(lambda: by_the_guard("give", "given", 899_999, -1)),
    "another operation": attempt(lambda: by_the_guard("remove", "given")),
    "become root": attempt(lambda: os.setuid(0)),
    "become the job": attempt(lambda: os.setuid(job[0])),
    "see the job": attempt(lambda: os.listdir(guard_client.opened(sys.argv[2], job))),
    "see root's": attempt(lambda: guard_client.opened("/proc/1/root", job)),
    "as root": attempt(lambda: guard_client.opened("/proc/1/root", (0, 0))),
    "as itself": attempt(lambda: guard_client.opened(sys.argv[2], own)),
    "another file": attempt(lambda: guard_client.opened("/proc/../etc/passwd", job)),
    "again": attempt(lambda: guard_client.start(ids)),
    "kill the guard": attempt(kill_the_guard),
    "give and take without it": attempt(lambda: give_and_take("afterwards")),
    "see the job without it": attempt(lambda: guard_client.opened(sys.argv[2], job)),
    "keep without it": attempt(lambda: guard_client.keep("x", folder, job, 1, 1)),
}
with open("/proc/self/status") as file:
    capabilities = [line.split()[1] for line in file if line.startswith(("CapPrm", "CapEff", "CapAmb"))]
said = {"uid": own[0], "groups": len(os.getgroups()), "capabilities": set(map(int, capabilities)) == {0}}
print(json.dumps({**ways, **said}), flush=True)
sys.stdin.read()
"""
BEHAVES = {
    "before": "EngineError",
    "give and take": "done",
    "measure": "done",
    "empty": "done",
    "give by itself": "PermissionError",
    "read by itself": "PermissionError",
    "read root's": "PermissionError",
    "take root's": "PermissionError",
    "measure root's": "PermissionError",
    "remove root's": "PermissionError",
    "give to root": "OSError",
    "give to another": "OSError",
    "another operation": "OSError",
    "become root": "PermissionError",
    "become the job": "PermissionError",
    "see the job": "done",
    "see root's": "PermissionError",
    "as root": "PermissionError",
    "as itself": "PermissionError",
    "another file": "PermissionError",
    "again": "done",
    "kill the guard": "done",
    "give and take without it": "EngineOutOfReach",
    "see the job without it": "EngineOutOfReach",
    "keep without it": "done",
    "groups": 2,
    "capabilities": True,
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the account, with our package, which it may not be able to read where it is."""
    account = pwd.getpwnam(ACCOUNT)
    made = Path(tempfile.mkdtemp(prefix="c2d-guard-", dir="/var/lib"))
    try:
        shutil.copytree(Path(compute_to_data.__file__).parent, made / "package/compute_to_data")
        (made / "package").chmod(0o755)
        (made / "root").touch(mode=0o600)
        (made / "of-root").mkdir(mode=0o700)
        (made / "of-root/x").touch()
        os.chown(made, account.pw_uid, account.pw_gid)
        made.chmod(0o755)
        yield made
    finally:
        shutil.rmtree(made)


@pytest.fixture
def job() -> Iterator[subprocess.Popen[bytes]]:
    """A process with the uid of a job."""
    with subprocess.Popen(["sleep", "600"], user=JOB, group=JOB, extra_groups=[], cwd="/") as process:
        yield process
        process.kill()


CONFINED = """
import ctypes, os, sys
assert not ctypes.CDLL(None).unshare(0x10000000)
print("unshared", flush=True)
sys.stdin.readline()
os.setgid(1)
os.setuid(1)
os.execvp("sleep", ["sleep", "600"])
"""


@pytest.fixture
def confined_job() -> Iterator[subprocess.Popen[bytes]]:
    """A process with the uid of a job in a user namespace of the account's own, as a rootless Podman makes one."""
    account = pwd.getpwnam(ACCOUNT)
    own = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    command = ["setpriv", *own, PYTHON, "-c", CONFINED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/") as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"unshared\n"
        for kind, root in (("gid", account.pw_gid), ("uid", account.pw_uid)):
            Path(f"/proc/{process.pid}/{kind}_map").write_text(f"0 {root} 1\n1 {JOB} 1\n")
        process.stdin.write(b"go\n")
        process.stdin.flush()
        until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "the job's program to start")
        yield process
        process.kill()


def _run(folder: Path, job: subprocess.Popen[bytes], *privileges: str) -> dict[str, Any]:
    """What the program says as the account, with these options of setpriv."""
    account = pwd.getpwnam(ACCOUNT)
    own = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--groups=1,2"]
    command = ["setpriv", *own, *privileges, PYTHON, "-c", PROGRAM, str(folder), f"/proc/{job.pid}/root"]
    environment = {"PYTHONPATH": str(folder / "package"), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", check=False, timeout=60)
    answer: dict[str, Any] = json.loads(done.stdout or done.stderr)
    return answer


CAPABLE = (
    "--no-new-privs",
    *(f"--{which}={'-all,+setuid,+setgid'}" for which in ("bounding-set", "inh-caps", "ambient-caps")),
)
"""As the worker's unit and compute-to-data-worker start it."""


def test_a_worker_that_systemd_or_root_starts(folder: Path, job: subprocess.Popen[bytes]) -> None:
    said = _run(folder, job, *CAPABLE)
    assert said.pop("uid") == pwd.getpwnam(ACCOUNT).pw_uid
    assert said == BEHAVES
    assert {path.lstat().st_uid for path in (folder / "given").rglob("*")} == {pwd.getpwnam(ACCOUNT).pw_uid}


def test_a_job_in_a_namespace_of_the_account(folder: Path, confined_job: subprocess.Popen[bytes]) -> None:
    """The kernel does not show it to the job's uid outside of that namespace, but to the account."""
    said = _run(folder, confined_job, *CAPABLE)
    assert said.pop("uid") == pwd.getpwnam(ACCOUNT).pw_uid
    assert said == BEHAVES


@pytest.fixture
def subordinate() -> Iterator[None]:
    """The account has subordinate ids."""
    line = f"{ACCOUNT}:{FIRST}:{COUNT}\n"
    files = [Path("/etc/subuid"), Path("/etc/subgid")]
    for file in files:
        with file.open("a") as end:
            end.write(line)
    yield
    for file in files:
        file.write_text(file.read_text().replace(line, ""))


@pytest.mark.usefixtures("subordinate")
def test_a_worker_that_its_account_starts(folder: Path, job: subprocess.Popen[bytes]) -> None:
    """It needs newuidmap, and sees nothing of the jobs' processes."""
    said = _run(folder, job)
    assert said.pop("uid") == pwd.getpwnam(ACCOUNT).pw_uid
    assert said == {**BEHAVES, "see the job": "PermissionError", "see the job without it": "PermissionError"}


def test_without_subordinate_ids_the_worker_says_what_is_missing(folder: Path, job: subprocess.Popen[bytes]) -> None:
    said = _run(folder, job)["refused"]
    assert said.startswith("the user ids of jobs: newgidmap: ") and 'Or set "job_uids": null' in said


LISTENING = """
import sys
from compute_to_data.engines import guard
from compute_to_data.engines.job_ids import JobIds
guard.listen(sys.argv[1], lambda channel: guard.serve(channel, JobIds(900_000, 900_000, 1_000)))
"""


@pytest.mark.parametrize("killed", ["the one outside", "the one for files"])
def test_the_unit_gives_a_worker_other_processes_when_one_was_killed(
    folder: Path, job: subprocess.Popen[bytes], killed: str
) -> None:
    """A worker with many jobs goes on after the kernel has ended a process for lack of memory, and the guard holds the
    limits of a job that began before."""
    environment = {"PYTHONPATH": str(folder / "package"), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"}
    account = pwd.getpwnam(ACCOUNT)
    own = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    place = folder / "socket"
    with subprocess.Popen([*own, *CAPABLE, PYTHON, "-c", LISTENING, str(place)], env=environment, cwd="/") as unit:
        try:
            until(place.exists, "the guard to listen")
            command = [*own, "--no-new-privs", PYTHON, "-c", KILLING, str(folder), str(unit.pid), str(job.pid), killed]
            environment["C2D_GUARD"] = str(place)
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, cwd="/", check=False, timeout=60
            )
            assert done.stdout == "seen\ntaken\nkilled\nseen\ntaken\n", done.stderr
            assert job.wait(30) == -signal.SIGKILL  # it has written more than it may
        finally:
            unit.kill()


KILLING = """
import os, signal, sys
from compute_to_data.engines import guard_client, ownership
from compute_to_data.engines.job_ids import JobIds

folder, unit, job, killed = sys.argv[1:]
ids, account = JobIds(900_000, 900_000, 1_000), (900_007, 900_007)

def children(process):
    with open(f"/proc/{process}/task/{process}/children") as file:
        return [int(one) for one in file.read().split()]

def see():
    os.close(guard_client.process(int(job), account))
    print("seen", flush=True)

def give_and_take(name):
    os.mkdir(f"{folder}/{name}")
    ownership.give(f"{folder}/{name}", account)
    ownership.take_back(f"{folder}/{name}", ids, (os.getuid(), os.getgid()))
    assert os.stat(f"{folder}/{name}").st_uid == os.getuid()
    print("taken", flush=True)

guard_client.start(ids)
outputs = f"{folder}/outputs"
os.mkdir(outputs)
with open(f"{outputs}/x", "w") as file:
    file.write("x" * 5000)
ownership.give(outputs, account)
guard_client.keep("job", outputs, account, 1000, 10)
see()
give_and_take("one")
outside, = children(unit)
inside, = children(outside)
ended = [os.pidfd_open(one) for one in (outside, inside)]
os.kill(outside if killed == "the one outside" else inside, signal.SIGKILL)
import select
for one in ended if killed == "the one outside" else ended[1:]:
    select.select([one], [], [])
print("killed", flush=True)
see()
give_and_take("two")
"""


def test_the_observer_ends_with_the_worker(folder: Path, job: subprocess.Popen[bytes]) -> None:
    _run(folder, job, *CAPABLE)  # its standard input is at its end, and it has ended

    def is_gone() -> bool:
        return subprocess.run(["pgrep", "--full", str(folder)], capture_output=True, check=False).returncode == 1

    until(is_gone, "the observer to end")
