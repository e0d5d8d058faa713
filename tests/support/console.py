"""A shell in which the commands of a page run, and the comparison of what they print with what the page shows."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from support.processes import end_processes

_ID = re.compile(r"\b(?=[0-9-]*[a-z])([dw]-)?[0-9a-f]{8}(?:[0-9a-f]{4})?(?:-[0-9a-f]{4}){0,3}(?:-[0-9a-f]{12})?\b")
_ABBREVIATED = re.compile(r"\b(?:[dw]-)?[0-9a-f][0-9a-f-]{3,}\b")
SHORT = 8
"""The length of ids in tables."""
_PATIENCE = 60.0
_MARK = "SHELL_OF_A_PAGE"
"""The variable by which the processes of a shell are found."""


class Shell:
    """One bash. Its state (folder, variables, exit status) lasts from one command to the next."""

    def __init__(self, folder: Path, environment: dict[str, str], files: Path) -> None:
        self._files = files
        self._status = 0
        mark = str(uuid.uuid4())
        self._mark = f"{_MARK}={mark}"
        # A session of its own, so that the end takes what commands have left behind.
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder, env={**environment, _MARK: mark}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, bufsize=1, start_new_session=True,
        )  # fmt: skip

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.communicate()
        # A worker on demand has a session of its own. It must be gone before the folder of its zone goes.
        end_processes("environ", self._mark, _PATIENCE)

    def run(self, command: str, seconds: float = _PATIENCE) -> tuple[int, str]:
        """The exit status of a command, and what it printed to both streams."""
        script, printed = self._files / "command", self._files / "printed"
        script.write_text(f"{command}\n", encoding="utf-8")
        self._write(f"(exit {self._status}); . '{script}' > '{printed}' 2>&1 < /dev/null; echo \"status $?\"\n")
        answer = self._line(seconds)
        said = printed.read_text(encoding="utf-8", errors="replace")
        assert answer.startswith("status "), f"after {seconds} s without an end: {command}\n{said}{answer}"
        self._status = int(answer.split()[1])
        return self._status, said

    def _write(self, text: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(text)
        self._bash.stdin.flush()

    def _line(self, seconds: float) -> str:
        assert self._bash.stdout is not None
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._bash.stdout, selectors.EVENT_READ)
            if not selector.select(deadline - time.monotonic()):
                return ""
        return self._bash.stdout.readline()


class Page:
    """What a page shows beside what happens: the ids that it shows stand for those that appear."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}

    def command(self, text: str) -> str:
        """The command with the ids that have appeared, also where the page abbreviates them."""
        return _ABBREVIATED.sub(lambda found: self._known(found[0]), text)

    def as_shown(self, printed: str) -> str:
        """The text with the ids of the page in place of the real ones."""
        for one, real in self._real.items():
            printed = printed.replace(real, one).replace(real[:SHORT], one[:SHORT])
        return printed

    def shows(self, shown: str, printed: str) -> bool:
        """Whether ``printed`` is what the page shows; ids that the page shows for the first time are learned."""
        names: dict[str, str] = {}
        pattern = "".join(self._pattern(f"{shown}\n", names))
        found = re.fullmatch(pattern, printed if printed.endswith("\n") else f"{printed}\n")
        if found is None:
            return False
        self._real.update({one: found[name] for name, one in names.items()})
        return True

    def _pattern(self, shown: str, names: dict[str, str]) -> Iterator[str]:
        for line in shown.splitlines():
            if line.strip() == "...":
                yield "(?:.*\n)*?"
                continue
            for part in re.split(r"(\.\.\.)", line):
                yield ".*?" if part == "..." else "".join(self._with_ids(part, names))
            yield "\n"

    def _with_ids(self, text: str, names: dict[str, str]) -> Iterator[str]:
        end = 0
        for found in _ID.finditer(text):
            yield re.escape(text[end : found.start()])
            yield self._id(found[0], names)
            end = found.end()
        yield re.escape(text[end:])

    def _id(self, shown: str, names: dict[str, str]) -> str:
        """A pattern for an id: the one that it stands for, or any that looks like it."""
        for name, one in names.items():
            if one == shown:
                return f"(?P={name})"
        known = self._known(shown)
        if known != shown:
            return re.escape(known)
        names[f"id{len(names)}"] = shown
        return f"(?P<id{len(names) - 1}>{self._any_like(shown)})"

    def _any_like(self, shown: str) -> str:
        """A pattern for ids of the same length and kind, that begin as one that is known already."""
        begins = {one: real for one, real in self._real.items() if shown.startswith(one)}
        one = max(begins, key=len, default=shown[:2] if shown[1] == "-" else "")
        return re.escape(begins.get(one, one)) + re.sub(r"[0-9a-f]", "[0-9a-f]", shown[len(one) :])

    def _known(self, shown: str) -> str:
        """What an id of the page stands for; the same text when it is none that has appeared."""
        for one, real in self._real.items():
            if one.startswith(shown):
                return real[: len(shown)]
        return shown
