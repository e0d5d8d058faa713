"""Workers, Docker daemons, containers and iRODS servers, killed at random instants: each task has one true end.

``make survive`` runs 300 tasks on every zone that there is, ``make test`` fewer: C2D_TEST_TASKS says how
many. C2D_TEST_SEED repeats a schedule of kills, as far as chance is ours. On a real zone the server is
stopped and started, too, so that nobody else should need it meanwhile (``support/irods_site.py``).
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.docker_daemon import OwnDaemon, own_daemon
from support.irods_site import ENVIRONMENT, START, STOP, open_zone
from support.kills import Killer, Site, embedded_site, killing, real_site
from support.reading import ENOUGH
from support.site import contents, leftovers, until

from compute_to_data.coordination import lock
from compute_to_data.coordination.heartbeat import heartbeats
from compute_to_data.errors import ZoneError
from compute_to_data.job import JobKey
from compute_to_data.model import Avu, Entity, EntityKind, Query
from compute_to_data.pipeline import journal
from compute_to_data.records.state import State
from compute_to_data.submission.submit import Submitted

pytestmark = pytest.mark.docker
TASKS = int(os.environ.get("C2D_TEST_TASKS", "40"))
CLAIMING = TASKS * 2 // 3
"""How many tasks claim an input. Each of the others waits for one or two tasks, and takes a result of the first."""
SEED = int(os.environ.get("C2D_TEST_SEED", "0")) or random.randrange(1, 1 << 32)
CLAIM = "irods::compute_to_data_task"
KILLED = {"137", "143"}
"""By SIGKILL, by SIGTERM."""
PATIENCE = 240.0
REAL = pytest.mark.skipif(
    not all(os.environ.get(name) for name in (ENVIRONMENT, STOP, START)),
    reason=f"no real zone that may be restarted is configured (set {ENVIRONMENT}, {STOP} and {START})",
)


@pytest.fixture(params=[True, False], ids=["containers outlive the daemon", "containers end with the daemon"])
def daemon(docker_answers: None, request: pytest.FixtureRequest) -> Iterator[OwnDaemon]:
    if os.geteuid() != 0:
        pytest.skip("a Docker daemon of the test's own needs root")
    with own_daemon(live_restore=request.param) as daemon:
        yield daemon


@pytest.fixture(params=["embedded", pytest.param("real", marks=REAL)])
def site(daemon: OwnDaemon, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    if request.param == "embedded":
        yield embedded_site(tmp_path, daemon)
        return
    zone = open_zone()
    try:
        yield real_site(zone, daemon)
    finally:
        zone.close()


@pytest.fixture
def killer(site: Site, daemon: OwnDaemon) -> Iterator[Killer]:
    with killing(site, daemon, random.Random(SEED)) as killer:
        yield killer


@dataclass(frozen=True)
class Expected:
    """What a task must come to, unless it is killed: its program's true exit status, and the tasks it waits for."""

    status: int
    awaited: tuple[Submitted, ...] = ()


def _script(number: int) -> tuple[str, int]:
    """What a task does, and its program's true exit status. Some fail, with what they wrote still there."""
    status = 3 if number % 10 == 9 else 0
    pause = 0.5 if number % 3 == 0 else 0
    script = f"cat /inputs/* > /outputs/got; mkdir /outputs/more; sleep {pause}; echo x > /outputs/more/last"
    return f"{script}; exit {status}", status


def _input(site: Site, number: int) -> str:
    return f"{site.home}/in/{number:04}"


def _submit_all(site: Site) -> dict[Submitted, Expected]:
    for number in range(CLAIMING):
        site.alice.write(_input(site, number), f"{number}\n".encode(), resource=site.origin)
    submitted: dict[Submitted, Expected] = {}
    for number in range(TASKS):
        script, status = _script(number)
        awaited = _awaited(list(submitted), number)
        inputs = [{"task": awaited[0].task_id, "path": "got"}] if awaited else [{"next_of": f"{site.home}/in"}]
        request = site.request("/bin/sh", "-c", script, inputs=inputs, after=[one.task_id for one in awaited])
        submitted[site.submit(request)] = Expected(status, awaited)
    return submitted


def _awaited(earlier: list[Submitted], number: int) -> tuple[Submitted, ...]:
    """What a task waits for: nothing, another task, two others, or the task before it, which may wait, too."""
    if number < CLAIMING:
        return ()
    number -= CLAIMING
    one, other = earlier[number], earlier[-1]
    return ((one,), (one, other), (other,))[number % 3]


def _unfinished(site: Site) -> int:
    """As the service account sees them; all of them while the zone does not answer."""
    attribute = site.configuration.attributes.state
    final = [state.value for state in State if state.is_final]
    try:
        return TASKS - sum(
            len(site.storage.find(Query(EntityKind.COLLECTION, attribute, state, site.compute))) for state in final
        )
    except ZoneError:
        return TASKS


def test_each_task_has_one_true_end(killer: Killer) -> None:
    site, chance = killer.site, killer.chance
    submitted = _submit_all(site)
    began = time.monotonic()
    killer.start_worker()
    while _unfinished(site) > 3:
        time.sleep(chance.uniform(*site.pause))  # a random instant, not a wait for an event
        if sum(killer.kills.values()) < TASKS:  # also a busy machine must make progress between two kills
            killer.kill_something()
        killer.keep_worker()
        assert time.monotonic() - began < 120 + 6 * TASKS, f"seed {SEED}: too slow, after {killer.kills}"

    def all_ended() -> bool:
        killer.keep_worker()
        return _unfinished(site) == 0

    until(all_ended, f"the last tasks (seed {SEED}, {killer.kills})", PATIENCE)
    seconds = time.monotonic() - began
    until(lock.ResourceLock(site.configuration, site.storage.zone, site.compute).is_held, "the last worker")
    assert killer.end_worker(signal.SIGTERM) == 0
    context = f"seed {SEED}, {dict(killer.kills)} in {seconds:.0f} s"
    ends = Counter(_check(killer, one, expected, context) for one, expected in submitted.items())
    print(f"{context}: {dict(ends)}")
    _check_the_rest(killer, submitted, context)


