"""The ids of jobs: which a worker has, how it chooses one, and how files change owners."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.jobs import held, remains
from support.site import until

from compute_to_data.engines import access_lists, job_ids, ownership
from compute_to_data.engines.docker.job_accounts import UID_LABEL, JobAccounts
from compute_to_data.engines.job_ids import JobIds
from compute_to_data.errors import ConfigurationError, EngineError, EngineOutOfReach
from compute_to_data.job import Job, Mount

from .conftest import Bench, open_docker

JOB, OTHER = 70_000, 80_000
ACCESS = "system.posix_acl_access"


@pytest.mark.parametrize("text", ["", "1-2-3", "70000", "70001-70000", "0-70000", "65535-70000", "70000-2147483648"])
def test_a_range_that_could_have_a_real_account_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="/engine/settings/job_uids"):
        job_ids.read(text)


def test_the_range_in_the_configuration() -> None:
    ids = job_ids.read("70000-70009")
    assert ids == JobIds(70_000, 70_000, 10)
    assert [uid for uid in (69_999, 70_000, 70_009, 70_010) if ids.has(uid)] == [70_000, 70_009]


@pytest.fixture
def irods(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], JobIds]:
    """The subordinate ids of an account ``irods``, uid 998, according to the content of the two files."""
    monkeypatch.setattr(os, "geteuid", lambda: 998)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd(("irods", "x", 998, 998, "", "/", "/bin/sh")))

    def found(uids: str, gids: str) -> JobIds:
        (tmp_path / "subuid").write_text(uids)
        (tmp_path / "subgid").write_text(gids)
        return job_ids.of_this_account(str(tmp_path))

    return found


def test_subordinate_ids_are_the_default(irods: Callable[[str, str], JobIds]) -> None:
    assert irods("alice:1:1\nirods:100000:65536\n", "998:200000:100\n") == JobIds(100_000, 200_000, 100)
    assert irods("irods:1000:65536\n998:70000:9\nbroken\n", "irods:70000:10\n") == JobIds(65_536, 70_000, 10)


def test_an_account_without_subordinate_ids_is_told_what_to_do(irods: Callable[[str, str], JobIds]) -> None:
    with pytest.raises(EngineError, match=r"/etc/subgid has no range for irods.*packaging/install.*job_uids.: null"):
        irods("irods:100000:65536\n", "irods:1000:9\n")


def test_an_id_of_an_account_of_the_host_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = JobAccounts(lambda: pytest.fail("asks nothing"), "70000-71999", (1, 1))
    real = pwd.struct_passwd(("bob", "x", JOB, JOB, "", "/", "/bin/sh"))

    def found(uid: int) -> pwd.struct_passwd:
        if uid % 50:
            return real
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", found)
    monkeypatch.setattr("compute_to_data.engines.docker.job_accounts._TRIES", 10_000)
    assert {accounts.choose()[0] % 50 for _ in range(20)} == {0}


# In the engine


@pytest.fixture
def small_bench(docker_answers: None, tmp_path: Path) -> Iterator[Bench]:
    """A site with only two ids."""

    def opened() -> Any:
        return open_docker(job_uids="70000-70001")

    bench = Bench(opened(), opened, tmp_path)
    yield bench
    bench.clear()


def _uid(job: Job) -> int:
    return os.stat(job.outputs).st_uid


@pytest.mark.docker
def test_another_worker_takes_no_id_that_is_in_use(small_bench: Bench) -> None:
    one = small_bench.started("sleep", "60")
    small_bench.engine = small_bench.reopen()
    other = small_bench.started("true")
    assert {_uid(one), _uid(other)} == {70_000, 70_001}
    assert held(small_bench.engine, other.key).wait(60)
    with pytest.raises(EngineOutOfReach, match="all 2 are in use"):
        small_bench.started("true")  # an ended job keeps its id: its outputs may still have it
    small_bench.engine.remove(other.key)
    assert _uid(small_bench.started("true")) == _uid(other)


@pytest.fixture
def in_use(small_bench: Bench) -> Job:
    """A running job, which has one of the two ids."""
    return small_bench.started("sleep", "60")


def _lie(monkeypatch: pytest.MonkeyPatch, in_use: Job, times: int) -> None:
    """Two workers may choose at the same moment, when none sees the other's container yet."""
    true, lies = JobAccounts._taken, iter(range(times))

    def taken(self: JobAccounts) -> frozenset[int]:
        lying = next(lies, None) is not None
        return frozenset({70_000, 70_001} - {_uid(in_use)}) if lying else true(self)

    monkeypatch.setattr(JobAccounts, "_taken", taken)


