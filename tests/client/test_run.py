"""``c2d run``: what a person can give it, and what it says."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.site import HOME, TrialSite
from support.typed import Type

from compute_to_data.cli.exits import ExitCode
from compute_to_data.client.local_folders import transfers

C2D_MAIN = [sys.executable, "-m", "compute_to_data.cli.main"]


@pytest.fixture
def working(site: TrialSite, own_files: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrialSite]:
    """A site with a worker. The person is in an empty folder of this computer."""
    here = own_files.parent / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with site.working():
        yield site


Said = subprocess.CompletedProcess[str]
Run = Callable[..., Said]


@pytest.fixture
def run(working: TrialSite) -> Run:
    """Call ``c2d run tools``; the words after None are the program. ``stdin``: what its standard input has."""

    def called(*words: str, stdin: str | None = None) -> Said:
        given = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        return subprocess.run(
            [*C2D_MAIN, "run", "tools", *words], capture_output=True, text=True, timeout=60, check=False, **given
        )  # type: ignore[call-overload, no-any-return]

    return called


def listed(*words: str) -> Any:
    done = subprocess.run([*C2D_MAIN, *words, "--output", "json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


class TestInputs:
    def test_files_and_folders_of_this_computer_are_uploaded(self, working: TrialSite, run: Run) -> None:
        Path("one file.txt").write_text("one\n")
        Path("more/deep").mkdir(parents=True)
        Path("more/deep/two.txt").write_text("two\n")
        done = run(
            "-i", "one file.txt", "-i", "./more", "--", "sh", "-c", "cd /inputs; cat 'one file.txt' deep/two.txt"
        )
        assert (done.returncode, done.stdout) == (0, "one\ntwo\n")
        names = {one["name"]: one["dataset"] for one in listed("dataset", "list")}
        assert names.keys() == {"one file.txt", "more"}
        assert f"./more is dataset {names['more']} now. To use it again: --input {names['more']}" in done.stderr
        again = run("-i", f"{names['more'][:6]}:again", "--", "cat", "/inputs/again/deep/two.txt")
        assert (again.returncode, again.stdout) == (0, "two\n")

    def test_two_inputs_with_the_same_name_stand_side_by_side(self, working: TrialSite, run: Run) -> None:
        working.alice.write(f"{HOME}/a:b.txt", b"of the zone\n")
        Path("x").mkdir()
        Path("x/a:b.txt").write_text("of this computer\n")
        done = run("-i", "a:b.txt:zone/a", "-i", "x/a:b.txt:mine/a", "--", "cat", "/inputs/zone/a", "/inputs/mine/a")
        assert (done.returncode, done.stdout) == (0, "of the zone\nof this computer\n")
        assert run("-i", "a:b.txt", "--", "cat", "/inputs/a:b.txt").stdout == "of the zone\n"

    def test_the_zone_comes_first_and_the_other_file_is_named(self, working: TrialSite, run: Run) -> None:
        working.alice.write(f"{HOME}/a.txt", b"of the zone\n")
        Path("a.txt").write_text("of this computer\n")
        done = run("-i", "a.txt", "--", "cat", "/inputs/a.txt")
        assert done.stdout == "of the zone\n"
        assert f"a.txt is {HOME}/a.txt. For the file of this computer, write --input ./a.txt" in done.stderr
        assert run("-i", "./a.txt", "--", "cat", "/inputs/a.txt").stdout == "of this computer\n"

    def test_results_of_a_task_are_inputs(self, working: TrialSite, run: Run) -> None:
        first = run("-d", "--", "sh", "-c", "echo made > made.txt")
        task = first.stdout.strip()
        done = run("--after", task, "-i", f"{task}:from", "--", "ls", "/inputs/from")
        assert (done.returncode, done.stdout) == (0, "made.txt\n")

    def test_a_url_is_one_too_and_its_host_must_be_listed(self, working: TrialSite, run: Run) -> None:
        done = run("-i", "https://data.example.org:8443/a.csv", "--", "cat", "/inputs/a.csv")
        assert done.returncode == ExitCode.REFUSED
        assert "this site's tasks may not use the host data.example.org:8443" in done.stderr
        assert "--input" not in done.stderr, "nobody takes it for a file of this computer"

    def test_what_is_nowhere_is_named(self, working: TrialSite, run: Run) -> None:
        for given in ("none.txt", "./none.txt", "none.txt:name"):
            done = run("-i", given, "--", "true")
            assert done.returncode == ExitCode.NOT_FOUND
            assert "neither the zone nor this computer has it" in done.stderr
        assert listed("list") == []


class TestStandardInput:
    def test_it_is_sent_on_request(self, working: TrialSite, run: Run) -> None:
        done = run("--stdin", "--", "cat", stdin="a\nb")
        assert (done.returncode, done.stdout) == (0, "a\nb")

    def test_beside_other_inputs(self, working: TrialSite, run: Run) -> None:
        working.alice.write(f"{HOME}/a.txt", b"of the zone\n")
        done = run("--stdin", "-i", "a.txt", "--", "cat", "/inputs/a.txt", "-", stdin="sent\n")
        assert (done.returncode, done.stdout) == (0, "of the zone\nsent\n")

    def test_what_is_not_sent_is_noted(self, working: TrialSite, run: Run) -> None:
        done = run("--", "cat", stdin="hello\n")
        assert (done.returncode, done.stdout) == (0, "")
        assert "standard input is not sent to the program. To send it: --stdin" in done.stderr
        assert "standard input" not in run("--", "cat", stdin="").stderr
        assert "standard input" not in run("--", "cat").stderr


class TestOptions:
    def test_detached_it_prints_the_id(self, working: TrialSite, run: Run) -> None:
        done = run("-d", "-n", "later", "--", "sh", "-c", "exit 3")
        task = done.stdout.strip()
        assert done.returncode == 0
        waited = subprocess.run([*C2D_MAIN, "wait", task], capture_output=True, text=True, check=False)
        assert waited.returncode == ExitCode.PROGRAM_FAILED
        assert [one["name"] for one in listed("list")] == ["later"]

    def test_an_expected_file_is_demanded(self, working: TrialSite, run: Run) -> None:
        wanted = ("--expect", "/outputs/a.csv", "-x", "d/", "-x", "./b")
        assert run(*wanted, "--", "sh", "-c", "echo 1 > a.csv; mkdir d; touch b").returncode == 0
        missing = run("-x", "a.csv", "--", "sh", "-c", "echo 1 > a.cvs")
        assert missing.returncode != 0
        assert "a.csv" in missing.stderr and "a.cvs" in missing.stderr

    @pytest.mark.parametrize(("word", "is_said"), [("echo hi | wc", True), ("ls *", True), ("true", False)])
    def test_a_line_for_a_shell_is_noted(self, working: TrialSite, run: Run, word: str, is_said: bool) -> None:
        assert (f"For a shell: -- sh -c '{word}'" in run("--", word).stderr) == is_said

    def test_an_identical_task_is_reused(self, working: TrialSite, run: Run) -> None:
        first = run("--reuse", "--", "sh", "-c", "echo ran; echo x > x")
        again = run("--reuse", "--", "sh", "-c", "echo ran; echo x > x")
        assert (first.stdout, again.stdout) == ("ran\n", "ran\n")
        assert "is reused: an identical task completed earlier" in again.stderr
        assert len(listed("list")) == 1

    @pytest.mark.parametrize(
        ("given", "seconds"), [("90", 90), ("90s", 90), ("2m", 120), ("1h30m", 5400), ("0.5h", 1800), ("1H", 3600)]
    )
    def test_times(self, working: TrialSite, run: Run, given: str, seconds: float) -> None:
        task = run("-d", "-w", given, "--", "true").stdout.strip()
        assert listed("show", task)["request"]["limits"]["walltime_seconds"] == seconds

    @pytest.mark.parametrize(
        ("given", "size"), [("64m", 64 << 20), ("1G", 1 << 30), ("0.5GiB", 1 << 29), ("67108864", 64 << 20)]
    )
    def test_sizes(self, working: TrialSite, run: Run, given: str, size: int) -> None:
        task = run("-d", "-m", given, "--", "true").stdout.strip()
        assert listed("show", task)["request"]["limits"]["memory_bytes"] == size

    @pytest.mark.parametrize(("option", "value"), [("--memory", "900t"), ("--walltime", "9000d"), ("--cpus", "9000")])
    def test_a_refusal_speaks_of_the_option(self, working: TrialSite, run: Run, option: str, value: str) -> None:
        done = run(option, value, "--", "true")
        assert done.returncode == ExitCode.REFUSED
        assert option in done.stderr
        assert not {"memory_bytes", "walltime_seconds", "limits"} & set(done.stderr.replace("/", " ").split())

    def test_an_end_at_a_limit_speaks_of_the_option(self, working: TrialSite, run: Run) -> None:
        done = run("--walltime", "1s", "--", "sleep", "30")
        assert "Ask for more in --walltime" in done.stderr

    def test_output_has_one_meaning(self, working: TrialSite, run: Run) -> None:
        done = run("--output", "json", "--", "true")
        assert json.loads(done.stdout)["state"] == "COMPLETED"
        assert run("--output", "results", "--", "true").returncode == ExitCode.USAGE


class TestBeforeAnythingIsUploaded:
    @pytest.fixture(autouse=True)
    def local_folder(self, working: TrialSite) -> None:
        Path("data").mkdir()
        Path("data/a.txt").write_text("a")

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--walltime", "9000h"], "86400 seconds"),
            (["--memory", "9000g"], "bytes. Ask for at most"),
            (["--memory", "1"], "--memory: found 1, expected an integer of at least 6291456 (6 MiB)"),
            (["--resource", "nope"], "resource nope: does not exist"),
            (["--role", "nope"], "role nope"),
            (["--after", "ffff"], "task ffff: does not exist"),
            (["--secret", "nope"], "secret"),
            (["--env", "a b=1"], "a b"),
            (["--expect", "../x"], "/expected_outputs/0"),
            (["--input", "./data:../x"], "/inputs/1/name"),
            (["--input", "./data:x", "--input", "./data:x/../y"], "/inputs/2/name"),
            (["--name", "a\nb"], "/name"),
        ],
    )
    def test_a_request_that_is_refused_uploads_nothing(self, run: Run, words: list[str], said: str) -> None:
        done = run("--input", "data", *words, "--", "true")
        assert done.returncode in (ExitCode.REFUSED, ExitCode.NOT_FOUND)
        assert said in done.stderr
        assert "is dataset" not in done.stderr
        assert listed("dataset", "list") == []

    @pytest.mark.parametrize("words", [["--walltime", "9000h"], ["--input", "data", "--role", "nope"]])
    def test_it_makes_no_collection_for_results_either(self, working: TrialSite, run: Run, words: list[str]) -> None:
        """A mistyped option left the collections that ``--output-collection`` named."""
        before = working.snapshot()
        assert run("-o", "new/deep", *words, "--", "true").returncode in (ExitCode.REFUSED, ExitCode.NOT_FOUND)
        assert working.snapshot() == before

    def test_nor_does_standard_input(self, run: Run) -> None:
        done = run("--stdin", "--resource", "nope", "--", "cat", stdin="much")
        assert done.returncode == ExitCode.NOT_FOUND
        assert listed("dataset", "list") == []

    def test_a_notebooks_inputs_are_not_uploaded_either(self, typed: Type) -> None:
        Path("n.ipynb").write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
        done = typed("notebook", "n.ipynb", "--input", "data", "--image", "tools", "--walltime", "9000h")
        assert done.code == ExitCode.REFUSED, done.err
        assert "Ask for at most" in done.err
        assert listed("dataset", "list") == []

    @pytest.mark.parametrize("name", ["new\nline", "tab\tx", "esc\x1b[31m"])
    def test_a_name_that_no_request_can_hold(self, run: Run, name: str) -> None:
        Path("data", name).write_text("x")
        done = run("--input", f"data/{name}", "--", "true")
        assert done.returncode == ExitCode.REFUSED
        assert "has a control character in its name" in done.stderr
        assert listed("dataset", "list") == []
        assert run("--input", "data", "--", "true").returncode == ExitCode.DONE, "as the remedy says"

    def test_what_is_neither_a_file_nor_a_folder(self, run: Run) -> None:
        os.mkfifo("pipe")
        done = run("--input", "pipe", "--", "true")
        assert done.returncode == ExitCode.REFUSED
        assert "cannot be stored: neither a file nor a folder" in done.stderr
        assert "--stdin" in done.stderr

    def test_the_whole_computer_is_not_listed(self, run: Run) -> None:
        for root in ("/", "//", "/tmp/.."):
            assert "is everything on this computer" in run("--input", root, "--", "true").stderr

    def test_links_name_the_command_that_follows_them(self, run: Run) -> None:
        os.symlink("a.txt", "data/link")
        assert "c2d dataset upload --follow-links" in run("--input", "data", "--", "true").stderr


@pytest.mark.parametrize("what", ["data", "data/a b.txt"])
def test_an_interrupted_upload_of_an_input_says_how_to_continue(
    working: TrialSite, typed: Type, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    Path("data").mkdir()
    Path("data/a b.txt").write_text("a")
    with monkeypatch.context() as patched:
        patched.setattr(transfers, "send", interrupt)
        done = typed("run", "tools", "--input", what, "--", "true")
    assert done.code == ExitCode.INTERRUPTED
    (dataset,) = (one["dataset"] for one in listed("dataset", "list"))
    (again,) = (line.partition("To continue: ")[2] for line in done.err.splitlines() if dataset in line)
    command, _, use = again.partition(", and then use ")
    assert typed(*shlex.split(command)[1:]).code == ExitCode.DONE
    assert typed("run", "tools", *use.split(), "--", "true").code == ExitCode.DONE


@pytest.mark.parametrize("value", ["0", "-1", "1e3", "1.5", "many"])
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--jobs", ["map", "tools", "--input", "data", "{}", "--", "true"]),
        ("--instances", ["workload", "start", "tools", "{}"]),
        ("--instances", ["process", "start", "definition", "messages", "{}"]),
    ],
)
def test_at_least_one_runs_at_a_time(typed: Type, option: str, words: list[str], value: str) -> None:
    """``--jobs 0`` was ignored."""
    done = typed(*(word.format(f"{option}={value}") for word in words))
    assert done.code == ExitCode.USAGE
    assert f"{value!r} is not a whole number from 1 up" in done.err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--walltime", value) for value in ("0", "-1", "nan", "inf", "1e999", "0s", "5 m")),
        *(("--cpus", value) for value in ("0", "-1", "nan", "inf", "x")),
        *(("--memory", value) for value in ("0", "0g", "-1", "nan", "1e9")),
    ],
)
def test_what_is_no_limit_is_a_mistake_of_the_command_line(typed: Type, option: str, value: str) -> None:
    done = typed("run", "tools", f"{option}={value}", "--", "true")
    assert done.code == ExitCode.USAGE
    assert f"{value!r} is " in done.err


@pytest.mark.parametrize(
    "words",
    [
        ["run", "tools", "--env", "A=1", "-e", "B=1", "-e", "A=2", "--", "true"],
        ["run", "--process", "p", "-p", "A=1", "--parameter", "A=2"],
        ["map", "tools", "x", "-e", "A=", "-e", "A=", "--", "true"],
    ],
)
def test_a_name_has_one_value(typed: Type, words: list[str]) -> None:
    """The last one was taken without a word."""
    done = typed(*words)
    assert done.code == ExitCode.USAGE
    assert "A is given twice" in done.err


@pytest.mark.parametrize(
    "words",
    [
        ["run", "tools", "--input", "", "--", "true"],
        ["run", "tools", "--resource=", "--", "true"],
        ["run", "tools", "-o", "", "--", "true"],
        ["run", "", "--", "true"],
        ["list", "--name", ""],
        ["status", ""],
        ["rm", "", "--yes"],
        ["cancel", "3f2a", ""],
        ["dataset", "upload", ""],
        ["--project", "", "list"],
    ],
)
def test_an_empty_word_is_refused(typed: Type, words: list[str]) -> None:
    """It mostly comes from a variable that is not set. An empty input was the whole home collection."""
    done = typed(*words)
    assert done.code == ExitCode.USAGE
    assert "is empty: give a value" in done.err


@pytest.mark.parametrize("milliseconds", [100, 180, 250, 320, 400, 500, 650, 900])
def test_ctrl_c_leaves_no_task_or_names_it(working: TrialSite, milliseconds: int) -> None:
    process = subprocess.Popen(
        [*C2D_MAIN, "run", "tools", "--", "sleep", "5"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(milliseconds / 1000)  # the instant is what the test varies
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    tasks = listed("list")
    assert [one["task_id"] in said for one in tasks] == [True] * len(tasks), said
    if not tasks:
        assert "continues" not in said
