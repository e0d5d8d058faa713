"""The doctor's checks of the host: bounds of workers, weights and ids of jobs, access lists of vaults."""

from __future__ import annotations

import os
import shutil
import socket
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from support.worker_unit import HAS_SYSTEMD

from compute_to_data.doctor import host
from compute_to_data.doctor.findings import Finding, Verdict
from compute_to_data.doctor.installation import Account, Installation, Server
from compute_to_data.model import Resource
from compute_to_data.site_file import parse

HERE = Resource("dsp_resc", "unixfilesystem", "localhost", "/tmp")
ELSEWHERE = replace(HERE, host="far.example.org")


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    """The control groups of a host on which jobs weigh 20 and services 100."""
    (tmp_path / "cgroup.controllers").write_text("cpu io memory pids\n")
    for slice, weight in ((host.JOBS, 20), (host.SERVICES, 100)):
        (tmp_path / slice).mkdir()
        (tmp_path / slice / "cpu.weight").write_text(f"{weight}\n")
        (tmp_path / slice / "io.bfq.weight").write_text(f"default {weight}\n8:0 500\n")
        (tmp_path / slice / "io.weight").write_text(f"default {weight}\n")
    return tmp_path


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    """The disks of a host, with one that has the scheduler bfq."""
    scheduler = tmp_path / "block/vda/queue/scheduler"
    scheduler.parent.mkdir(parents=True)
    scheduler.write_text("none mq-deadline [bfq]\n")
    return tmp_path / "block"


def _only(findings: list[Finding], link: str) -> Finding:
    return next(one for one in findings if one.link == link)


def test_jobs_that_weigh_less_than_services(groups: Path, devices: Path) -> None:
    found = list(host.weights(groups, devices))
    assert [one.verdict for one in found] == [Verdict.OK, Verdict.OK]
    assert "jobs together weigh 20, and all services 100" in found[1].seen


def test_jobs_that_weigh_as_much_as_services(groups: Path) -> None:
    (groups / host.JOBS / "cpu.weight").write_text("100\n")
    found = _only(list(host.weights(groups)), "weight of jobs: processors")
    assert found.verdict is Verdict.PROBLEM
    assert "packaging/install" in found.remedy


def test_a_disk_that_the_kernel_does_not_share_by_weight(groups: Path, devices: Path) -> None:
    (devices / "vda/queue/scheduler").write_text("[none] mq-deadline bfq\n")
    found = _only(list(host.weights(groups, devices)), "weight of jobs: disk")
    assert found.verdict is Verdict.SKIPPED
    assert "bfq" in found.remedy
    (groups / "io.cost.qos").write_text("8:0 enable=0\n8:16 enable=1 ctrl=auto\n")
    assert _only(list(host.weights(groups, devices)), "weight of jobs: disk").verdict is Verdict.OK


def test_weights_that_cannot_be_checked(groups: Path, tmp_path: Path) -> None:
    shutil.rmtree(groups / host.JOBS)
    assert "no job has run" in next(host.weights(groups)).seen
    (groups / "cgroup.controllers").unlink()
    assert [one.verdict for one in host.weights(groups)] == [Verdict.SKIPPED]


@pytest.fixture
def installation() -> Installation:
    configuration = parse({"zone": {"kind": "irods"}, "worker": {"slots": 4}}, "test")
    return Installation(Server(), configuration, Account("irods", 998, 998))


def _ids(installation: Installation, etc: Path, subuid: str, subgid: str) -> list[Finding]:
    (etc / "subuid").write_text(subuid)
    (etc / "subgid").write_text(subgid)
    return list(host.ids_of_jobs(installation, etc))


def test_ids_for_each_slot(installation: Installation, tmp_path: Path) -> None:
    uids, gids, *_ = _ids(installation, tmp_path, "998:100000:65536\n", "alice:1:2\nirods:100000:65536\n")
    assert uids.verdict is gids.verdict is Verdict.OK
    assert "65536" in uids.seen


def test_too_few_ids_and_none(installation: Installation, tmp_path: Path) -> None:
    uids, gids, *_ = _ids(installation, tmp_path, "irods:100000:3\n", "alice:100000:65536\nbroken\n")
    assert uids.verdict is gids.verdict is Verdict.PROBLEM
    assert "3 ids, fewer than the 4 slots" in uids.seen
    assert "/etc/subgid gives jobs no ids" in gids.seen
    assert "usermod --add-subgids" in gids.remedy


