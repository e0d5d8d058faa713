"""Tasks under the properties of the worker's unit: account, system calls and, with systemd, namespaces."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from installer import payload, slurm
from installer.layout import Layout
from support.confined import Service, allowed_calls
from support.real_slurm import job_of, program_of
from support.service_worker import serving
from support.site import BASE_IMAGE, COMPUTE, HOME, TrialSite, until
from support.worker_unit import UnitWorker, unit_process

from compute_to_data.coordination import lock
from compute_to_data.engines import guard
from compute_to_data.job import JobKey
from compute_to_data.records.state import State
from compute_to_data.submission import workloads
from compute_to_data.submission.submit import Submitted

ACCOUNT = "daemon"
"""An ordinary account that every Debian has. It is not in the group of Docker's socket."""
IDS = range(300_000, 365_536)
"""The ids of its jobs."""
ACCESS_LIST = "system.posix_acl_access"
SECRETS = f"{HOME}/.compute_to_data/secrets"


DOCKER = {"name": "docker", "job_uids": f"{IDS.start}-{IDS.stop - 1}"}


class UnitSite:
    """A site that belongs to ACCOUNT, and its worker's unit and environment."""

    def __init__(self, folder: Path, environment: Path, engine: Mapping[str, Any] = DOCKER) -> None:
        self.site = TrialSite(folder, dict(engine), BASE_IMAGE)
        self.unit = folder / payload.UNIT
        layout = Layout(
            prefix=str(folder), irods_configuration=str(folder), state_directory=str(folder), account=ACCOUNT
        )
        self.socket = folder / "guard-socket"
        # Under systemd a service may write only where it is allowed to: here into the zone, and its socket.
        place = f"[Service]\nReadWritePaths={folder}\n"
        text = payload.filled(payload.UNIT, layout)
        self.unit.write_text(text.replace("[Service]\n", f"{place}Environment=C2D_GUARD={self.socket}\n"))
        self.guard = folder / payload.GUARD
        text = payload.filled(payload.GUARD, layout).replace(guard.SOCKET, str(self.socket))
        self.guard.write_text(text.replace("[Service]\n", place))
        shutil.copytree(environment, layout.venv, symlinks=True)

    def give(self) -> None:
        """Give all files of the site to the account."""
        account = pwd.getpwnam(ACCOUNT)
        for folder, folders, names in os.walk(self.site.folder):
            for name in (".", *folders, *names):
                os.chown(os.path.join(folder, name), account.pw_uid, account.pw_gid, follow_symlinks=False)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """The guard's unit, while inside."""
        self.give()
        with unit_process(self.guard) as process:
            until(lambda: self.socket.exists() or process.poll() is not None, "the guard to listen")
            assert process.poll() is None, "the guard has ended"
            yield

    def worker(self) -> UnitWorker:
        """Start a worker."""
        self.give()
        return UnitWorker(self.unit, self.site.configuration, COMPUTE, self.site.folder / "log")

    def ended(self, *submitted: Submitted, meanwhile: Callable[[], None] = lambda: None) -> list[dict[str, str]]:
        """Run a worker under the unit until these tasks have ended; returns their facts."""
        site = self.site
        records = [site.record(one) for one in submitted]
        with self.guarded(), serving(self.worker(), site.storage.catalog, site.configuration, COMPUTE) as worker:

            def is_over() -> bool:
                return worker.ended is not None or all((one.state() or State.QUEUED).is_final for one in records)

            meanwhile()
            until(is_over, "the tasks to end")
            assert worker.ended is None, f"the worker ended with status {worker.ended}: {worker.said}"
        return [one.facts() for one in records]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Path:
    """A workers' environment with Debian's Python, because another account may not be able to run ours."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "--disable-pip-version-check"]
    # pip would take packages on PYTHONPATH for installed, and the isolated worker would not find them.
    install = ["install", "--quiet", "--ignore-installed", "--no-index", "--find-links", str(wheels)]
    subprocess.run([*pip, *install, "compute-to-data[docker]"], check=True)
    return folder


@pytest.fixture
def unit_folder() -> Iterator[Path]:
    """A folder below /var/lib, as on a server, because a worker with this unit cannot see /tmp and /home."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("CI must run this test as root: a worker of another account is started")
        pytest.skip("only root can start a worker of another account")
    folder = Path(tempfile.mkdtemp(prefix="c2d-unit-", dir="/var/lib"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def unit_site(docker_answers: None, environment: Path, unit_folder: Path) -> Iterator[UnitSite]:
    made = UnitSite(unit_folder, environment)
    yield made
    for job in made.site.engine.jobs(lock.scope(made.site.configuration, "tempZone", COMPUTE)):
        made.site.engine.remove(job)


def test_tasks_complete_under_the_units_own_properties(unit_site: UnitSite) -> None:
    """One task has its own sandbox, an input and a secret; the other runs in a workload's warm sandbox."""
    site, value = unit_site.site, uuid.uuid4().hex
    site.alice.create_collection(SECRETS, parents=True)
    site.alice.write(f"{SECRETS}/TOKEN", value.encode())
    site.alice.write(f"{HOME}/x.txt", b"abc\n")
    script = (
        "rev /inputs/x.txt >/outputs/y; cat /run/secrets/TOKEN | sha256sum >/outputs/sum; id -u >/outputs/uid; "
        "umask 077; mkdir /outputs/below; echo private >/outputs/below/x; chmod 0 /outputs/below"
    )
    own = site.submit(site.request("/bin/sh", "-c", script, inputs=[f"{HOME}/x.txt"], secrets=["TOKEN"]))
    site.alice.create_collection(f"{HOME}/dataset")
    site.alice.write(f"{HOME}/dataset/one", b"one\n", resource="demoResc")
    workload = workloads.start(
        site.alice, site.configuration, HOME, image=site.image, instances=1, dataset=f"{HOME}/dataset"
    )
    command = ["/bin/sh", "-c", "cat /input/one >/output/got; id -u >/output/uid; echo $$ >/tmp/left"]
    warm = [workloads.create_task(site.alice, site.configuration, workload.collection, command) for _ in range(3)]
    for path in site.folder.rglob("*vault*/**/*"):
        if path.is_file():
            path.chmod(0o600)  # as on an iRODS server

    for facts in unit_site.ended(own, *warm):
        assert facts["state"] == "COMPLETED", facts
        assert facts["attempt"] == "1", "no attempt was lost"

    made = site.contents(own.collection)
    assert made["y"] == b"cba\n" and made["below/x"] == b"private\n"
    assert int(made["uid"]) in IDS
    assert value.encode() not in made["sum"] and len(made["sum"].split()[0]) == 64
    found = [site.contents(one.collection) for one in warm]
    assert [one["got"] for one in found] == [b"one\n"] * 3
    uids = {int(one["uid"]) for one in found}
    assert len(uids) == 1 and uids < set(IDS) - {int(made["uid"])}, "the same warm sandbox, with an id of its own"
    left = [path for path in site.folder.rglob("*") if path.lstat().st_uid in IDS]
    listed = [path for path in site.folder.rglob("*") if ACCESS_LIST in os.listxattr(path, follow_symlinks=False)]
    assert (left, listed) == ([], []), "nothing is a job's any more"


class SlurmSite(UnitSite):
    """The same with the units of a site with Slurm: its worker runs no jobs, the service of the node does."""

    def __init__(self, folder: Path, environment: Path) -> None:
        self.directory, place = folder / "jobs", folder / "node"
        self.node_socket, python = place / "socket", folder / "venv/bin/python"
        engine = {"name": "slurm", "directory": str(self.directory), "service": str(self.node_socket)}
        engine |= {"python": str(python), "poll_seconds": 0.5, "notes_seconds": 1.0}
        super().__init__(folder, environment, engine)
        place.mkdir(0o700)
        self.directory.mkdir(0o700)
        layout = Layout(prefix=str(folder), account=ACCOUNT)
        own = slurm.files(layout, str(self.directory)).popitem()[1].content.decode()
        self.unit.write_text(self.unit.read_text().replace("\n[Install]", f"\n{own}\n[Install]"))
        self.node = folder / payload.NODE
        text = payload.filled(payload.NODE, layout)
        self.node.write_text(text.replace(" %f\n", f" --socket {self.node_socket} {self.directory}\n"))

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """The node's service, while inside. Jobs have the account of the worker, so there is no guard."""
        self.give()
        with unit_process(self.node) as process:
            until(lambda: self.node_socket.exists() or process.poll() is not None, "the node's service to listen")
            assert process.poll() is None, "the node's service has ended"
            yield


@contextmanager
def in_dockers_group() -> Iterator[None]:
    """The account may use Docker, as that of nodes must, while inside."""
    subprocess.run(["gpasswd", "--add", ACCOUNT, "docker"], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["gpasswd", "--delete", ACCOUNT, "docker"], check=True, capture_output=True)


def test_a_job_of_slurm_runs_in_the_nodes_service_under_its_unit(
    slurm_answers: None, environment: Path, unit_folder: Path
) -> None:
    made = SlurmSite(unit_folder, environment)
    site, value = made.site, uuid.uuid4().hex
    site.alice.create_collection(SECRETS, parents=True)
    site.alice.write(f"{SECRETS}/TOKEN", value.encode())
    site.alice.write(f"{HOME}/x.txt", b"abc\n")
    script = (
        "until [ -e /outputs/go ]; do sleep 0.1; done; rev /inputs/x.txt >/outputs/y; id -u >/outputs/uid; "
        "cat /run/secrets/TOKEN | sha256sum >/outputs/sum"
    )
    inputs = {"inputs": [f"{HOME}/x.txt"], "secrets": ["TOKEN"]}
    submitted = site.submit(site.request("/bin/sh", "-c", script, **inputs))

    def let_go() -> None:
        """When the job runs: in the service, since Slurm's own process is only its client."""
        until(lambda: site.record(submitted).state() is State.RUNNING, "the job to run")
        (job,) = made.directory.glob("jobs/*")
        (program,) = program_of(job_of(JobKey(job.name)))
        assert b"slurm/client.py" in Path(f"/proc/{program}/cmdline").read_bytes()
        (outputs,) = unit_folder.glob(f"**/{submitted.task_id}/*/outputs")
        (outputs / "going").touch()
        shutil.chown(outputs / "going", ACCOUNT)
        (outputs / "going").rename(outputs / "go")

    with in_dockers_group():
        (facts,) = made.ended(submitted, meanwhile=let_go)
    assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1"), facts.get("reason")
    left = site.contents(submitted.collection)
    assert (left["y"], int(left["uid"])) == (b"cba\n", pwd.getpwnam(ACCOUNT).pw_uid)
    assert left["sum"].split()[0] == hashlib.sha256(value.encode()).hexdigest().encode()
    assert list(made.directory.glob("jobs/*")) == [], "nothing is left of the job"


def test_systemd_rates_the_units_below_a_bound(tmp_path: Path) -> None:
    """docs/installation.md has the figures."""
    rated = {}
    of_slurm = slurm.files(Layout(), "/shared").popitem()[1].content.decode()
    units = (("worker", payload.UNIT, ""), ("slurm", payload.UNIT, of_slurm), ("guard", payload.GUARD, ""))
    for name, file, more in units:
        text = payload.filled(file, Layout(account=ACCOUNT, prefix="/usr"))
        unit = tmp_path / f"{name}@r.service"
        unit.write_text(text.replace("/usr/venv/bin/python", sys.executable) + more)
        said = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found = re.search(r"exposure level for \S+: ([0-9.]+)", said.stdout)
        assert found, said
        rated[name] = float(found[1])
    assert max(rated.values()) < 1.5, rated


def test_the_accounts_shared_memory_survives_its_worker(unit_site: UnitSite) -> None:
    """The iRODS server runs under the same account, and has its shared memory there."""
    account = pwd.getpwnam(ACCOUNT)
    kept = Path("/dev/shm") / f"irods_{uuid.uuid4().hex}"
    kept.write_bytes(b"the server's")
    try:
        os.chown(kept, account.pw_uid, account.pw_gid)
        site = unit_site.site
        with unit_site.guarded(), serving(unit_site.worker(), site.storage.catalog, site.configuration, COMPUTE):
            pass
        assert kept.read_bytes() == b"the server's"
    finally:
        kept.unlink(missing_ok=True)


def test_systemd_leaves_the_accounts_shared_memory_alone(tmp_path: Path) -> None:
    """``RemoveIPC`` would delete the files of the iRODS server, which has the same account, in /dev/shm."""
    unit = tmp_path / payload.UNIT
    unit.write_text(payload.filled(payload.UNIT, Layout()))
    assert Service(unit).last("RemoveIPC") in (None, "false")


def test_without_its_guard_a_worker_does_not_start(unit_site: UnitSite) -> None:
    worker = unit_site.worker()
    until(lambda: worker.ended is not None, "the worker to end")
    assert worker.ended == 1
    assert f"the guard does not listen at {unit_site.socket}" in worker.said
    assert 'Or set "job_uids": null' in worker.said


def test_a_forbidden_system_call_fails_and_does_not_kill_the_worker(tmp_path: Path) -> None:
    unit = tmp_path / payload.UNIT
    unit.write_text(payload.filled(payload.UNIT, Layout()))
    service = Service(unit)
    allowed = allowed_calls(service.every("SystemCallFilter"))
    assert {"openat", "execve", "connect"} <= allowed
    assert not {"setuid", "setresuid", "setgroups", "chroot", "setpriority", "bpf", "mount", "ptrace"} & allowed
    assert service.last("SystemCallErrorNumber") == "EPERM"
