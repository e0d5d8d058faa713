"""Jobs whose outputs the kernel holds to their limits by project quotas, on file systems of loop devices."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.site import COMPUTE, HOME, until

from compute_to_data.coordination import published_line
from compute_to_data.engines import project_quotas, quota_guard
from compute_to_data.records.state import State
from compute_to_data.submission import workloads

from .conftest import ACCOUNT, FOLDER, GUARD, OUTPUT_FILES, QUOTAS, WORKER, LabSite, systemctl

VAULT = FOLDER / "zone/vaults" / COMPUTE
DISK = Path("/var/lib/c2d-lab-vault.img")
DOCTOR = "/opt/compute-to-data/bin/compute-to-data-doctor"
AS_ACCOUNT = ("setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups")
LIMIT = 8 << 20
BLOCK = 4096
LIMITS = {"output_bytes": LIMIT}
MAKE = {
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "ext4": ["mkfs.ext4", "-q", "-F", "-O", "project,quota"],
    "without": ["mkfs.ext4", "-q", "-F"],
}
WRITES = """
import fcntl, json, os, struct

def until_refused(write):
    try:
        while True:
            write()
    except OSError as error:
        return error.errno

def allocated():
    return sum(os.fstat(one).st_blocks * 512 for one in kept)

kept = []
def nameless():
    kept.append(os.open("/outputs", os.O_TMPFILE | os.O_RDWR, 0o600))
    for _ in range(3):
        os.write(kept[-1], bytes(1 << 20))

seen = {"nameless_errno": until_refused(nameless), "nameless": allocated()}
try:
    directory = os.open("/outputs", os.O_RDONLY)
    fcntl.ioctl(directory, 0x401C5820, struct.pack("IIIII8x", 0, 0, 0, 0, 0))
    seen["project"] = "changed"
except OSError as error:
    seen["project"] = error.errno
while kept:
    os.close(kept.pop())

def empty():
    kept.append(os.open("/outputs", os.O_TMPFILE | os.O_RDWR, 0o600))

seen["entries_errno"], seen["entries"] = until_refused(empty), len(kept)
while kept:
    os.close(kept.pop())
