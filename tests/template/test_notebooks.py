"""Whole tasks that run a notebook: of the role, of another image, and of a data object, with the real runner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.notebook_sites import notebook_site
from support.reading import ENOUGH
from support.site import ALICE, COMPUTE, HOME, TrialSite

from compute_to_data.documents import request
from compute_to_data.errors import AccessDenied, InvalidRequest, NotFound, Refused
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.submission import rerun

pytest.importorskip("papermill")
pytest.importorskip("ipykernel")

NOTEBOOK = f"{HOME}/count.ipynb"


def notebook(*sources: str) -> bytes:
    cells = [
        {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
        for source in sources
    ]
    cells[0]["metadata"] = {"tags": ["parameters"]}
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}).encode()


@pytest.fixture
def site(tmp_path: Path) -> TrialSite:
    """A resource with the roles CONTAINER and SIGNAL_PROCESSING; the latter has no settings, as in a new zone."""
    site = notebook_site(tmp_path)
    site.alice.create_collection(f"{HOME}/in")
    site.alice.write(f"{HOME}/in/x", b"a\nb\nc\n")
    return site


def asked(**described: Any) -> dict[str, Any]:
    return {
        "role": "SIGNAL_PROCESSING",
        "inputs": [f"{HOME}/in/x"],
        "output_collection": f"{HOME}/out",
        "notebook": {"image": "tools", **described},
    }


COUNT = (
    "times = 1",
    "import glob, os\nroot = os.environ.get('C2D_ROOT', '/')",
    "open('count.txt', 'w').write(str(times * 3))\nprint(times)",
)


def test_a_data_object_is_a_notebook_and_its_results_are_report_and_executed_notebook(site: TrialSite) -> None:
    site.alice.write(NOTEBOOK, notebook(*COUNT))
    facts = site.run(asked(data_object=NOTEBOOK, parameters={"times": 5}))
    assert facts["state"] == "COMPLETED", facts
    contents = site.contents(facts["collection"])
    assert contents["count.txt"] == b"15"
    assert b"times = 5" in contents["count.ipynb"]
    assert b"<html" in contents["count.html"]
    (checksum,) = (one.checksum for one in site.alice.stat(NOTEBOOK).replicas if one.leaf == COMPUTE)  # type: ignore[union-attr]
    avus = site.alice.avus(Entity(EntityKind.COLLECTION, facts["collection"]))
    assert Avu("irods::compute_to_data::input", NOTEBOOK, checksum) in avus


def test_the_record_of_a_task_and_its_rerun_name_the_notebook_once(site: TrialSite) -> None:
    site.alice.write(NOTEBOOK, notebook(*COUNT))
    submitted = site.submit(asked(data_object=NOTEBOOK))
    recorded = json.loads(site.alice.read(f"{submitted.collection}/task.json", ENOUGH))
    assert recorded["notebook"]["data_object"] == NOTEBOOK
    assert recorded["inputs"] == [{"object": f"{HOME}/in/x"}]
    again = rerun.again(site.alice, site.configuration.attributes, submitted.collection)
    assert request.document(request.parse(again)) == again


def test_a_failing_cell_is_the_reason_and_its_report_is_kept(site: TrialSite) -> None:
    site.alice.write(NOTEBOOK, notebook("times = 1", "1 / 0"))
    facts = site.run(asked(data_object=NOTEBOOK))
    assert (facts["state"], facts["exit_status"]) == ("FAILED", "1"), facts
    assert "cell 2: ZeroDivisionError: division by zero" in facts["reason"]
    contents = site.contents(facts["collection"])
    assert b"ZeroDivisionError" in contents["failed/count.html"]
    assert b"ZeroDivisionError" in contents["failed/count.ipynb"]


def test_a_notebook_is_read_with_the_owners_rights(site: TrialSite) -> None:
    secret = "/tempZone/home/bob/secret.ipynb"
    site.bob.write(secret, notebook("times = 1"))
    for path, error in ((secret, (AccessDenied, NotFound)), (f"{HOME}/none.ipynb", NotFound)):
        with pytest.raises(error):
            site.submit(asked(data_object=path))


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ({"data_object": NOTEBOOK, "name": "n.ipynb"}, 'both a "name" in the image and a "data_object"'),
        ({"data_object": "n.ipynb"}, "expected a logical path"),
        ({"data_object": f"/{'é' * 1000}"}, "/notebook/data_object"),
    ],
)
def test_a_notebook_that_cannot_be_meant_is_refused(site: TrialSite, described: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        site.submit(asked(**described))
    assert words in str(caught.value)


def test_another_notebook_gets_none_of_the_roles_own_parameters(site: TrialSite) -> None:
    site.alice.write(NOTEBOOK, notebook("msg = 'hello'", "print(msg)"))
    facts = site.run(asked(data_object=NOTEBOOK, parameters={"msg": "x"}))
    assert facts["state"] == "COMPLETED", facts
    assert site.contents(facts["collection"])["STDOUT.txt"] == b"x\n"


def test_a_role_without_an_image_is_refused_at_submission_and_runs_the_requests_own(site: TrialSite) -> None:
    with pytest.raises(Refused, match="role SIGNAL_PROCESSING: has no image of its own") as caught:
        site.submit({"role": "SIGNAL_PROCESSING", "inputs": [f"{HOME}/in/x"], "output_collection": f"{HOME}/out"})
    assert '"notebook": {"image": "..."}' in caught.value.remedy
    site.alice.write(f"{HOME}/in/numbers", b"1\n2\n")
    pytest.importorskip("matplotlib")
    facts = site.run({**asked(), "inputs": [f"{HOME}/in/numbers"]})
    assert facts["state"] == "COMPLETED", facts
    assert {"lowpass_filtered_numbers", "lpfilter.html"} <= site.contents(facts["collection"]).keys()
    assert facts["owner"] == str(ALICE)
