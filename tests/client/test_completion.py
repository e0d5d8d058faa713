"""What each shell completes, asked of the shell itself: with its Tab key, at a terminal."""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import select
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.new_interpreter import run_python
from support.people import settings_of
from support.site import HOME, TrialSite

from compute_to_data.cli import next_word, zone_words
from compute_to_data.cli.command import LateParser
from compute_to_data.cli.main import main, parser
from compute_to_data.cli.zone_words import Candidate
from compute_to_data.client import datasets, processes
from compute_to_data.client.session import connect
from compute_to_data.submission import workloads

SHELLS = ("bash", "zsh", "fish")
LONGEST = 60.0
"""Seconds that a shell or a program may take on a busy machine."""


class Bash:
    """A bash that somebody types into. ``c2d`` there says what it was given."""

    command = ["bash", "--norc", "--noprofile", "-i"]
    quiet = "PS1=; bind 'set enable-bracketed-paste off'; bind 'set bell-style none'"
    said = "c2d() { printf '<%s>' \"$@\"; echo; }"

    def __init__(self, script: Path, folder: Path, variables: dict[str, str]) -> None:
        descriptor, self._terminal = pty.openpty()
        environment = {"TERM": "dumb", **variables}
        self._process = subprocess.Popen(
            self.command,
            stdin=self._terminal,
            stdout=self._terminal,
            stderr=self._terminal,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
        self._keys = descriptor
        self._typed(f"{self.quiet}; source {script}; {self.said}; c2d is ready\n", r"<is><ready>")

    def completed(self, line: str) -> list[str]:
        """The words that the line has after Tab, where there is one way to complete it; none when Tab
        left a quotation mark open, and the shell waits for the rest."""
        found = self._typed(f"{line}\t\n", r"((?:<[^<>\r\n]*>)+)\r?\n|\r\n(?:\w*quote)?> $")
        if found.group(1) is None:
            self._typed("'\n" if "'" in line else '"\n', r"(<[^<>]*>)+\r?\n")
            return []
        return re.findall("<([^<>]*)>", found.group(1))

    def _typed(self, keys: str, answer: str) -> re.Match[str]:
        os.write(self._keys, keys.encode())
        deadline, shown = time.monotonic() + LONGEST, ""
        while time.monotonic() < deadline:
            if select.select([self._keys], [], [], 0.5)[0]:
                shown += os.read(self._keys, 65536).decode(errors="replace")
            found = re.search(answer, shown)
            if found:
                return found
        raise AssertionError(f"{keys!r} brought {shown!r}")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._keys)
        os.close(self._terminal)


class Zsh(Bash):
    """A zsh in the same way."""

    command = ["zsh", "-f", "-i"]
    quiet = "PS1=; unsetopt prompt_cr prompt_sp beep; unset zle_bracketed_paste"


