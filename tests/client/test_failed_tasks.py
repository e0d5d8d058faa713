"""What a person sees of a task that failed, was cancelled, or left nothing: in every command and every format."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.site import COMPUTE, HOME, TrialSite

import compute_to_data
from compute_to_data.cli.exits import ExitCode
from compute_to_data.cli.main import main
from compute_to_data.errors import TaskFailed

C2D = Callable[..., "tuple[int, str, str]"]


@pytest.fixture
def c2d(own_files: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> C2D:
    """Run a command line as alice: its exit code, stdout and stderr."""

    def typed(*words: str) -> tuple[int, str, str]:
        capfdbinary.readouterr()
        code = main(words)
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return typed


@pytest.fixture
def working(site: TrialSite) -> Iterator[TrialSite]:
    with site.working():
        yield site


def _written(site: TrialSite, document: Any) -> str:
    file = site.folder / "request.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    return str(file)


SCRIPT = "mkdir deep; echo half > deep/result.csv; ln -s x link; echo so it is >&2; exit 3"


def test_run_says_where_what_a_failed_task_left_is(working: TrialSite, c2d: C2D) -> None:
    code, _, err = c2d("run", "tools", "--", "sh", "-c", SCRIPT)
    assert code == ExitCode.PROGRAM_FAILED
    assert re.search(rf"^what it left is in {HOME}/\S+/failed \(1 file, 5 bytes\)$", err, re.MULTILINE), err
    assert "not kept: 'link' is a symbolic link" in err
    assert "results in" not in err
    assert "FAILED: program: exited with status 3: so it is." in err


def test_run_says_that_a_program_wrote_nothing(working: TrialSite, c2d: C2D) -> None:
    code, out, err = c2d("run", "tools", "--", "echo", "hello")
    assert (code, out) == (ExitCode.DONE, "hello\n")
    assert "it wrote nothing to /outputs" in err
    task = re.search(r"^task (\S+)$", err, re.MULTILINE)
    assert task
    assert "it wrote nothing to /outputs" in c2d("status", task[1])[1]
    assert "it wrote nothing to /outputs" in c2d("status", task[1], "--output", "raw")[2]


def test_a_folder_of_results_may_be_called_failed(working: TrialSite, c2d: C2D, tmp_path: Path) -> None:
    code, _, err = c2d("run", "tools", "--", "sh", "-c", "mkdir failed; echo 3 > failed/instruments")
    assert code == ExitCode.DONE
    task = re.search(r"^task (\S+)$", err, re.MULTILINE)
    assert task
    code, _, err = c2d("fetch", task[1], str(tmp_path / "fetched"))
    assert code == ExitCode.DONE
    assert (tmp_path / "fetched" / task[1] / "failed" / "instruments").read_text() == "3\n"
    assert "no results" not in err


def test_a_program_starts_where_its_results_go(working: TrialSite, c2d: C2D) -> None:
    code, _, err = c2d("run", "tools", "--", "sh", "-c", "echo x > result.csv")
    found = re.search(r"^results in (\S+)$", err, re.MULTILINE)
    assert (code, found is not None) == (ExitCode.DONE, True), err
    assert found
    assert working.contents(found[1])["result.csv"] == b"x\n"


def test_fetch_brings_what_a_failed_task_left(working: TrialSite, c2d: C2D, tmp_path: Path) -> None:
    file = _written(working, working.request("sh", "-c", SCRIPT))
    code, out, err = c2d("submit", file, "--wait", "--output", "json")
    task = json.loads(out)["task_id"]
    assert code == ExitCode.PROGRAM_FAILED
    assert "what it left is in" in err
    assert "what it left is in" in c2d("wait", task)[2]
    code, _, err = c2d("fetch", task, str(tmp_path / "here"))
    assert code == 0
    assert "failed/ holds what the task left when it failed or was cancelled: no results" in err
    assert (tmp_path / "here" / task / "failed" / "deep" / "result.csv").read_text() == "half\n"


def test_fetch_makes_empty_folders(working: TrialSite, c2d: C2D, tmp_path: Path) -> None:
    script = "mkdir -p plots a/b; echo x > a/c"
    file = _written(working, working.request("sh", "-c", script, expected_outputs=["plots"]))
    task = json.loads(c2d("submit", file, "--wait", "--output", "json")[1])["task_id"]
    for _ in range(2):
        code, _, err = c2d("fetch", task, str(tmp_path / "here"))
        assert code == 0, err
        for name in ("plots", "a/b"):
            assert os.listdir(tmp_path / "here" / task / name) == []


def test_fetch_follows_no_link_in_the_place_of_an_empty_folder(working: TrialSite, c2d: C2D, tmp_path: Path) -> None:
    file = _written(working, working.request("sh", "-c", "mkdir -p plots/deep"))
    task = json.loads(c2d("submit", file, "--wait", "--output", "json")[1])["task_id"]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here" / task).mkdir(parents=True)
    (tmp_path / "here" / task / "plots").symlink_to(tmp_path / "elsewhere")
    code, _, err = c2d("fetch", task, str(tmp_path / "here"))
    assert (code, "is a link" in err) == (ExitCode.REFUSED, True), err
    assert os.listdir(tmp_path / "elsewhere") == []


def test_python_says_how_to_get_it(working: TrialSite, own_files: Path) -> None:
    with compute_to_data.connect() as session:
        task = session.submit(working.request("sh", "-c", SCRIPT))
        task.wait()
        with pytest.raises(TaskFailed, match=f"What it left: c2d fetch {task.id}"):
            task.results()


def _training(site: TrialSite) -> tuple[dict[str, Any], tuple[str, ...]]:
    site.alice.create_collection(f"{HOME}/in")
    site.alice.write(f"{HOME}/in/a.txt", b"x")
    document = {
        "external": {"src_collection": f"{HOME}/in", "dst_collection": f"{HOME}/out"},
        "container": {
            "type": "docker",
            "image": "tools",
            "commands": [{"command": ["sh", "-c", "pwd; echo kept > /outputs/a; exit 4"]}],
            "environment": {},
        },
    }
    return document, ("--resource", COMPUTE)


def _kotta(site: TrialSite) -> tuple[dict[str, Any], tuple[str, ...]]:
    site.alice.create_collection(f"{HOME}/in")
    site.alice.write(f"{HOME}/in/a.txt", b"x")
    document = {"executable": "sh", "args": ["-c", "echo kept > a; exit 4"], "inputs": [f"{HOME}/in/a.txt"]}
    return document, ("--resource", COMPUTE, "--image", "tools", "--output-collection", f"{HOME}/out")


@pytest.mark.parametrize("described", [_training, _kotta], ids=["the training module's", "Kotta's"])
def test_status_and_show_of_a_failed_task_in_other_formats(
    working: TrialSite, c2d: C2D, described: Callable[[TrialSite], tuple[dict[str, Any], tuple[str, ...]]]
) -> None:
    document, words = described(working)
    _, out, err = c2d("submit", _written(working, document), *words, "--wait", "--output", "json")
    assert out, err
    task = json.loads(out)["task_id"]
    for command in ("status", "show"):
        shown = json.loads(c2d(command, task, "--output", "json")[1])
        assert any("exit 4" in one for one in shown["commands"]), shown["commands"]
        assert [one["object"] for one in shown["inputs"]] == [f"{HOME}/in/a.txt"]
        assert shown["inputs"][0]["checksum"].startswith("sha2:")
        assert shown["image"] == "tools"
        assert shown["image_digest"].startswith("sha256:")
        pretty = c2d(command, task)[1]
        assert pretty.count("exit 4") == 1
        assert f"{HOME}/in/a.txt" in pretty
        raw = c2d(command, task, "--output", "raw")[1]
        assert "exit 4" in raw
    kept = json.loads(c2d("status", task, "--output", "json")[1])["other"]["kept"]
    assert kept == ["1 file, 5 bytes, in failed/"]


def test_the_training_format_starts_in_tmp(working: TrialSite, c2d: C2D) -> None:
    document, words = _training(working)
    task = json.loads(c2d("submit", _written(working, document), *words, "--wait", "--output", "json")[1])
    said = working.contents(task["collection"])["STDOUT.txt"]
    assert said.endswith(b"/tmp\n")
