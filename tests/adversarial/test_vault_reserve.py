"""Jobs that fill the vault, some with what no look at their outputs shows: the worker keeps free space in reserve."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.disks import SmallDisk, small_disk
from support.real_docker import ENGINE, IMAGE
from support.site import COMPUTE, TrialSite, wait_until

from compute_to_data.coordination import published_line
from compute_to_data.disk_usage import Usage
from compute_to_data.engines.process import ProcessEngine
from compute_to_data.model import Resource
from compute_to_data.pipeline.vault.vault_room import VaultRoom
from compute_to_data.records.state import State
from compute_to_data.worker.watcher import HELPER_THREADS

MIB = 1 << 20
DISK, RESERVE = 64 * MIB, 30 * MIB
FOREVER = "while :; do sleep 0.05; done"


@pytest.fixture
def disk(site: TrialSite) -> Iterator[SmallDisk]:
    """The vault of dsp_resc, with a disk of its own."""
    limits = {"default": {"log_bytes": MIB}}
    site.configuration = site.configure(limits=limits, worker={"slots": 3, "vault_reserve_bytes": RESERVE})
    with small_disk(site.folder / "zone" / "vaults" / COMPUTE, DISK // 1024, inodes=2000) as disk:
        yield disk


def test_the_largest_job_is_ended_and_the_others_go_on(site: TrialSite, disk: SmallDisk) -> None:
    small = "head -c 1000000 /dev/zero > /outputs/small; echo > /outputs/started; "
    small += "while [ ! -e /outputs/go ]; do sleep 0.02; done; rm /outputs/go /outputs/started"
    modest = site.submit(site.request("/bin/sh", "-c", small))
    with site.working():
        site.outputs(modest)
        large = site.submit(site.request("/bin/sh", "-c", f"head -c 40000000 /dev/zero > /outputs/large; {FOREVER}"))
        facts = site.ended(large)
        assert (facts["state"], facts["reason_code"]) == ("FAILED", "vault_full")
        assert "less than its reserve of 31457280" in facts["reason"]
        assert "is full" in facts["not_kept"], "what it wrote would fill the vault again"
        site.let_go(modest)
        assert site.ended(modest)["state"] == "COMPLETED"


def test_the_reserve_holds_while_all_helpers_look_at_large_trees(
    site: TrialSite, disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []

    def endless(engine: ProcessEngine, directory: str, bytes_: int, entries: int, stop: Callable[[], bool]) -> Usage:
        looks.append(directory)
        wait_until(stop, "the look to be ended")
        return Usage(0, 0, is_whole=False)

    monkeypatch.setattr(ProcessEngine, "measure", endless)
    limits = {"default": {"log_bytes": MIB}}
    site.configuration = site.configure(limits=limits, worker={"slots": HELPER_THREADS, "vault_reserve_bytes": RESERVE})
    tasks = [site.submit(site.request("/bin/sh", "-c", FOREVER)) for _ in range(HELPER_THREADS)]
    with site.working():
        wait_until(lambda: len(looks) == HELPER_THREADS, "all helpers to be busy")
        disk.fill()
        assert {site.ended(one)["reason_code"] for one in tasks} == {"vault_full"}


@pytest.mark.docker
def test_deleted_files_that_a_job_keeps_open_do_not_fill_the_vault(docker_answers: None, tmp_path: Path) -> None:
    docker_site = TrialSite(tmp_path, {"name": ENGINE}, IMAGE, worker={"vault_reserve_bytes": RESERVE})
    held = f"exec 3> /outputs/held; rm /outputs/held; head -c 40000000 /dev/zero >&3; {FOREVER}"
    with small_disk(docker_site.folder / "zone" / "vaults" / COMPUTE, DISK // 1024):
        facts = docker_site.run(docker_site.request("sh", "-c", held))
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "vault_full")


def test_no_task_begins_without_room_and_users_see_why(site: TrialSite, disk: SmallDisk) -> None:
    disk.fill()
    submitted = site.submit(site.request("/bin/true"))

    def published() -> str:
        line = published_line.read(site.alice, site.configuration.attributes, COMPUTE)
        return line.held_up if line is not None else ""

    with site.working():
        wait_until(published, "the worker to say why")
        assert f"the vault of {COMPUTE} has 0 bytes free" in published()
        assert site.record(submitted).state() is State.QUEUED
        disk.make_room()
        assert site.ended(submitted)["state"] == "COMPLETED"


def test_without_a_reserve_a_full_vault_holds_nothing_up(disk: SmallDisk) -> None:
    resource = Resource(COMPUTE, "unixfilesystem", "localhost", str(disk.place))
    disk.fill()
    assert VaultRoom(resource, None).lack()
    assert not VaultRoom(resource, 0).lack()


def test_a_lack_of_inodes_counts(disk: SmallDisk) -> None:
    resource = Resource(COMPUTE, "unixfilesystem", "localhost", str(disk.place))
    room = VaultRoom(resource, 1)
    assert not room.lack()
    for number in range(1998):
        (disk.place / str(number)).touch()
    assert "more files" in room.lack()
