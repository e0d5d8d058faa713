"""The real engine for hostile jobs, and images with what an attacker would bring along."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from support import real_docker
from support.jobs import held, written
from support.real_docker import IMAGE, built_image, need_docker
from support.site import PATIENCE

from compute_to_data.job import Exit, Job, JobKey, Limits
from compute_to_data.model import User
from compute_to_data.ports.engine import Engine

HOSTILE = (Path(__file__).parent / "hostile.py").read_text()
TIMEOUT = PATIENCE
LIMITS = replace(real_docker.LIMITS, memory_bytes=64 << 20, pids=32, output_bytes=4 << 20, tmp_bytes=4 << 20)
ARMED = f"""
FROM {IMAGE}
RUN cp /usr/bin/id /usr/local/bin/rootid && chown 0:0 /usr/local/bin/rootid && chmod 6755 /usr/local/bin/rootid
RUN cp "$(readlink -f /usr/bin/python3)" /usr/local/bin/rootpython && chmod 6755 /usr/local/bin/rootpython
RUN mkdir -m 0777 /open && touch /open/file && chmod 0666 /open/file
"""


@dataclass
class Attacker:
    """Runs jobs of one hostile user, and removes all of them afterwards."""

    engine: Engine
    directory: Path
    image: str
    limits: Limits = LIMITS
    keys: list[JobKey] = field(default_factory=list)

    def start(self, *command: str, **more: Any) -> Job:
        """Start a job with its own outputs directory."""
        key = JobKey(str(uuid.uuid4()))
        outputs = str(self.directory / f"outputs-{key}")
        self.keys.append(key)
        self.engine.prepare(outputs)
        given = {"limits": self.limits, "scope": "adversarial", **more}
        job = Job(
            key=key,
            owner=User("mallory", "tempZone"),
            image=self.engine.identify(self.image),
            command=command,
            outputs=outputs,
            log_file=f"{outputs}.log",
            **given,
        )
        self.engine.submit(job)
        return job

    def end(self, job: Job, timeout: float = TIMEOUT) -> Exit:
        """The job's exit. Fails when the job does not end in time."""
        end = held(self.engine, job.key).wait(timeout)
        assert end is not None, f"the job did not end within {timeout} s"
        return end

    def said(self, job: Job) -> str:
        """What the job wrote to stdout. Fails unless it succeeds."""
        end = self.end(job)
        logs = written(self.engine, job)
        assert end.status == 0, logs
        return logs.stdout.decode()

    def tries(self, attack: str, *arguments: str, **more: Any) -> dict[str, str]:
        """The result of each way of an attack of ``hostile.py``."""
        ways: dict[str, str] = json.loads(self.said(self.start("python3", "-c", HOSTILE, attack, *arguments, **more)))
        assert ways, "an attack that tries nothing proves nothing"
        return ways

    def clear(self) -> None:
        for key in self.keys:
            self.engine.remove(key)


@pytest.fixture(scope="session")
def docker_engine() -> Engine:
    """The real engine. Skip without one, with the reason; in CI, fail."""
    return need_docker()


@pytest.fixture(scope="session")
def armed_image(docker_engine: Engine) -> Iterator[str]:
    """An image with setuid-root programs and with world-writable directories."""
    with built_image("armed", ARMED) as name:
        yield name


@pytest.fixture
def attacker(docker_engine: Engine, armed_image: str, tmp_path: Path) -> Iterator[Attacker]:
    attacker = Attacker(docker_engine, tmp_path, armed_image)
    yield attacker
    attacker.clear()
