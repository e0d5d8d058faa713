"""The documentation matches the code."""

from __future__ import annotations

import doctest
import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from support import reference
from support.people import settings_of
from support.reference import documented
from support.site import BASE_IMAGE, HOME, TrialSite

import compute_to_data
from compute_to_data.cli.main import main
from compute_to_data.errors import ReasonCode
from compute_to_data.records.state import State

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_of_commands_matches_the_code() -> None:
    written = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    assert written == reference.text(), "run: python tests/support/reference.py"


def test_the_page_of_states_names_every_state_reason_and_fact(site: TrialSite) -> None:
    page = (DOCS / "states.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([^`\s]+)`", page))
    assert {one.value for one in ReasonCode} <= named
    for state in State:
        assert re.search(rf"\b{state.value}\b", page), state
    facts = site.run(site.request("/bin/sh", "-c", "echo x > /outputs/x", metadata=[]))
    facts.update(site.run(site.request("/bin/sh", "-c", "exit 3")))
    dates = {f"{state.value.lower()}_at" for state in State}  # the page names the first and the last ones
    assert set(facts) - {"collection", "state"} - dates <= named


@pytest.fixture
def printed(site: TrialSite, own_files: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Run a command as alice, while a worker runs; returns its JSON."""

    def call(*words: str) -> Any:
        capsys.readouterr()
        assert main(["--output", "json", *words]) == 0
        return json.loads(capsys.readouterr().out)

    with site.working():
        yield call


def test_each_json_has_the_members_that_are_documented(
    printed: Any, site: TrialSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_file = tmp_path / "task.json"
    task_file.write_text(json.dumps(site.request("/bin/sh", "-c", "echo x > /outputs/r.html")))
    submitted = printed("submit", str(task_file), "--wait")
    task = submitted["task_id"]
    assert set(submitted) == set(printed("status", task)) == set(printed("wait", task)[0]) == documented("A task")
    assert set(printed("list")[0]) == documented("`c2d list`")
    assert set(printed("show", task)) == documented("`c2d show`")
    assert set(printed("logs", task)) == documented("`c2d logs`")
    assert set(printed("fetch", task, str(tmp_path))) == documented("`c2d fetch`")
    assert set(printed("ls", task)[0]) == documented("`c2d ls`")
    assert set(printed("share", task)[0]) == documented("`c2d share`")
    assert set(printed("open", task, "--no-browser")) == documented("`c2d open`")
    assert set(printed("resources")) == documented("`c2d resources`")
    removed = printed("rm", task, "--yes")
    assert {*removed, *removed["removed"][0]} == documented("`c2d rm`")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda *_: "hush")
    assert set(printed("secret", "create", "k")) == set(printed("secret", "list")[0]) == documented("`c2d secret`")
    monkeypatch.setenv("C2D_CONFIG_FILE", str(tmp_path / "new.json"))
    made = printed("zone", "create", str(tmp_path / "own"), "--user", "carol")
    assert set(made) == documented("`c2d zone create`")


def test_every_public_name_has_an_example() -> None:
    for name in set(compute_to_data.__all__) - {"__version__"}:
        found = doctest.DocTestFinder().find(getattr(compute_to_data, name), name)
        assert any(one.examples for one in found), name


EXAMPLES = (
    "client.session",
    "client.tasks",
    "client.python_functions.functions",
    "client.datasets",
    "client.secrets",
    "client.processes",
    "client.sharing",
    "errors",
)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_in_the_code_are_true(site: TrialSite, own_files: Path, tmp_path: Path, name: str) -> None:
    """In an embedded zone with a worker, as alice, who has a data object and a local folder."""
    examples_are_true(site, tmp_path, name)


@pytest.mark.docker
@pytest.mark.usefixtures("docker_answers")
def test_the_examples_of_workloads_are_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in real sandboxes."""
    site = TrialSite(tmp_path, {"name": "docker"}, BASE_IMAGE)
    (tmp_path / "config.json").write_text(json.dumps(settings_of(site, "alice")), encoding="utf-8")
    monkeypatch.setenv("C2D_CONFIG_FILE", str(tmp_path / "config.json"))
    monkeypatch.setenv("C2D_SESSION_FILE", str(tmp_path / "session.json"))
    monkeypatch.delenv("C2D_PROJECT", raising=False)
    examples_are_true(site, tmp_path, "client.workloads")


def test_no_example_is_forgotten() -> None:
    package = Path(compute_to_data.__file__).parent
    with_examples = {path.relative_to(package) for path in package.rglob("*.py") if "    >>> " in path.read_text()}
    known = {Path(*name.split(".")).with_suffix(".py") for name in (*EXAMPLES, "client.workloads")}
    assert with_examples == known


def examples_are_true(site: TrialSite, tmp_path: Path, name: str) -> None:
    """Run a module's examples while a worker runs."""
    module = import_module(f"compute_to_data.{name}")
    site.alice.write(f"{HOME}/a.txt", b"axbxc\n")
    names = {"c2d": compute_to_data, "connect": compute_to_data.connect, "image": site.image}
    names["folder"] = str(tmp_path / "folder")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("a\n")
    with site.working():
        found = doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0
    assert found.failed == 0


def test_each_json_of_datasets_has_documented_members(printed: Any, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")
    done = printed("dataset", "upload", str(tmp_path / "data"))
    dataset = done["dataset"]
    came = printed("dataset", "download", dataset, str(tmp_path / "back"))
    (listed,) = printed("dataset", "list")
    described = printed("dataset", "describe", dataset)
    removed = printed("dataset", "remove", dataset, "--yes")
    assert set(done) == set(came)
    assert {*done, *listed, *described, *removed} == documented("`c2d dataset`")