class Fish:
    """fish, which tells what its Tab key would do."""

    def __init__(self, script: Path, folder: Path, variables: dict[str, str]) -> None:
        self._script, self._folder = script, folder
        self._environment = {"TERM": "dumb", **variables}

    def completed(self, line: str) -> list[str]:
        """As :meth:`Bash.completed`."""
        program = f'source {self._script}; complete -C "{line}"'
        done = subprocess.run(
            ["fish", "--no-config", "-c", program],
            capture_output=True,
            text=True,
            env=self._environment,
            cwd=self._folder,
            timeout=LONGEST,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        words, offered = shlex.split(line)[1:], done.stdout.splitlines()
        return [*words[:-1], offered[0].partition("\t")[0]] if len(offered) == 1 else words

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class User:
    """alice, and what she has in her zone. ``variables``: the environment of her shell, which finds
    ``c2d`` and her settings; ``folder``: where she is."""

    folder: Path
    variables: dict[str, str]
    dataset: str
    workload: str

    def complete(self, *words: str, seconds: float = LONGEST / 2) -> subprocess.CompletedProcess[str]:
        """What ``c2d __complete`` answers; ``seconds``: how long the zone has for it."""
        return subprocess.run(
            [str(self.folder / "bin" / "c2d"), "__complete", *words],
            env={**self.variables, next_word.SECONDS_VARIABLE: str(seconds)},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )

    def executed(self) -> bool:
        """Whether a shell did what a name says."""
        return (self.folder / "executed").exists()


HOSTILE = {
    "1": "1 my data",
    "2": "2'it's",
    "3": '3"say"',
    "4": "4$(touch executed)",
    "5": "5`touch executed`",
    "6": "6;touch executed",
    "7": "7&&touch executed",
    "8": "8'\";touch executed;\"'",
    "9": "9*?[a]~{a,b}!!\\",
}
"""Names of collections by their first character."""
NOT_ON_A_LINE = ("A\ntouch executed", "B\tc", "C\x1b[2J")
"""Names with control characters, as far as the zone has such names."""


@pytest.fixture(scope="module")
def alice(tmp_path_factory: pytest.TempPathFactory) -> User:
    folder = tmp_path_factory.mktemp("alice")
    for name in ("a folder", "bin", "tools", "site"):
        (folder / name).mkdir()
    (folder / "task.json").write_text("{}")
    program = f'#!/bin/sh\nexec {sys.executable} -m compute_to_data.cli.main "$@"\n'
    (folder / "bin" / "c2d").write_text(program)
    (folder / "bin" / "c2d").chmod(0o755)
    site = TrialSite(folder / "site", {"name": "process", "images": {"tools": str(folder / "tools")}}, "tools")
    site.configure(images=["tools", "debian:bookworm", "debian:trixie", {"pattern": "any.*"}])
    (folder / "config.json").write_text(json.dumps(settings_of(site, "alice")))
    (folder / "session.json").write_text("{}")
    variables = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "C2D_CONFIG_FILE": str(folder / "config.json"),
        "C2D_SESSION_FILE": str(folder / "session.json"),
        next_word.SECONDS_VARIABLE: str(LONGEST / 2),
    }
    for task in ("earlier", "later"):
        site.submit(site.request("true", name=f"the {task} one"), task_id=task)
    started = workloads.start(site.alice, site.configuration, HOME, image="tools")
    for name in (*HOSTILE.values(), *NOT_ON_A_LINE):
        site.alice.create_collection(f"{HOME}/{name}")
    site.alice.create_collection(f"{HOME}/.compute_to_data/secrets", parents=True)
    site.alice.write(f"{HOME}/.compute_to_data/secrets/ARCHIVE_TOKEN", b"hidden")
    with connect(variables["C2D_CONFIG_FILE"], variables["C2D_SESSION_FILE"]) as session:
        dataset = datasets.upload(session, str(folder / "a folder")).dataset
        processes.create(session, {"image": "tools", "exec": "true"}, "archiver")
    return User(folder, variables, dataset, started.collection.rpartition("/")[2])


