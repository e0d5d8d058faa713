"""Forms of output, colours and progress: what a terminal gets, and what a file or a pipe gets."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.site import HOME, TrialSite

from compute_to_data.cli.output import Output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


ROWS = [{"task_id": "a", "state": "FAILED", "n": None}, {"task_id": "bb\tc\nd", "state": "RUNNING", "n": 3}]
COLUMNS = {"task_id": "ID", "state": "STATE", "n": "N"}


@pytest.fixture(autouse=True)
def _colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_a_table_in_each_form() -> None:
    said = {form: io.StringIO() for form in ("pretty", "raw", "json")}
    for form, stream in said.items():
        Output(form, stream, io.StringIO()).table(ROWS, COLUMNS)
    assert said["pretty"].getvalue() == "ID      STATE    N\na       FAILED\nbb c d  RUNNING  3\n"
    assert said["raw"].getvalue() == "a\tFAILED\t\nbb c d\tRUNNING\t3\n"
    assert json.loads(said["json"].getvalue()) == ROWS


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, form, coloured in (
        (Terminal(), "pretty", True),
        (io.StringIO(), "pretty", False),
        (Terminal(), "raw", False),
    ):
        Output(form, stream, io.StringIO()).table(ROWS, COLUMNS)
        assert ("\x1b[" in stream.getvalue()) == coloured
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    Output("pretty", stream, io.StringIO()).table(ROWS, COLUMNS)
    assert "\x1b[" not in stream.getvalue()


def test_progress_is_for_who_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        Output("pretty", io.StringIO(), stream).progress("half")
        assert ("half" in stream.getvalue()) == shown
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    Output("pretty", io.StringIO(), stream).progress("half")
    assert stream.getvalue() == ""


def test_a_terminal_that_knows_few_characters_gets_all_names(site: TrialSite, own_files: Path) -> None:
    site.alice.create_collection(f"{HOME}/größe")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    said = {}
    for form in ("pretty", "json"):
        command = [sys.executable, "-m", "compute_to_data.cli.main", "project", "list", "--output", form]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said[form] = done.stdout
    assert "gr\\xf6\\xdfe" in said["pretty"]
    assert f"{HOME}/größe" in [one["project"] for one in json.loads(said["json"])]
