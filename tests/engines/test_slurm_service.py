"""The resident service of a node: what becomes of jobs when it or its client is killed, stopped, hung or upgraded. That
jobs run as without it, the contract and ``test_slurm.py`` show."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import dying_service
from support.jobs import held, written
from support.real_docker import IMAGE, open_docker
from support.real_slurm import NodeService, containers, job_of, node_service, program_of, slurm
from support.site import PATIENCE, wait_until

from compute_to_data.engines.slurm import client
from compute_to_data.engines.slurm.node_state import Node
from compute_to_data.engines.slurm.notes import EXIT, IMAGES, Directory, Notes
from compute_to_data.job import Job, JobState
from tests.engines.conftest import Bench, SlurmBench, open_slurm

DYING = Path(dying_service.__file__)
WAITS = "while [ ! -e /outputs/go ]; do sleep 0.02; done"
ONCE = "echo once >> /outputs/runs"


@contextmanager
def bench_of(directory: str, service: NodeService, folder: Path) -> Iterator[Bench]:
    engine = open_slurm(directory, service=service.socket)
    bench = SlurmBench(engine, lambda: engine, folder)
    yield bench
    bench.clear()


@pytest.fixture
def bench(slurm_directory: str, slurm_service: NodeService, tmp_path: Path) -> Iterator[Bench]:
    with bench_of(slurm_directory, slurm_service, tmp_path) as made:
        yield made


def let_go(job: Job) -> None:
    Path(job.outputs, "go").touch()


def has_ended_well(bench: Bench, job: Job, status: int) -> None:
    """The job has one true end, and has run once; its node keeps nothing."""
    end = held(bench.engine, job.key).wait(PATIENCE)
    assert end is not None and (end.status, end.certain, end.ended_by) == (status, True, None)
    assert (Path(job.outputs) / "runs").read_text() == "once\n"
    node_keeps_nothing(bench, job)


def node_keeps_nothing(bench: Bench, job: Job) -> None:
    identity = job_of(job.key)
    wait_until(lambda: containers(bench.scope) == [], "the node to remove the container")
    wait_until(lambda: program_of(identity) == [], "the program to end")
    directory = bench.engine._directory.path  # type: ignore[attr-defined]
    wait_until(lambda: not [*directory.glob(f"nodes/*/running/{identity}")], "the note to be gone")


def command_of(identity: str) -> str:
    (pid,) = program_of(identity)
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def test_the_service_runs_a_job_for_its_client(bench: Bench, slurm_directory: str) -> None:
    job = bench.started("sh", "-c", f"{WAITS}; {ONCE}; exit 4")
    assert "slurm/client.py" in command_of(job_of(job.key))
    let_go(job)
    has_ended_well(bench, job, 4)
    assert (Path(slurm_directory) / "jobs" / job.key.text / "node.log").read_text() == ""


def test_the_first_job_of_a_node_goes_to_the_service_too(slurm_directory: str, tmp_path: Path) -> None:
    directory = Directory(str(tmp_path / "shared"))
    directory.make()
    shutil.copy(Path(slurm_directory, IMAGES), directory.path)
    with node_service(str(directory.path)) as service, bench_of(str(directory.path), service, tmp_path) as bench:
        assert list((directory.path / "nodes").iterdir()) == []
        job = bench.started("sh", "-c", f"{WAITS}; {ONCE}; exit 4")
        assert "slurm/client.py" in command_of(job_of(job.key))
        let_go(job)
        has_ended_well(bench, job, 4)
        directory.need_own()
        made = [*(directory.path / "nodes").glob("*"), *(directory.path / "nodes").glob("*/running")]
        assert [stat.S_IMODE(one.stat().st_mode) for one in made] == [0o700, 0o700]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_a_service_that_ends_while_a_job_runs(bench: Bench, slurm_service: NodeService, number: int) -> None:
    """The job's client goes on with it. A service that starts meanwhile leaves it alone."""
    job = bench.started("sh", "-c", f"{ONCE}; {WAITS}; echo told; exit 4")
    slurm_service.end(number)
    slurm_service.start()
    wait_until(lambda: "engines.slurm.node run" in command_of(job_of(job.key)), "the client to become the program")
    other = bench.started("true")
    end = held(bench.engine, other.key).wait(PATIENCE)
    assert end is not None and end.status == 0, "the next job cleans the node, and leaves this one alone"
    let_go(job)
    has_ended_well(bench, job, 4)
    assert written(bench.engine, job).stdout == b"told\n"