@pytest.mark.docker
def test_of_two_jobs_with_the_same_id_one_takes_another(
    small_bench: Bench, in_use: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lie(monkeypatch, in_use, 2)
    other = small_bench.started("true")
    assert {_uid(in_use), _uid(other)} == {70_000, 70_001}


@pytest.mark.docker
def test_a_job_that_finds_no_id_of_its_own_leaves_nothing(
    small_bench: Bench, in_use: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lie(monkeypatch, in_use, 1_000)
    job = small_bench.job("true")
    with pytest.raises(EngineOutOfReach, match=f"another job has the uid {_uid(in_use)}"):
        small_bench.engine.submit(job)
    assert small_bench.engine.jobs(small_bench.scope) == (in_use.key,)
    monkeypatch.undo()
    small_bench.engine.submit(job)


@pytest.mark.docker
def test_what_a_killed_worker_had_given_is_taken_back(docker_bench: Bench, tmp_path: Path) -> None:
    """Killed after the container was made and before it started."""
    file = tmp_path / "input"
    file.write_text("content")
    file.chmod(0o600)
    job = docker_bench.job("cat", "/inputs/x", inputs=(Mount(str(file), "/inputs/x"),))
    child = os.fork()
    if child == 0:
        engine: Any = docker_bench.reopen()
        engine._docker().start = lambda *_: os._exit(3)
        engine.submit(job)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert ACCESS in os.listxattr(file) and docker_bench.engine.find(job.key) is None
    docker_bench.engine.submit(job)
    assert held(docker_bench.engine, job.key).wait(60)
    assert remains(job.log_file).stdout == b"content"
    docker_bench.engine.remove(job.key)
    assert ACCESS not in os.listxattr(file) and file.stat().st_mode & 0o777 == 0o600


@pytest.mark.docker
def test_jobs_share_an_account_only_where_the_configuration_says_so(docker_answers: None, tmp_path: Path) -> None:
    engine = open_docker(job_uids=None, uid=4321, gid=8765)
    bench = Bench(engine, lambda: engine, tmp_path)
    try:
        job = bench.started("sh", "-c", "id -u; id -g; echo x > /outputs/x")
        assert held(engine, job.key).wait(60)
        until(lambda: remains(job.log_file).stdout == b"4321\n8765\n", "its ids in the log")
        assert _uid(job) == 4321
    finally:
        bench.clear()


@pytest.mark.docker
def test_the_label_of_an_image_counts_for_nothing(docker_bench: Bench) -> None:
    """A container's uid is the one it runs under."""
    job = docker_bench.started("sleep", "60")
    found: Any = docker_bench.engine
    container = found._docker().inspect_container(f"compute-to-data-{job.key}")
    assert container["Config"]["Labels"][UID_LABEL] == container["Config"]["User"].partition(":")[0] == str(_uid(job))


# Owners of files


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other accounts")


def _taken_back(folder: Path) -> None:
    ownership.take_back(str(folder), JobIds(JOB, JOB, 10), (OTHER, OTHER + 1))


def _owners(folder: Path) -> dict[str, tuple[int, int]]:
    found = {".": folder, **{str(path.relative_to(folder)): path for path in folder.rglob("*")}}
    return {name: (path.lstat().st_uid, path.lstat().st_gid) for name, path in found.items()}


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A directory of a job, beside a file of another account."""
    folder = tmp_path / "outputs"
    (folder / "below").mkdir(parents=True)
    for name in ("x", "below/y", "strange"):
        (folder / name).write_text(name)
    os.symlink(tmp_path / "outside", folder / "link")
    os.symlink(tmp_path, folder / "below/link")
    os.mkfifo(folder / "fifo")
    (tmp_path / "outside").write_text("not the job's")
    os.chown(tmp_path / "outside", JOB, JOB)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, JOB, JOB, follow_symlinks=False)
    os.chown(folder / "strange", 0, 0)
    return folder


@needs_root
def test_all_that_a_job_left_changes_its_owner_and_nothing_else(left: Path) -> None:
    _taken_back(left)
    owners = _owners(left)
    assert owners.pop("strange") == (0, 0)
    assert set(owners.values()) == {(OTHER, OTHER + 1)} and len(owners) == 7
    assert (left.parent / "outside").stat().st_uid == JOB, "no link is followed"
    _taken_back(left)
    assert _owners(left)["x"] == (OTHER, OTHER + 1)


@needs_root
def test_what_the_owner_could_not_read_becomes_readable_and_sets_no_user_id(left: Path) -> None:
    modes = {"x": 0o6755, "below/y": 0o000, "below": 0o000, ".": 0o311, "fifo": 0o000}
    for name, mode in modes.items():
        (left / name).chmod(mode)
    _taken_back(left)
    seen = {name: stat.S_IMODE((left / name).stat().st_mode) for name in modes}
    assert seen == {"x": 0o755, "below/y": 0o400, "below": 0o700, ".": 0o711, "fifo": 0o000}


@needs_root
def test_no_mount_is_crossed(left: Path) -> None:
    (left / "mounted").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(left / "mounted")], check=True)
    try:
        (left / "mounted/z").write_text("z")
        os.chown(left / "mounted/z", JOB, JOB)
        _taken_back(left)
        assert _owners(left)["mounted/z"] == (JOB, JOB)
    finally:
        subprocess.run(["umount", str(left / "mounted")], check=True)


@needs_root
def test_a_link_in_place_of_the_outputs_is_refused(left: Path, tmp_path: Path) -> None:
    os.symlink(left, tmp_path / "instead")
    with pytest.raises(EngineError, match="instead: the worker cannot make what the job left"):
        _taken_back(tmp_path / "instead")
    assert _owners(left)["x"] == (JOB, JOB)


def test_outputs_that_are_gone_need_nothing(tmp_path: Path) -> None:
    _taken_back(tmp_path / "gone")


# Access lists


def _listed(path: Path) -> list[tuple[int, int, int]]:
    content = os.getxattr(path, ACCESS)
    return list(access_lists._ENTRY.iter_unpack(content[4:]))


def test_an_entry_lets_one_uid_read_and_is_removed_without_a_trace(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.touch()
    file.chmod(0o600)
    access_lists.allow(str(file), JOB)
    access_lists.allow(str(file), JOB + 1)
    users = [(one, bits) for kind, bits, one in _listed(file) if kind == access_lists._USER]
    assert users == [(JOB, 4), (JOB + 1, 4)]
    access_lists.withdraw(str(file), JOB)
    access_lists.withdraw(str(file), JOB)
    access_lists.withdraw(str(file), JOB + 1)
    assert os.listxattr(file) == [] and file.stat().st_mode & 0o777 == 0o600


def test_entries_that_were_there_stay_and_get_no_wider(tmp_path: Path) -> None:
    """The mask hides what another account's entry says; a wider mask for the job must not show it."""
    file = tmp_path / "x"
    file.touch()
    file.chmod(0o640)
    access_lists.allow(str(file), OTHER)
    file.chmod(0o600)  # takes the mask away
    access_lists.allow(str(file), JOB)
    rights = {(kind, one): bits for kind, bits, one in _listed(file)}
    assert rights[access_lists._USER, JOB] == 4
    assert rights[access_lists._USER, OTHER] == 0
    assert rights[access_lists._OWNING_GROUP, 0xFFFFFFFF] == 0
    access_lists.withdraw(str(file), JOB)
    assert [one for kind, _, one in _listed(file) if kind == access_lists._USER] == [OTHER]


def test_a_dataset_is_readable_with_its_directories(tmp_path: Path) -> None:
    (tmp_path / "set/below").mkdir(parents=True)
    (tmp_path / "set/below/x").touch(mode=0o600)
    (tmp_path / "set/link").symlink_to("/etc/passwd")
    for folder in ("set", "set/below"):
        (tmp_path / folder).chmod(0o700)
    access_lists.allow(str(tmp_path / "set"), JOB)
    assert [bits for kind, bits, one in _listed(tmp_path / "set/below") if one == JOB] == [5]
    assert [bits for kind, bits, one in _listed(tmp_path / "set/below/x") if one == JOB] == [4]
    access_lists.withdraw(str(tmp_path / "set"), JOB)
    assert os.listxattr(tmp_path / "set/below") == os.listxattr(tmp_path / "set/below/x") == []


def test_a_file_that_everybody_may_read_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    (tmp_path / "x").chmod(0o644)
    access_lists.allow(str(tmp_path / "x"), JOB)
    assert os.listxattr(tmp_path / "x") == []


def test_a_file_system_without_access_lists_is_named() -> None:
    with pytest.raises(EngineError, match=r"input /proc/self/mem.*cannot let uid 70000 read it.*job_uids.: null"):
        access_lists.allow("/proc/self/mem", JOB)