@pytest.fixture(scope="module", params=SHELLS)
def shell(request: pytest.FixtureRequest, alice: User) -> Iterator[Bash | Fish]:
    name = request.param
    if shutil.which(name) is None:
        assert not os.environ.get("CI"), f"{name} is not installed"
        pytest.skip(f"{name} is not installed")
    script = alice.folder / f"c2d.{name}"
    with open(script, "w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", file)
        patch.setenv("C2D_CONFIG_FILE", alice.variables["C2D_CONFIG_FILE"])
        assert main(["completion", name]) == 0
    typist = {"bash": Bash, "zsh": Zsh, "fish": Fish}[name](script, alice.folder, alice.variables)
    yield typist
    typist.close()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("c2d sub", ["submit"]),
        ("c2d dataset up", ["dataset", "upload"]),
        ("c2d workload start img --input-d", ["workload", "start", "img", "--input-dataset"]),
        ("c2d list --st", ["list", "--state"]),
        ("c2d process sh", ["process", "show"]),
        ("c2d process show arch", ["process", "show", "archiver"]),
        ("c2d run --process arch", ["run", "--process", "archiver"]),
        ("c2d list --state RUN", ["list", "--state", "RUNNING"]),
        ("c2d list --output j", ["list", "--output", "json"]),
        ("c2d list --format=r", ["list", "--format=raw"]),
        ("c2d --output pretty sta", ["--output", "pretty", "status"]),
        ("c2d --project list li", ["--project", "list", "list"]),
        ("c2d completion f", ["completion", "fish"]),
        ("c2d submit ta", ["submit", "task.json"]),
        ("c2d run img --output-collection ta", ["run", "img", "--output-collection", "task.json"]),
        ("c2d run img -- ta", ["run", "img", "--", "task.json"]),
        ("c2d run img -- list --st", ["run", "img", "--", "list", "--st"]),
        ("c2d run img --output-collection=ta", ["run", "img", "--output-collection=task.json"]),
        ("c2d --format=raw run --na", ["--format=raw", "run", "--name"]),
        ("c2d run --name 'status of a' --mem", ["run", "--name", "status of a", "--memory"]),
        ("c2d status ear", ["status", "earlier"]),
        ("c2d logs --follow lat", ["logs", "--follow", "later"]),
        ("c2d cancel earlier lat", ["cancel", "earlier", "later"]),
        ("c2d fetch later ta", ["fetch", "later", "task.json"]),
        ("c2d fetch later a ta", ["fetch", "later", "a", "task.json"]),
        ("c2d ls lat", ["ls", "later"]),
        ("c2d rm later ear", ["rm", "later", "earlier"]),
        ("c2d rm --state FAI", ["rm", "--state", "FAILED"]),
        ("c2d share lat", ["share", "later"]),
        ("c2d share later bob re", ["share", "later", "bob", "read"]),
        ("c2d task stop ear", ["task", "stop", "earlier"]),
        ("c2d run debian:b", ["run", "debian:bookworm"]),
        ("c2d run too", ["run", "tools"]),
        ("c2d workload start debian:t", ["workload", "start", "debian:trixie"]),
        ("c2d submit task.json --image=debian:t", ["submit", "task.json", "--image=debian:trixie"]),
        ("c2d run tools --resource ds", ["run", "tools", "--resource", "dsp_resc"]),
        ("c2d list --resource=ds", ["list", "--resource=dsp_resc"]),
        ("c2d run tools --role CON", ["run", "tools", "--role", "CONTAINER"]),
        ("c2d run tools --secret AR", ["run", "tools", "--secret", "ARCHIVE_TOKEN"]),
        ("c2d secret describe AR", ["secret", "describe", "ARCHIVE_TOKEN"]),
    ],
)
def test_a_shell_completes(shell: Bash | Fish, line: str, expected: list[str]) -> None:
    assert shell.completed(line) == expected


def test_ids_that_the_zone_makes_are_completed(shell: Bash | Fish, alice: User) -> None:
    for words, word in (
        (["dataset", "describe"], alice.dataset),
        (["run", "tools", "--input"], alice.dataset),
        (["workload", "start", "tools", "--input-dataset"], alice.dataset),
        (["dataset", "upload", "folder", "--id"], alice.dataset),
        (["ls"], alice.dataset),
        (["share"], alice.dataset),
        (["ls"], alice.workload),
        (["rm"], alice.workload),
        (["workload", "stop"], alice.workload),
        (["task", "create"], alice.workload),
    ):
        assert shell.completed(f"c2d {' '.join(words)} {word[:3]}") == [*words, word]


@pytest.mark.parametrize("beginning", HOSTILE)
def test_a_hostile_name_is_one_word(shell: Bash | Fish, alice: User, beginning: str) -> None:
    """Whoever chose it: the program is given that name, and the shell does nothing of what it says."""
    path = f"{HOME}/{beginning}"
    assert shell.completed(f"c2d project set {path}") == ["project", "set", f"{HOME}/{HOSTILE[beginning]}"]
    assert not alice.executed()


