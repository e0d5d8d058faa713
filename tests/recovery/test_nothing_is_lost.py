"""Workers, the Docker daemon and containers, killed at random instants: each task has one true end.

``make survive`` runs 300 tasks, ``make test`` fewer: C2D_TEST_TASKS says how many. C2D_TEST_SEED
repeats a schedule of kills, as far as chance is ours.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from docker.errors import APIError
from support.docker_daemon import BASE_IMAGE, OwnDaemon, own_daemon
from support.site import COMPUTE, HOME, PATIENCE, TrialSite, wait_until

from compute_to_data import notes, presence
from compute_to_data.model import Avu, DataObject, Entity, EntityKind
from compute_to_data.record import State
from compute_to_data.submission import Submitted
from compute_to_data.zones.embedded.audit import audit

pytestmark = pytest.mark.docker
TASKS = int(os.environ.get("C2D_TEST_TASKS", "40"))
SEED = int(os.environ.get("C2D_TEST_SEED", "0")) or random.randrange(1, 1 << 32)
CLAIM = "irods::compute_to_data_task"
KILLED = {"137", "143"}
"""By SIGKILL, by SIGTERM."""


@dataclass
class Trial:
    """A site whose worker and daemon are killed, and what was done to them."""

    site: TrialSite
    daemon: OwnDaemon
    chance: random.Random
    worker: subprocess.Popen[bytes] | None = None
    kills: Counter[str] = field(default_factory=Counter)
    victims: set[str] = field(default_factory=set)
    """Ids of the tasks whose containers were killed."""

    def start_worker(self) -> None:
        command = [sys.executable, "-m", "compute_to_data.worker"]
        arguments = ["--configuration", str(self.site.configuration_file), "--resource", COMPUTE]
        with open(self.site.folder / "worker.log", "ab") as log:
            self.worker = subprocess.Popen([*command, *arguments], stdout=log, stderr=log)

    def keep_a_worker(self) -> None:
        """One that began while there was no engine has ended, or is about to."""
        assert self.worker is not None
        if self.worker.poll() is not None:
            self.start_worker()

    def end_worker(self, number: int) -> int:
        assert self.worker is not None
        self.worker.send_signal(number)
        return self.worker.wait(60)

    def kill_something(self) -> None:
        what = self.chance.choices(("worker", "container", "daemon"), (5, 6, 2))[0]
        if what == "worker":
            self.end_worker(signal.SIGKILL)
            self.start_worker()
        elif what == "daemon":
            self.daemon.kill()
            time.sleep(self.chance.uniform(0, 0.5))
            self.daemon.start()
        else:
            what = self._kill_a_container()
        self.kills[what] += 1

    def _kill_a_container(self) -> str:
        running = self.daemon.running()
        if not running:
            return "nothing"
        one = self.chance.choice(running)
        how = self.chance.choice(("killed", "process killed", "removed"))
        with contextlib.suppress(APIError, ProcessLookupError), self.daemon.client() as client:  # it may just end
            if how == "removed":
                client.remove_container(one["Id"], force=True)
                return "container removed"
            self.victims.add(one["compute_to_data.task"])
            if how == "process killed":
                process = client.inspect_container(one["Id"])["State"]["Pid"]
                if process:
                    os.kill(process, signal.SIGKILL)
            else:
                client.kill(one["Id"], signal.SIGKILL)
        return f"container {how}"


@pytest.fixture(params=[True, False], ids=["containers outlive the daemon", "containers end with the daemon"])
def trial(docker_answers: None, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Trial]:
    if os.geteuid() != 0:
        pytest.skip("a Docker daemon of the test's own needs root")
    with own_daemon(live_restore=request.param) as daemon:
        engine = {"name": "docker", "socket": daemon.socket, "timeout_seconds": 20}
        site = TrialSite(tmp_path, engine, BASE_IMAGE, worker={"attempts": 50, "slots": 4})
        trial = Trial(site, daemon, random.Random(SEED))
        try:
            yield trial
        finally:
            if trial.worker is not None and trial.worker.poll() is None:
                trial.end_worker(signal.SIGKILL)


def _script(number: int) -> tuple[str, int]:
    """What a task does, and its program's true exit status."""
    status = 3 if number % 10 == 9 else 0
    pause = 0.5 if number % 3 == 0 else 0
    script = f"cat /inputs/* > /outputs/got; mkdir /outputs/more; sleep {pause}; echo x > /outputs/more/last"
    return f"{script}; exit {status}", status


