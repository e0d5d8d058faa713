"""Engines to test, and a bench that makes jobs for them and removes everything afterwards."""

from __future__ import annotations

import itertools
import os
import select
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.jobs import held
from support.real_docker import IMAGE, LIMITS, need_docker, open_docker
from support.real_slurm import NodeService, node_service, slurm
from support.site import PATIENCE, wait_until

from compute_to_data.configuration import EngineSettings
from compute_to_data.engines import open_engine
from compute_to_data.errors import EngineOutOfReach
from compute_to_data.job import Job, JobKey, JobState, Sandbox
from compute_to_data.model import User
from compute_to_data.ports.engine import Engine


@dataclass
class Bench:
    """One engine, and jobs for it. ``reopen`` makes another object of the same engine."""

    engine: Engine
    reopen: Callable[[], Engine]
    directory: Path
    image: str = IMAGE
    scope: str = field(default_factory=lambda: f"resource-{uuid.uuid4().hex}")
    keys: list[JobKey] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def job(self, *command: str, **more: Any) -> Job:
        """A job that has not been started, with its outputs directory."""
        key = JobKey(str(uuid.uuid4()))
        self.keys.append(key)
        number = next(self.numbers)
        outputs, log_file = str(self.directory / f"outputs-{number}"), str(self.directory / f"log-{number}")
        self.engine.prepare(outputs)
        given = {"limits": LIMITS, "scope": self.scope, "image": self.engine.identify(self.image), **more}
        return Job(
            key=key, owner=User("alice", "tempZone"), command=command, outputs=outputs, log_file=log_file, **given
        )

    def started(self, *command: str, **more: Any) -> Job:
        """A job that runs."""
        job = self.job(*command, **more)
        self.engine.submit(job)
        return job

    def clear(self) -> None:
        """Remove every job of this bench."""
        for key in self.keys:
            self.engine.remove(key)


class Pipe:
    """A named pipe in a job's outputs, through which the job sends events to the test."""

    def __init__(self, job: Job, name: str = "pipe") -> None:
        path = Path(job.outputs) / name
        os.mkfifo(path)
        path.chmod(0o666)
        self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def read(self, timeout: float = PATIENCE) -> bytes:
        """The next bytes; b'' when the last writer is gone. Fails after ``timeout`` seconds."""
        ready, _, _ = select.select([self.descriptor], [], [], timeout)
        assert ready, "the job did not write to its pipe in time"
        return os.read(self.descriptor, 4096)


@pytest.fixture
def pipe() -> Iterator[Callable[[Job], Pipe]]:
    """Makes a :class:`Pipe` in a job's outputs. Call it before the job starts."""
    pipes: list[Pipe] = []

    def make(job: Job) -> Pipe:
        pipes.append(Pipe(job))
        return pipes[-1]

    yield make
    for each in pipes:
        os.close(each.descriptor)


@pytest.fixture(scope="session")
def docker_answers() -> None:
    """Skip without Docker, with the reason; in CI, fail."""
    need_docker()


@pytest.fixture
def docker_engine(docker_answers: None) -> Engine:
    """The real engine of this machine."""
    return open_docker()


@pytest.fixture
def docker_bench(docker_engine: Engine, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(docker_engine, open_docker, tmp_path)
    yield bench
    bench.clear()


@dataclass
class WarmBench(Bench):
    """A bench whose jobs belong to one workload, so they run in warm sandboxes."""

    def job(self, *command: str, **more: Any) -> Job:
        place = str(self.directory / "sandboxes")
        return super().job(*command, **{"sandbox": Sandbox("workload", 8, place), **more})

    def clear(self) -> None:
        super().clear()
        for scope in (self.scope, f"{self.scope}-2"):
            self.engine.tidy(scope, frozenset(), 0.0)
        assert list((self.directory / "state" / "sandboxes").glob("*")) == []
        assert list((self.directory / "sandboxes").glob("*")) == []


@pytest.fixture
def warm_bench(docker_answers: None, tmp_path: Path) -> Iterator[WarmBench]:
    state = str(tmp_path / "state")
    tmp_path.chmod(0o755)
    engine = open_docker(state)
    bench = WarmBench(engine, lambda: open_docker(state), tmp_path)
    yield bench
    bench.clear()


@pytest.fixture(scope="session")
def slurm_directory(slurm_answers: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The directory of the engines that the tests share, with a list of the nodes' images."""
    directory = str(tmp_path_factory.mktemp("slurm"))
    try:
        open_slurm(directory).identify(IMAGE)
    except EngineOutOfReach as error:
        raise AssertionError(f"{error}\n{slurm('squeue')}{slurm('sinfo', '--list-reasons')}") from error
    return directory


def open_slurm(directory: str, **settings: Any) -> Engine:
    """``settings``: without a ``service``, each job has a program of its own, also where this machine has a service."""
    given = {"directory": directory, "poll_seconds": 0.5, "notes_seconds": 1.0, "service": "/nonexistent", **settings}
    return open_engine(EngineSettings("slurm", given), "/nonexistent")


class SlurmBench(Bench):
    """A bench whose engine has a queue of its own."""

    def started(self, *command: str, **more: Any) -> Job:
        job = super().started(*command, **more)
        wait_until(lambda: held(self.engine, job.key).status().state is not JobState.PENDING, "the job to run")
        return job


@pytest.fixture(scope="session")
def slurm_service(slurm_directory: str) -> Iterator[NodeService]:
    """The resident service of the nodes. A test that ends it starts it again."""
    with node_service(slurm_directory) as service:
        yield service


@pytest.fixture(params=["programs", "service"])
def slurm_bench(request: pytest.FixtureRequest, slurm_directory: str, tmp_path: Path) -> Iterator[Bench]:
    """A bench for nodes without and with the resident service."""
    settings = {}
    if request.param == "service":
        settings["service"] = request.getfixturevalue("slurm_service").socket

    def engine() -> Engine:
        return open_slurm(slurm_directory, **settings)

    bench = SlurmBench(engine(), engine, tmp_path)
    yield bench
    bench.clear()


@pytest.fixture
def process_bench(tmp_path: Path) -> Iterator[Bench]:
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "README").write_text("no program of its own")
    settings = EngineSettings("process", {"images": {IMAGE: str(folder)}})
    state = str(tmp_path / "state")
    bench = Bench(open_engine(settings, state), lambda: open_engine(settings, state), tmp_path)
    yield bench
    bench.clear()
    shutil.rmtree(folder, ignore_errors=True)
