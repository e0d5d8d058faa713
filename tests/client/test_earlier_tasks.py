"""A person's earlier tasks: reuse on request, and repetition. Also requests in other formats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.site import COMPUTE, HOME, TrialSite

from compute_to_data.cli.main import main
from compute_to_data.client.session import Session, connect

KOTTA = Path(__file__).parents[1] / "data" / "kotta"


@pytest.fixture
def session(site: TrialSite, own_files: Path) -> Iterator[Session]:
    """alice's session, while a worker serves the resource."""
    site.alice.write(f"{HOME}/sea.txt", b"12345")
    with site.working(), connect() as session:
        yield session


def kotta(**changes: Any) -> Any:
    return {**json.loads((KOTTA / "program.json").read_text("utf-8")), "queue": COMPUTE, **changes}


def test_a_kotta_job_is_submitted_with_an_image(session: Session, site: TrialSite) -> None:
    task = session.submit(kotta(), image=site.image)
    assert task.wait(60).state.value == "COMPLETED"
    assert task.collection.startswith(f"{session.results}/")
    assert task.results()["count.txt"].lines() == ["5 sea.txt"]


def test_a_task_is_reused_on_request_and_says_so(session: Session, site: TrialSite) -> None:
    first = session.submit(kotta(), image=site.image)
    first.wait(60)
    second = session.submit(kotta(jobname="again"), image=site.image, reuse=True)
    assert (second.collection, second.is_reused) == (first.collection, True)
    third = session.submit(kotta(args="-l sea.txt"), image=site.image, reuse=True)
    assert (third.is_reused, third.wait(60).state.value) == (False, "COMPLETED")


def test_c2d_submit_says_that_a_task_is_reused(
    session: Session, site: TrialSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "job.json"
    file.write_text(json.dumps(kotta()), encoding="utf-8")
    command = ["submit", str(file), "--image", site.image, "--reuse", "--wait"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "reused" not in said.err
    assert main(command) == 0
    again = capsys.readouterr()
    assert "reused" in again.err
    assert again.out == said.out


def test_rerun_uses_the_same_data_objects(session: Session, site: TrialSite) -> None:
    site.alice.create_collection(f"{HOME}/in")
    site.alice.write(f"{HOME}/in/a", b"a")
    site.alice.write(f"{HOME}/in/b", b"b")
    document = site.request("/bin/sh", "-c", "cat /inputs/* > /outputs/all", inputs=[{"next_of": f"{HOME}/in"}])
    first = session.submit(document)
    first.wait(60)
    second = first.rerun()
    assert second.wait(60).state.value == "COMPLETED"
    assert not second.is_reused
    assert second.results()["all"].checksum == first.results()["all"].checksum
    assert first.request()["inputs"] == [{"object": f"{HOME}/in/a"}]


def test_fetch_brings_all_outputs_of_the_task(session: Session, site: TrialSite, tmp_path: Path) -> None:
    """The crate also lists the inputs, and fetch does not report them as missing."""
    task = session.submit(kotta(), image=site.image)
    task.wait(60)
    assert main(["fetch", task.id, str(tmp_path / "fetched")]) == 0
    assert (tmp_path / "fetched" / task.id / "count.txt").read_bytes() == b"5 sea.txt\n"
    session.catalog.remove(f"{task.collection}/count.txt")
    assert main(["fetch", task.id, str(tmp_path / "fetched")]) == 9
