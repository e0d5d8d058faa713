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


@pytest.mark.parametrize("outputs", ["", "never.txt"])
def test_a_job_for_kottas_service_completes_and_says_what_has_no_effect(site: TrialSite, outputs: str) -> None:
    document = {
        "user_email": "someone@example.org",
        "executable": "/bin/sh hello.sh world",
        "queue": COMPUTE,
        "jobtype": "script",
        "script_name": "hello.sh",
        "script": "#!/bin/sh\necho hello $1\n",
        "output_file_stdout": "STDOUT.txt",
        "output_file_stderr": "STDERR.txt",
        "outputs": outputs,
        "walltime": "5",
    }
    facts = site.run(document, output_collection=f"{HOME}/out", image=site.image)
    assert facts["state"] == "COMPLETED", facts
    assert facts["note"].startswith("user_email: Kotta's own service used this; it has no effect here")
    contents = site.contents(facts["collection"])
    assert contents["STDOUT.txt"] == b"hello world\n"
    assert (b"output never.txt" in contents.get("STDERR.txt", b"")) == bool(outputs)


def test_a_registrys_process_definition_runs_by_itself(site: TrialSite) -> None:
    definition = {"exec": "/bin/echo", "argv": ["ran"], "application": site.image, "process_type": "single"}
    facts = site.run(definition, output_collection=f"{HOME}/out", resource=COMPUTE)
    assert (facts["state"], facts["image"]) == ("COMPLETED", site.image), facts
    assert "note" not in facts
    named = {**definition, "application": "weather", "image": site.image}
    facts = site.run(named, output_collection=f"{HOME}/out", resource=COMPUTE)
    assert facts["note"] == f'application "weather" has no effect: the process names the image {site.image}'


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
