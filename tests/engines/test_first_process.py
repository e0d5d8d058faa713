"""What a program sees of the processes above it in its container: as little as of Docker's own init."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.jobs import held, written
from support.real_docker import LIMITS
from support.site import wait_until

from compute_to_data.engines.docker import first_process, host_copies
from compute_to_data.errors import EngineError
from compute_to_data.job import ENGINE_MARGIN_SECONDS, Exit, Job, Logs
from tests.engines.conftest import Bench, open_docker

SEEN = """
import json, os, resource, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "environment": dict(os.environ), "directory": os.getcwd(), "arguments": sys.argv[1:], "input": sys.stdin.read(),
    "signals": [status[name].strip() for name in ("SigBlk", "SigIgn", "SigCgt")], "umask": status["Umask"],
    "group": os.getpgid(0) == os.getpid(), "open": sorted(os.listdir("/proc/self/fd"))[:3],
    "limits": [resource.getrlimit(number) for number in range(16)], "groups": os.getgroups(),
}))
"""


def ended(bench: Bench, job: Job) -> tuple[Exit, Logs]:
    end = held(bench.engine, job.key).wait(30)
    assert end is not None
    return end, written(bench.engine, job)


def seen(bench: Bench, **more: Any) -> dict[str, Any]:
    job = bench.started("python3", "-c", SEEN, "a b", "--", "-x=1", **more)
    end, logs = ended(bench, job)
    assert end.status == 0, logs
    found: dict[str, Any] = json.loads(logs.stdout)
    return found


def test_a_program_finds_what_it_finds_under_dockers_own_init(
    docker_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    more: dict[str, Any] = {
        "environment": {
            "A": "1",
            "B": "x=y  z\n$HOME ${A} \\c 'q\" #",
            "C": "",
            "odd-name": "${A}",
            "C2D_VALUE_0": "own",
            "PATH": "/nowhere:/usr/local/bin:/usr/bin",
        },
        "working_directory": "/outputs",
    }
    docker_bench.engine = open_docker(job_uids=None)  # else each of the two has ids of its own
    ours = seen(docker_bench, **more)
    monkeypatch.setattr(first_process.FirstProcess, "wrap", lambda *_: None)
    assert ours == seen(docker_bench, **more)


def test_values_of_the_environment_are_in_no_command_line(docker_bench: Bench) -> None:
    """All accounts of the host can read command lines."""
    job = docker_bench.started("sleep", "30", environment={"TOKEN": "value-of-a-variable"})
    held(docker_bench.engine, job.key)

    def command_lines() -> Iterator[bytes]:
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                yield file.read_bytes()

    wait_until(lambda: any(b"docker-init" in line and b"C2D_VALUE_" in line for line in command_lines()), "the job")
    assert not any(b"value-of-a-variable" in line for line in command_lines())


@pytest.mark.parametrize(
    ("command", "status"),
    [(("sh", "-c", "exit 3"), 3), (("sh", "-c", "exit 124"), 124), (("no-such-program",), 127), (("/etc/passwd",), 126),
     (("sh", "-c", "kill -9 $$"), 137), (("sh", "-c", "kill -15 $$"), 143), (("a=b",), 127)],
)  # fmt: skip
def test_exit_statuses(docker_bench: Bench, command: tuple[str, ...], status: int) -> None:
    end, logs = ended(docker_bench, docker_bench.started(*command))
    assert (end.status, end.out_of_memory) == (status, False), logs


def test_a_program_gets_one_signal_when_it_is_stopped(docker_bench: Bench) -> None:
    code = """
import signal, time
got = []
signal.signal(signal.SIGTERM, lambda *_: got.append(1))
print("ready", flush=True)
while not got:
    time.sleep(0.01)
time.sleep(0.3)  # for a second one
print(len(got))
"""
    job = docker_bench.started("python3", "-c", code)
    running = held(docker_bench.engine, job.key)
    deadline = time.monotonic() + 30
    while b"ready" not in Path(job.log_file).read_bytes():
        assert time.monotonic() < deadline
    running.stop(10)
    _, logs = ended(docker_bench, job)
    assert logs.stdout == b"ready\n1\n"


def test_processes_without_a_parent_are_reaped(docker_bench: Bench) -> None:
    script = """
