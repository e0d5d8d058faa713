"""Forms of output, colours and progress: on a terminal, and to a file or a pipe."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.site import HOME, TrialSite

from compute_to_data.cli.log_printer import LogPrinter, TerminalText
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


def test_a_long_name_is_shortened_for_reading_only() -> None:
    said, rows = {form: io.StringIO() for form in ("pretty", "raw", "json")}, [{"name": "n" * 300, "id": "a"}]
    for form, stream in said.items():
        Output(form, stream, io.StringIO()).table(rows, {"name": "NAME", "id": "ID"}, free=["name"])
    assert max(map(len, said["pretty"].getvalue().splitlines())) < 60
    assert said["raw"].getvalue() == f"{'n' * 300}\ta\n"
    assert json.loads(said["json"].getvalue()) == rows


def test_colours_appear_only_on_terminals_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_of_many_notes_of_one_kind_the_first_are_printed() -> None:
    """As when a disk is full, and thousands of files cannot be written."""
    said = io.StringIO()
    out = Output("pretty", io.StringIO(), said)
    out.notes(f"not fetched: f{number}" for number in range(10))
    assert said.getvalue().count("\n") == 10
    out.notes(f"not fetched: f{number}" for number in range(12))
    assert said.getvalue().splitlines()[10:] == [*(f"not fetched: f{n}" for n in range(10)), "... and 2 more like this"]


def test_progress_appears_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        Output("pretty", io.StringIO(), stream).progress("half")
        assert ("half" in stream.getvalue()) == shown
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    Output("pretty", io.StringIO(), stream).progress("half")
    assert stream.getvalue() == ""


def test_a_note_takes_the_place_of_a_progress_line() -> None:
    stream = Terminal()
    output = Output("pretty", io.StringIO(), stream)
    output.note("begins")
    output.progress("half")
    output.note("waits")
    output.note("goes on")
    assert stream.getvalue() == "begins\n\r\x1b[Khalf\r\x1b[Kwaits\ngoes on\n"


def test_names_are_escaped_for_a_terminal_with_few_characters(site: TrialSite, own_files: Path) -> None:
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


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (["plain\n", "lines\n"], "plain\nlines\n"),
        (["10%\r50%\r100%\ndone\n"], "\r\x1b[K100%\ndone\n"),
        (["10%\r", "50%\r", "100%\r\n"], "10%\r\x1b[K50%\r\x1b[K100%\n"),
        (["\r 3%", "\r 9%", "\n"], "\r\x1b[K 3%\r\x1b[K 9%\n"),
        (["kept\r", "\n"], "kept\n"),
        (["a dos line\r\n"], "a dos line\n"),
        (["half\r\x1b[Kwhole"], "\r\x1b[Kwhole"),
        (["\x1b[31mred\x1b[0m"], "\x1b[31mred\x1b[0m"),
        (["\x1b[2J\x1b]0;title\x07\x9b1A\b"], "\ufffd[2J\ufffd]0;title\ufffd\ufffd1A\ufffd"),
        (["\u202egnp.exe"], "\ufffdgnp.exe"),
        (["gr\u00f6", "\u00dfe"], "gr\u00f6\u00dfe"),
    ],
)
def test_a_terminal_shows_the_last_state_of_a_line_without_control_characters(said: list[str], shown: str) -> None:
    stream = TerminalText()
    assert "".join(stream.text(one.encode()) for one in said) == shown


def test_a_character_split_over_two_reads_is_shown() -> None:
    stream = TerminalText()
    assert [stream.text(bytes([one])) for one in "\u00f6".encode()] == ["", "\u00f6"]


def test_output_without_line_ends_is_handled_quickly() -> None:
    for hostile in (b"\r" * 1_000_000, b"x" * 1_000_000, b"x\r" * 500_000, b"\x1b[" * 500_000):
        began = time.process_time()
        TerminalText().text(hostile)
        assert time.process_time() - began < 2


def test_a_pipe_gets_the_programs_bytes_unchanged(monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> None:
    said = b"10%\r50%\r\n\x1b[2J\xff\x00"
    LogPrinter().print("stdout", said)
    assert capfdbinary.readouterr().out == said
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    LogPrinter().print("stdout", said)
    assert terminal.getvalue() == "\r\x1b[K50%\n\ufffd[2J\ufffd\ufffd"


@pytest.mark.parametrize(
    ("stdout", "stderr", "next_on", "shown"),
    [
        (io.StringIO, io.StringIO, "stderr", ("out", "err\nnext")),
        (io.StringIO, io.StringIO, "stdout", ("out\nnext", "err")),
        (Terminal, Terminal, "stderr", ("out", "err\nnext")),
        (Terminal, io.StringIO, "stderr", ("out", "err\nnext")),
    ],
)
def test_what_comes_after_an_open_line_has_its_own(
    monkeypatch: pytest.MonkeyPatch, stdout: Any, stderr: Any, next_on: str, shown: tuple[str, str]
) -> None:
    streams = {"stdout": stdout(), "stderr": stderr()}
    for name, stream in streams.items():
        monkeypatch.setattr(f"sys.{name}", stream)
    printer = LogPrinter()
    printer.begin_line()
    printer.print("stdout", b"out")
    printer.print("stderr", b"err")
    printer.begin_line(streams[next_on])
    printer.begin_line(streams[next_on])
    streams[next_on].write("next")
    assert tuple(stream.getvalue() for stream in streams.values()) == shown


def test_on_a_terminal_either_stream_may_have_left_the_line_open(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = Terminal(), Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    printer = LogPrinter()
    printer.print("stdout", b"out")
    printer.begin_line()
    assert err.getvalue() == "\n"
    printer.begin_line(out)
    assert out.getvalue() == "out"
