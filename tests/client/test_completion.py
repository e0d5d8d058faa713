"""What each shell completes, asked of the shell itself: with its Tab key, at a terminal."""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_to_data.cli import completion
from compute_to_data.cli.main import main, parser

SHELLS = ("bash", "zsh", "fish")
LONGEST = 20.0


class Bash:
    """A bash that somebody types into. ``c2d`` there says what it was given."""

    command = ["bash", "--norc", "--noprofile", "-i"]
    quiet = "PS1=; bind 'set enable-bracketed-paste off'; bind 'set bell-style none'"
    said = "c2d() { printf '<%s>' \"$@\"; echo; }"

    def __init__(self, script: Path, folder: Path) -> None:
        descriptor, self._terminal = pty.openpty()
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8"}
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
        """The words that the line has after Tab, where there is one way to complete it."""
        found = self._typed(f"{line}\t\n", r"((?:<[^<>\r\n]*>)+)\r?\n")
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

    def __init__(self, script: Path, folder: Path) -> None:
        self._script, self._folder = script, folder

    def completed(self, line: str) -> list[str]:
        """As :meth:`Bash.completed`."""
        program = f'source {self._script}; complete -C "{line}"'
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._folder), "TERM": "dumb"}
        done = subprocess.run(
            ["fish", "--no-config", "-c", program],
            capture_output=True,
            text=True,
            env=environment,
            cwd=self._folder,
            timeout=LONGEST,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        words, offered = line.split(" ")[1:], done.stdout.splitlines()
        return [*words[:-1], offered[0].partition("\t")[0]] if len(offered) == 1 else words

    def close(self) -> None:
        pass


@pytest.fixture(scope="module", params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bash | Fish]:
    name = request.param
    if shutil.which(name) is None:
        assert not os.environ.get("CI"), f"{name} is not installed"
        pytest.skip(f"{name} is not installed")
    folder = tmp_path_factory.mktemp(name)
    (folder / "a folder").mkdir()
    (folder / "task.json").write_text("{}")
    script = folder / "c2d.script"
    with open(script, "w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", file)
        patch.setenv("C2D_CONFIG_FILE", str(folder / "config.json"))
        (folder / "config.json").write_text("{}")
        assert main(["completion", name]) == 0
    typist = {"bash": Bash, "zsh": Zsh, "fish": Fish}[name](script, folder)
    yield typist
    typist.close()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("c2d sub", ["submit"]),
        ("c2d dataset up", ["dataset", "upload"]),
        ("c2d workload start img --input-d", ["workload", "start", "img", "--input-dataset"]),
        ("c2d list --st", ["list", "--state"]),
        ("c2d list --state RUN", ["list", "--state", "RUNNING"]),
        ("c2d list --output j", ["list", "--output", "json"]),
        ("c2d list --format=r", ["list", "--format=raw"]),
        ("c2d --output pretty sta", ["--output", "pretty", "status"]),
        ("c2d --project list li", ["--project", "list", "list"]),
        ("c2d completion f", ["completion", "fish"]),
        ("c2d submit ta", ["submit", "task.json"]),
        ("c2d run img --output ta", ["run", "img", "--output", "task.json"]),
        ("c2d run img -- ta", ["run", "img", "--", "task.json"]),
        ("c2d run img -- list --st", ["run", "img", "--", "list", "--st"]),
    ],
)
def test_a_shell_completes(shell: Bash | Fish, line: str, expected: list[str]) -> None:
    assert shell.completed(line) == expected


def test_every_command_is_completed(shell: Bash | Fish) -> None:
    """From the shortest beginning that no other word there has."""
    tried = 0
    for node in completion.nodes(parser()):
        for word in node.following:
            others = [one for one in node.following if one != word]
            size = next((n for n in range(1, len(word)) if not any(o.startswith(word[:n]) for o in others)), 0)
            if size:
                tried += 1
                assert shell.completed(f"c2d{node.path} {word[:size]}") == [*node.path.split(), word]
    assert tried > 30


def test_an_option_takes_a_value_everywhere_or_nowhere() -> None:
    """The scripts pass over the word after one, without knowing which command it belongs to."""
    taking, alone = set(), set()
    for node in completion.nodes(parser()):
        for name, values in node.options.items():
            (alone if values is None else taking).add(name)
    assert {"--output", "--state"} <= taking
    assert not taking & alone


def test_what_is_hidden_is_not_offered() -> None:
    hidden = argparse.ArgumentParser()
    hidden.add_argument("--shown")
    hidden.add_argument("--hidden", help=argparse.SUPPRESS)
    (node,) = completion.nodes(hidden)
    assert set(node.options) == {"--help", "--shown"}
