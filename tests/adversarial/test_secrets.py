"""Only the program sees a secret. It is nowhere else, at any time."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import outside
from support.reading import ENOUGH
from support.real_docker import ENGINE, inspection
from support.site import COMPUTE, HOME, PATIENCE, TrialSite, wait_until

from compute_to_data.coordination import lock, wakeup
from compute_to_data.engines.docker import confidential
from compute_to_data.errors import EngineError
from compute_to_data.job import Image as EngineImage
from compute_to_data.job import Job, JobKey, Limits
from compute_to_data.model import Entity, EntityKind, User

pytestmark = pytest.mark.docker
PLACE = f"{HOME}/.compute_to_data/secrets"
SOON = {"walltime_seconds": PATIENCE}
UNTIL_GO = "while [ ! -e /outputs/go ]; do sleep 0.05; done"
TELL = "sha256sum < /run/secrets/TOKEN > /outputs/sum; stat -c '%a %u' /run/secrets/TOKEN; id -u"
LIMITS = Limits(60, 64 << 20, 1, 32, 4 << 20, 100, 4 << 20, 1 << 16)


@pytest.fixture
def value() -> bytes:
    return uuid.uuid4().hex.encode()


@pytest.fixture
def site(docker_answers: None, tmp_path: Path, value: bytes) -> Iterator[TrialSite]:  # type: ignore[override]
    site = TrialSite(tmp_path, {"name": ENGINE}, "compute-to-data/base:bookworm")
    site.alice.create_collection(PLACE, parents=True)
    site.alice.write(f"{PLACE}/TOKEN", value)
    yield site
    for job in site.engine.jobs(lock.scope(site.configuration, "tempZone", COMPUTE)):
        site.engine.remove(job)


def files_with(value: bytes, *folders: Path) -> list[str]:
    found = []
    for folder in folders:
        for directory, _, names in os.walk(folder):
            for path in (os.path.join(directory, name) for name in names):
                if os.path.isfile(path) and value in Path(path).read_bytes():
                    found.append(path)
    return found


def in_memory(site: TrialSite) -> list[str]:
    return confidential.left(lock.scope(site.configuration, "tempZone", COMPUTE))


def everything_recorded(site: TrialSite, collection: str) -> str:
    said = [site.alice.avus(Entity(EntityKind.COLLECTION, collection)), site.contents(collection)]
    said += [
        site.alice.avus(Entity(EntityKind.DATA_OBJECT, f"{collection}/{name}")) for name in site.contents(collection)
    ]
    return repr(said)


def test_a_secret_is_only_in_the_sandbox(site: TrialSite, value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), site.working():
        submitted = site.submit(site.request("/bin/sh", "-c", f"{TELL}; {UNTIL_GO}", secrets=["TOKEN"], limits=SOON))
        wakeup.call_worker(site.configuration, "tempZone", COMPUTE)
        vault = site.folder / "zone" / "vaults" / COMPUTE
        wait_until(lambda: [one for one in vault.rglob("sum") if one.stat().st_size], "the program to have read it")
        (job,) = site.engine.jobs(lock.scope(site.configuration, "tempZone", COMPUTE))
        wait_until(lambda: in_memory(site) == [], "the host's file to go: a started container needs none")
        inspected = inspection(f"compute-to-data-{job}")
        processes = subprocess.run(["ps", "axeww"], capture_output=True, text=True, check=True).stdout
        (outputs,) = vault.rglob("outputs")
        (outputs / "go").write_text("")
        os.chown(outputs / "go", os.stat(outputs).st_uid, -1)  # an entry of another account would be refused
        facts = site.ended(submitted)
    assert facts["state"] == "COMPLETED", facts
    stdout = site.contents(submitted.collection)["STDOUT.txt"].split()
    assert stdout[0] == b"400" and stdout[1] == stdout[2] != b"0"
    for told in (inspected, processes, caplog.text, everything_recorded(site, submitted.collection), repr(facts)):
        assert value.decode() not in told
    rests = site.alice.stat(f"{PLACE}/TOKEN").replicas[0].physical_path  # type: ignore[union-attr]
    assert files_with(value, site.folder) == [rests], "only where the owner put it"
    assert json.loads(site.contents(submitted.collection)["task.json"])["secrets"] == ["TOKEN"]


@pytest.mark.parametrize(
    "script",
    [
        "echo x > /run/secrets/TOKEN",
        "rm /run/secrets/TOKEN",
        "chmod 777 /run/secrets/TOKEN",
        "echo x > /run/secrets/MORE",
    ],
)
def test_a_secret_cannot_be_changed(site: TrialSite, script: str, value: bytes) -> None:
    facts = site.run(site.request("/bin/sh", "-c", f"{script} 2>/dev/null && exit 9; exit 0", secrets=["TOKEN"]))
    assert facts["state"] == "COMPLETED", facts
    assert site.alice.read(f"{PLACE}/TOKEN", ENOUGH) == value


def test_a_task_without_secrets_sees_none(site: TrialSite) -> None:
    site.run(site.request("/bin/sh", "-c", "sleep 0", secrets=["TOKEN"]))
    facts = site.run(site.request("/bin/sh", "-c", "test ! -e /run/secrets"))
    assert facts["state"] == "COMPLETED", facts


def test_a_job_that_cannot_start_leaves_none(site: TrialSite) -> None:
    def no_start(*_: Any) -> None:
        raise EngineError("the engine", "broke on purpose")

    site.engine._create_and_start = no_start  # type: ignore[attr-defined]
    facts = site.run(site.request("/bin/true", secrets=["TOKEN"]))
    assert facts["state"] == "FAILED"
    assert in_memory(site) == []


KILLED = """
import os, signal, sys
from compute_to_data.worker import __main__ as worker
from compute_to_data.engines.docker.containers import ContainerEngine
ContainerEngine._create_and_start = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
worker.main(sys.argv[1:])
"""


@pytest.mark.parametrize("meanwhile", ["nothing", "the task is gone"])
def test_what_a_killed_worker_left_is_swept(site: TrialSite, value: bytes, meanwhile: str) -> None:
    submitted = site.submit(site.request("/bin/sh", "-c", TELL, secrets=["TOKEN"]))
    arguments = ["--configuration", str(site.configuration_file), "--resource", COMPUTE]
    with (site.folder / "killed.log").open("wb") as file:
        killed = outside.start([sys.executable, "-c", KILLED, *arguments], file)
    assert killed.wait(PATIENCE) == -9
    assert len(in_memory(site)) == 1, "the worker died with the secret on the host"
    if meanwhile == "nothing":
        with site.working():
            assert site.ended(submitted)["state"] == "COMPLETED"
    else:
        site.alice.remove(submitted.collection, recursive=True)
        with site.working():
            wait_until(lambda: not in_memory(site), "the worker to sweep")
    assert in_memory(site) == []


class TestTheHostsMemory:
    """Every account of the host may write in /dev/shm."""

    @pytest.fixture
    def job(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
        monkeypatch.setattr(confidential, "MEMORY", str(tmp_path))
        image = EngineImage("i", "sha256:0")
        places = ("/outputs", "/log")
        return Job(JobKey("t"), User("alice", "z"), "r", image, ("x",), LIMITS, *places, secrets={"A": b"secret"})

    def test_only_the_worker_may_enter_the_folder(self, job: Job) -> None:
        (mount,) = confidential.put(job, (os.getuid(), os.getgid()))
        path = Path(mount["Source"])
        assert path.read_bytes() == b"secret" and path.stat().st_mode & 0o777 == 0o400
        assert all(folder.stat().st_mode & 0o077 == 0 for folder in list(path.parents)[:2])
        assert confidential.left("r") == [JobKey("t")]
        confidential.discard(JobKey("t"))
        assert confidential.left("r") == [] and not path.exists()

    @pytest.mark.parametrize("kind", ["link", "open", "file"])
    def test_a_folder_that_another_account_prepared(self, job: Job, tmp_path: Path, kind: str) -> None:
        top, elsewhere = Path(confidential._top()), tmp_path / "elsewhere"
        elsewhere.mkdir()
        if kind == "link":
            top.symlink_to(elsewhere)
        elif kind == "open":
            top.mkdir()
            top.chmod(0o777)
        else:
            top.write_text("")
        with pytest.raises(EngineError, match="not the worker's own"):
            confidential.put(job, (os.getuid(), os.getgid()))
        assert files_with(b"secret", tmp_path) == []
