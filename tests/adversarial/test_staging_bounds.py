"""Inputs that would fill the vault or a quota: refused before anything of them is brought to the resource."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from support.disks import small_disk
from support.faults import Troubled
from support.real_docker import ENGINE
from support.site import COMPUTE, HOME, TrialSite, wait_until

from compute_to_data.errors import OutOfReach, Refused, TaskFailed
from compute_to_data.model import DataObject, Resource
from compute_to_data.pipeline.vault.arriving import Arriving
from compute_to_data.pipeline.vault.vault_room import VaultRoom
from compute_to_data.submission import workloads

MIB = 1 << 20


def _roots(site: TrialSite, name: str) -> set[str]:
    found = site.alice.stat(f"{HOME}/{name}")
    assert isinstance(found, DataObject)
    return {replica.root for replica in found.replicas}


@pytest.fixture
def inputs(site: TrialSite) -> list[str]:
    """60 and 50 bytes elsewhere, 1,000 bytes on the compute resource."""
    for name, size, resource in (("a", 60, "demoResc"), ("b", 50, "demoResc"), ("here", 1000, COMPUTE)):
        site.alice.write(f"{HOME}/{name}", b"x" * size, resource=resource)
    return [f"{HOME}/{name}" for name in ("a", "b", "here")]


def _process(site: TrialSite) -> dict[str, Any]:
    return {"name": "process", "images": {"tools": str(site.folder / "tools")}}


def test_more_than_the_task_may_bring(site: TrialSite, inputs: list[str]) -> None:
    facts = site.run(site.request("/bin/true", inputs=inputs, limits={"input_bytes": 109}))
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "refused")
    assert facts["reason"].startswith("inputs: 2 of them must be replicated to dsp_resc and have 110 bytes together")
    assert "limits.input_bytes" in facts["reason"]
    assert _roots(site, "a") == _roots(site, "b") == {"demoResc"}


def test_what_is_there_already_does_not_count(site: TrialSite, inputs: list[str]) -> None:
    assert site.run(site.request("/bin/true", inputs=inputs, limits={"input_bytes": 110}))["state"] == "COMPLETED"
    assert site.run(site.request("/bin/true", inputs=inputs, limits={"input_bytes": 1}))["state"] == "COMPLETED"


def test_the_site_bounds_what_a_task_may_ask_for(site: TrialSite, inputs: list[str]) -> None:
    site.configuration = site.configure(engine=_process(site), limits={"maximum": {"input_bytes": 100}})
    with pytest.raises(Refused, match=r"/limits/input_bytes.*maximum of input_bytes is 100"):
        site.submit(site.request("/bin/true", inputs=inputs, limits={"input_bytes": 101}))
    facts = site.run(site.request("/bin/true", inputs=inputs))
    assert "at most 100 bytes" in facts["reason"]


@pytest.mark.docker
def test_a_workloads_dataset_is_bounded_as_well(docker_answers: None, tmp_path: Path) -> None:
    site = TrialSite(tmp_path, {"name": ENGINE}, "compute-to-data/base:bookworm")
    site.alice.create_collection(f"{HOME}/data")
    for name in "ab":
        site.alice.write(f"{HOME}/data/{name}", b"x" * 60, resource="demoResc")
    workload = workloads.start(
        site.alice, site.configuration, HOME, image=site.image, dataset=f"{HOME}/data", limits={"input_bytes": 100}
    )
    task = workloads.create_task(site.alice, site.configuration, workload.collection, ["true"])
    with site.working():
        facts = site.ended(task)
    assert "have 120 bytes together" in facts["reason"]
    assert _roots(site, "data/a") == {"demoResc"}


def test_a_vault_without_room_for_them(site: TrialSite) -> None:
    site.configuration = site.configure(
        engine=_process(site), worker={"vault_reserve_bytes": MIB}, limits={"default": {"log_bytes": MIB}}
    )
    for name, size in (("fits", 2 * MIB), ("large", 8 * MIB)):
        site.alice.write(f"{HOME}/{name}", bytes(size), resource="demoResc")
    with small_disk(site.folder / "zone" / "vaults" / COMPUTE, 8 * 1024), site.working():
        facts = site.ended(site.submit(site.request("/bin/true", inputs=[f"{HOME}/large"])))
        assert (facts["state"], facts["reason_code"]) == ("FAILED", "vault_full")
        assert facts["reason"].startswith(f"the vault of resource {COMPUTE}: has ")
        assert "the inputs to replicate there have 8388608 bytes" in facts["reason"]
        assert _roots(site, "large") == {"demoResc"}
        assert site.ended(site.submit(site.request("/bin/true", inputs=[f"{HOME}/fits"])))["state"] == "COMPLETED"


def test_room_is_promised_once(tmp_path: Path) -> None:
    arriving, room = Arriving(), VaultRoom(Resource(COMPUTE, "unixfilesystem", "localhost", str(tmp_path)), 0)
    with small_disk(tmp_path, 1024):
        free = room.free()
        assert free
        with arriving.promised("first", free - 100, room):
            with pytest.raises(OutOfReach, match="other tasks will take"), arriving.promised("second", 101, room):
                pass
            with arriving.promised("second", 100, room):
                pass
            arriving.arrived("first", free - 200)
            with arriving.promised("second", free - 100, room):
                pass
        with pytest.raises(TaskFailed, match="besides its reserve"), arriving.promised("first", free + 1, room):
            pass


def test_two_tasks_do_not_promise_the_same_input_twice(site: TrialSite) -> None:
    """The second task finds the first one's transfer of the input, half of which is in the vault by then."""
    site.configuration = site.configure(
        engine=_process(site), worker={"vault_reserve_bytes": MIB}, limits={"default": {"log_bytes": MIB}}
    )
    site.alice.write(f"{HOME}/a", bytes(5 * MIB), resource="demoResc")
    vault = site.folder / "zone" / "vaults" / COMPUTE
    begun, go_on = threading.Event(), threading.Event()

    def half(replicate: Any, *rest: Any) -> Any:
        (vault / "half").write_bytes(bytes(3 * MIB))
        begun.set()
        go_on.wait(60)
        (vault / "half").unlink()
        return replicate(*rest)

    with small_disk(vault, 8 * 1024), site.working(storage=Troubled(site.storage, replicate=half)):  # type: ignore[arg-type]
        first = site.submit(site.request("/bin/true", inputs=[f"{HOME}/a"]))
        wait_until(begun.is_set, "the transfer to begin")
        second = site.submit(site.request("/bin/true", inputs=[f"{HOME}/a"]))
        wait_until(lambda: site.record(second).facts().get("state") == "STAGING_IN", "the second task to begin")
        go_on.set()
        assert {site.ended(first)["state"], site.ended(second)["state"]} == {"COMPLETED"}


def test_a_quota_without_room(site: TrialSite, inputs: list[str]) -> None:
    """The quota of the inputs' owner: a zone counts replicas for that user."""
    asked = []

    def quota(_: Any, user: Any, resources: Any) -> int:
        asked.append((str(user), list(resources)))
        return 109

    storage: Any = Troubled(site.storage, quota_left=quota)
    facts = site.run(site.request("/bin/true", inputs=inputs), storage=storage)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "refused")
    assert facts["reason"].startswith("the quota of user alice#tempZone: has room for 109 bytes on dsp_resc")
    assert asked == [("alice#tempZone", [COMPUTE])]
    assert _roots(site, "a") == {"demoResc"}
    assert site.run(site.request("/bin/true", inputs=[f"{HOME}/here"]), storage=storage)["state"] == "COMPLETED"
    assert len(asked) == 1, "nobody asks for quotas when nothing is to be brought"
