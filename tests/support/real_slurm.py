"""The Slurm cluster of two nodes on this machine (``slurm-cluster.sh``)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from compute_to_data.job import JobKey
from support.site import wait_until

SCRIPT = Path(__file__).with_name("slurm-cluster.sh")
STATE = Path(tempfile.gettempdir(), "compute-to-data-slurm")
SERVICE = (sys.executable, "-I", "-m", "compute_to_data.engines.slurm.service")


def need_slurm() -> None:
    """Start the cluster, unless it runs. Skips where it cannot be started, with the reason; in CI that is a failure."""
    try:
        cluster("start")
    except (subprocess.CalledProcessError, OSError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{error} (tests/support/slurm-cluster.sh starts a cluster, as root)")


def cluster(*words: str) -> None:
    """Start or stop a part of the cluster."""
    subprocess.run(["bash", str(SCRIPT), *words], check=True, capture_output=True, timeout=300)


def slurm(*words: str) -> str:
    """Run one of Slurm's commands; returns what it writes."""
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout


def job_of(key: JobKey) -> str:
    """Slurm's id of a job that the engine has submitted; '' when there is none yet."""
    lines = slurm("squeue", "--noheader", "--states=all", "--sort=-i", f"--name=compute-to-data-{key}", "--format=%i")
    return lines.partition("\n")[0].strip()


def node_of(identity: str) -> str:
    """The node on which a job runs; '' when it does not."""
    return slurm("squeue", "--noheader", f"--jobs={identity}", "--format=%N").strip()


@contextlib.contextmanager
def drained(*nodes: str) -> Iterator[None]:
    """Nodes that begin no job, while inside."""
    try:
        slurm("scontrol", "update", f"nodename={','.join(nodes)}", "state=drain", "reason=test")
        yield
    finally:
        resume(*nodes)


def resume(*nodes: str) -> None:
    """Let nodes begin jobs again."""
    slurm("scontrol", "update", f"nodename={','.join(nodes)}", "state=resume")


def pid_of(name: str) -> int:
    """The process of a daemon of the cluster: ``slurmctld``, ``slurmd-n1``."""
    return int((STATE / f"{name}.pid").read_text())


def kill(name: str, number: int = signal.SIGKILL) -> None:
    """Kill a daemon of the cluster, and wait until it is gone."""
    pid = pid_of(name)
    os.kill(pid, number)
    wait_until(lambda: _is_gone(pid), f"{name} to be gone")
    (STATE / f"{name}.pid").unlink(missing_ok=True)


def _is_gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def kill_node(name: str, identity: str, scope: str) -> None:
    """Kill all of Slurm and of ours on a node with the one job of a scope, as when its host loses power. Both nodes
    share a Docker daemon, which the test's other node goes on to use, so the container is removed."""
    victims = _steps_of(identity)
    kill(f"slurmd-{name}")
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    subprocess.run(["docker", "rm", "--force", *containers(scope)], check=True, capture_output=True, timeout=60)


def _steps_of(identity: str) -> list[int]:
    """The processes of a job on its node: Slurm's own, and our program."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            said = (place / "cmdline").read_bytes()
            of_slurm = said.startswith(f"slurmstepd: [{identity}.".encode())
            ours = _is_ours(said) and f"SLURM_JOB_ID={identity}\0".encode() in (place / "environ").read_bytes()
            if of_slurm or ours:
                found.append(int(place.name))
    return found


class NodeService:
    """The resident service of this machine, which is that of both nodes."""

    def __init__(self, folder: Path, directory: str, program: Sequence[str]) -> None:
        """``folder``: short enough that the path of a socket fits. ``directory``: of the engine. ``program``: the
        command before the service's arguments."""
        self._program = program
        self.socket = str(folder / "socket")
        self._directory = directory
        self._log = folder / "service.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has said."""
        return self._log.read_text()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        words = [*self._program, "--socket", self.socket, self._directory]
        with self._log.open("a") as log:
            ready = self._log.read_text().count("ready at")
            # As where systemd starts it: without the environment of whoever starts the jobs.
            environment = {"PATH": os.environ["PATH"]}
            self._process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: self.log.count("ready at") > ready, "the service to listen")

    def end(self, number: int = signal.SIGKILL) -> None:
        """End it with a signal, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def wait(self) -> int:
        """Wait until it has ended by itself. Returns its exit status."""
        assert self._process is not None
        return self._process.wait(60)


@contextlib.contextmanager
def node_service(directory: str, *program: str) -> Iterator[NodeService]:
    """A service for the engine with this directory, which runs while inside. ``program``: instead of our own."""
    with tempfile.TemporaryDirectory(prefix="c2d-node-") as folder:
        service = NodeService(Path(folder), directory, program or SERVICE)
        service.start()
        try:
            yield service
        finally:
            service.end()


def _is_ours(command_line: bytes) -> bool:
    return b"engines.slurm.node" in command_line or b"slurm/client.py" in command_line


def program_of(identity: str) -> list[int]:
    """Our program that Slurm runs for a job, without Slurm's own processes."""
    found = []
    for pid in _steps_of(identity):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if _is_ours(Path(f"/proc/{pid}/cmdline").read_bytes()):
                found.append(pid)
    return found


def containers(scope: str) -> list[str]:
    """The containers of a worker's jobs, on all nodes, running or not."""
    words = ["docker", "ps", "--all", "--quiet", f"--filter=label=compute_to_data.resource={scope}"]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout.split()
