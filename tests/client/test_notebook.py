"""``c2d notebook``: a notebook of this computer runs beside the data and comes back executed, with its report."""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.notebook_sites import notebook_site
from support.people import settings_of
from support.site import HOME, TrialSite

from compute_to_data.cli.main import main
from compute_to_data.client import notebooks
from compute_to_data.configuration import Configuration, RoleSettings
from compute_to_data.errors import InvalidRequest, Refused

SIGNAL = "compute_to_data.roles.signal_processing:SignalProcessing"


def write(path: Path, *sources: str) -> Path:
    cells = [
        {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
        for source in sources
    ]
    cells[0]["metadata"] = {"tags": ["parameters"]}
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}), encoding="utf-8")
    return path


@pytest.fixture
def site(tmp_path: Path) -> TrialSite:
    """A resource with the role SIGNAL_PROCESSING, and an image with the real runner."""
    pytest.importorskip("papermill")
    pytest.importorskip("ipykernel")
    site = notebook_site(tmp_path)
    site.alice.write(f"{HOME}/a.txt", b"1\n2\n3\n")
    return site


@pytest.fixture
def working(site: TrialSite) -> Iterator[TrialSite]:
    with site.working():
        yield site


@pytest.fixture
def c2d(
    own_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command line as alice in a folder of her own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def typed(*words: str) -> tuple[int, str, str]:
        capfdbinary.readouterr()
        code = main(words)
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return typed


def test_it_runs_beside_the_data_and_comes_back_with_its_report(
    working: TrialSite, c2d: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    write(Path("count.ipynb"), "threshold = 1\nword = ''", "print(word, threshold * 2)")
    words = ("-p", "threshold=3", "-p", "word=two words", "--input", "a.txt", "--image", "tools", "--open")
    code, out, err = c2d("notebook", "count.ipynb", *words)
    assert code == 0, err
    assert "uploaded count.ipynb to /tempZone/home/alice/c2d_results/notebooks/" in err
    assert out.startswith("two words 6\n")
    executed, report = (Path(line) for line in out.splitlines()[-2:])
    assert (executed.name, report.name) == ("count.ipynb", "count.html")
    assert "threshold = 3" in executed.read_text("utf-8")
    assert opened == [report.absolute().as_uri()]


def test_the_same_notebook_is_uploaded_once_and_a_logical_path_is_not(working: TrialSite, c2d: Any) -> None:
    write(Path("n.ipynb"), "a = 1")
    assert "uploaded" in c2d("notebook", "n.ipynb", "--image", "tools")[2]
    code, out, err = c2d("--output", "json", "notebook", "n.ipynb", "--image", "tools")
    assert (code, "uploaded" in err) == (0, False)
    used = next(one["object"] for one in json.loads(out)["inputs"] if one["object"].endswith("n.ipynb"))
    code, out, err = c2d("notebook", used, "--image", "tools")
    assert (code, "uploaded" in err) == (0, False), err


def test_a_failing_cell_is_shown_and_the_notebook_with_its_traceback_is_fetched(working: TrialSite, c2d: Any) -> None:
    write(Path("n.ipynb"), "a = 1", "raise ValueError('no such threshold')")
    code, out, err = c2d("notebook", "n.ipynb", "--image", "tools")
    assert code != 0
    assert "cell 2: ValueError: no such threshold" in err
    executed, report = (Path(line) for line in out.splitlines()[-2:])
    assert executed.parts[-2:] == ("failed", "n.ipynb")
    assert "no such threshold" in executed.read_text("utf-8")
    assert "no such threshold" in report.read_text("utf-8")


@pytest.mark.parametrize(
    ("content", "words", "said"),
    [
        (None, [], "is no file here, and there is no /tempZone/home/alice/n.ipynb"),
        ("not JSON", [], "n.ipynb: is not a notebook: it is not JSON"),
        ("{}", [], "n.ipynb: is not a notebook: it has no cells"),
        ('{"cells": []}', ["-P", "none.json"], "none.json: cannot be read"),
        ('{"cells": []}', ["--directory", "n.ipynb"], "n.ipynb: is not a folder"),
        ('{"cells": []}', [], "has no image of its own"),
    ],
)
def test_what_cannot_run_is_refused_with_the_reason(
    site: TrialSite, c2d: Any, content: str | None, words: list[str], said: str
) -> None:
    if content is not None:
        Path("n.ipynb").write_text(content, encoding="utf-8")
    with site.working():
        code, out, err = c2d("notebook", "n.ipynb", *words)
    assert (code != 0, out) == (True, "")
    assert said in err


def test_values_are_json_scalars_or_lists_and_texts_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text('{"a": 1, "z": {"deep": true}}')
    given = {
        "a": "3", "b": "1e-3", "c": "true", "d": "null", "e": '"3"', "f": "[1, 2]", "g": "two words",
        "h": "007", "i": "NaN", "j": "", "k": '{"x": 1}', "l": "a=b",
    }  # fmt: skip
    assert notebooks.parameters(given.items(), str(file)) == {
        "a": 3, "b": 0.001, "c": True, "d": None, "e": "3", "f": [1, 2], "g": "two words",
        "h": "007", "i": "NaN", "j": "", "k": '{"x": 1}', "l": "a=b", "z": {"deep": True},
    }  # fmt: skip
    for content, said in (("[1]", "must hold an object"), ('{"a": 1, "a": 2}', '"a" twice'), ("[" * 9999, "nests")):
        file.write_text(content)
        with pytest.raises(InvalidRequest, match=said):
            notebooks.parameters([], str(file))


def test_the_role_is_the_one_that_runs_notebooks(site: TrialSite, own_files: Path) -> None:
    assert settings_of(site, "alice")

    def chosen(**roles: RoleSettings) -> str:
        return notebooks.role(_with(site.configuration, roles))

    bare, ready = RoleSettings(SIGNAL), RoleSettings(SIGNAL, {"image": "i"})
    assert chosen(ONE=bare) == "ONE"
    assert chosen(ONE=bare, TWO=ready) == "TWO"
    for roles in ({"ONE": bare, "TWO": bare}, {"ONE": ready, "TWO": ready}, {}):
        with pytest.raises(Refused, match="can run a notebook"):
            chosen(**roles)


def _with(configuration: Configuration, roles: dict[str, RoleSettings]) -> Configuration:
    from dataclasses import replace

    return replace(configuration, roles=roles)


def test_a_stored_definition_runs_a_notebook_by_name(working: TrialSite, c2d: Any, tmp_path: Path) -> None:
    """Its values are held against its schema; without one, against what the notebook itself takes."""
    content = write(
        tmp_path / "count.ipynb", "threshold: int = 2  # the least", "print('above', threshold)"
    ).read_bytes()
    working.alice.write(f"{HOME}/count.ipynb", content)
    definition = {"notebook": {"data_object": f"{HOME}/count.ipynb", "image": "tools"}}
    file = tmp_path / "count.json"
    for parameters in ({}, {"parameters": {"properties": {"threshold": {"type": "integer", "maximum": 5}}}}):
        file.write_text(json.dumps({**definition, **parameters}))
        code, _, said = c2d(
            "process", "update" if parameters else "create", *(["count"] if parameters else []), str(file)
        )
        assert code == 0, said
        shown = json.loads(c2d("--output", "json", "process", "show", "count")[1])
        assert shown["schema"]["properties"]["threshold"]["type"] == "integer"
        code, _, said = c2d("run", "--process", "count", "-p", "threshold=many")
        assert (code, said) == (3, 'c2d: /notebook/parameters/threshold: found "many", expected an integer.\n')
        code, _, said = c2d("run", "--process", "count", "-p", "treshold=1")
        assert code == 3 and "/notebook/parameters/treshold" in said and "expected threshold" in said
        code, out, said = c2d("--output", "json", "run", "--process", "count", "-p", "threshold=4")
        assert code == 0, said
        collection = json.loads(out)["collection"]
        assert b"above 4" in working.alice.read(f"{collection}/count.html", 1 << 24)
        recorded = json.loads(working.alice.read(f"{collection}/task.json", 1 << 20))
        assert recorded["definition"]["name"] == "count"
        assert recorded["notebook"]["parameters"] == {"threshold": 4}
    assert c2d("run", "--process", "count", "-p", "threshold=6")[0] == 3
    code, out, _ = c2d("--output", "json", "rerun", json.loads(out)["task_id"], "--wait")
    again = json.loads(working.alice.read(f"{json.loads(out)['collection']}/task.json", 1 << 20))
    assert again["definition"] == recorded["definition"] and again["notebook"] == recorded["notebook"]
