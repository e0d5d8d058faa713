"""The walk-through on a Slurm cluster, as a person types it: the command line starts the worker, which runs the task on
a node."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.people import settings_of
from support.real_slurm import job_of, slurm
from support.site import ALICE, BASE_IMAGE, COMPUTE, HOME, TrialSite, wait_until

from compute_to_data.job import JobKey
from compute_to_data.model import Collection
from compute_to_data.zones.embedded.agent import RuleExecutionInfo, irule

CHECKOUT = Path(__file__).resolve().parents[2]
REQUEST = {
    "container": {
        "type": "docker",
        "image": BASE_IMAGE,
        "commands": [{"command": ["/bin/sh", "-c", 'sed s/a/b/ "$INPUT_FILE_PATH" > "$OUTPUT"; echo told']}],
        "environment": {
            "INPUT_FILE_PATH": "/inputs/%(INPUT_FILE_BASENAME)s",
            "OUTPUT": "/outputs/seen_%(INPUT_FILE_BASENAME)s",
        },
    },
    "external": {"src_collection": f"{HOME}/in", "dst_collection": f"{HOME}/out"},
    "internal": {"src_directory": "/inputs", "dst_directory": "/outputs"},
}
"""The training module's request, for the image of these tests."""


@pytest.fixture
def site(slurm_answers: None, tmp_path: Path) -> Iterator[TrialSite]:
    settings = {"name": "slurm", "directory": str(tmp_path / "shared"), "accounts": {"alice#tempZone": "physics"}}
    site = TrialSite(tmp_path, settings, BASE_IMAGE)
    yield site
    wait_until(lambda: site.engine.jobs(site.worker()._served.scope) == (), "the worker to remove all jobs")


def typed(site: TrialSite, *words: str) -> subprocess.CompletedProcess[str]:
    """Type a command as alice."""
    file = site.folder / "alice.json"
    file.write_text(json.dumps(settings_of(site, "alice")), encoding="utf-8")
    environment = {**os.environ, "C2D_CONFIG_FILE": str(file), "C2D_SESSION_FILE": str(site.folder / "session.json")}
    command = [sys.executable, "-m", "compute_to_data.cli.main", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_program_runs_on_a_node(site: TrialSite) -> None:
    site.alice.write(f"{HOME}/words.txt", b"one\ntwo\n", resource=COMPUTE)
    script = "wc -l < /inputs/words.txt; cp /inputs/words.txt /outputs/copy; echo told >&2"
    done = typed(site, "run", "-i", f"{HOME}/words.txt", BASE_IMAGE, "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2\n"
    assert "told" in done.stderr
    listed = json.loads(typed(site, "list", "--output", "json").stdout)
    (task,) = listed["tasks"] if isinstance(listed, dict) else listed
    assert task["state"] == "COMPLETED"
    contents = site.contents(task["collection"])
    assert (contents["copy"], contents["STDOUT.txt"]) == (b"one\ntwo\n", b"2\n")
    identity = job_of(JobKey.of(site.worker()._served.scope, task["collection"]))
    said = slurm("scontrol", "show", "job", identity)
    assert f"Comment=task {task['task_id']} of alice#tempZone" in said
    assert "Account=physics" in said


def test_the_rule_of_the_walk_through_runs_a_task_on_a_node(site: TrialSite) -> None:
    """As `irule -F rules/spawn_remote_containers.r`: the rule wakes a worker, and waits for the task's end."""
    site.alice.create_collection(f"{HOME}/in")
    site.alice.write(f"{HOME}/in/x.txt", b"aaa\n")
    site.alice.write(f"{HOME}/task_config.json", json.dumps(REQUEST).encode())
    specification = importlib.util.spec_from_file_location("core", CHECKOUT / "core.py")
    assert specification is not None and specification.loader is not None
    core = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(core)
    said: list[str] = []
    rei = RuleExecutionInfo(site.zone, ALICE, site.configuration)
    rule = CHECKOUT / "rules" / "spawn_remote_containers.r"
    assert irule(core, rule, rei, lambda where, text: said.append(text)) == 0, said
    (collection,) = [one for one in site.alice.children(f"{HOME}/out") if isinstance(one, Collection)]
    contents = site.contents(collection.logical_path)
    assert (contents["seen_x.txt"], contents["STDOUT.txt"]) == (b"baa\n", b"told\n")
    assert any("COMPLETED" in line for line in said)
    assert job_of(JobKey.of(site.worker()._served.scope, collection.logical_path)), "Slurm has run no such job"


def test_a_program_that_fails_says_so(site: TrialSite) -> None:
    done = typed(site, "run", BASE_IMAGE, "--", "sh", "-c", "echo no >&2; exit 3")
    assert done.returncode != 0
    assert "no" in done.stderr


def test_the_doctor_looks_at_the_vault_from_a_node(site: TrialSite) -> None:
    done = typed(site, "doctor", "--configuration", str(site.configuration_file), "--output", "json")
    found = {one["link"]: one for one in json.loads(done.stdout)}
    assert found["engine"]["verdict"] == "ok", found["engine"]
    assert found[f"vault of {COMPUTE} on a node"]["verdict"] == "ok"
    assert found[f"image {BASE_IMAGE}"]["verdict"] == "ok"
    assert not list(Path(site.folder, "zone", "vaults", COMPUTE).glob(".compute_to_data_probe*"))


def test_resources_shows_what_slurm_promises(site: TrialSite) -> None:
    (resource,) = json.loads(typed(site, "resources", "--output", "json").stdout)["resources"]
    assert resource["engine"] == "slurm"
    assert (resource["promises"]["queue"], resource["promises"]["warm"]) == ("yes", "no")
    assert "that of docker or podman, on the node" in resource["promises"]["sandbox"]
