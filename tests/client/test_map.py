"""``c2d map``: a task for each file, on the command line and in Python, in real warm sandboxes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.people import settings_of
from support.reference import documented
from support.site import COMPUTE, HOME, PATIENCE, TrialSite, wait_until

import compute_to_data as c2d
from compute_to_data.cli.exits import ExitCode
from compute_to_data.cli.main import main
from compute_to_data.client import mapping
from compute_to_data.errors import InvalidRequest, NotFound, Refused
from compute_to_data.records.state import State
from compute_to_data.submission import workloads as submission

IMAGE = "compute-to-data/base:bookworm"
ODD = ["a b.csv", 'it\'s "quoted".csv', "-rf.csv", "{}.csv", "${x} %(y)s.csv", "sub/deep/a b.csv", "ü*?.csv"]


@pytest.fixture
def site(docker_answers: None, tmp_path: Path) -> TrialSite:
    return TrialSite(tmp_path, {"name": "docker"}, IMAGE, worker={"slots": 2})


@pytest.fixture
def settings(site: TrialSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file = tmp_path / "config.json"
    config_file.write_text(json.dumps(settings_of(site, "alice")), encoding="utf-8")
    monkeypatch.setenv("C2D_CONFIG_FILE", str(config_file))
    monkeypatch.setenv("C2D_SESSION_FILE", str(tmp_path / "session.json"))
    monkeypatch.delenv("C2D_PROJECT", raising=False)


@pytest.fixture
def session(site: TrialSite, settings: None) -> Iterator[c2d.Session]:
    with site.working(), c2d.connect() as opened:
        yield opened


@pytest.fixture
def typed(session: c2d.Session, capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    """Run a command line as alice; returns its exit code, its JSON (or None), and what it said on stderr."""

    def call(*words: str) -> tuple[int, Any, str]:
        capfdbinary.readouterr()
        code = main(["--output", "json", *words])
        out, err = capfdbinary.readouterr()
        return code, json.loads(out) if out else None, err.decode()

    return call


def data(site: TrialSite, files: dict[str, str]) -> str:
    """A collection of alice's with these files; returns its path."""
    top = f"{HOME}/data"
    for name, text in files.items():
        site.alice.create_collection(os.path.dirname(f"{top}/{name}"), parents=True)
        site.alice.write(f"{top}/{name}", text.encode())
    return top


def test_a_task_for_each_file_and_its_results_by_the_files_names(site: TrialSite, typed: Any, tmp_path: Path) -> None:
    top = data(site, {**{name: f"{name}\n" for name in ODD}, "notes.txt": "not one\n"})
    words = ("map", IMAGE, "--input", top, "--each", "*.csv", "--", "sh", "-c", 'cat "$1" > /outputs/copy', "sh", "{}")
    code, done, said = typed(*words)
    assert (code, done["completed"], done["failed"]) == (ExitCode.DONE, len(ODD), []), said
    assert set(done) == documented("`c2d map`")
    listed = typed("list", "--workload", done["workload"])[1]
    assert sorted(one["name"] for one in listed) == sorted(ODD)
    assert typed("workload", "describe", done["workload"])[1]["state"] == "STOPPED"
    code, fetched, _ = typed("fetch", done["workload"], str(tmp_path / "results"))
    assert code == ExitCode.DONE
    for name in ODD:
        assert (tmp_path / "results" / name / "copy").read_text() == f"{name}\n"
    assert sorted(fetched["folders"].values()) == sorted(str(tmp_path / "results" / name) for name in ODD)


def test_without_a_mark_the_path_is_the_last_word_and_another_mark_can_be_chosen(site: TrialSite, typed: Any) -> None:
    top = data(site, {"a": "1\n2\n", "b": "3\n"})
    _, done, _ = typed("map", IMAGE, "--input", top, "--", "wc", "-l")
    (a,) = [one for one in typed("list", "--workload", done["workload"])[1] if one["name"] == "a"]
    assert typed("logs", a["task_id"])[1]["stdout"] == "2 /input/a\n"
    words = ("--replace", "FILE", "--env", "K=V", "--", "sh", "-c", "echo {} $K FILE")
    _, done, _ = typed("map", IMAGE, "--input", top, "--each", "b", *words)
    (b,) = typed("list", "--workload", done["workload"])[1]
    assert typed("logs", b["task_id"])[1]["stdout"] == "{} V /input/b\n"