@pytest.mark.parametrize("quote", ["'", '"'])
def test_between_quotes_a_name_is_left_out_or_one_word(shell: Bash | Fish, alice: User, quote: str) -> None:
    if isinstance(shell, Fish):
        return  # it tells what it would offer, and not how it would write that between quotes
    for beginning, name in HOSTILE.items():
        path = f"{HOME}/{beginning}"
        given = shell.completed(f"c2d project set {quote}{path}")
        assert given in ([], ["project", "set", f"{HOME}/{name}"])
        assert given or beginning != "1"
    assert not alice.executed()


def test_a_name_with_control_characters_is_left_out(alice: User) -> None:
    done = alice.complete("project", "set", f"{HOME}/")
    offered = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert {f"{HOME}/{name}" for name in HOSTILE.values()} <= set(offered)
    assert all(one.startswith(f"{HOME}/") and one.isprintable() for one in offered)
    assert not {one[len(HOME) + 1 :][:1] for one in offered} & {name[0] for name in NOT_ON_A_LINE}


def test_the_newest_task_is_first_and_is_described(alice: User) -> None:
    done = alice.complete("status", "")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "later\tQUEUED the later one\nearlier\tQUEUED the earlier one\n"


def test_a_task_is_found_by_its_beginning_however_old_it_is(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in alice.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(zone_words, "MOST", 1)
    monkeypatch.setattr(next_word, "MOST", 1)
    assert next_word.ask(zone_words.tasks, "", {}) == [Candidate("later", "QUEUED the later one")]
    assert [one.word for one in next_word.ask(zone_words.tasks, "ear", {})] == ["earlier"]


def test_the_project_on_the_line_counts(alice: User) -> None:
    assert alice.complete("workload", "stop", "").stdout.startswith(alice.workload)
    assert alice.complete("--project", "nowhere", "workload", "stop", "").stdout == ""
    assert alice.complete("workload", "stop", "--project=1 my data", "").stdout == ""


def test_an_answer_has_a_bounded_number_of_words(monkeypatch: pytest.MonkeyPatch, alice: User) -> None:
    for name, value in alice.variables.items():
        monkeypatch.setenv(name, value)
    found = next_word.ask(lambda session, beginning: (Candidate(f"t{n}") for n in range(1000)), "t1", {})
    assert [one.word for one in found[:3]] == ["t1", "t10", "t11"]
    assert len(found) == 50


def test_nothing_is_remembered(alice: User) -> None:
    file = alice.folder / "session.json"
    before = file.stat().st_mtime_ns, file.read_text()
    assert HOME in alice.complete("project", "set", "").stdout
    assert (file.stat().st_mtime_ns, file.read_text()) == before


@pytest.mark.parametrize("words", [("status", ""), ("run", "t"), ("dataset", "describe", ""), ("list", "--role=")])
def test_a_zone_that_cannot_be_asked_is_silent(alice: User, tmp_path: Path, words: tuple[str, ...]) -> None:
    for text in ("{}", "no JSON", json.dumps({"zone": {"kind": "embedded", "directory": "/nowhere", "user": "x"}})):
        (tmp_path / "config.json").write_text(text)
        done = alice.complete("--config-file", str(tmp_path / "config.json"), *words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_zone_that_does_not_answer_is_not_waited_for(alice: User, tmp_path: Path) -> None:
    """A server that lets clients connect and says nothing: other commands would wait for two minutes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        environment = {
            "irods_host": "127.0.0.1",
            "irods_port": server.getsockname()[1],
            "irods_user_name": "anonymous",
            "irods_zone_name": "tempZone",
        }
        (tmp_path / "irods_environment.json").write_text(json.dumps(environment))
        zone = {"kind": "irods", "environment_file": str(tmp_path / "irods_environment.json")}
        (tmp_path / "config.json").write_text(json.dumps({"zone": zone}))
        done = alice.complete("--config-file", str(tmp_path / "config.json"), "status", "", seconds=5)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert select.select([server], [], [], 0)[0], "the server was not asked"


def test_the_zone_has_a_second_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, alice: User, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in alice.variables.items():
        monkeypatch.setenv(name, value)
    joined: list[float | None] = []
    monkeypatch.setattr(threading.Thread, "join", lambda thread, timeout=None: joined.append(timeout))
    for value in ("", "2.5", "soon"):
        monkeypatch.setenv(next_word.SECONDS_VARIABLE, value)
        if not value:
            monkeypatch.delenv(next_word.SECONDS_VARIABLE)
        assert main(["__complete", "secret", "describe", "x"]) == 0
    assert joined == [1.0, 2.5]
    assert capsys.readouterr() == ("", "")


def test_an_answer_that_takes_too_long_is_none(monkeypatch: pytest.MonkeyPatch, alice: User) -> None:
    for name, value in alice.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(next_word.SECONDS_VARIABLE, "0.1")
    ended = threading.Event()

    def slow(session: object, beginning: str) -> Iterator[Candidate]:
        ended.wait(LONGEST)
        yield Candidate("late")

    assert next_word.ask(slow, "", {}) == []
    ended.set()


def test_nobody_is_asked_for_a_password(
    monkeypatch: pytest.MonkeyPatch, alice: User, capsys: pytest.CaptureFixture[str]
) -> None:
    import getpass

    for name, value in alice.variables.items():
        monkeypatch.setenv(name, value)
    usual = getpass.getpass

    def asks(session: object, beginning: str) -> Iterator[Candidate]:
        print("Password needed", file=sys.stderr)
        yield Candidate(getpass.getpass("Password: "))

    assert next_word.ask(asks, "", {}) == []
    assert capsys.readouterr() == ("", "")
    assert getpass.getpass is usual


def test_plain_words_load_nothing_of_the_client() -> None:
    program = "import sys, compute_to_data.cli.main as m\nm.main(sys.argv[1:])\nprint(*sys.modules)"
    words = ["__complete", "run", "img", "--output=x", "--na"]
    done = run_python(program, *words)
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("--name\t")
    assert "compute_to_data.cli.next_word" in last.split()
    words = {
        "compute_to_data.client",
        "compute_to_data.client.task_status",
        "compute_to_data.client.task_status.endings",
        "compute_to_data.client.task_status.wording",
    }
    assert not [one for one in last.split() if one.startswith("compute_to_data.client") and one not in words]
    assert not set(last.split()) & {"irods", "docker", "sqlite3", "subprocess", "socket", "concurrent.futures"}


def test_it_is_not_among_the_commands_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "__complete" not in capsys.readouterr().out


def test_every_command_is_completed(shell: Bash | Fish) -> None:
    """From the shortest beginning that no other word there has."""
    tried = 0
    for path, following in words_below(parser()):
        for word in following:
            others = [one for one in following if one != word]
            size = next((n for n in range(1, len(word)) if not any(o.startswith(word[:n]) for o in others)), 0)
            if size:
                tried += 1
                assert shell.completed(f"c2d{path} {word[:size]}") == [*path.split(), word]
    assert tried > 30


def words_below(top: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """Every place of the command line where a word out of a few comes next, with these words."""
    if isinstance(top, LateParser):
        top.complete()
    for action in top._actions:
        if not action.option_strings and action.choices:
            yield path, [str(one) for one in action.choices]
        if isinstance(action, argparse._SubParsersAction):
            for name, found in action.choices.items():
                yield from words_below(found, f"{path} {name}")


def test_what_is_hidden_is_not_offered() -> None:
    hidden = argparse.ArgumentParser()
    hidden.add_argument("--shown")
    hidden.add_argument("--hidden", help=argparse.SUPPRESS)
    assert {one.word for one in next_word.candidates(hidden, ["-"])} == {"--help", "--shown"}


def test_an_option_takes_a_value_where_its_command_says_so() -> None:
    top = argparse.ArgumentParser()
    below = top.add_subparsers()
    below.add_parser("one").add_argument("--it", choices=["value"])
    below.add_parser("other").add_argument("--it", action="store_true")
    assert [one.word for one in next_word.candidates(top, ["one", "--it", ""])] == ["value"]
    assert next_word.candidates(top, ["other", "--it", ""]) == []
