"""Inputs as a job in a real sandbox sees them: under their names, with empty directories, read-only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.site import BASE_IMAGE, COMPUTE, HOME, TrialSite

from compute_to_data.submission import workloads

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("docker_answers")]

LIST = "cd /inputs; find . -printf '%p %y\\n' | LC_ALL=C sort > /outputs/seen"
WRITE = "for place in /inputs /inputs/a /inputs/b/deep/empty; do touch $place/x 2>/dev/null && echo $place; done; true"


@pytest.fixture
def filled(tmp_path: Path) -> TrialSite:
    """alice's ``in`` has a file, a deeper file and an empty collection; her ``nothing`` is empty."""
    site = TrialSite(tmp_path, {"name": "docker"}, BASE_IMAGE)
    site.alice.create_collection(f"{HOME}/in/deep/empty", parents=True)
    site.alice.create_collection(f"{HOME}/nothing")
    site.alice.write(f"{HOME}/in/x.csv", b"1\n")
    site.alice.write(f"{HOME}/in/deep/y.csv", b"2\n")
    return site


def seen(site: TrialSite, *inputs: Any, words: str = LIST) -> tuple[list[str], str]:
    """What the job listed, and what it printed."""
    facts = site.run(site.request("/bin/sh", "-c", words, inputs=inputs))
    assert facts["state"] == "COMPLETED", facts
    kept = site.contents(facts["collection"])
    return kept.get("seen", b"").decode().splitlines(), kept.get("STDOUT.txt", b"").decode()


def test_names_and_empty_directories(filled: TrialSite) -> None:
    twice = [{"path": f"{HOME}/in", "name": "b"}, {"path": f"{HOME}/in/x.csv", "name": "a/x.csv"}]
    listed, written = seen(filled, *twice, words=f"{LIST}; {WRITE}")
    assert listed == [
        ". d", "./a d", "./a/x.csv f", "./b d", "./b/deep d", "./b/deep/empty d", "./b/deep/y.csv f", "./b/x.csv f",
    ]  # fmt: skip
    assert written == ""


@pytest.mark.parametrize("inputs", [[], [f"{HOME}/nothing"]], ids=["no input", "an empty collection"])
def test_the_directory_of_inputs_always_exists(filled: TrialSite, inputs: list[Any]) -> None:
    listed, written = seen(filled, *inputs, words=f"{LIST}; {WRITE}")
    assert (listed, written) == ([". d"], "")


def test_an_empty_collection_with_a_name_is_an_empty_directory(filled: TrialSite) -> None:
    assert seen(filled, {"path": f"{HOME}/nothing", "name": "a/b"})[0] == [". d", "./a d", "./a/b d"]


def test_tasks_of_a_workload_see_empty_directories(filled: TrialSite) -> None:
    started = workloads.start(
        filled.alice, filled.configuration, HOME, image=BASE_IMAGE, dataset=f"{HOME}/in", resource=COMPUTE
    )
    listing = ["/bin/sh", "-c", "ls -A /inputs; cd /input; find . -type d | LC_ALL=C sort"]
    submitted = workloads.create_task(filled.alice, filled.configuration, started.collection, listing)
    with filled.working():
        facts = filled.ended(submitted)
    assert facts["state"] == "COMPLETED", facts
    assert filled.contents(submitted.collection)["STDOUT.txt"] == b".\n./deep\n./deep/empty\n"
