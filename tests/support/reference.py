"""docs/reference/commands.md out of the code: ``python tests/support/reference.py``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from compute_to_data.cli.command import LateParser
from compute_to_data.cli.exits import MEANINGS
from compute_to_data.cli.main import parser

_REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
PAGE = _REFERENCE / "commands.md"
GENERATED = "## Exit codes\n"
"""From here on the page is written out of the code; what stands before is written by hand."""


def text() -> str:
    """The whole page."""
    head = PAGE.read_text(encoding="utf-8").partition(GENERATED)[0]
    codes = "\n".join(f"| {int(code)} | {meaning} |" for code, meaning in MEANINGS.items())
    table = f"| code | meaning |\n| --- | --- |\n{codes}\n"
    return f"{head}{GENERATED}\n{table}\n" + "\n".join(_commands(parser()))


def _commands(top: argparse.ArgumentParser) -> Iterator[str]:
    for action in _below(top):
        helps = {one.dest: one.help for one in action._choices_actions}
        for name, found in action.choices.items():
            if _below(found):
                yield f"## {found.prog}\n\n{_sentence(helps[name])}\n"
                yield from _commands(found)
            else:
                level = "##" if found.prog.count(" ") == 1 else "###"
                yield f"{level} {found.prog}\n\n{_sentence(helps[name])}\n\n{_described(found)}"


def _below(found: argparse.ArgumentParser) -> list[argparse._SubParsersAction[argparse.ArgumentParser]]:
    if isinstance(found, LateParser):
        found.complete()
    return [action for action in found._actions if isinstance(action, argparse._SubParsersAction)]


def _sentence(words: str | None) -> str:
    return f"{(words or '')[:1].upper()}{(words or '')[1:]}."


def _described(found: argparse.ArgumentParser) -> str:
    example = (found.epilog or "").split("\n", 1)[1].strip()
    rows = [
        _row(action) for action in found._actions if action.dest not in _COMMON and action.help != argparse.SUPPRESS
    ]
    table = "\n".join(["| argument | meaning |", "| --- | --- |", *rows]) + "\n" if rows else ""
    typed = "\n".join(f"$ {line.strip()}" for line in example.splitlines())
    return f"```console\n{typed}\n```\n\n{table}"


_COMMON = frozenset({"help", "form", "config_file", "session_file", "project", "debug"})


def _row(action: argparse.Action) -> str:
    shown = str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper())
    if not action.option_strings:
        written = {"?": f"[{shown}]", "+": f"{shown} ..."}.get(str(action.nargs), shown)
    else:
        written = ", ".join(action.option_strings) + ("" if action.nargs == 0 else f" {shown}")
    meaning = (action.help or "").replace("|", "\\|")
    return f"| `{written.replace('|', chr(92) + '|')}` | {meaning} |"


def documented(heading: str) -> set[str]:
    """The members that a section of json.md names in the first column of its table."""
    page = (_REFERENCE / "json.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", page, flags=re.MULTILINE)
    (text,) = (one for one in sections if one.startswith(heading))
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
