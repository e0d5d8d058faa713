"""Jobs that try to run longer than their walltime while no worker watches them, on the real engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.jobs import written
from support.killed_workers import start_worker
from support.real_docker import ENGINE, IMAGE, built_image, containers
from support.site import COMPUTE, PATIENCE, SLOWNESS, TrialSite, wait_until

from compute_to_data.coordination import lock
from compute_to_data.job import ENGINE_MARGIN_SECONDS, Exit, Mount
from tests.adversarial.conftest import HOSTILE, LIMITS

if TYPE_CHECKING:
    from tests.adversarial.conftest import Attacker

pytestmark = pytest.mark.docker
WALLTIME, GRACE = 1.0, 0.5
LONGER = 4.0
"""The walltime where a worker must be killed before."""
LATEST = WALLTIME + GRACE + ENGINE_MARGIN_SECONDS + GRACE
SLACK = 3.0 * SLOWNESS
"""Seconds that a busy machine may take to end a container that its first process has ended."""
STARVED = {"outlive_by_load": 30.0 * SLOWNESS}
"""Seconds more for the attack in which the first process gets nearly no processor: that delays the end."""
SHORT = replace(LIMITS, walltime_seconds=WALLTIME)
STUBBORN = "trap '' TERM; echo began; while :; do sleep 1; done"


def ran(end: Exit) -> float:
    return end.finished - end.started


@pytest.mark.parametrize(
    "attack",
    ["keep_on", "outlive_by_signals", "outlive_detached", "outlive_by_processes", "outlive_by_load",
     "outlive_by_limits", "outlive_by_memory"],
)  # fmt: skip
def test_no_job_outlives_its_walltime(attacker: Attacker, attack: str) -> None:
    job = attacker.start("python3", "-c", HOSTILE, attack, limits=SHORT, grace_seconds=GRACE)
    end = attacker.end(job)
    assert WALLTIME <= ran(end) < LATEST + STARVED.get(attack, SLACK), written(attacker.engine, job)
    assert end.status != 0


def test_a_job_cannot_take_over_the_process_that_holds_its_deadline(attacker: Attacker) -> None:
    """Write access would let the job change the deadline; read access is refused with it."""
    ways = attacker.tries("trace_init")
    harmless = {"open comm", "open timerslack_ns"}  # names and slack of timers, which every process of a uid may set
    assert [way for way, outcome in ways.items() if outcome == "got it" and way not in harmless] == []


@pytest.mark.parametrize("variable", ["LD_PRELOAD", "LD_AUDIT", "GLIBC_TUNABLES", "LD_LIBRARY_PATH", "GCONV_PATH"])
def test_the_environment_of_a_job_does_not_reach_the_first_process(attacker: Attacker, variable: str) -> None:
    """The program has it all the same."""
    code = f"import os; print(os.environ[{variable!r}]); print(os.environ['PATH'])"
    job = attacker.start("python3", "-c", code, environment={variable: "/inputs/evil.so"})
    said = attacker.said(job).splitlines()
    assert said[0] == "/inputs/evil.so"
    assert "/usr/bin" in said[1]
    with containers() as client:
        inspected = client.inspect_container(f"compute-to-data-{job.key}")
    assert f"{variable}=" not in str(inspected["Config"]["Env"])


EVIL = f"""
FROM {IMAGE}
RUN echo /file.so >/tmp/preload && mv /tmp/preload /etc/ld.so.preload
ENV LD_PRELOAD=/variable.so
"""


def test_nothing_of_an_image_is_loaded_into_the_first_process(attacker: Attacker) -> None:
    """A loader reports what it cannot preload; that of the program does, once."""
    with built_image("evil", EVIL) as image:
        attacker.image = image
        job = attacker.start("true")
        assert attacker.end(job).status == 0
    said = written(attacker.engine, job).stderr.decode()
    assert (said.count("/variable.so"), said.count("/file.so")) == (1, 0), said


def test_a_library_among_the_inputs_is_not_loaded_into_the_first_process(attacker: Attacker, tmp_path: Path) -> None:
    library = tmp_path / "library.so"
    library.write_bytes(b"not a library")
    job = attacker.start(
        "true", inputs=(Mount(str(library), "/inputs/library.so"),), environment={"LD_PRELOAD": "/inputs/library.so"}
    )
    assert attacker.end(job).status == 0
    assert written(attacker.engine, job).stderr.decode().count("library.so") == 1, "only the program's own loader"


# A worker that comes back


@pytest.fixture
def docker_site(docker_answers: None, tmp_path: Path) -> TrialSite:
    return TrialSite(tmp_path, {"name": ENGINE}, IMAGE)


def ended_without_a_worker(site: TrialSite, *argv: str) -> dict[str, str]:
    """Run a task whose worker dies when the program runs; another worker comes when the job has ended."""
    submitted = site.submit(site.request(*argv, limits={"walltime_seconds": LONGER}))
    worker = start_worker(site)
    vault = site.folder / "zone" / "vaults"
    wait_until(lambda: any(b"began" in log.read_bytes() for log in vault.rglob("LOG")), "the job to run")
    worker.kill()
    worker.wait()
    (key,) = site.engine.jobs(lock.scope(site.configuration, "tempZone", COMPUTE))
    running = site.engine.find(key)
    assert running is not None
    assert running.wait(LONGER + PATIENCE) is not None, "the job ends without a worker"
    with site.working():
        return site.ended(submitted)


def test_a_worker_that_comes_back_says_that_the_walltime_was_exceeded(docker_site: TrialSite) -> None:
    facts = ended_without_a_worker(docker_site, "/bin/sh", "-c", STUBBORN)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "walltime_exceeded"), facts
    assert f"its {LONGER:g} seconds" in facts["reason"]


@pytest.mark.parametrize("status", [124, 137, 143])
def test_a_program_that_ends_like_a_stopped_one_is_not_mistaken_for_it(docker_site: TrialSite, status: int) -> None:
    with docker_site.working():
        submitted = docker_site.submit(docker_site.request("/bin/sh", "-c", f"exit {status}"))
        facts = docker_site.ended(submitted)
    assert (facts["reason_code"], facts["exit_status"]) == ("nonzero_exit", str(status))


def test_a_job_of_the_process_engine_ends_without_a_worker(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    site = TrialSite(tmp_path, {"name": "process", "images": {"tools": str(tmp_path / "tools")}}, "tools")
    facts = ended_without_a_worker(site, "/bin/sh", "-c", STUBBORN)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "walltime_exceeded"), facts
