"""``c2d __complete WORD ...``: what can stand as the last of these words of a command line.

The scripts of :mod:`compute_to_data.cli.completion` call it when the user presses Tab. It prints one
candidate a line, and what it means after a tab character; :data:`FILES` alone where a file of this
computer is expected; and nothing when anything goes wrong, since the user is in the middle of a line.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from compute_to_data.cli.command import LateParser
from compute_to_data.cli.zone_words import MOST, Candidate, Source, source_of

FILES = ":files"
"""Stands for the names of files, which the shell completes itself."""
LONGEST_MEANING = 60
SECONDS = 1.0
"""How long the zone has for its answer, unless SECONDS_VARIABLE says otherwise."""
SECONDS_VARIABLE = "C2D_COMPLETION_SECONDS"


def answer(words: Sequence[str], top: argparse.ArgumentParser) -> int:
    """Print what can stand in place of the last of ``words``; always ends with 0."""
    from compute_to_data.cli.output import one_line

    with contextlib.suppress(Exception, KeyboardInterrupt):
        for word, meaning in candidates(top, words):
            shown = one_line(meaning)[:LONGEST_MEANING]
            print(f"{word}\t{shown}" if shown else word)
        sys.stdout.flush()
    return 0


def candidates(top: argparse.ArgumentParser, words: Sequence[str]) -> list[Candidate]:
    """What can stand in place of the last word, after the words before it."""
    *before, current = words or [""]
    if "--" in before:
        return [Candidate(FILES)]  # the task's program and its arguments
    line = Line(top)
    for word in before:
        line.read(word)
    option, equals, value = current.partition("=")
    if line.open_option is not None:
        return line.values(line.open_option, current)
    if current.startswith("--") and equals:
        action = line.parser._option_string_actions.get(option)
        found = line.values(action, value) if action is not None else []
        return [one if one.word == FILES else Candidate(f"{option}={one.word}", one.meaning) for one in found]
    if current.startswith("-"):
        return _beginning(current, _options(line.parser))
    action = line.next_positional()
    return [] if action is None else line.values(action, current)


class Line:
    """A command line as far as it was read. ``parser``: the one of the command so far;
    ``open_option``: the option whose value comes next."""

    def __init__(self, top: argparse.ArgumentParser) -> None:
        self.parser = top
        self.open_option: argparse.Action | None = None
        self._positionals = 0
        self._given: dict[str, str] = {}

    def read(self, word: str) -> None:
        """Take in the next word."""
        if self.open_option is not None:
            self._given[self.open_option.dest] = word
            self.open_option = None
        elif word.startswith("-") and word != "-":
            option, equals, value = word.partition("=")
            action = self.parser._option_string_actions.get(option)
            if action is not None and equals:
                self._given[action.dest] = value
            elif action is not None and action.nargs != 0:
                self.open_option = action
        else:
            self._read_positional(word)

    def _read_positional(self, word: str) -> None:
        action = self.next_positional()
        if isinstance(action, argparse._SubParsersAction) and word in action.choices:
            self.parser, self._positionals = action.choices[word], 0
            if isinstance(self.parser, LateParser):
                self.parser.complete()
        else:
            self._positionals += 1

    def next_positional(self) -> argparse.Action | None:
        """The argument without a name that the next word would be, if there is one."""
        known = [action for action in self.parser._actions if not action.option_strings]
        if known and known[-1].nargs in ("+", "*"):
            return known[min(self._positionals, len(known) - 1)]
        return known[self._positionals] if self._positionals < len(known) else None

    def values(self, action: argparse.Action, beginning: str) -> list[Candidate]:
        """What an argument can be."""
        source = source_of(action)
        if source is not None:
            return ask(source, beginning, self._given)
        if isinstance(action, argparse._SubParsersAction):
            return _beginning(beginning, [Candidate(one.dest, one.help or "") for one in action._choices_actions])
        if action.choices is not None:
            return _beginning(beginning, [Candidate(str(one)) for one in action.choices])
        return [Candidate(FILES)]


def _options(parser: argparse.ArgumentParser) -> list[Candidate]:
    return [
        Candidate(name, action.help or "")
        for action in parser._actions
        for name in action.option_strings
        if name.startswith("--") and action.help is not argparse.SUPPRESS
    ]


def _beginning(beginning: str, found: Sequence[Candidate]) -> list[Candidate]:
    return [one for one in found if one.word.startswith(beginning)]


def ask(source: Source, beginning: str, given: dict[str, str]) -> list[Candidate]:
    """What the zone answers in time; nothing when it cannot be asked. ``given``: the options on the
    command line. ValueError when the time that the user sets is no number."""
    from threading import Thread

    from compute_to_data.client.session import connect

    found: list[Candidate] = []

    def collect() -> None:
        files = given.get("config_file", ""), given.get("session_file", "")
        with contextlib.suppress(Exception), connect(*files, project=given.get("project", "")) as session:
            fitting = (
                one for one in source(session, beginning) if one.word.startswith(beginning) and _can_be_typed(one.word)
            )
            found.extend(islice(fitting, MOST))

    asking = Thread(target=collect, daemon=True)  # which does not keep the program from ending
    with _out_of_sight():
        asking.start()
        asking.join(float(os.environ.get(SECONDS_VARIABLE, SECONDS)))
    return list(found)


def _can_be_typed(word: str) -> bool:
    """Other users may have chosen the word. A control character, an option, or what looks like
    :data:`FILES` cannot stand on the line."""
    return word.isprintable() and bool(word) and word[0] not in "-:"


@contextlib.contextmanager
def _out_of_sight() -> Iterator[None]:
    """Without a word to the user, and without asking for a password, as some ways to log in do."""
    import getpass

    def refuse(*_: Any, **__: Any) -> str:
        raise EOFError("no password can be asked for while the user types a command")

    asked, getpass.getpass = getpass.getpass, refuse
    try:
        with open(os.devnull) as empty, open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            usual, sys.stdin = sys.stdin, empty
            try:
                yield
            finally:
                sys.stdin = usual
    finally:
        getpass.getpass = asked
