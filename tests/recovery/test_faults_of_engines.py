"""A Docker daemon that hangs, answers nonsense, or goes away while tasks run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.faults import EngineWithTroubledJobs
from support.fickle import MUTE, RELAY, fickle_socket
from support.jobs import held
from support.site import ALICE, COMPUTE, PATIENCE, WAITS, TrialSite, wait_until

from compute_to_data.engines.docker import DockerEngine
from compute_to_data.engines.docker.container_job import Log
from compute_to_data.errors import EngineError, EngineOutOfReach
from compute_to_data.job import Image, Job, JobKey
from compute_to_data.records.state import State
from compute_to_data.zones.embedded.audit import audit

DOCKER = "/var/run/docker.sock"
RUNS = f"{WAITS}; echo x > /outputs/x"


def _http(body: bytes, head: bytes = b"200 OK", kind: bytes = b"application/json") -> bytes:
    length = str(len(body)).encode()
    return b"HTTP/1.1 " + head + b"\r\nContent-Type: " + kind + b"\r\nContent-Length: " + length + b"\r\n\r\n" + body


NONSENSE = {
    "no HTTP": b"220 mail.example.org ESMTP\r\n",
    "nothing": b"\r\n",
    "a page": _http(b"<html>Welcome</html>", kind=b"text/html"),
    "an empty answer": _http(b""),
    "a list": _http(b"[]"),
    "an empty object": _http(b"{}"),
    "wrong types": _http(json.dumps({"Id": 1, "State": [], "Config": 7, "MemoryLimit": "yes"}).encode()),
    "null": _http(b"null"),
    "cut off": _http(b'{"State": {"Running"')[:-5],
    "containerd gone": _http(
        b'{"message": "connection error: desc = transport: dial unix /run/containerd/containerd.sock"}', b"500 Oh"
    ),
}


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="c2d-", dir="/tmp") as folder:
        yield Path(folder)


ANSWERS = (("stop", None), ("remove", None), ("jobs", ()), ("wait_for_change", None))
"""Valid results of calls. ``wait_for_change``: any job may have changed, so the worker asks about each."""


def _calls(engine: DockerEngine, site: TrialSite, outputs: str) -> dict[str, Callable[[], object]]:
    limits = site.configuration.default_limits
    job = Job(
        JobKey("t.1"), ALICE, "r", Image("a:b", f"sha256:{'0' * 64}"), ("true",), limits, outputs, f"{outputs}/LOG"
    )
    running = engine._container(job.key, Log(job.log_file, limits.log_bytes))
    return {
        "check": engine.check,
        "identify": lambda: engine.identify("a:b"),
        "submit": lambda: engine.submit(job),
        "find": lambda: engine.find(job.key),
        "statuses": lambda: engine.statuses([job.key]),
        "wait_for_change": lambda: engine.wait_for_change("r", 0.1),
        "status": running.status,
        "wait": lambda: running.wait(0.1),
        "stop": lambda: running.stop(0),
        "finish_log": running.finish_log,
        "remove": running.remove,
        "jobs": lambda: engine.jobs("r"),
    }


@pytest.mark.parametrize("name", NONSENSE)
def test_an_invalid_answer_of_the_engine_is_an_error(site: TrialSite, place: Path, name: str) -> None:
    """Each call raises EngineOutOfReach, unless it may return such a result."""
    with fickle_socket(place / "s") as docker:
        docker.become(NONSENSE[name])
        began = time.monotonic()
        engine = DockerEngine({"socket": docker.path, "timeout_seconds": 2}, str(place))
        for call, ask in _calls(engine, site, str(place)).items():
            expected = EngineError if call == "check" else EngineOutOfReach
            with contextlib.suppress(expected):
                assert (call, ask()) in ANSWERS, call
        assert time.monotonic() - began < 30


@pytest.mark.parametrize("mood", [MUTE, NONSENSE["a page"]], ids=["hangs", "answers nonsense"])
def test_a_worker_does_not_begin_without_an_engine(site: TrialSite, place: Path, mood: bytes) -> None:
    with fickle_socket(place / "s") as docker:
        docker.become(mood)
        site.configure(engine={"name": "docker", "socket": docker.path, "timeout_seconds": 1, "images": None})
        document = json.loads(site.configuration_file.read_text())
        del document["engine"]["images"]
        site.configuration_file.write_text(json.dumps(document))
        command = [sys.executable, "-m", "compute_to_data.worker", "--configuration", str(site.configuration_file)]
        done = subprocess.run(
            [*command, "--resource", COMPUTE], capture_output=True, text=True, check=False, timeout=60
        )
    assert done.returncode == 1, done.stderr
    assert "the Docker engine: " in done.stderr
    assert ("did not answer in time" if mood == MUTE else "makes no sense") in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.docker
@pytest.mark.parametrize(
    "mood", [MUTE, NONSENSE["no HTTP"], NONSENSE["an empty object"]], ids=["hangs", "no HTTP", "an empty object"]
)
def test_tasks_wait_for_an_engine_that_fails_while_they_run(
    docker_answers: None,
    tmp_path: Path,
    place: Path,
    mood: bytes,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("compute_to_data.worker.service.HEARTBEAT_SECONDS", 0.2)
    with fickle_socket(place / "s", DOCKER) as docker:
        engine = {"name": "docker", "socket": docker.path, "timeout_seconds": 1}
        site = TrialSite(tmp_path, engine, "compute-to-data/base:bookworm")
        running = site.submit(site.request("/bin/sh", "-c", RUNS))
        with site.working(), caplog.at_level(logging.WARNING):
            site.outputs(running)
            wait_until(lambda: site.record(running).state() is State.RUNNING, "the engine to tell that it runs")
            docker.become(mood)
            wait_until(lambda: any("waits: " in one.getMessage() for one in caplog.records), "it to wait")
            queued = site.submit(site.request("/bin/sh", "-c", "echo y > /outputs/y"))
            wait_until(lambda: any("does not answer, trying" in one.getMessage() for one in caplog.records), "a trial")
            assert site.record(running).state() is State.RUNNING
            assert site.record(queued).state() in (State.QUEUED, State.STAGING_IN)
            docker.become(RELAY)
            site.let_go(running)
            facts = [site.ended(one) for one in (running, queued)]
        assert [(one["state"], one["attempt"]) for one in facts] == [("COMPLETED", "1")] * 2, facts
        assert site.contents(running.collection)["x"] == b"x\n"
        assert [site.leftovers(one) for one in (running, queued)] == [[], []]
        assert site.engine.jobs(site.worker()._served.scope) == ()
    assert audit(str(site.folder / "zone")) == []


@pytest.mark.parametrize("certain", [True, False])
def test_a_job_that_the_engine_lost_track_of_is_started_again(site: TrialSite, certain: bool) -> None:
    """Docker reports 255 for an end that it missed, but a program may exit with 255, too: it runs again."""
    submitted = site.submit(site.request("/bin/sh", "-c", f"{WAITS}; exit 255"))
    with site.working():
        site.outputs(submitted)
    site.let_go(submitted)
    (job,) = site.engine.jobs(site.worker()._served.scope)
    assert held(site.engine, job).wait(PATIENCE) is not None

    def doubtful(original: Callable[..., Any], *args: float) -> Any:
        status = original(*args)
        exit = status.exit and dataclasses.replace(status.exit, certain=certain)
        return dataclasses.replace(status, exit=exit)

    engine = EngineWithTroubledJobs(site.engine, status=doubtful)
    with site.working(engine=engine):  # type: ignore[arg-type]
        if not certain:
            site.let_go(submitted)
        facts = site.ended(submitted)
    assert (facts["exit_status"], facts["attempt"]) == ("255", "1" if certain else "2"), facts
    assert site.leftovers(submitted) == []