for n in 1 2 3 4 5 6 7 8; do (sh -c 'true' &) ; done
for n in $(seq 200); do grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null >/dev/null || { echo none; exit; }; done
"""
    _, logs = ended(docker_bench, docker_bench.started("sh", "-c", script))
    assert logs.stdout == b"none\n"


def test_the_limit_of_processes_is_the_programs(docker_bench: Bench) -> None:
    """The program, its shell and docker-init: with Docker's own init, that is the least."""
    job = docker_bench.started("sh", "-c", "sleep 0.01; exit 0", limits=replace(LIMITS, pids=3))
    assert ended(docker_bench, job)[0].status == 0


def test_a_host_without_the_programs_runs_jobs_all_the_same(
    docker_bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(first_process, "_PROGRAMS", ("timeout", "env", "docker-init", "no-such-program"))
    docker_bench.engine = open_docker(str(tmp_path / "state"))
    job = docker_bench.started("sh", "-c", "cat /proc/1/comm")
    _, logs = ended(docker_bench, job)
    assert logs.stdout.strip() == b"docker-init"
    assert "only the worker ends jobs at their walltime" in caplog.text
    assert "no-such-program" in caplog.text


@pytest.mark.docker
class TestInstalling:
    """The copies on the host."""

    def test_they_are_made_once_and_again_after_a_change(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        home = str(tmp_path / "home")
        folder = first_process.install(home)
        made = os.stat(folder).st_ctime_ns
        assert first_process.install(home) == folder
        assert os.stat(folder).st_ctime_ns == made
        newer = tmp_path / "bin"
        newer.mkdir()
        copy = newer / "timeout"
        copy.write_bytes(Path("/usr/bin/timeout").read_bytes())
        copy.chmod(0o755)
        monkeypatch.setenv("PATH", f"{newer}:{os.environ['PATH']}")
        assert first_process.install(home) != folder

    def test_the_libraries_are_looked_up_once_and_again_after_a_change(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A program on a Slurm node asks for each job."""
        asked: list[object] = []
        libraries = host_copies.libraries
        monkeypatch.setattr(host_copies, "libraries", lambda *given: [asked.append(given), libraries(*given)][1])
        program, home = tmp_path / "program", str(tmp_path / "home")
        shutil.copyfile("/bin/true", program)
        first = host_copies.remembered(home, [str(program)], "the test")
        assert host_copies.remembered(home, [str(program)], "the test") == first == libraries([str(program)], "x")
        assert len(asked) == 1
        os.utime(program, ns=(0, 0))
        assert host_copies.remembered(home, [str(program)], "the test") == first
        assert len(asked) == 2
        known = Path(home, "libraries.json")
        told = json.loads(known.read_text())
        told["found"][host_copies.LOADER] = "/no-such-loader"
        known.write_text(json.dumps(told))
        assert host_copies.remembered(home, [str(program)], "the test") == first
        assert len(asked) == 3

    def test_jobs_cannot_read_the_loader(self, tmp_path: Path) -> None:
        folder = first_process.install(str(tmp_path / "home"))
        for name in ("ld.so", "docker-init"):
            assert os.stat(f"{folder}/{name}").st_mode & 0o777 == 0o711

    def test_a_program_that_does_not_do_its_work_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake = tmp_path / "bin"
        fake.mkdir()
        (fake / "timeout").write_bytes(Path("/usr/bin/true").read_bytes())
        (fake / "timeout").chmod(0o755)
        monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
        with pytest.raises(EngineError, match="a trial ended with 0 instead of 3"):
            first_process.install(str(tmp_path / "home"))
        assert [one for one in (tmp_path / "home").iterdir() if one.is_dir()] == []

    def test_a_place_where_the_worker_cannot_write_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(EngineError, match=f"cannot make it in {tmp_path}/file"):
            first_process.install(str(tmp_path / "file/home"))


def test_docker_says_so_when_a_container_is_inspected(docker_bench: Bench) -> None:
    job = docker_bench.started("sleep", "30", grace_seconds=2.0)
    command = subprocess.run(
        ["docker", "inspect", "--format", "{{json .Config.Entrypoint}}", f"compute-to-data-{job.key}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "--kill-after=2.000" in command
    assert f'"{LIMITS.walltime_seconds + 2.0 + ENGINE_MARGIN_SECONDS:.3f}"' in command