def test_a_job_ends_while_its_service_is_gone(bench: Bench, slurm_service: NodeService) -> None:
    """Its end waits in Docker until the client has become the program that tells it."""
    job = bench.started("sh", "-c", f"{ONCE}; {WAITS}; exit 4")
    identity = job_of(job.key)
    (pid,) = program_of(identity)
    os.kill(pid, signal.SIGSTOP)
    slurm_service.end()
    let_go(job)
    wait_until(lambda: "Exited" in _states(bench.scope), "the container to end")
    os.kill(pid, signal.SIGCONT)
    slurm_service.start()
    has_ended_well(bench, job, 4)


def _states(scope: str) -> str:
    words = ["docker", "ps", "--all", f"--filter=label=compute_to_data.resource={scope}", "--format={{.Status}}"]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", dying_service.POINTS)
def test_a_service_that_is_killed_at(point: str, when: str, slurm_directory: str, tmp_path: Path) -> None:
    program = (sys.executable, str(DYING), point, when)
    read = "cat /run/secrets/TOKEN"
    with node_service(slurm_directory, *program) as service, bench_of(slurm_directory, service, tmp_path) as bench:
        job = bench.started("sh", "-c", f"{ONCE}; {read}; exit 4", secrets={"TOKEN": b"value"})
        has_ended_well(bench, job, 4)
        assert service.wait() == -signal.SIGKILL, "the job came to this point"
        assert written(bench.engine, job).stdout == b"value"


def test_a_client_that_is_killed(bench: Bench) -> None:
    """As by Slurm at the end of a job that does not stop. The service ends the container, with no other job's help."""
    job = bench.started("sh", "-c", f"trap '' TERM; {WAITS}")
    (pid,) = program_of(job_of(job.key))
    os.kill(pid, signal.SIGKILL)
    node_keeps_nothing(bench, job)
    wait_until(lambda: held_state(bench, job) is JobState.UNKNOWN, "the job to count as lost")


def held_state(bench: Bench, job: Job) -> JobState:
    return bench.engine.statuses([job.key])[job.key].state


def test_a_job_that_slurm_ends_gets_its_grace(bench: Bench) -> None:
    """The client passes on Slurm's SIGTERM."""
    job = bench.started("sh", "-c", f"trap 'echo told; exit 5' TERM; {ONCE}; while :; do sleep 0.02; done")
    wait_until((Path(job.outputs) / "runs").exists, "the job to listen")
    slurm("scancel", job_of(job.key))
    end = held(bench.engine, job.key).wait(PATIENCE)
    assert end is not None and end.status == 5 and end.ended_by is not None
    assert "cancelled in Slurm" in end.ended_by.cause
    assert written(bench.engine, job).stdout == b"told\n"
    node_keeps_nothing(bench, job)


def test_a_service_that_dies_after_slurm_has_ended_a_job(
    bench: Bench, slurm_service: NodeService, slurm_directory: str
) -> None:
    """The program that takes over knows that Slurm has ended it."""
    job = bench.started("sh", "-c", f"trap 'touch /outputs/told' TERM; {ONCE}; {WAITS}", grace_seconds=3.0)
    wait_until((Path(job.outputs) / "runs").exists, "the job to listen")
    (pid,) = program_of(job_of(job.key))
    os.kill(pid, signal.SIGTERM)
    wait_until((Path(job.outputs) / "told").exists, "the job to be told")
    slurm_service.end()
    slurm_service.start()
    node_keeps_nothing(bench, job)
    note = Notes(Path(slurm_directory, "jobs", job.key.text)).read(EXIT)
    assert note is not None and note["is_ended_by_slurm"] and note["status"] == 137


