"""A real server that is stopped and started while tasks run.

``C2D_TEST_IRODS_ENVIRONMENT_FILE`` as in ``contract/irods_zone.py``; ``C2D_TEST_IRODS_STOP`` and
``C2D_TEST_IRODS_START`` are shell commands that stop (or kill) the server and start it again, the
second returning when it listens. The test runs on the server's host, as root or as the service's
account. The worker uses that account's own environment, or C2D_TEST_IRODS_WORKER_ENVIRONMENT_FILE
(which may lead through a relay that the commands cut and mend, where others need the server).
C2D_TEST_IRODS_PYTHON is a Python that the service's account may run, with what a worker needs
(default: this one). C2D_TEST_TASKS and C2D_TEST_RESTARTS say how many.
"""

from __future__ import annotations

import json
import os
import pwd
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.site import ROLE_ATTRIBUTE, wait_until

import compute_to_data
from compute_to_data import configuration as configuration_module
from compute_to_data import notes, presence, submission
from compute_to_data.errors import ZoneError
from compute_to_data.model import Avu, DataObject, Entity, EntityKind
from compute_to_data.record import State, TaskRecord

ZONE, STOP, START = "C2D_TEST_IRODS_ENVIRONMENT_FILE", "C2D_TEST_IRODS_STOP", "C2D_TEST_IRODS_START"
PYTHON = "C2D_TEST_IRODS_PYTHON"
WORKER = "C2D_TEST_IRODS_WORKER_ENVIRONMENT_FILE"
TASKS = int(os.environ.get("C2D_TEST_TASKS", "20"))
RESTARTS = int(os.environ.get("C2D_TEST_RESTARTS", "5"))
SEED = int(os.environ.get("C2D_TEST_SEED", "0")) or random.randrange(1, 1 << 32)
PATIENCE = 240.0

pytestmark = pytest.mark.skipif(
    not all(os.environ.get(name) for name in (ZONE, STOP, START)),
    reason=f"no real zone that may be restarted is configured (set {ZONE}, {STOP} and {START})",
)


@pytest.fixture
def zone() -> Iterator[Any]:
    from contract.irods_zone import IrodsZoneUnderTest

    under_test = IrodsZoneUnderTest(os.environ[ZONE])
    yield under_test
    under_test.close()


def _worker(file: Path, resource: str, log: Path) -> subprocess.Popen[bytes]:
    """As the service's account: the server must be able to read what it leaves."""
    owner = file.stat()
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        account = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    python = os.environ.get(PYTHON, sys.executable)
    command = [python, "-m", "compute_to_data.worker", "--configuration", str(file), "--resource", resource]
    home = pwd.getpwuid(owner.st_uid).pw_dir
    path = str(Path(compute_to_data.__file__).parents[1])
    with open(log, "ab") as output:
        environment = {"PATH": os.environ["PATH"], "HOME": home, "PYTHONPATH": path}
        return subprocess.Popen(command, env=environment, cwd="/", stdout=output, stderr=output, **account)


def _shell(command: str) -> None:
    subprocess.run(["/bin/sh", "-c", command], check=True, timeout=180, stdout=subprocess.DEVNULL)


def test_tasks_outlive_their_server(zone: Any, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    storage, alice, resource = zone.storage(), zone.make_user(), zone.make_resource()
    storage.catalog.annotate(Entity(EntityKind.RESOURCE, resource), add=[Avu(ROLE_ATTRIBUTE, "CONTAINER")])
    place = Path(next(one.vault for one in storage.catalog.resources() if one.name == resource)).with_name("worker")
    zone._make_directory(place / "tools")
    file = place / "configuration.json"
    document = {
        "zone": {"kind": "irods", **({"environment_file": os.environ[WORKER]} if os.environ.get(WORKER) else {})},
        "images": ["tools"],
        "engine": {"name": "process", "images": {"tools": str(place / "tools")}},
        "worker": {"state_directory": str(place / "state"), "on_demand": True, "poll_seconds": 1, "slots": 3},
    }
    file.write_text(json.dumps(document))
    zone._hand_over(file)
    configuration = configuration_module.load(str(file))
    home = zone.scratch(alice)
    session = storage.on_behalf_of(alice)
    request = {
        "resource": resource,
        "output_collection": home,
        "process": {"image": "tools", "exec": "/bin/sh", "argv": ["-c", "sleep 1; echo x > /outputs/x"]},
    }
    submitted = [submission.submit(session, configuration, request) for _ in range(TASKS)]
    records = [TaskRecord(session, configuration.attributes, one.collection, resource) for one in submitted]

    def unfinished() -> int:
        try:
            return sum(not (record.state() or State.QUEUED).is_final for record in records)
        except ZoneError:
            return TASKS

    log = tmp_path / "worker.log"
    worker = _worker(file, resource, log)
    began, restarts = time.monotonic(), 0
    try:
        while restarts < RESTARTS and unfinished() > 2:
            time.sleep(chance.uniform(3.0, 12.0))  # the random instant is what is tested, not waited for
            _shell(os.environ[STOP])
            time.sleep(chance.uniform(0.0, 2.0))
            _shell(os.environ[START])
            restarts += 1
            assert worker.poll() is None, log.read_text()[-3000:]
        wait_until(lambda: unfinished() == 0, f"the last tasks (seed {SEED}, {restarts} restarts)", PATIENCE)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)
    print(f"seed {SEED}: {TASKS} tasks, {restarts} restarts in {time.monotonic() - began:.0f} s")
    assert restarts
    for record in records:
        facts = record.facts()
        assert facts["state"] == "COMPLETED", (facts, log.read_text()[-3000:])
        names = sorted(child.logical_path.rpartition("/")[2] for child in session.children(record.collection))
        assert names == ["ro-crate-metadata.json", "task.json", "x"]
        found = session.stat(f"{record.collection}/x")
        assert isinstance(found, DataObject)
        (replica,) = found.replicas
        assert storage.verify(found.logical_path, replica.number) == replica.checksum
    scope = presence.scope(configuration, storage.zone, resource)
    assert os.listdir(notes.folder_of(configuration.worker.state_directory, scope)) == []
    assert os.listdir(place / "state" / "jobs") == []