def test_each_task_has_one_true_end(trial: Trial) -> None:
    site = trial.site
    site.alice.create_collection(f"{HOME}/in")
    for number in range(TASKS):
        site.alice.write(f"{HOME}/in/{number:04}", f"{number}\n".encode(), resource="demoResc")
    inputs = [{"next_of": f"{HOME}/in"}]
    submitted = {}
    for number in range(TASKS):
        script, status = _script(number)
        submitted[site.submit(site.request("/bin/sh", "-c", script, inputs=inputs))] = status

    def unfinished() -> int:
        final = (state.value for state in State if state.is_final)
        return TASKS - sum(
            len(site.storage.tasks(site.configuration.attributes.state, state, COMPUTE)) for state in final
        )

    began = time.monotonic()
    trial.start_worker()
    while unfinished() > 3 and sum(trial.kills.values()) < 20 + TASKS:
        time.sleep(trial.chance.uniform(0.1, 1.0))  # the random instant is what is tested, not waited for
        trial.kill_something()
        trial.keep_a_worker()
    wait_until(
        lambda: trial.keep_a_worker() or unfinished() == 0, f"the last ({SEED}, {trial.kills})", 4 * PATIENCE + TASKS
    )
    seconds = time.monotonic() - began
    wait_until(presence.ResourceLock(site.configuration, "tempZone", COMPUTE).is_held, "the last worker to serve")
    assert trial.end_worker(signal.SIGTERM) == 0
    context = f"seed {SEED}, {dict(trial.kills)} in {seconds:.0f} s"
    ends = Counter(_check(trial, one, status, context) for one, status in submitted.items())
    print(f"{context}: {dict(ends)}")
    _check_the_rest(trial, submitted, context)


def _check(trial: Trial, submitted: Submitted, status: int, context: str) -> str:
    """The one end of a task, if it is true and left what it says; its name."""
    site = trial.site
    facts = site.record(submitted).facts()
    context = f"{context}: {submitted.task_id}: {facts}"
    assert site.record(submitted).state() is not None, context  # Refused, had it several
    assert sum(name in facts for name in ("completed_at", "failed_at", "cancelled_at")) == 1, context
    assert site.leftovers(submitted) == [], context
    contents = site.contents(submitted.collection)
    if facts["state"] == "COMPLETED":
        assert (status, facts["exit_status"]) == (0, "0"), context
        assert set(contents) == {"task.json", "ro-crate-metadata.json", "got", "more/last"}, context
        (claimed,) = site.alice.find(EntityKind.DATA_OBJECT, CLAIM, submitted.task_id)
        assert contents["got"] == site.alice.read(claimed), context
        assert contents["more/last"] == b"x\n", context
        for name in set(contents) - {"task.json"}:
            _check_checksum(site, f"{submitted.collection}/{name}", context)
        return "COMPLETED"
    assert set(contents) <= {"task.json", "STDOUT.txt", "STDERR.txt"}, context
    assert facts["reason_code"] == "nonzero_exit", context
    if facts["exit_status"] == "3":
        assert status == 3, context
        return "FAILED by itself"
    job = notes.job_id_of(presence.scope(site.configuration, "tempZone", COMPUTE), submitted.collection)
    ended_with_daemon = trial.kills["daemon"] and not trial.daemon.live_restore
    assert facts["exit_status"] in KILLED and (job in trial.victims or ended_with_daemon), context
    return "FAILED, killed"


def _check_checksum(site: TrialSite, logical_path: str, context: str) -> None:
    found = site.alice.stat(logical_path)
    assert isinstance(found, DataObject), context
    (replica,) = found.replicas
    assert site.storage.verify(logical_path, replica.number) == replica.checksum, context


def _check_the_rest(trial: Trial, submitted: dict[Submitted, int], context: str) -> None:
    """Nothing of any task is left in the engine, the vaults, the worker's notes or the catalog."""
    site = trial.site
    scope = presence.scope(site.configuration, "tempZone", COMPUTE)
    with trial.daemon.client() as client:
        assert client.containers(all=True) == [], context
    assert os.listdir(notes.folder_of(site.configuration.worker.state_directory, scope)) == [], context
    assert audit(str(site.folder / "zone")) == [], context
    completed = {one.task_id for one in submitted if site.record(one).state() is State.COMPLETED}
    claimants = []
    for number in range(TASKS):
        logical_path = f"{HOME}/in/{number:04}"
        found = site.alice.stat(logical_path)
        assert isinstance(found, DataObject)
        avus: list[Avu] = list(site.alice.avus(Entity(EntityKind.DATA_OBJECT, logical_path)))
        claimants += [avu.value for avu in avus if avu.attribute == CLAIM]
        leaves = [replica.leaf for replica in found.replicas]
        assert leaves == (["demoResc", COMPUTE] if avus else ["demoResc"]), f"{context}: {logical_path} {avus}"
    assert sorted(claimants) == sorted(completed), context
