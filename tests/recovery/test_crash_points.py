"""A worker dies at each of its calls to the zone or the engine, before or after the call took effect. The next
worker brings the task to its one true end."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.crashes import Died, Doomed, Fate, each_fate
from support.driving import drive
from support.reading import ENOUGH
from support.real_docker import ENGINE
from support.real_slurm import node_service
from support.site import BASE_IMAGE, COMPUTE, HOME, PATIENCE, TrialSite

from compute_to_data.documents.task_json import recorded_task
from compute_to_data.engines.slurm.notes import Directory
from compute_to_data.model import Avu, Collection, DataObject, Entity, EntityKind, Query
from compute_to_data.pipeline.interruption import CancelRequests
from compute_to_data.pipeline.replication.replicas import InUse
from compute_to_data.pipeline.replication.transfers import Transfers
from compute_to_data.pipeline.template import TaskContext
from compute_to_data.records.state import State
from compute_to_data.roles import role_named
from compute_to_data.submission.submit import Submitted
from compute_to_data.zones.embedded.audit import audit

WELL = "cat /inputs/*; mkdir -p /outputs/sub; echo 1 > /outputs/one; echo 2 > /outputs/sub/two"
BADLY = f"{WELL}; exit 7"
EMPTY = "cat /inputs/*; mkdir -p /outputs/plots/deep"


def _submit(site: TrialSite, script: str) -> Submitted:
    site.alice.create_collection(f"{HOME}/in")
    site.alice.write(f"{HOME}/in/a.txt", b"some input\n", resource="demoResc")
    expected = ["plots/deep"] if script == EMPTY else []
    inputs = [{"next_of": f"{HOME}/in"}]
    return site.submit(site.request("/bin/sh", "-c", script, inputs=inputs, expected_outputs=expected))


@pytest.fixture(scope="module", autouse=True)
def slurm_service() -> Iterator[None]:
    """With ``C2D_TEST_ENGINE=slurm-service``, the resident service of the nodes, which serves all sites."""
    if ENGINE != "slurm-service":
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        Directory(folder).make()
        with node_service(folder) as service:
            _SLURM.update(directory=folder, service=service.socket)
            yield


_SLURM: dict[str, str] = {}


def site_in(folder: Path) -> TrialSite:
    """A site with plain processes, which is quick; with Podman in the guest of ``make lab``, or with Slurm, where
    ``C2D_TEST_ENGINE`` names them."""
    (folder / "tools").mkdir(parents=True)
    if ENGINE.startswith("slurm"):
        quick = {"partition": "main", "poll_seconds": 0.5, "notes_seconds": 1.0, "service": "/nonexistent"}
        return TrialSite(folder, {"name": "slurm", "directory": str(folder / "shared"), **quick, **_SLURM}, BASE_IMAGE)
    if ENGINE == "podman":
        return TrialSite(folder, {"name": ENGINE, "timeout_seconds": PATIENCE}, BASE_IMAGE)
    return TrialSite(folder, {"name": "process", "images": {"tools": str(folder / "tools")}}, "tools")


def _die(site: TrialSite, submitted: Submitted, fate: Fate) -> None:
    """Run the task's role as a slot does, until the worker dies or the task has ended."""
    catalog = Doomed(site.storage.on_behalf_of(site.alice.user), fate)
    record = site.record(submitted, catalog)  # type: ignore[arg-type]
    task = recorded_task(site.alice.read(record.request_path, ENOUGH), record.request_path)
    worker = site.worker()
    in_use = InUse()
    storage: Any = Doomed(site.storage, fate)
    context = TaskContext(
        configuration=site.configuration,
        catalog=catalog,  # type: ignore[arg-type]
        storage=storage,
        engine=Doomed(site.engine, fate, spared=frozenset({"wake", "wait_for_change", "statuses"})),  # type: ignore[arg-type]
        resource=next(one for one in site.alice.resources() if one.name == COMPUTE),
        scope=worker._served.scope,
        in_use=in_use,
        transfers=Transfers(storage, in_use, worker._served.journal_folder, 1),
        requests=CancelRequests(),
        workload_directories=worker._workload_slots.directories,
        stopping=lambda: False,
    )
    with contextlib.suppress(Died):
        drive(role_named(site.configuration, "CONTAINER").run(context, record, task), context)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("after", [False, True], ids=["before it takes effect", "after it took effect"])
