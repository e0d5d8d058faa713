"""What jobs write while the Docker daemon is away, with a proxy before it whose end is the daemon's for the engine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.fickle import RELAY, FickleSocket, fickle_socket
from support.jobs import held, written
from support.real_docker import ENGINE
from support.site import PATIENCE, wait_until

from compute_to_data.engines.docker import DockerEngine
from compute_to_data.engines.docker.presence import Presence
from compute_to_data.engines.docker.stream import connected
from compute_to_data.job import Job

if TYPE_CHECKING:
    from tests.engines.conftest import Bench, Pipe

pytestmark = [pytest.mark.docker, pytest.mark.skipif(ENGINE != "docker", reason="the proxy is one of Docker's socket")]
DOCKER = "/var/run/docker.sock"
SAYS = "echo first; echo ready >/outputs/pipe; while [ ! -e /outputs/go ]; do sleep 0.01; done; echo last"


@pytest.fixture
def proxy() -> Iterator[FickleSocket]:
    """In a folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="c2d-") as folder, fickle_socket(Path(folder) / "s", DOCKER) as made:
        yield made


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
def test_a_job_that_ends_just_after_the_daemon_loses_no_output(
    proxy: FickleSocket, docker_bench: Bench, pipe: Callable[[Job], Pipe], tmp_path: Path, times: int
) -> None:
    """The end of the connection looks as if the job had ended then."""
    docker_bench.engine = DockerEngine({"socket": proxy.path, "timeout_seconds": PATIENCE}, str(tmp_path / "state"))
    for _ in range(times):
        job = docker_bench.job("sh", "-c", SAYS)
        ready = pipe(job)
        docker_bench.engine.submit(job)
        assert ready.read() == b"ready\n"
        proxy.become(RELAY)
        (Path(job.outputs) / "go").touch()
        assert held(docker_bench.engine, job.key).wait(PATIENCE) is not None
        assert written(docker_bench.engine, job).stdout == b"first\nlast\n"


def test_a_daemon_is_there_until_it_ends(proxy: FickleSocket, docker_answers: None) -> None:
    daemon = Presence(connected(f"unix://{proxy.path}", PATIENCE))
    assert not daemon.has_ended()

    def is_cut() -> bool:
        proxy.become(RELAY)  # it may not have accepted the connection before
        return daemon.has_ended()

    wait_until(is_cut, "the end of the daemon to be seen")
