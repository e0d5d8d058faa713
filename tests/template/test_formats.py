"""Whole tasks with requests in other formats, and requests with expected outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.site import BASE_IMAGE, COMPUTE, HOME, TrialSite

from compute_to_data.errors import InvalidRequest

KOTTA = Path(__file__).parents[1] / "data" / "kotta"


def kotta(name: str, **changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((KOTTA / f"{name}.json").read_text("utf-8"))
    return {**document, **changes}


def check_script_job(site: TrialSite) -> None:
    site.alice.write(f"{HOME}/sea.txt", b"the sea the")
    site.alice.write(f"{HOME}/a,b", b"")
    facts = site.run(kotta("script"), output_collection=f"{HOME}/out", image=site.image)
    assert facts["state"] == "COMPLETED", facts
    assert (facts["name"], facts["resource"]) == ("count words", COMPUTE)
    contents = site.contents(facts["collection"])
    assert sorted(contents) == ["ro-crate-metadata.json", "sorted.txt", "task.json", "words.txt"]
    assert contents["sorted.txt"] == b"sea\nthe\nthe\n"
    assert contents["words.txt"] == b"a word|$HOME|"


def test_a_kotta_job_runs_as_a_task(site: TrialSite) -> None:
    check_script_job(site)


@pytest.mark.docker
@pytest.mark.usefixtures("docker_answers")
def test_a_kotta_job_runs_in_the_sandbox(tmp_path: Path) -> None:
    check_script_job(TrialSite(tmp_path, {"name": "docker"}, BASE_IMAGE))


def test_a_kotta_job_that_leaves_an_output_out_fails_and_names_it(site: TrialSite) -> None:
    site.alice.write(f"{HOME}/sea.txt", b"")
    document = kotta("program", outputs="count.txt, page.html, more.txt")
    facts = site.run(document, output_collection=f"{HOME}/out", image=site.image, resource=COMPUTE)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "output_missing")
    assert "outputs 'page.html', 'more.txt'" in facts["reason"]


def test_a_kotta_job_without_an_image_is_not_recorded(site: TrialSite) -> None:
    with pytest.raises(InvalidRequest, match="names none"):
        site.submit(kotta("program", inputs=""), output_collection=f"{HOME}/out")
    assert site.alice.children(f"{HOME}/out") == ()


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("echo 1 > /outputs/a; mkdir -p /outputs/b/c; echo 1 > /outputs/b/c/d", ""),
        ("echo 1 > /outputs/a; mkdir -p /outputs/b", "output 'b/c'"),
        ("mkdir -p /outputs/b/c; echo 1 > /outputs/b/c/d", "output 'a'"),
    ],
)
def test_outputs_that_a_request_expects_must_be_there(site: TrialSite, text: str, missing: str) -> None:
    facts = site.run(site.request("/bin/sh", "-c", text, expected_outputs=["a", "b/c"]))
    assert facts["state"] == ("FAILED" if missing else "COMPLETED"), facts
    assert missing in facts.get("reason", "")