def test_names_that_no_task_can_have(site: TrialSite, typed: Any, tmp_path: Path) -> None:
    names = ["new\nline", "new\tline", "new_line"]
    top = data(site, {name: name for name in names})
    words = ("map", IMAGE, "--input", top, "--", "sh", "-c", 'cat "$1" > /outputs/copy', "sh", "{}")
    code, done, said = typed(*words)
    assert (code, done["completed"], done["failed"]) == (ExitCode.DONE, len(names), []), said
    assert typed("fetch", done["workload"], str(tmp_path / "results"))[0] == ExitCode.DONE
    assert sorted(copy.read_text() for copy in (tmp_path / "results").glob("*/copy")) == sorted(names)
    assert "3 files have a task already" in typed(*words[:4], "--workload", done["workload"], *words[4:])[2]


def test_failures_are_listed_and_only_they_run_again(site: TrialSite, typed: Any, tmp_path: Path) -> None:
    top = data(site, {"good": "0", "bad": "3", "worse": "4"})
    script = 'echo "reading $1" >&2; touch /outputs/seen; exit $(cat "$1")'
    words = ("map", IMAGE, "--input", top, "--jobs", "1")
    code, done, said = typed(*words, "--", "sh", "-c", script, "sh", "{}")
    assert (code, done["completed"]) == (ExitCode.PROGRAM_FAILED, 1)
    assert {one["name"]: one["exit_status"] for one in done["failed"]} == {"bad": 3, "worse": 4}
    assert "bad (task " in said and "exited with status 3" in said
    assert f"c2d logs {done['failed'][0]['task_id']}" in said
    workload = done["workload"]
    results = tmp_path / "results"
    assert typed("fetch", workload, str(results))[0] == ExitCode.DONE
    (results / "worse" / "notes").write_text("mine")
    again = ("--workload", workload, "--", "sh", "-c", "touch /outputs/again", "sh", "{}")
    code, done, said = typed(*words, *again)
    assert (code, done["completed"], done["failed"]) == (ExitCode.DONE, 3, [])
    assert "1 file has a task already" in said
    code, _, said = typed("fetch", workload, str(results))
    assert (code, f"{results}/worse: holds files with other content" in said) == (ExitCode.INCOMPLETE, True), said
    kept = {name: sorted(p.name for p in (results / name).iterdir()) for name in ("good", "bad", "worse")}
    assert "seen" in kept["good"] and "again" in kept["bad"] and "failed" not in kept["bad"]
    assert {"notes", "failed"} <= set(kept["worse"]), "what is not only a copy stays"
    code, _, said = typed("map", IMAGE, "--input", top, "--each", "b*", "--workload", workload, "--", "true")
    assert code == ExitCode.REFUSED and "has the each *, and this call names b*" in said


@pytest.mark.parametrize("stopped", [True, False])
def test_continued_it_sees_the_dataset_as_it_is_now(site: TrialSite, typed: Any, stopped: bool) -> None:
    top = data(site, {"good": "0", "bad": "3"})
    words = ("map", IMAGE, "--input", top, "--", "sh", "-c", 'exit $(cat "$1")', "sh", "{}")
    begun = typed(*words[:4], *([] if stopped else ["--detach"]), *words[4:])[1]
    typed("wait", begun["workload"])
    site.alice.write(f"{top}/bad", b"0", force=True)
    site.alice.write(f"{top}/new", b"0")
    code, done, said = typed(*words[:4], "--workload", begun["workload"], *words[4:])
    assert (code, done["completed"]) == (ExitCode.DONE, 3), said


