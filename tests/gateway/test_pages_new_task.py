"""The pages for a new task: a form made from parameters, and what it brings back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.notebook_sites import notebook_site
from support.page_visitors import PageVisitor, proof
from support.site import ALICE, BOB, HOME, TrialSite, wait_until

from compute_to_data.client import processes
from compute_to_data.client.site_access import ConfiguredSite
from compute_to_data.client.workbench import Workbench
from compute_to_data.gateway.pages import parameter_form
from compute_to_data.gateway.pages.forms import Form
from compute_to_data.model import Access

Visit = Callable[[str], PageVisitor]
SCHEMA: dict[str, Any] = {
    "required": ["title", "level"],
    "properties": {
        "lines": {"type": "integer", "minimum": 1, "maximum": 99, "default": 10, "description": "How <many> lines"},
        "share": {"type": "number"},
        "mode": {"enum": ["fast", "careful", 3], "default": "fast"},
        "verbose": {"type": "boolean", "default": True},
        "title": {"type": "string"},
        "greeting": {"type": "string", "default": "hello"},
        "weights": {"type": "array", "default": [1, 2]},
        "level": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        '"><script>': {"type": "string"},
    },
}


def sent(**fields: str) -> Form:
    return Form([(f"p.{name}", value) for name, value in fields.items()])


def test_the_fields_of_a_schema() -> None:
    found = {one.name: one for one in parameter_form.fields(SCHEMA)}
    kinds = {name: one.kind for name, one in found.items()}
    assert kinds == {
        "lines": "number", "share": "number", "mode": "choice", "verbose": "check", "title": "text", "greeting": "text",
        "weights": "json", "level": "json", '"><script>': "text",
    }  # fmt: skip
    lines = found["lines"]
    assert (lines.value, lines.step, lines.least, lines.most) == ("10", "1", "1", "99")
    assert found["mode"].choices == (('"fast"', "fast"), ('"careful"', "careful"), ("3", "3"))
    assert found["mode"].value == '"fast"'
    assert found["verbose"].is_checked
    assert [name for name, one in found.items() if one.is_required] == ["title", "level"]
    assert parameter_form.fields({}) == []
    for strange in ({"properties": []}, {"properties": {"a": True}}, {"properties": {"a": {"type": ["null"]}}}):
        assert len(parameter_form.fields(strange)) == len(strange["properties"])


def test_values_have_their_types() -> None:
    form = sent(lines="3", share="0.5", mode="3", verbose="true", title="a b", greeting="", weights="[3]", level='"x"')
    found = parameter_form.values(SCHEMA, form)
    assert [found[name] for name in ("lines", "share", "mode", "verbose")] == [3, 0.5, 3, True]
    assert [found[name] for name in ("title", "greeting", "weights", "level")] == ["a b", "", [3], "x"]
    # An empty field brings nothing, so that the default holds; a box that is not ticked says no.
    assert parameter_form.values(SCHEMA, sent(lines="", title="", mode="")) == {"verbose": False}
    assert parameter_form.values(SCHEMA, sent(lines="many"))["lines"] == "many"  # the check says what is expected
    with pytest.raises(parameter_form.InvalidRequest, match="parameter weights"):
        parameter_form.values(SCHEMA, sent(weights="[1,"))


@pytest.fixture
def site(tmp_path: Path) -> TrialSite:
    return notebook_site(tmp_path)


@pytest.fixture
def process(site: TrialSite) -> processes.Process:
    bench = Workbench(site.zone.session(ALICE), ConfiguredSite(site.configuration))
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"]}}
    del schema["properties"]["share"], schema["properties"]['"><script>']  # which have no default
    words = [f"${{{name}}}" for name in schema["properties"]]
    document = {"exec": "/bin/echo", "image": "tools", "argv": words, "parameters": schema}
    return processes.create(bench, document, "say")


@pytest.mark.usefixtures("working")
def test_a_task_of_a_process_definition(site: TrialSite, visit: Visit, process: processes.Process) -> None:
    alice = visit("alice")
    assert "say</strong>" in alice.http.get("/new").text
    at = f"/new/process/{process.id}"
    page = alice.http.get(at).text
    assert "How &lt;many&gt; lines" in page
    form = {"proof": proof(page), "p.title": "<i>t</i>", "p.level": "2", "p.lines": "3", "name": "from a form"}
    answer = alice.http.post(at, data={**form, "p.lines": "1000"})
    assert answer.status_code == 400
    assert "It was not submitted" in answer.text
    assert "/parameters/lines" in answer.text
    assert 'value="1000"' in answer.text  # what was typed is still there
    assert 'value="&lt;i&gt;t&lt;/i&gt;"' in answer.text
    assert "You have no tasks yet" in alice.http.get("/tasks").text
    assert alice.http.post(at, data={**form, "proof": "x"}).status_code == 403
    answer = alice.http.post(at, data={**form, "p.verbose": "true"})
    assert answer.status_code == 303, answer.text
    where = answer.headers["location"]
    wait_until(lambda: "Completed" in alice.http.get(where).text, "the end of the task")
    log = alice.http.get(f"/api/v1{where}/logs").text
    assert log == "3 fast true <i>t</i> hello [1, 2] 2\n"


def test_definitions_of_others(site: TrialSite, visit: Visit, process: processes.Process) -> None:
    bob = visit("bob")
    at = f"/new/process/{process.id}"
    assert "say</strong>" not in bob.http.get("/new").text
    assert bob.http.get(at).status_code == 404
    assert bob.send("/tasks", at).status_code == 404
    for path in (HOME, f"{HOME}/processes", process.data_object):
        site.alice.set_access(path, BOB, Access.READ_OBJECT)
    assert "of alice#tempZone" in bob.http.get("/new").text
    assert bob.http.get(at).status_code == 200


def test_a_notebook_that_is_uploaded(site: TrialSite, visit: Visit) -> None:
    alice = visit("alice")
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "threshold = 3  # <b>", "outputs": []}
    notebook = json.dumps(
        {"cells": [{**cell, "execution_count": None}], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    )
    form = {"proof": proof(alice.http.get("/new").text), "input": "d-0123456789ab"}
    for name, content in (("a.txt", notebook), ("b.ipynb", "{"), ("b.ipynb", "{}")):
        answer = alice.http.post("/new/upload", data=form, files={"notebook": (name, content.encode())})
        assert answer.status_code == 400, answer.text
    answer = alice.http.post("/new/upload", data=form, files={"notebook": ("count.ipynb", notebook.encode())})
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"].endswith("/count.ipynb&input=d-0123456789ab")
    page = alice.http.get(answer.headers["location"]).text
    assert 'name="p.threshold" value="3"' in page
    assert "&lt;b&gt;" in page
    assert "d-0123456789ab</textarea>" in page
    assert alice.http.get("/new/notebook", params={"data_object": "nothing.ipynb"}).status_code == 404
    assert alice.http.get("/new/notebook", params={"data_object": HOME}).status_code == 400
    assert alice.http.get("/new/notebook", params={"data_object": "/etc/passwd"}).status_code in (400, 404)


def test_a_command(site: TrialSite, visit: Visit) -> None:
    site.alice.write(f"{HOME}/a.txt", b"content of a")
    alice = visit("alice")
    page = alice.http.get("/new/command").text
    assert '<option value="tools">tools</option>' in page
    form = {"proof": proof(page), "image": "tools", "more_inputs": "a.txt\r\n"}
    for command, status in (("", 400), ("cat '", 400)):
        answer = alice.http.post("/new/command", data={**form, "command": command})
        assert answer.status_code == status, answer.text
    answer = alice.http.post("/new/command", data={**form, "command": "cat x", "more_inputs": "none.txt"})
    assert answer.status_code == 404
    assert "none.txt</textarea>" in answer.text
    answer = alice.http.post("/new/command", data={**form, "command": "/bin/echo '${HOME}' \"two words\""})
    assert answer.status_code == 303, answer.text
    task = answer.headers["location"]
    asked = alice.http.get(f"/api/v1{task}/request").json()
    assert asked["process"]["commands"] == [["/bin/echo", "$${HOME}", "two words"]]
    assert asked["inputs"][0]["object"] == f"{HOME}/a.txt"
