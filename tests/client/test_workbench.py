"""Many users in one process: each has a workbench, and it reads and writes no files of a laptop."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.faults import Troubled
from support.site import ALICE, COMPUTE, HOME, TrialSite, wait_until

import compute_to_data
from compute_to_data.client import datasets, finding, tasks, workloads
from compute_to_data.client import site as site_module
from compute_to_data.client.site_access import ConfiguredSite, PublishedSite
from compute_to_data.client.workbench import Workbench
from compute_to_data.configuration import Attributes
from compute_to_data.coordination import capabilities
from compute_to_data.errors import NotFound, Refused

PROGRAM = Path(__file__).resolve().parents[1] / "support" / "two_workbenches.py"
PACKAGE = Path(compute_to_data.__file__).parent
OPERATIONS = (
    "workbench",
    "site_access",
    "tasks",
    "finding",
    "task_status/status",
    "results",
    "logs",
    "task_logs/log_source",
    "log_clock",
    "workloads",
    "datasets",
    "secrets",
    "site",
)
LAPTOP = ("session", "local_inputs", "settings", "laptop", "laptop_site")
FILES_OF_THIS_HOST = ("folders", "uploading", "downloading", "transfers", "fetching")


@pytest.fixture
def offering(site: TrialSite) -> Iterator[TrialSite]:
    """A site with a running worker that has published what it accepts."""
    with site.working():
        wait_until(lambda: _offers(site), "the offers")
        yield site


def _offers(site: TrialSite) -> bool:
    try:
        return bool(capabilities.read(site.alice, Attributes()).images)
    except Refused:
        return False


@pytest.fixture
def results(offering: TrialSite, tmp_path: Path) -> Any:
    """What two people did in one process without environment variables, in an empty home and directory."""
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o000)
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(offering.zone.directory)],
        env={"HOME": str(empty)},
        cwd=empty if os.geteuid() == 0 else "/",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    empty.chmod(0o700)
    assert os.listdir(empty) == []
    return json.loads(done.stdout)


def test_two_people_work_in_one_process_without_a_laptop(results: Any, offering: TrialSite) -> None:
    for name, did in zip(("alice", "bob"), results["did"]):
        assert did["states"] == ["COMPLETED", "CANCELLED"]
        assert (did["result"], did["log"]) == (f"I am {name}\n",) * 2
        assert did["collection"].startswith(f"/tempZone/home/{name}/c2d_results/")
        assert did["listed"] == sorted(did["ids"])
        assert [path.startswith(f"/tempZone/home/{name}/") for path in did["secrets"]] == [True]
        assert did["resources"] == [[COMPUTE, True]]
    assert results["hidden"] == [True] * 4, "neither finds the other's tasks"
    loaded = {name.rpartition(".")[2] for name in results["modules"] if name.startswith("compute_to_data.client.")}
    assert not loaded & {*LAPTOP, *FILES_OF_THIS_HOST}
    places = {str(PACKAGE), sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), str(PROGRAM.parent)}
    known = (str(offering.zone.directory), *places, "/dev/", "/proc/self/")
    assert [path for path in results["paths"] if not path.startswith(known)] == []


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_do_not_use_the_laptops_modules(name: str) -> None:
    """Also not within a function. Only operations that name a local folder import the modules for it."""
    tree = ast.parse((PACKAGE / "client" / f"{name}.py").read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("compute_to_data.client"):
            imported |= {(node.module or "").rpartition(".")[2], *(alias.name for alias in node.names)}
    assert not imported & set(LAPTOP)
    asked = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not asked & {"os.environ", "os.getenv", "os.getcwd", "os.path.expanduser", "os.path.abspath", "Path.home"}


class TestWorkbench:
    @pytest.fixture
    def bench(self, site: TrialSite) -> Workbench:
        return Workbench(site.zone.session(ALICE), ConfiguredSite(site.configuration))

    def test_the_project_is_an_argument(self, site: TrialSite, bench: Workbench) -> None:
        assert (bench.user, bench.home, bench.zone, bench.project) == (ALICE, HOME, "tempZone", HOME)
        assert bench.results == f"{HOME}/c2d_results"
        site.alice.create_collection(f"{HOME}/p")
        other = Workbench(bench.catalog, bench.site_access, project="p")
        assert (other.project, other.results, bench.project) == (f"{HOME}/p", f"{HOME}/p/results", HOME)
        with pytest.raises(NotFound, match="project"):
            _ = Workbench(bench.catalog, bench.site_access, project="gone").project

    def test_a_site_with_a_configuration_starts_its_workers(self, site: TrialSite, bench: Workbench) -> None:
        process = site.process("/bin/sh", "-c", "echo x > /outputs/x")
        task = tasks.submit(bench, {"role": "CONTAINER", "inputs": [], "process": process})
        assert task.wait(60).state.value == "COMPLETED"  # nothing but the submission started a worker

    def test_workloads_and_listings_need_no_session(self, offering: TrialSite) -> None:
        bench = Workbench(offering.zone.session(ALICE), PublishedSite(Attributes()))
        workload = workloads.start(bench, offering.image)
        task = workload.create_task(["sleep", "600"])
        assert [one.workload for one in workloads.listed(bench)] == [workload.id]
        assert finding.find(bench, task.id).collection == task.collection
        assert [one.id for one in workload.stop()] == [task.id]
        assert task.wait(60).state.value == "CANCELLED"
        assert datasets.listed(bench) == []
        assert site_module.images(bench) == [{"name": offering.image}]


class TestPublishedSite:
    def counted(self, site: TrialSite) -> tuple[Any, list[int]]:
        """alice's session, and a count of its questions what resources offer."""
        asked: list[int] = []

        def avus_of_resources(original: Any, *args: Any, **more: Any) -> Any:
            asked.append(1)
            return original(*args, **more)

        return Troubled(site.zone.session(ALICE), avus_of_resources=avus_of_resources), asked

    def test_many_threads_ask_the_catalog_once(self, offering: TrialSite) -> None:
        catalog, asked = self.counted(offering)
        published = PublishedSite(Attributes())
        start = threading.Barrier(8)

        def ask() -> Any:
            start.wait(30)
            return published.configuration(catalog)

        with ThreadPoolExecutor(8) as pool:
            found = [one.result() for one in [pool.submit(ask) for _ in range(8)]]
        assert len(asked) == 1
        assert all(one is found[0] for one in found)
        assert found[0].images == offering.configuration.images

    def test_an_answer_that_is_too_old_is_asked_for_again(self, offering: TrialSite) -> None:
        catalog, asked = self.counted(offering)
        published = PublishedSite(Attributes(), maximum_age=0.0)
        published.configuration(catalog)
        published.configuration(catalog)
        assert len(asked) == 2

    def test_a_refusal_is_not_kept(self, site: TrialSite) -> None:
        catalog, _ = self.counted(site)
        published = PublishedSite(Attributes())
        with pytest.raises(Refused, match=f"no worker of {COMPUTE} publishes what it can run"):
            published.configuration(catalog)
        capabilities.publish(site.storage.catalog, site.configuration, COMPUTE)
        assert published.configuration(catalog).images == site.configuration.images
