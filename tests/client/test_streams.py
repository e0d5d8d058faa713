"""Where the output of ``c2d`` goes: pipes whose reader goes away, full disks, and streams that nobody reads; and what
it reads without an end."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.site import TrialSite

import compute_to_data as c2d
from compute_to_data.cli.exits import ExitCode
from compute_to_data.cli.log_printer import LogPrinter

C2D_MAIN = [sys.executable, "-m", "compute_to_data.cli.main"]
MOST = 64 * 1024
"""How long a file may be in :func:`on_a_full_disk`, in bytes."""


@pytest.fixture
def working(site: TrialSite, own_files: Path) -> Iterator[TrialSite]:
    with site.working():
        yield site


def at_a_closed_pipe(*words: str) -> subprocess.CompletedProcess[str]:
    """Call ``c2d`` with a pipe as its standard output that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        return subprocess.run(
            [*C2D_MAIN, *words],
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )


class TestAReaderThatGoesAway:
    """As ``head`` does."""

    @pytest.mark.parametrize(
        ("script", "code"),
        [("echo hello; exit 3", ExitCode.PROGRAM_FAILED), ("echo hello > x; cat x", ExitCode.DONE)],
    )
    def test_the_exit_code_is_that_of_the_task(self, working: TrialSite, script: str, code: ExitCode) -> None:
        done = at_a_closed_pipe("run", "tools", "--", "sh", "-c", script)
        assert done.returncode == code, done.stderr
        assert "nobody reads this any more; waiting for the end" in done.stderr

    def test_so_is_that_of_a_submission_that_waits(self, working: TrialSite) -> None:
        process = {"image": "tools", "exec": "sh", "argv": ["-c", "echo hello; exit 3"]}
        request = working.folder / "request.json"
        request.write_text(json.dumps({"role": "CONTAINER", "inputs": [], "process": process}))
        assert at_a_closed_pipe("submit", str(request), "--wait").returncode == ExitCode.PROGRAM_FAILED

    def test_a_command_that_waits_for_nothing_ends(self, own_files: Path) -> None:
        for words in (["project", "show"], ["list", "--output", "json"], ["--help"], ["run", "--help"]):
            done = at_a_closed_pipe(*words)
            assert (done.returncode, done.stderr) == (ExitCode.DONE, "")


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["run", "--help"], ["version"], ["list", "--output=json"]]
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_a_full_disk_does_not_take_is_an_error(own_files: Path, words: list[str], unbuffered: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*C2D_MAIN, *words], stdout=full, stderr=subprocess.PIPE, timeout=60, check=False, env=environment
        )
    assert done.returncode == ExitCode.UNREACHABLE
    assert done.stderr == b"c2d: standard output: No space left on device.\n"


@pytest.mark.parametrize("words", [["list"], ["dataset", "list"], ["project", "show"]])
def test_notes_that_cannot_be_written_are_no_failure(own_files: Path, words: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*C2D_MAIN, *words], stdout=subprocess.DEVNULL, stderr=full, timeout=60, check=False)
    assert done.returncode == ExitCode.DONE


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_log_that_a_disk_takes_only_in_part_is_an_error(working: TrialSite, unbuffered: str) -> None:
    """With ``PYTHONUNBUFFERED``, Python ignored that the disk took only the beginning."""
    with c2d.connect() as session:
        process = {"image": "tools", "exec": "sh", "argv": ["-c", f"head -c {2 * MOST} /dev/zero"]}
        task = session.submit({"role": "CONTAINER", "inputs": [], "process": process})
        task.wait()
    kept = working.folder / "kept"
    with kept.open("wb") as file:
        done = subprocess.run(
            [*C2D_MAIN, "logs", task.id],
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (MOST, MOST)),
        )
    assert kept.stat().st_size == MOST
    assert (done.returncode, done.stderr) == (ExitCode.UNREACHABLE, "c2d: standard output: File too large.\n")


def test_characters_that_come_in_pieces_are_whole_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    printer = LogPrinter(as_json=True)
    text = "käse \N{CHEESE WEDGE}"
    for byte in text.encode():
        printer.print("stdout", bytes([byte]))
    printer.print("stderr", b"half \xf0\x9f")
    printer.end()
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "".join(one["text"] for one in said if one["stream"] == "stdout") == text
    assert "".join(one["text"] for one in said if one["stream"] == "stderr") == "half \N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("words", "most"),
    [
        (["submit", "-"], 1024 * 1024),
        (["process", "create", "-", "--name", "endless"], 256 * 1024),
        (["secret", "create", "ENDLESS"], 64 * 1024),
        (["submit", "/dev/zero"], 1024 * 1024),
        (["run", "--process", "x", "-P", "/dev/zero"], 64 * 1024 * 1024),
    ],
)
def test_what_has_no_end_is_read_as_far_as_it_may_go(own_files: Path, words: list[str], most: int) -> None:
    with open("/dev/zero", "rb") as endless:
        done = subprocess.run(
            [*C2D_MAIN, *words], stdin=endless, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == ExitCode.REFUSED
    assert "more" in done.stderr and str(most) in done.stderr


@pytest.mark.parametrize("words", [["dataset", "upload", "."], ["fetch", "{task}", "here"]])
def test_in_a_folder_that_is_gone(working: TrialSite, words: list[str], tmp_path: Path) -> None:
    with c2d.connect() as session:
        task = session.submit({"role": "CONTAINER", "inputs": [], "process": {"image": "tools", "exec": "true"}})
        task.wait()
    gone = tmp_path / "gone"
    gone.mkdir()
    said = [word.format(task=task.id) for word in words]
    script = 'cd "$1"; rmdir "$1"; shift; exec "$@"'
    command = ["sh", "-c", script, "sh", str(gone), *C2D_MAIN, *said]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == ExitCode.UNREACHABLE
    assert "the current folder is gone" in done.stderr
