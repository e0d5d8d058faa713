"""The installed systemd units: started, stopped, killed and analysed."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from support.site import HOME, WAITS, until

from compute_to_data.submission import workloads
from compute_to_data.submission.submit import Submitted

from .conftest import GUARD, QUOTAS, WORKER, LabSite, shown, systemctl

SECRETS = f"{HOME}/.compute_to_data/secrets"


def running(site: LabSite, script: str) -> Submitted:
    """A task that runs, and goes on with the script when the test lets it go. Its unit runs, too."""
    submitted = site.submit(site.request("/bin/sh", "-c", f"{WAITS}; {script}"))
    site.start()
    site.outputs(submitted)
    return submitted


def restarted(unit: str, before: str) -> bool:
    """Whether systemd has started another process in the place of ``before``."""
    return shown(unit, "ActiveState") == "active" and shown(unit, "MainPID") not in ("0", before)


def test_tasks_run_under_the_units(site: LabSite) -> None:
    """One with an input and a secret in a sandbox of its own, three in a warm one."""
    value = uuid.uuid4().hex
    site.alice.create_collection(SECRETS, parents=True)
    site.alice.write(f"{SECRETS}/TOKEN", value.encode())
    site.alice.write(f"{HOME}/x.txt", b"abc\n")
    script = "rev /inputs/x.txt >/outputs/y; test -s /run/secrets/TOKEN; id -u >/outputs/uid"
    own = site.submit(site.request("/bin/sh", "-c", script, inputs=[f"{HOME}/x.txt"], secrets=["TOKEN"]))
    site.alice.create_collection(f"{HOME}/dataset")
    site.alice.write(f"{HOME}/dataset/one", b"one\n", resource="demoResc")
    workload = workloads.start(
        site.alice, site.configuration, HOME, image=site.image, instances=1, dataset=f"{HOME}/dataset"
    )
    command = ["/bin/sh", "-c", "cat /input/one >/output/got; id -u >/output/uid"]
    warm = [workloads.create_task(site.alice, site.configuration, workload.collection, command) for _ in range(3)]
    site.start()
    for facts in site.end(own, *warm):
        assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1"), facts
    made, found = site.contents(own.collection), [site.contents(one.collection) for one in warm]
    assert made["y"] == b"cba\n"
    assert [one["got"] for one in found] == [b"one\n"] * 3
    assert len({one["uid"] for one in found}) == 1, "one warm sandbox"
    assert made["uid"] not in {one["uid"] for one in found}
    assert shown(WORKER, "NRestarts") == shown(GUARD, "NRestarts") == "0"


def test_a_killed_worker_comes_back_and_takes_its_job_over(site: LabSite) -> None:
    submitted = running(site, "echo on >/outputs/on")
    before = shown(WORKER, "MainPID")
    systemctl("kill", "--signal=KILL", "--kill-who=main", WORKER)
    until(lambda: restarted(WORKER, before), "systemd to start the worker again")
    site.let_go(submitted)
    (facts,) = site.end(submitted)
    assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1"), facts
    assert site.contents(submitted.collection)["on"] == b"on\n"


def test_a_stopped_worker_leaves_its_job_to_the_next(site: LabSite) -> None:
    submitted = running(site, "echo on >/outputs/on")
    systemctl("stop", WORKER)
    assert shown(WORKER, "Result") == "success"
    site.let_go(submitted)
    systemctl("start", WORKER)
    (facts,) = site.end(submitted)
    assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1"), facts


def test_a_killed_guard_comes_back_and_its_workers_go_on(site: LabSite) -> None:
    submitted = running(site, "echo on >/outputs/on")
    before = shown(GUARD, "MainPID")
    systemctl("kill", "--signal=KILL", "--kill-who=main", GUARD)
    until(lambda: restarted(GUARD, before), "systemd to start the guard again")
    site.let_go(submitted)
    (facts,) = site.end(submitted)
    assert facts["state"] == "COMPLETED", facts
    systemctl("restart", WORKER)
    (facts,) = site.end(site.submit(site.request("/bin/true")))
    assert facts["state"] == "COMPLETED", facts


def test_the_kernel_ends_a_worker_that_takes_too_much_memory(site: LabSite) -> None:
    """A process in the worker's control group takes the memory, as a fault of the worker would."""
    submitted = running(site, "echo on >/outputs/on")
    group = Path("/sys/fs/cgroup") / shown(WORKER, "ControlGroup").lstrip("/")
    assert (group / "memory.max").read_text().strip() == str(512 << 20)
    assert (group / "memory.swap.max").read_text().strip() == "0"
    before = shown(WORKER, "MainPID")
    code = "import sys; open(sys.argv[1], 'w').write('0'); x = bytearray(600 << 20); print('it had the memory')"
    command = [sys.executable, "-c", code, str(group / "cgroup.procs")]
    hungry = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (hungry.returncode, hungry.stdout) == (-9, ""), hungry
    until(lambda: restarted(WORKER, before), "systemd to start the worker again")
    site.let_go(submitted)
    (facts,) = site.end(submitted)
    assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1"), facts


@pytest.mark.parametrize(("unit", "most"), [(WORKER, 1.5), (GUARD, 1.5), (QUOTAS, 1.5)])
def test_what_a_unit_may_do_is_little(unit: str, most: float) -> None:
    """Of the worker's figure, the network is 1.0."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", unit], capture_output=True, text=True, check=True
    )
    found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout
    print(f"{unit}: {found[1]}")
    assert float(found[1]) < most, done.stdout


@pytest.mark.parametrize("unit", [GUARD, QUOTAS])
def test_a_helper_that_the_site_does_not_want_ends_and_stays_so(site: LabSite, unit: str) -> None:
    site.install(job_uids=None)
    site.start(unit)
    until(lambda: shown(unit, "ActiveState") == "inactive", "it to end")
    assert (shown(unit, "Result"), shown(unit, "NRestarts")) == ("success", "0")
