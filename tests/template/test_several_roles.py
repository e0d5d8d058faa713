"""Whole tasks on a resource with several roles, in every format of requests."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.site import COMPUTE, HOME, TrialSite

from compute_to_data.configuration import Attributes
from compute_to_data.coordination import capabilities
from compute_to_data.documents import request
from compute_to_data.documents.given_beside import GivenBeside
from compute_to_data.errors import Refused
from compute_to_data.submission import rerun, submit, workloads
from compute_to_data.submission.submit import Submitted

FILTER = '#!/bin/sh\necho "$1" > "$5"\necho filtered > "${5%/*}/lowpass_filtered_x"\n'
"""Replaces the notebook's runner. Its report is the name of the notebook."""
TRAINING = {
    "container": {"type": "docker", "image": "tools", "commands": [{"command": ["/bin/cp", "/inputs/x", "/outputs"]}]},
    "external": {"src_collection": f"{HOME}/in", "dst_collection": f"{HOME}/out"},
}
KOTTA = {"executable": "/bin/true", "queue": COMPUTE}


@pytest.fixture
def both(tmp_path: Path) -> TrialSite:
    """CONTAINER and SIGNAL_PROCESSING on one resource; the second has its notebook's runner."""
    for name, content in (("tools", ""), ("filter", FILTER)):
        program = tmp_path / name / "run-notebook"
        program.parent.mkdir()
        program.write_text(content)
        program.chmod(0o755)
    engine = {"name": "process", "images": {name: str(tmp_path / name) for name in ("tools", "filter")}}
    signal = {"image": "filter", "notebook": "lpfilter.ipynb"}
    site = TrialSite(tmp_path, engine, "tools", images=["tools", "filter"], roles={"SIGNAL_PROCESSING": signal})
    site.give_role(COMPUTE, "SIGNAL_PROCESSING")
    site.give_role(COMPUTE, "LONG_TERM_STORAGE")
    site.alice.create_collection(f"{HOME}/in")
    site.alice.write(f"{HOME}/in/x", b"signal")
    return site


@pytest.fixture
def doubtful(site: TrialSite) -> TrialSite:
    """Two roles for the same commands, so a request must name the one that it means."""
    engine = {"name": "process", "images": {"tools": str(site.folder / "tools")}}
    roles = {"GPU": {"implementation": "compute_to_data.roles.container:Container"}}
    site.configuration = site.configure(engine=engine, roles=roles)
    site.give_role(COMPUTE, "GPU")
    site.alice.create_collection(f"{HOME}/in")
    site.alice.write(f"{HOME}/in/x", b"signal")
    return site


def role_of(site: TrialSite, submitted: Submitted) -> str:
    return site.record(submitted).facts()["role"]


def own(**more: Any) -> dict[str, Any]:
    return {"resource": COMPUTE, "inputs": [f"{HOME}/in/x"], "output_collection": f"{HOME}/out", **more}


def test_the_training_modules_request_runs_its_own_commands(both: TrialSite) -> None:
    facts = both.run(TRAINING, resource=COMPUTE)
    assert (facts["state"], facts["role"]) == ("COMPLETED", "CONTAINER"), facts
    assert both.contents(facts["collection"])["x"] == b"signal"
    assert "of its roles (CONTAINER, SIGNAL_PROCESSING), CONTAINER is the one for" in facts["choice"]


@pytest.mark.parametrize("asked", [{}, {"notebook": {}}, {"notebook": {"parameters": {"cutoff_frequency_index": 0}}}])
def test_a_request_without_commands_runs_the_notebook(both: TrialSite, asked: dict[str, Any]) -> None:
    facts = both.run(own(**asked))
    assert (facts["state"], facts["role"]) == ("COMPLETED", "SIGNAL_PROCESSING"), facts
    contents = both.contents(facts["collection"])
    assert (contents["lowpass_filtered_x"], contents["lpfilter.html"]) == (b"filtered\n", b"lpfilter.ipynb\n")


@pytest.mark.parametrize("role", ["CONTAINER", "SIGNAL_PROCESSING"])
def test_a_role_that_is_named_always_wins(both: TrialSite, role: str) -> None:
    facts = both.run(both.request("/bin/true", role=role))
    assert (facts["state"], facts["role"]) == ("COMPLETED", role), facts


def test_every_other_way_to_give_commands_means_the_same_role(both: TrialSite) -> None:
    beside = {"output_collection": f"{HOME}/out", "image": "tools"}
    assert role_of(both, both.submit(both.request("/bin/true"))) == "CONTAINER"
    assert role_of(both, both.submit(KOTTA, **beside)) == "CONTAINER"
    assert role_of(both, both.submit({**KOTTA, "queue": "SIGNAL_PROCESSING"}, **beside)) == "SIGNAL_PROCESSING"
    again = rerun.again(both.alice, both.configuration.attributes, both.submit(own()).collection)
    assert role_of(both, both.submit(again)) == "SIGNAL_PROCESSING"


def test_a_workload_on_the_resource_runs_commands(both: TrialSite) -> None:
    def start(**more: str) -> str:
        started = workloads.start(both.alice, both.configuration, HOME, image="tools", resource=COMPUTE, **more)
        submitted = workloads.create_task(both.alice, both.configuration, started.collection, ["/bin/true"])
        return role_of(both, submitted)

    assert start() == "CONTAINER"
    assert start(role="SIGNAL_PROCESSING") == "SIGNAL_PROCESSING"