def test_who_maps_ids_where_the_guard_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("C2D_GUARD", str(tmp_path / "guard"))
    stopped = host._helper(False, True)
    assert stopped.verdict is Verdict.PROBLEM and "systemctl enable --now" in stopped.remedy
    assert host._helper(False, False).verdict is Verdict.SKIPPED, "root starts the workers"
    missing = host._helper(True, False)
    assert missing.verdict is Verdict.PROBLEM and "uidmap" in missing.remedy
    program = tmp_path / "newuidmap"
    program.write_text("")
    program.chmod(0o755)
    assert host._helper(True, False).verdict is Verdict.OK


def test_the_guard_that_answers(installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("C2D_GUARD", str(tmp_path / "guard"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "guard"))
        listener.listen()
        assert "guard.service answers" in _ids(installation, tmp_path, "", "")[-1].seen


def test_a_kernel_that_forbids_user_namespaces(tmp_path: Path) -> None:
    for name, value in {"user/max_user_namespaces": "0", "kernel/apparmor_restrict_unprivileged_userns": "1"}.items():
        assert host._namespaces(tmp_path).verdict is Verdict.OK
        place = tmp_path / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"{value}\n")
        found = host._namespaces(tmp_path)
        assert found.verdict is Verdict.PROBLEM
        assert name.replace("/", ".") in found.remedy
        place.write_text(f"{1 - int(value)}\n")


@pytest.mark.parametrize(
    ("setting", "verdict", "seen"),
    [
        (None, Verdict.SKIPPED, "jobs can use up what the kernel grants to each other"),
        ("70000-70002", Verdict.PROBLEM, "gives jobs 3 ids, fewer than the 4 slots"),
        ("70000-70003", Verdict.OK, "gives jobs 4 ids"),
    ],
)
def test_ids_in_the_configuration(
    installation: Installation, tmp_path: Path, setting: str | None, verdict: Verdict, seen: str
) -> None:
    engine = replace(installation.configuration.engine, settings={"job_uids": setting})
    installation = replace(installation, configuration=replace(installation.configuration, engine=engine))
    found = _ids(installation, tmp_path, "", "")[0]
    assert found.verdict is verdict and seen in found.seen
    assert setting is not None or "Remove job_uids" in found.remedy


def _quotas(installation: Installation, resource: Resource, **settings: bool) -> list[Finding]:
    engine = replace(installation.configuration.engine, settings=settings)
    configuration = replace(installation.configuration, engine=engine)
    return list(host.project_quotas(replace(installation, configuration=configuration), resource))


def test_a_vault_without_the_project_quotas_that_the_site_wants(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("C2D_QUOTA_GUARD", str(tmp_path / "guard"))
    here = replace(HERE, vault=str(tmp_path))
    assert _quotas(installation, here) == []
    assert _quotas(installation, ELSEWHERE, project_quotas=True)[0].verdict is Verdict.SKIPPED
    vault, guard = _quotas(installation, here, project_quotas=True)
    assert vault.verdict is guard.verdict is Verdict.PROBLEM
    assert "holds no project quotas" in vault.seen and "prjquota" in vault.remedy
    assert "compute-to-data-quotas.service" in guard.remedy
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "guard"))
        listener.listen()
        assert _quotas(installation, here, project_quotas=True)[1].verdict is Verdict.OK


def _holds_an_access_list(path: Path) -> bool:
    """Give user 1 access, with a list as in linux/posix_acl_xattr.h: its version, then tag, rights and id."""
    nobody = 0xFFFFFFFF
    entries = [(1, 7, nobody), (2, 4, 1), (4, 4, nobody), (16, 4, nobody), (32, 0, nobody)]
    content = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", content)
    except OSError:
        return False
    return True


def test_a_vault_with_and_without_access_lists(tmp_path: Path) -> None:
    here = replace(HERE, vault=str(tmp_path))
    assert (host.access_lists(here).verdict is Verdict.OK) == _holds_an_access_list(tmp_path)
    without = host.access_lists(replace(HERE, vault="/proc/self"))
    assert without.verdict is Verdict.PROBLEM
    assert "XFS or ext4" in without.remedy
    assert host.access_lists(ELSEWHERE).verdict is Verdict.SKIPPED


def test_the_memory_of_a_worker_that_does_not_run_here() -> None:
    assert host.memory(ELSEWHERE).verdict is Verdict.SKIPPED
    found = host.memory(replace(HERE, name="no_such_resc"))
    assert found.verdict is Verdict.SKIPPED
    assert ("does not run" if HAS_SYSTEMD else "without systemd") in found.seen