def test_a_service_that_hangs(bench: Bench, slurm_service: NodeService) -> None:
    """The client does not wait for it for long, and when it wakes up it does not run the job once more."""
    os.kill(slurm_service.pid, signal.SIGSTOP)
    try:
        job = bench.started("sh", "-c", f"{ONCE}; exit 4")
        end = held(bench.engine, job.key).wait(PATIENCE)
        assert end is not None and end.status == 4
    finally:
        os.kill(slurm_service.pid, signal.SIGCONT)
    other = bench.started("sh", "-c", f"{ONCE}; exit 3")
    has_ended_well(bench, other, 3)
    has_ended_well(bench, job, 4)


def test_an_upgrade(slurm_directory: str, tmp_path: Path) -> None:
    """A service whose files have changed takes no more jobs, and ends. The jobs run without it."""
    program = (sys.executable, str(DYING), "upgraded", "never")
    with node_service(slurm_directory, *program) as service, bench_of(slurm_directory, service, tmp_path) as bench:
        job = bench.started("sh", "-c", f"{ONCE}; exit 4")
        has_ended_well(bench, job, 4)
        assert service.wait() == 0
        assert not Path(service.socket).exists()


def test_a_job_has_nothing_of_its_environment_in_the_service(
    bench: Bench, slurm_directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client gets a variable that would lead to another Docker, as where an administrator's Prolog sets it."""
    job = bench.job("sh", "-c", f"{ONCE}; exit 4")
    misled = open_slurm(
        slurm_directory,
        service=bench.engine._settings.service,  # type: ignore[attr-defined]
        extra=["--export=DOCKER_HOST=unix:///nonexistent"],
    )
    misled.submit(job)
    has_ended_well(bench, job, 4)


def test_slurm_gives_a_number_once_more(docker_answers: None, tmp_path: Path) -> None:
    """It has lost its state. What the earlier job with this number has left is removed."""
    directory = Directory(str(tmp_path / "shared"))
    directory.make()
    node = Node(directory, "n1")
    bench = Bench(node.engine({"name": "docker", "job_uids": None}), open_docker, tmp_path, IMAGE)
    left, job = bench.started("sleep", "300"), bench.job("true")
    note = directory.path / "nodes" / "n1" / "running" / "7"
    note.write_text(f"{left.key}\n{left.scope}")  # as an earlier release wrote it
    said: list[str] = []
    lock = client.locked(str(note))
    try:
        with node.registered(job, {"name": "docker", "job_uids": None}, "7", lock, said.append) as has_begun:
            assert not has_begun
            assert containers(bench.scope) == []
    finally:
        os.close(lock)
    assert said == [f"removing {left.key}, whose program was killed"]
    assert not note.exists()


def test_a_note_that_another_job_removes_meanwhile(tmp_path: Path) -> None:
    """A lock on a file that is gone would keep nobody out."""
    path = tmp_path / "7"
    real, removed = os.fstat, []

    def fstat(file: int) -> os.stat_result:
        if not removed:
            path.unlink()
            removed.append(path)
        return real(file)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(client.os, "fstat", fstat)
        lock = client.locked(str(path))
    assert os.path.samestat(os.fstat(lock), path.stat())
    os.close(lock)
    assert removed


def test_a_killed_service_cleans_when_it_starts(docker_answers: None, tmp_path: Path) -> None:
    """It and what Slurm had started were killed together, as by a lack of memory."""
    directory = Directory(str(tmp_path / "shared"))
    directory.make()
    node = Node(directory, socket.gethostname())
    bench = Bench(node.engine({"name": "docker", "job_uids": None}), open_docker, tmp_path, IMAGE)
    left = bench.started("sleep", "300")
    note = directory.path / "nodes" / socket.gethostname() / "running" / "7"
    note.write_text(f"{left.key}\n{left.scope}\n" + '{"name": "docker", "job_uids": null}')
    with node_service(str(directory.path)):
        assert containers(bench.scope) == []
        assert not note.exists()


def test_one_service_on_a_socket(slurm_service: NodeService, slurm_directory: str) -> None:
    words = [sys.executable, "-I", "-m", "compute_to_data.engines.slurm.service"]
    done = subprocess.run(
        [*words, "--socket", slurm_service.socket, slurm_directory], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert "another service of this node has it" in done.stderr