def test_a_client_without_a_configuration_chooses_as_the_rule_does(both: TrialSite) -> None:
    capabilities.publish(both.storage.catalog, both.configuration, COMPUTE)
    heard = capabilities.read(both.alice, Attributes())
    for document, role in ((TRAINING, "CONTAINER"), (own(), "SIGNAL_PROCESSING")):
        submitted = submit.submit(both.alice, heard, document, resource=COMPUTE, patient=True)
        assert role_of(both, submitted) == role


@pytest.mark.parametrize("other", ["example_site.roles:Own", "compute_to_data.roles.notebook:NotebookRole"])
def test_a_client_knows_no_class_where_workers_publish_different_ones(both: TrialSite, other: str) -> None:
    both.zone.add_resource("other")
    capabilities.publish(both.storage.catalog, both.configuration, COMPUTE)
    different = both.configure(roles={"SIGNAL_PROCESSING": {"implementation": other}})
    capabilities.publish(both.storage.catalog, different, "other")
    roles = capabilities.read(both.alice, Attributes()).roles
    assert roles["SIGNAL_PROCESSING"].implementation == ""
    assert roles["CONTAINER"] == both.configuration.roles["CONTAINER"]


def refused(site: TrialSite, document: Any, **more: str) -> str:
    before = site.snapshot()
    with pytest.raises(Refused) as caught:
        site.submit(document, **more)
    assert site.snapshot() == before
    assert "has several roles that may run the request's own commands (CONTAINER, GPU)" in str(caught.value)
    return caught.value.remedy


def test_adding_role_settles_a_doubt_in_our_own_format(doubtful: TrialSite) -> None:
    document = doubtful.request("/bin/true")
    assert '"role" in the request' in refused(doubtful, document)
    assert role_of(doubtful, doubtful.submit({**document, "role": "GPU"})) == "GPU"


def test_naming_a_role_as_queue_settles_a_doubt_in_kottas_format(doubtful: TrialSite) -> None:
    beside = {"output_collection": f"{HOME}/out", "image": "tools"}
    remedy = refused(doubtful, KOTTA, **beside)
    assert '"queue"' in remedy and "the resource beside" in remedy
    submitted = doubtful.submit({**KOTTA, "queue": "GPU"}, resource=COMPUTE, **beside)
    assert (role_of(doubtful, submitted), submitted.resource) == ("GPU", COMPUTE)


def test_both_ways_that_the_error_names_settle_a_doubt_in_the_training_modules_format(doubtful: TrialSite) -> None:
    remedy = refused(doubtful, TRAINING, resource=COMPUTE)
    assert "no place for a role" in remedy and "a resource that bears only one" in remedy and '"role"' in remedy
    in_ours = submit.translate(doubtful.configuration, TRAINING, GivenBeside(resource=COMPUTE))
    in_ours = request.document(request.parse(in_ours))
    assert role_of(doubtful, doubtful.submit({**in_ours, "role": "GPU"})) == "GPU"
    doubtful.zone.add_resource("gpu_resc")
    doubtful.give_role("gpu_resc", "GPU")
    assert role_of(doubtful, doubtful.submit(TRAINING, resource="gpu_resc")) == "GPU"


def test_a_doubt_about_a_workload_is_refused_with_the_option_to_use(doubtful: TrialSite) -> None:
    with pytest.raises(Refused, match="--role of c2d run and c2d workload start"):
        workloads.start(doubtful.alice, doubtful.configuration, HOME, image="tools", resource=COMPUTE)


def test_a_request_that_none_of_the_roles_runs_is_refused(doubtful: TrialSite) -> None:
    words = "has several roles (CONTAINER, GPU), but none of them runs a request that has neither"
    with pytest.raises(Refused, match=re.escape(words)):
        doubtful.submit(own())
    with pytest.raises(Refused, match="none of them runs the request's notebook"):
        doubtful.submit(own(notebook={}))


def test_the_training_modules_format_without_a_resource_says_where_to_name_it(both: TrialSite) -> None:
    with pytest.raises(Refused, match="name it beside the request"):
        both.submit(json.loads(json.dumps(TRAINING)))


NOTHING_TO_RUN = [
    ("CONTAINER", {}, "/process: is missing, and the role CONTAINER needs it"),
    ("CONTAINER", {"notebook": {"image": "tools", "name": "n.ipynb"}}, "/notebook: is not run by the role CONTAINER"),
    (
        "IMAGE_PROCESSING",
        {"notebook": {"image": "tools", "name": "n.ipynb"}},
        "/notebook: is not run by the role IMAGE",
    ),
]


@pytest.mark.parametrize(("role", "asked", "words"), NOTHING_TO_RUN)
def test_what_its_role_does_not_run_is_refused_at_submission(
    site: TrialSite, role: str, asked: dict[str, Any], words: str
) -> None:
    site.take_role(COMPUTE, "CONTAINER")
    site.give_role(COMPUTE, role)
    before = site.snapshot()
    with pytest.raises(Refused, match=re.escape(words)):
        site.submit({"resource": COMPUTE, "inputs": [], "output_collection": f"{HOME}/out", **asked})
    assert site.snapshot() == before
