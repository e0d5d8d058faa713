"""While something that each job needs does not answer, no task begins, and users see why."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.faults import Troubled
from support.fickle import FickleSocket, fickle_socket
from support.site import BASE_IMAGE, COMPUTE, TrialSite, wait_until

from compute_to_data.coordination import published_line
from compute_to_data.engines import output_quotas
from compute_to_data.engines.docker import DockerEngine
from compute_to_data.engines.podman.engine import PodmanEngine
from compute_to_data.errors import EngineNotReady
from compute_to_data.records.state import State
from compute_to_data.submission.submit import Submitted

DOCKER = "/var/run/docker.sock"
IDS = "300000-365535"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="c2d-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process takes itself for one of a service account: root sets quotas without a helper."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@contextlib.contextmanager
def helper(path: Path) -> Iterator[None]:
    """Listens as the quota guard does, and does nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()
        yield
    path.unlink()


@pytest.fixture
def guard_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = place / "quotas"
    monkeypatch.setenv(output_quotas.PLACE, str(path))
    return path


def held_up(site: TrialSite) -> str:
    """Why no task begins, as the worker has published it."""
    line = published_line.read(site.alice, site.configuration.attributes, COMPUTE)
    return line.held_up if line is not None else ""


def waits(site: TrialSite, submitted: Submitted, why: str) -> None:
    wait_until(lambda: why in held_up(site), f"the worker to say {why!r}")
    assert held_up(site).startswith(f"{COMPUTE} can run no job until an administrator mends this: ")
    assert site.record(submitted).state() is State.QUEUED


def ends_well(site: TrialSite, *submitted: Submitted) -> None:
    for facts in [site.ended(one) for one in submitted]:
        assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1"), facts
    wait_until(lambda: not held_up(site), "the worker to say that nothing holds tasks up")


@pytest.mark.docker
@pytest.mark.parametrize("heartbeat_seconds", [0.2, 600.0], ids=["noticed by the heartbeat", "noticed before a task"])
def test_tasks_stay_queued_while_the_daemon_is_away(
    docker_answers: None, tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, heartbeat_seconds: float
) -> None:
    monkeypatch.setattr("compute_to_data.worker.service.HEARTBEAT_SECONDS", heartbeat_seconds)
    with fickle_socket(place / "s", DOCKER) as docker:
        site = TrialSite(tmp_path, {"name": "docker", "socket": docker.path}, BASE_IMAGE)
        with site.working():
            ends_well(site, site.submit(site.request("true")))
            docker.go_away()
            first = site.submit(site.request("true"))
            waits(site, first, "the Docker daemon does not answer")
            second = site.submit(site.request("true"))
            docker.come_back()
            ends_well(site, first, second)


def test_tasks_stay_queued_while_the_quota_helper_is_away(site: TrialSite, guard_place: Path, no_root: None) -> None:
    """Those too that are submitted while tasks are held up already."""
    asked: list[int] = []

    def need_ready(_: object) -> None:
        asked.append(1)
        output_quotas.OutputQuotas.need_helper()

    engine: Any = Troubled(site.engine, need_ready=need_ready)
    with site.working(engine=engine):
        wait_until(lambda: len(asked) > 1, "the worker to ask")
        submitted = site.submit(site.request("/bin/true"))
        waits(site, submitted, f"{output_quotas.UNIT} does not answer at {guard_place}")
        with helper(guard_place):
            ends_well(site, submitted)


def test_a_job_that_could_not_begin_was_no_attempt(site: TrialSite) -> None:
    """The helper of jobs can go away between the worker's question and the job. There are three attempts."""
    refused: list[str] = []

    def submit(original: Callable[..., Any], job: Any) -> Any:
        if len(refused) < 5:
            refused.append(job.key.text)
            raise EngineNotReady("the project quotas of jobs", "the helper has just gone")
        return original(job)

    engine: Any = Troubled(site.engine, submit=submit)
    facts = site.run(site.request("/bin/sh", "-c", "echo x >/outputs/x"), engine=engine)
    assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1"), facts
    assert len(refused) == 5
    assert site.contents(facts["collection"])["x"] == b"x\n"


# What engines need


@pytest.mark.docker
def test_docker_needs_its_daemon(docker_answers: None, place: Path) -> None:
    with fickle_socket(place / "s", DOCKER) as docker:
        _needs_its_socket(DockerEngine({"socket": docker.path}, str(place)), docker)


def _needs_its_socket(engine: DockerEngine, docker: FickleSocket) -> None:
    engine.need_ready()
    docker.go_away()
    with pytest.raises(EngineNotReady, match="does not answer"):
        engine.need_ready()
    with pytest.raises(EngineNotReady, match="does not answer"):
        engine.identify(BASE_IMAGE)
    docker.come_back()
    engine.need_ready()


@pytest.mark.docker
def test_docker_with_project_quotas_needs_their_helper(
    docker_answers: None, place: Path, guard_place: Path, no_root: None
) -> None:
    without = DockerEngine({"job_uids": IDS}, str(place))
    wants = DockerEngine({"job_uids": IDS, "project_quotas": True}, str(place))
    without.need_ready()
    with pytest.raises(EngineNotReady, match=rf"{guard_place}.*systemctl start {output_quotas.UNIT}"):
        wants.need_ready()
    with helper(guard_place):
        wants.need_ready()


def test_podman_needs_its_service(place: Path) -> None:
    engine = PodmanEngine({"socket": f"unix://{place}/none"}, str(place))
    with pytest.raises(EngineNotReady, match="does not answer"):
        engine.need_ready()


def test_root_needs_no_helper(guard_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    output_quotas.OutputQuotas.need_helper()