@pytest.mark.parametrize(
    "script", [WELL, BADLY, EMPTY], ids=["a task that goes well", "a task that fails", "a task that leaves no file"]
)
def test_every_crash_point_is_recovered(tmp_path: Path, script: str, after: bool) -> None:
    places = []
    for fate in each_fate(after):
        site = site_in(tmp_path / f"{fate.at}")
        submitted = _submit(site, script)
        before = site.snapshot(without=submitted.collection)
        _die(site, submitted, fate)
        if fate.dead:
            places.append(fate.where)
            _check_recovery(site, submitted, script, before, fate.where)
    # The worker has died at every step that changes something.
    changing = {"annotate", "replicate", "prepare", "submit", "status", "finish_log", "remove", "register"}
    assert changing <= {*places}


def _check_recovery(site: TrialSite, submitted: Submitted, script: str, before: object, where: str) -> None:
    with site.working():
        facts = site.ended(submitted)
    context = f"died at {where}: {facts}"
    expected = State.FAILED if script == BADLY else State.COMPLETED
    assert facts["state"] == expected.value, context
    assert site.engine.jobs(site.worker()._served.scope) == (), context
    assert site.leftovers(submitted) == [], context
    assert audit(str(site.folder / "zone")) == [], context
    contents = site.contents(submitted.collection)
    assert contents["STDOUT.txt"] == b"some input\n", context
    if script == EMPTY:
        assert isinstance(site.alice.stat(f"{submitted.collection}/plots/deep"), Collection), context
    elif expected is State.COMPLETED:
        assert (contents["one"], contents["sub/two"]) == (b"1\n", b"2\n"), context
        _check_provenance(site, submitted)
    else:
        assert "exited with status 7" in facts["reason"], context
        assert set(contents) == {"task.json", "STDOUT.txt", "failed/one", "failed/sub/two"}, context
        assert (contents["failed/one"], contents["failed/sub/two"]) == (b"1\n", b"2\n"), context
        assert facts["kept"] == "2 files, 4 bytes, in failed/", context
        _check_marks(site, submitted)
        assert site.snapshot(without=submitted.collection) == before, context


def _check_marks(site: TrialSite, submitted: Submitted) -> None:
    """The collection and each file say that they are of a failed task, and nothing else."""
    mark = (Avu("irods::compute_to_data::failed_task", submitted.task_id, "nonzero_exit"),)
    failed = f"{submitted.collection}/failed"
    assert site.alice.avus(Entity(EntityKind.COLLECTION, failed)) == mark
    for name in ("one", "sub/two"):
        assert site.alice.avus(Entity(EntityKind.DATA_OBJECT, f"{failed}/{name}")) == mark


def _check_provenance(site: TrialSite, submitted: Submitted) -> None:
    """One claim, one staged replica, AVUs on the output."""
    claimed = site.alice.find(Query(EntityKind.DATA_OBJECT, "irods::compute_to_data_task", submitted.task_id))
    assert claimed == (f"{HOME}/in/a.txt",)
    staged = site.alice.stat(f"{HOME}/in/a.txt")
    assert isinstance(staged, DataObject)
    assert [replica.leaf for replica in staged.replicas] == ["demoResc", COMPUTE]
    avus = site.alice.avus(Entity(EntityKind.DATA_OBJECT, f"{submitted.collection}/one"))
    assert any(avu.attribute.endswith("::image_digest") for avu in avus)
