"""A task of the installed worker's unit while Podman's service, the account's systemd or the worker ends: it has one
true end, and nothing of it is left."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from support.site import COMPUTE, HOME, WAITS, until

from compute_to_data.records.state import State
from compute_to_data.submission import workloads
from compute_to_data.submission.submit import Submitted

from .conftest import WORKER, LabSite, shown, systemctl
from .podman_account import SERVICE, containers, of_its_systemd, run, uid, wait_for_socket
from .test_units import (
    running,
    test_a_killed_guard_comes_back_and_its_workers_go_on,
    test_a_killed_worker_comes_back_and_takes_its_job_over,
    test_a_stopped_worker_leaves_its_job_to_the_next,
    test_tasks_run_under_the_units,
)

__all__ = [
    "test_a_killed_guard_comes_back_and_its_workers_go_on",
    "test_a_killed_worker_comes_back_and_takes_its_job_over",
    "test_a_stopped_worker_leaves_its_job_to_the_next",
    "test_tasks_run_under_the_units",
]


@pytest.fixture
def site(podman_site: LabSite) -> LabSite:
    """What the tests of Docker's units get here."""
    return podman_site


def is_gone(site: LabSite, *submitted: Submitted) -> bool:
    """Whether nothing of tasks is left, in the account's Podman and in the vault. Stop the worker first."""
    return containers() == "" and [site.leftovers(one) for one in submitted] == [[] for _ in submitted]


SERVICE_ENDS: dict[str, Callable[[], object]] = {
    "killed": lambda: of_its_systemd("kill", "--signal=KILL", "--kill-whom=main", SERVICE),
    "stopped": lambda: of_its_systemd("stop", SERVICE),
}


@pytest.mark.parametrize("how", SERVICE_ENDS)
def test_a_task_goes_on_without_podmans_service(site: LabSite, how: str) -> None:
    """The socket starts the service again when the worker asks next."""
    submitted = running(site, "echo on >/outputs/on; echo said")
    before = of_its_systemd("show", "--value", "--property=MainPID", SERVICE)
    SERVICE_ENDS[how]()
    site.let_go(submitted)
    (facts,) = site.end(submitted)
    assert of_its_systemd("show", "--value", "--property=MainPID", SERVICE) != before
    assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1"), facts
    found = site.contents(submitted.collection)
    assert (found["on"], found["STDOUT.txt"]) == (b"on\n", b"said\n")
    systemctl("stop", WORKER)
    assert is_gone(site, submitted)


KILLED = ("143", "137")
"""By SIGTERM, which systemd sends to all processes of a user's, or by SIGKILL."""
SESSION_ENDS: dict[str, Callable[[], object]] = {
    "its systemd is stopped": lambda: run("systemctl", "stop", f"user@{uid()}.service"),
    "its processes are killed": lambda: run("systemctl", "kill", "--signal=KILL", f"user@{uid()}.service"),
}


def goes_on(site: LabSite, submitted: Submitted) -> dict[str, str]:
    """Let each attempt of a task that WAITS go on, until the task has ended; its facts."""
    task = site.folder / "zone" / "vaults" / COMPUTE / submitted.collection[len("/tempZone/") :]
    seen: set[tuple[Path, int]] = set()

    def has_ended() -> bool:
        for started in task.glob("*/outputs/started"):
            with suppress(FileNotFoundError):  # the job removes it
                status = started.stat()
                one = started, status.st_ctime_ns
                if one not in seen:
                    seen.add(one)
                    (started.parent / "go").touch()
                    # If the job is gone, nothing removes this, and an output of another account is an error.
                    os.chown(started.parent / "go", status.st_uid, status.st_gid)
        return (site.record(submitted).state() or State.QUEUED).is_final

    until(has_ended, "the task to end")
    return site.record(submitted).facts()


def check_end(site: LabSite, submitted: Submitted, facts: dict[str, str]) -> None:
    """Check that a task whose container the account's systemd ended has one true end: that of its program if the
    engine could tell it, else what it came to when it began again."""
    if facts["state"] == "FAILED":
        assert (facts["reason_code"], facts["attempt"]) == ("nonzero_exit", "1"), facts
        assert facts["exit_status"] in KILLED, facts
    else:
        assert (facts["state"], facts["attempt"]) == ("COMPLETED", "2"), facts
        assert site.contents(submitted.collection)["on"] == b"on\n"
    systemctl("stop", WORKER)
    assert is_gone(site, submitted)


@pytest.mark.parametrize("how", SESSION_ENDS)
def test_a_task_whose_account_is_logged_out(site: LabSite, how: str) -> None:
    """Its container ends with the account's systemd, which the worker's unit starts again."""
    submitted = running(site, "echo on >/outputs/on; echo said")
    before = shown(WORKER, "MainPID")
    SESSION_ENDS[how]()
    until(lambda: shown(f"user@{uid()}.service", "ActiveState") == "active", "the account's systemd")
    wait_for_socket()
    facts = goes_on(site, submitted)
    assert shown(WORKER, "MainPID") == before, "the worker lives on"
    (next_one,) = site.end(site.submit(site.request("/bin/true")))
    assert next_one["state"] == "COMPLETED", next_one
    check_end(site, submitted, facts)


def test_a_task_whose_account_is_logged_out_while_no_worker_runs(site: LabSite) -> None:
    submitted = running(site, "echo on >/outputs/on")
    systemctl("stop", WORKER)
    run("systemctl", "stop", f"user@{uid()}.service")
    systemctl("start", WORKER)
    check_end(site, submitted, goes_on(site, submitted))


def test_a_workloads_task_whose_account_is_logged_out_begins_again(site: LabSite) -> None:
    """With its warm sandbox the tasks' directory is gone, and another sandbox runs this task and the next."""
    workload = workloads.start(site.alice, site.configuration, HOME, image=site.image, instances=1).collection
    words = ["/bin/sh", "-c", WAITS.replace("/outputs", "/output")]
    first = workloads.create_task(site.alice, site.configuration, workload, words)
    second = workloads.create_task(site.alice, site.configuration, workload, ["/bin/true"])
    site.start()
    site.outputs(first)
    run("systemctl", "stop", f"user@{uid()}.service")
    assert goes_on(site, first)["state"] == "COMPLETED"
    (facts,) = site.end(second)
    assert facts["state"] == "COMPLETED", facts
    systemctl("stop", WORKER)
    assert is_gone(site, first, second)