os.mkdir("/outputs/below")
open("/outputs/below/seen", "w").write(json.dumps(seen))
"""


@contextmanager
def mounted(kind: str) -> Iterator[None]:
    """The vault is a file system of its own."""
    DISK.unlink(missing_ok=True)
    with DISK.open("wb") as file:
        file.truncate(512 << 20)
    subprocess.run([*MAKE[kind], str(DISK)], check=True)
    VAULT.mkdir(parents=True, exist_ok=True)
    options = "loop" if kind == "without" else "loop,prjquota"
    subprocess.run(["mount", "-o", options, str(DISK), str(VAULT)], check=True)
    try:
        yield
    finally:
        systemctl("stop", WORKER, GUARD, QUOTAS)
        subprocess.run(["umount", str(VAULT)], check=True)
        DISK.unlink()


@pytest.fixture
def quota_site(bare_site: LabSite, request: pytest.FixtureRequest) -> Iterator[LabSite]:
    """A site whose vault has project quotas, of the kind of file system that the test says."""
    with mounted(request.param):
        bare_site.install(project_quotas=True)
        yield bare_site


with_quotas = pytest.mark.parametrize("quota_site", ["xfs", "ext4"], indirect=True)


def _projects() -> set[int]:
    """The project ids of everything in the vault."""
    found = set()
    for folder, _, names in os.walk(VAULT):
        for place in (folder, *(os.path.join(folder, name) for name in names)):
            descriptor = os.open(place, os.O_RDONLY)
            found.add(project_quotas.project_of(descriptor))
            os.close(descriptor)
    return found


@with_quotas
def test_the_kernel_holds_outputs_to_their_limits(quota_site: LabSite) -> None:
    """Also files without a name, which no look at the outputs shows. Nothing of it is left in the vault afterwards."""
    submitted = quota_site.submit(quota_site.request("/usr/bin/python3", "-c", WRITES, limits=LIMITS))
    quota_site.start()
    (facts,) = quota_site.end(submitted)
    assert facts["state"] == "COMPLETED", facts
    seen = json.loads(quota_site.contents(submitted.collection)["below/seen"])
    print(f"of {LIMIT} bytes in nameless files the kernel allowed {seen['nameless']}, and {seen['entries']} entries")
    assert LIMIT - BLOCK <= seen["nameless"] <= LIMIT + BLOCK
    assert seen["entries"] == OUTPUT_FILES * 2 + 1
    assert seen["project"] == 1, "a job cannot leave its project (EPERM)"
    assert _projects() == {project_quotas.NONE}


@with_quotas
@pytest.mark.parametrize(
    ("write", "end"),
    [
        ("dd if=/dev/zero of=/outputs/$n bs=1000 count=900", ":"),
        ("dd if=/dev/zero of=/outputs/$n bs=1000 count=900 || exit 1", "exit 1"),
        ("for m in a b c d; do : >/outputs/$n$m || exit 1; done", "exit 1"),
    ],
    ids=["ignores it", "ends because of bytes", "ends because of files"],
)
def test_a_job_that_writes_more_is_told_so(quota_site: LabSite, write: str, end: str) -> None:
    """However fast it writes, whether it takes notice of what the kernel answers or not."""
    fill = f"for n in $(seq 40); do {write}; done; {end}"
    submitted = quota_site.submit(quota_site.request("/bin/sh", "-c", fill, limits=LIMITS))
    quota_site.start()
    (facts,) = quota_site.end(submitted)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "output_limit"), facts
    assert _projects() == {project_quotas.NONE}


@with_quotas
def test_outputs_as_large_as_the_limit_are_fine(quota_site: LabSite) -> None:
    fill = f"dd if=/dev/zero of=/outputs/all bs=64k count={LIMIT // 65536}"
    submitted = quota_site.submit(quota_site.request("/bin/sh", "-c", fill, limits=LIMITS))
    quota_site.start()
    (facts,) = quota_site.end(submitted)
    assert facts["state"] == "COMPLETED", facts
    assert len(quota_site.contents(submitted.collection)["all"]) == LIMIT


@with_quotas
def test_each_task_of_a_workload_has_a_quota_of_its_own(quota_site: LabSite) -> None:
    site = quota_site
    site.alice.create_collection(f"{HOME}/dataset")
    site.alice.write(f"{HOME}/dataset/one", b"one\n", resource="demoResc")
    workload = workloads.start(
        site.alice, site.configuration, HOME, image=site.image, instances=1, dataset=f"{HOME}/dataset", limits=LIMITS
    )
    command = ["/bin/sh", "-c", "dd if=/dev/zero of=/output/most bs=1M count=7; id -u >/output/uid"]
    tasks = [workloads.create_task(site.alice, site.configuration, workload.collection, command) for _ in range(2)]
    site.start()
    for facts in site.end(*tasks):
        assert facts["state"] == "COMPLETED", facts
    assert len({site.contents(one.collection)["uid"] for one in tasks}) == 2
    assert _projects() == {project_quotas.NONE}


@pytest.mark.parametrize("quota_site", ["without"], indirect=True)
def test_a_file_system_without_project_quotas_is_refused(quota_site: LabSite) -> None:
    submitted = quota_site.submit(quota_site.request("/bin/true", limits=LIMITS))
    quota_site.start()
    (facts,) = quota_site.end(submitted)
    assert facts["state"] == "FAILED", facts
    assert "its file system holds no project quotas" in facts["reason"]
    doctor = subprocess.run(DOCTOR, capture_output=True, text=True, check=False)
    assert doctor.returncode == 1
    assert f"{VAULT}: its file system holds no project quotas" in doctor.stdout


@pytest.mark.parametrize("quota_site", ["xfs"], indirect=True)
def test_without_its_helper_no_job_begins(quota_site: LabSite) -> None:
    """Tasks wait, and users and the administrator see why. They go on when the helper is back."""
    site = quota_site
    submitted = site.submit(site.request("/bin/true", limits=LIMITS))
    systemctl("mask", "--runtime", QUOTAS)
    try:
        site.start()
        cause = f"{QUOTAS} does not answer at {quota_guard.SOCKET}"
        until(lambda: cause in _held_up(site), "the worker to say why no task begins")
        assert site.record(submitted).state() is State.QUEUED
        doctor = subprocess.run([*AS_ACCOUNT, DOCTOR], capture_output=True, text=True, check=False)
        assert doctor.returncode == 1
        assert f"{QUOTAS} does not answer, so no job begins" in doctor.stdout
    finally:
        systemctl("unmask", "--runtime", QUOTAS)
    systemctl("start", QUOTAS)
    (facts,) = site.end(submitted)
    assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1"), facts


def _held_up(site: LabSite) -> str:
    line = published_line.read(site.alice, site.configuration.attributes, COMPUTE)
    return line.held_up if line is not None else ""


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("quota_site", ["xfs"], indirect=True)
def test_the_helper_does_nothing_else(quota_site: LabSite) -> None:
    quota_site.start(QUOTAS)
    own, roots = VAULT / "own", VAULT / "roots"
    for place in (own, roots):
        place.mkdir()
    subprocess.run(["chown", f"{ACCOUNT}:", str(own)], check=True)
    first = int(Path("/etc/subuid").read_text().split("irods:")[1].split(":")[0])
    hold = ["hold", first, LIMIT, 10]
    asked: list[tuple[Path, object, str]] = [
        (own, hold, ""),
        (own, ["release"], ""),
        (own, ["hold", 5, LIMIT, 10], "a job has no project 5"),
        (own, ["hold", first, 0, 10], "a job has no project"),
        (roots, hold, "it is not a directory of uid"),
        (roots, ["release"], "it is not a directory of uid"),
    ]
    for place, request, problem in asked:
        said = _output([*AS_ACCOUNT, "python3", "-c", ASKS, json.dumps(request), str(place), quota_guard.SOCKET])
        assert said.startswith(problem) and bool(said) == bool(problem), (request, said)
    subprocess.run(["xfs_io", "-c", "chproj 7", str(own)], check=True)
    said = _output([*AS_ACCOUNT, "python3", "-c", ASKS, json.dumps(hold), str(own), quota_guard.SOCKET])
    assert said.startswith("it belongs to the project 7 already")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:  # root is not its account
        channel.connect(quota_guard.SOCKET)
        assert channel.recv(100) == b""


ASKS = """
import json, os, socket, sys
request, place, socket_place = sys.argv[1:]
channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
channel.connect(socket_place)
socket.send_fds(channel, [request.encode()], [os.open(place, os.O_RDONLY)])
print(json.loads(channel.recv(4096)), end="")
"""
"""A client of the quota guard."""
