"""What every folder of tests may ask for."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support import outside, powers_over_jobs
from support.real_docker import ENGINE, need_docker
from support.real_slurm import need_slurm
from support.site import TrialSite, closing_sites

from compute_to_data.configuration import EngineSettings
from compute_to_data.engines import prepare_worker

# How quick a machine is says nothing about the code; with CI set, Hypothesis has it so by itself.
settings.register_profile("any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


# A shell starts programs in the background with this signal ignored, and those that tests interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if ENGINE == "podman":  # before there are other threads
    outside.leave_a_starter()
    prepare_worker(EngineSettings(ENGINE))  # as the worker's own program does
    powers_over_jobs.take()

MOST_SECOND_RUNS = 3
"""So many tests may fail and pass when they run again, as `make test` makes them. With more, the run has failed."""

ENGINE_FIXTURES = frozenset({"docker_answers", "docker_engine", "slurm_answers"})


@pytest.hookimpl(tryfirst=True)  # before -m chooses by marker, and before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What may not run at the same time under ``pytest -n``: tests of one group run on one process, in
    their order. All other tests run anywhere."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & ENGINE_FIXTURES:
            item.add_marker(pytest.mark.docker)
        if "slurm_answers" in fixtures:
            item.add_marker(pytest.mark.xdist_group("slurm"))  # one cluster, whose queue is theirs
        elif item.get_closest_marker("docker") is not None:
            item.add_marker(pytest.mark.xdist_group("docker"))  # one engine, which some tests load or count
        elif item.path.name.startswith(("test_irods", "test_real_zone")):
            item.add_marker(pytest.mark.xdist_group("zone"))  # one server, which some tests stop
        elif "browser" in fixtures:
            item.add_marker(pytest.mark.xdist_group("browser"))  # which uses a processor or two
        elif "wheels" in fixtures:
            item.add_marker(pytest.mark.xdist_group("wheels"))  # which take minutes to make


def _second_runs(config: pytest.Config) -> list[pytest.TestReport]:
    """The reports of failures after which a test ran again. Only the process that prints has them."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    return terminal.stats.get("rerun", []) if terminal else []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show why a test failed the first time: pytest-rerunfailures does not."""
    reports = _second_runs(config)
    for report in reports:
        terminalreporter.section(f"the first run of {report.nodeid} failed", "_")
        terminalreporter.line(report.longreprtext)
    if len(reports) > MOST_SECOND_RUNS:
        terminalreporter.line(
            f"{len(reports)} tests failed at first, and at most {MOST_SECOND_RUNS} may: this run fails."
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.exitstatus == 0 and len(_second_runs(session.config)) > MOST_SECOND_RUNS:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True, scope="module")
def sites_of_a_module() -> Iterator[None]:
    """The sites that the tests of a module share end with it."""
    with closing_sites():
        yield


@pytest.fixture(autouse=True)
def sites_of_a_test(sites_of_a_module: None) -> Iterator[None]:
    """What a test leaves running ends with it."""
    with closing_sites():
        yield


@pytest.fixture(scope="session")
def docker_answers() -> None:
    """Skips without a Docker engine, with the reason; in CI that is a failure, never a silent pass."""
    need_docker()


@pytest.fixture(scope="session")
def slurm_answers(docker_answers: None) -> None:
    """A cluster of two nodes on this machine."""
    need_slurm()


@pytest.fixture
def site(tmp_path: Path) -> TrialSite:
    """A site whose engine runs plain processes: the whole pipeline without a container's cost."""
    tools = tmp_path / "tools"
    tools.mkdir()
    return TrialSite(tmp_path, {"name": "process", "images": {"tools": str(tools)}}, "tools")