def _check(killer: Killer, submitted: Submitted, expected: Expected, context: str) -> str:
    """Check that a task has one end, that it is true, and that its results fit. Returns the end's name."""
    site = killer.site
    facts = site.record(submitted).facts()
    context = f"{context}: {submitted.task_id}: {facts}"
    assert site.record(submitted).state() is not None, context  # Refused, had it several
    assert sum(name in facts for name in ("completed_at", "failed_at", "cancelled_at")) == 1, context
    assert leftovers(site.alice, submitted, site.vaults) == [], context
    found = contents(site.alice, submitted.collection)
    states = {site.record(one).state() for one in expected.awaited}
    if facts["state"] == "CANCELLED":
        assert states - {State.COMPLETED} and set(found) == {"task.json"}, context
        assert any(f"it waited for task {one.task_id}, which " in facts["reason"] for one in expected.awaited), context
        assert "running_at" not in facts, context
        return "CANCELLED"
    assert states <= {State.COMPLETED}, context
    if facts["state"] == "COMPLETED":
        assert (expected.status, facts["exit_status"]) == (0, "0"), context
        assert set(found) == {"task.json", "ro-crate-metadata.json", "got", "more/last"}, context
        assert found["got"] == site.alice.read(_read_by(site, submitted, expected), ENOUGH), context
        assert found["more/last"] == b"x\n", context
        for name in set(found) - {"task.json"}:
            _check_checksum(site, f"{submitted.collection}/{name}", context)
        return "COMPLETED"
    left = {"failed/got", "failed/more/last"}
    assert set(found) <= {"task.json", "STDOUT.txt", "STDERR.txt", *left}, context
    assert ("kept" in facts) == any(name.startswith("failed/") for name in found), context
    assert facts["reason_code"] == "nonzero_exit", context
    if facts["exit_status"] == "3":
        assert expected.status == 3 and left <= set(found), context
        return "FAILED by itself"
    job = JobKey.of(_scope(site), submitted.collection).text
    ended_with_daemon = killer.kills["daemon"] and not killer.daemon.live_restore
    assert facts["exit_status"] in KILLED and (job in killer.victims or ended_with_daemon), context
    return "FAILED, killed"


def _read_by(site: Site, submitted: Submitted, expected: Expected) -> str:
    """The data object that a task read: the one that it claimed, or a result of the task that it waited for."""
    if expected.awaited:
        return f"{expected.awaited[0].collection}/got"
    (claimed,) = site.alice.find(Query(EntityKind.DATA_OBJECT, CLAIM, submitted.task_id))
    return claimed


def _scope(site: Site) -> str:
    return lock.scope(site.configuration, site.storage.zone, site.compute)


def _check_checksum(site: Site, logical_path: str, context: str) -> None:
    (replica,) = site.data_object(logical_path).replicas
    assert replica.checksum, context
    assert site.storage.verify(logical_path, replica.number) == replica.checksum, context


def _read_json(file: Path) -> dict[str, str]:
    content: dict[str, str] = json.loads(file.read_text())
    return content


def _check_the_rest(killer: Killer, submitted: dict[Submitted, Expected], context: str) -> None:
    """Nothing of any task is left in the engine, the vaults, the journals or the catalog."""
    site = killer.site
    with killer.daemon.client() as client:
        assert client.containers(all=True) == [], context
    state = Path(site.configuration.worker.state_directory)
    assert os.listdir(journal.folder_of(str(state), _scope(site))) == [], context
    files = [file for file in state.rglob("*") if file.is_file() or file.is_fifo()]
    notes = [file for file in files if file.parent.name.endswith(".staged")]
    others = [file for file in files if file.relative_to(state).parts[0] != "first-process" and file not in notes]
    kept = {file.suffix for file in others}  # for all jobs
    assert kept <= {".lock", ".bell"}, f"{context}: {kept}"
    for note in map(_read_json, notes):  # each as long as its replica, or left by a worker killed after trimming that
        replicas = site.data_object(note["data_object"]).replicas
        known = note["physical_path"] in {one.physical_path for one in replicas}
        assert known or not os.path.exists(note["physical_path"]), f"{context}: {note}"
    assert site.audit() == [], context
    assert heartbeats(site.storage.catalog, site.configuration, site.compute) == [], context
    claiming = [one for one, expected in submitted.items() if not expected.awaited]
    completed = {one.task_id for one in claiming if site.record(one).state() is State.COMPLETED}
    claimants = []
    tasks = {one.task_id: one for one in submitted}
    for number in range(CLAIMING):
        logical_path = _input(site, number)
        avus: list[Avu] = list(site.alice.avus(Entity(EntityKind.DATA_OBJECT, logical_path)))
        here = [avu.value for avu in avus if avu.attribute == CLAIM]
        claimants += here
        leaves = [replica.leaf for replica in site.data_object(logical_path).replicas]
        expected = [site.origin, site.compute] if avus else [site.origin]
        assert leaves == expected, f"{context}: {logical_path}: {[site.record(tasks[one]).facts() for one in here]}"
    assert sorted(claimants) == sorted(completed), context