def test_two_calls_at_one_moment_submit_one_task_for_each_file(
    site: TrialSite, session: c2d.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its task failed before, or a call was killed while it submitted it."""
    names = ["failed", "killed", *map(str, range(8))]
    top = data(site, dict.fromkeys(names, ""))
    workload = mapping.start(session, IMAGE, top, "*")
    assert workload.create_task(["false"], name="failed").wait().state is State.FAILED
    ids: list[str] = []

    class Killed(BaseException):
        """No compensation runs."""

    def killed(catalog: Any, configuration: Any, collection: str, *words: Any, task_id: str, **how: Any) -> Any:
        site.alice.create_collection(f"{collection}/{task_id}")
        ids.append(task_id)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(submission, "create_task", killed)
        with pytest.raises(Killed):
            next(mapping.submit(workload, ["killed"], ["true"]))
    monkeypatch.setattr(mapping, "_SUBMITTING_SECONDS", 2.0)
    both, made = threading.Barrier(2), []

    def call() -> None:
        mine = mapping.continued(session, workload.id, IMAGE, top, "*")
        known = mine.tasks
        monkeypatch.setattr(mine, "tasks", lambda: (known(), both.wait())[0])  # both have seen the same tasks
        made.extend(task.collection for task in mapping.submit(mine, names, ["true"]))

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tasks = [task for task in workload.tasks() if task.collection in made]
    assert sorted(task.name for task in tasks) == sorted(names) and len(made) == len(names)
    assert ids[0] not in {task.task_id for task in tasks}


def test_detached_it_prints_the_id_and_can_be_waited_for(site: TrialSite, typed: Any) -> None:
    top = data(site, {"a": "", "b": ""})
    code, done, _ = typed("map", IMAGE, "--input", top, "-d", "--", "true")
    assert (code, set(done)) == (ExitCode.DONE, {"workload", "collection"})
    code, waited, said = typed("wait", done["workload"][:6])
    assert (code, waited["workload"], waited["completed"]) == (ExitCode.DONE, done["workload"], 2)
    code, _, said = typed("wait", done["workload"], "3f2a")
    assert code == ExitCode.REFUSED and "one workload, or" in said


def test_nothing_that_matches_is_an_error_that_says_what_is_there(site: TrialSite, typed: Any) -> None:
    top = data(site, {"a.txt": "", "sub/b.txt": "", "c.csv": "", "Makefile": ""})
    code, _, said = typed("map", IMAGE, "--input", top, "--each", "*.tsv", "--", "true")
    assert code == ExitCode.NOT_FOUND
    assert "no file of /tempZone/home/alice/data matches; it holds *.txt (2), Makefile, *.csv" in said
    assert "no task was submitted" not in said and typed("workload", "list")[1] == []
    code, _, said = typed("map", IMAGE, "--input", f"{top}/a.txt", "--", "true")
    assert code == ExitCode.REFUSED and "is a data object, expected a collection" in said
    site.alice.create_collection(f"{HOME}/empty")
    code, _, said = typed("map", IMAGE, "--input", f"{HOME}/empty", "--", "true")
    assert code == ExitCode.NOT_FOUND and "holds no files" in said


@pytest.fixture
def local(tmp_path: Path) -> str:
    """A folder of this computer with two files."""
    (tmp_path / "local").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "local" / name).write_text(f"{name}\n")
    return str(tmp_path / "local")


def test_a_folder_of_this_computer_is_uploaded(typed: Any, local: str) -> None:
    """``c2d run`` did so, and ``c2d map`` refused it."""
    code, mapped, said = typed("map", IMAGE, "--input", local, "--each", "*.csv", "--", "cat")
    assert (code, mapped["completed"]) == (ExitCode.DONE, 2)
    (dataset,) = [one["dataset"] for one in typed("dataset", "list")[1]]
    assert f"{local} is dataset {dataset} now" in said
    code, started, _ = typed("workload", "start", IMAGE, "--input-dataset", f"{local}/a.csv")
    assert code == ExitCode.DONE
    assert typed("task", "create", started["workload"], "--wait", "--", "grep", "a.csv", "/input/a.csv")[0] == 0
    words = ("map", IMAGE, "--input", local, "--each", "*.csv", "--workload", mapped["workload"], "--", "cat")
    code, _, said = typed(*words)
    assert code == ExitCode.NOT_FOUND and f"{local}: is a folder of this computer" in said
    assert len(typed("dataset", "list")[1]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--each", "*.tsv"], "it holds *.csv (2)"),
        (["--walltime", "9000h"], "86400 seconds"),
        (["--role", "nope"], "role nope"),
        (["--resource", "nope"], "resource nope"),
    ],
)
def test_nothing_is_uploaded_for_a_map_that_is_refused(typed: Any, local: str, words: list[str], said: str) -> None:
    code, _, answer = typed("map", IMAGE, "--input", local, *words, "--", "cat")
    assert code in (ExitCode.REFUSED, ExitCode.NOT_FOUND)
    assert said in answer
    assert typed("dataset", "list")[1] == []
    if words[0] != "--each":
        assert typed("workload", "start", IMAGE, "--input-dataset", local, *words)[0] == code
        assert typed("dataset", "list")[1] == []


@pytest.mark.parametrize("words", [["--env", "K=%(NOBODY)s", "--", "wc"], ["--secret", "NONE", "--", "wc"], ["--", ""]])
def test_a_map_whose_tasks_are_refused_leaves_no_workload(site: TrialSite, typed: Any, words: list[str]) -> None:
    code, _, said = typed("map", IMAGE, "--input", data(site, {"a": "1"}), *words)
    assert code in (ExitCode.REFUSED, ExitCode.NOT_FOUND)
    assert "workload continues" not in said
    assert typed("workload", "list")[1] == []


def test_nor_does_one_in_python(site: TrialSite, session: c2d.Session) -> None:
    with pytest.raises(InvalidRequest):
        session.map_files(IMAGE, ["wc"], dataset=data(site, {"a": "1"}), environment={"K": "%(NOBODY)s"})
    assert session.workloads() == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--jobs", "2"], "has the instances 1, and this call names 2"),
        (["--env", "K=W"], "has the environment K=V, and this call names K=W"),
        (["--memory", "64m"], "has the limits --cpus=0.5, and this call names --memory=67108864"),
        (["--name", "other"], "has the name (none), and this call names other"),
        (["--resource", "compute_resc"], f"has the resource {COMPUTE}, and this call names compute_resc"),
    ],
)
def test_a_map_is_continued_as_it_began(site: TrialSite, typed: Any, words: list[str], said: str) -> None:
    whole = ["map", IMAGE, "--input", data(site, {"a": "1"})]
    begun = ["--jobs", "1", "--env", "K=V", "--cpus", "0.5"]
    workload = typed(*whole, *begun, "--", "wc")[1]["workload"]
    assert typed(*whole, *begun, "--workload", workload, "--", "wc")[0] == ExitCode.DONE
    code, _, error = typed(*whole, *words, "--workload", workload, "--", "wc")
    assert (code, said in error) == (ExitCode.REFUSED, True), error


def test_it_waits_where_the_site_bounds_how_many_tasks_wait(site: TrialSite, typed: Any) -> None:
    site.configure(engine={"name": "docker"}, worker={"slots": 2, "per_user": {"waiting": 1}})
    code, done, said = typed("map", IMAGE, "--input", data(site, {f"{n}": "1" for n in range(5)}), "--", "wc")
    assert (code, done["completed"], done["failed"]) == (ExitCode.DONE, 5, []), said
    assert said.count("has 1 waiting task on dsp_resc, and no user may have more there. The others are") == 1


def test_in_python(site: TrialSite, session: c2d.Session) -> None:
    top = data(site, {"sub/a.csv": "1\n2\n", "b.csv": "3\n"})
    seen: list[str] = []
    workload = session.map_files(
        IMAGE, ["wc", "-l", "{}"], dataset=top, each="sub/*.csv", submitted=lambda task: seen.append(task.id)
    )
    (task,) = workload.tasks()
    assert (task.name, [task.task_id]) == ("sub/a.csv", seen)
    assert session.task(task.task_id).wait().state is State.COMPLETED
    with pytest.raises(InvalidRequest, match="names no program"):
        session.map_files(IMAGE, [], dataset=top)
    workload.stop()
    with pytest.raises(Refused):
        workload.create_task(["true"])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", ["a.csv", "b.txt", "x/a.csv", "x/y/c.csv"]),
        ("*.csv", ["a.csv", "x/a.csv", "x/y/c.csv"]),
        ("x/*.csv", ["x/a.csv"]),
        ("x/**/*.csv", ["x/a.csv", "x/y/c.csv"]),
        ("**/c.csv", ["x/y/c.csv"]),
        ("x/**", ["x/a.csv", "x/y/c.csv"]),
        ("[ab].*", ["a.csv", "b.txt", "x/a.csv"]),
    ],
)
def test_patterns(site: TrialSite, pattern: str, expected: list[str]) -> None:
    top = data(site, dict.fromkeys(["a.csv", "b.txt", "x/a.csv", "x/y/c.csv"], ""))
    assert mapping.matching(site.zone.session(site.alice.user), top, pattern) == expected  # type: ignore[arg-type]


def test_long_names_stay_different() -> None:
    one, other = "x/" + "a" * 300 + "1", "x/" + "a" * 300 + "2"
    assert mapping.task_name(one) != mapping.task_name(other)
    assert len(mapping.task_name(one)) == 255
    assert mapping.task_name("x" * 255) == "x" * 255
    assert len({mapping.task_name(f"a{mark}b") for mark in "\t\n\r\x85_"}) == 5


class TestInterrupted:
    """A person presses Ctrl-C at some instant: each task is named, or there is none."""

    @pytest.fixture
    def command(self, site: TrialSite, settings: None) -> list[str]:
        top = data(site, {f"{number:02}": "" for number in range(30)})
        words = ["map", IMAGE, "--input", top, "--", "sh", "-c", "sleep 600"]
        return [sys.executable, "-m", "compute_to_data.cli.main", *words]

    @pytest.mark.parametrize("when", [0.05, 0.3, 0.5, 0.7, 1.5])
    def test_without_a_terminal(self, site: TrialSite, command: list[str], when: float) -> None:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(when)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=PATIENCE)
        self._check(site, error.decode())

    @staticmethod
    def _check(site: TrialSite, said: str) -> None:
        with c2d.connect() as session:
            there = session.workloads()
            assert len(there) <= 1
            for one in there:
                assert f"workload {one.workload} continues. Wait for it: c2d wait {one.workload}" in said
                session.workload(one.workload).stop()
            if not there:
                assert "continues" not in said

    def test_at_a_terminal_it_asks(self, site: TrialSite, command: list[str]) -> None:
        with site.working():
            child, terminal = pty.fork()
            if child == 0:
                os.execv(command[0], command)
            said = _Screen(terminal)
            wait_until(lambda: "30 of 30 submitted" in said.text or "running" in said.text, "all to be submitted")
            os.write(terminal, b"\x03")
            wait_until(lambda: "[y/N]" in said.text, "the question")
            os.write(terminal, b"y\n")
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == ExitCode.INTERRUPTED, said.text
            wait_until(lambda: "cancelling" in said.text, "the answer")
            with c2d.connect() as session:
                (one,) = session.workloads()
                workload = session.workload(one.workload)
                wait_until(
                    lambda: {task.state for task in workload.tasks()} == {"CANCELLED"}, "all tasks to be cancelled"
                )


class _Screen:
    """What a program writes on a terminal."""

    def __init__(self, terminal: int) -> None:
        self.text = ""
        self._terminal = terminal
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while said := os.read(self._terminal, 65536):
                self.text += said.decode("utf-8", "replace")


def test_progress_is_one_line_on_a_terminal(
    site: TrialSite, session: c2d.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    said = Terminal()
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setenv("TERM", "xterm")
    top = data(site, {"a": "", "b": ""})
    assert main(["map", IMAGE, "--input", top, "--", "true"]) == ExitCode.DONE
    lines = [line.rpartition("\x1b[K")[2] for line in said.getvalue().split("\r")]
    assert any("2 of 2 done, 0 failed, 0 running" in line for line in lines)


def test_an_unknown_dataset_is_refused(site: TrialSite, session: c2d.Session) -> None:
    with pytest.raises(NotFound):
        session.map_files(IMAGE, ["true"], dataset="d-000000000000")
