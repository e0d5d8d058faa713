"""A command of ``c2d``: its words, its help, an example, and the function that runs it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from compute_to_data.cli import zone_words
from compute_to_data.cli.output import Output, writing
from compute_to_data.cli.zone_words import completes
from compute_to_data.similar_names import nearest

if TYPE_CHECKING:
    from compute_to_data.client.session import Session

FORMS = ("pretty", "raw", "json")
"""How a command can print results."""
Arguments = Callable[[argparse.ArgumentParser], None]


class Call:
    """One call of a command: its options, its output, and the person's session."""

    def __init__(self, options: argparse.Namespace, out: Output) -> None:
        self.options = options
        self.out = out
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """The person's session. It is opened when the command first needs it."""
        if self._session is None:
            from compute_to_data.client.session import connect

            options = self.options
            self._session = connect(options.config_file, options.session_file, project=options.project)
            if options.project:
                self._session.checked_project(self._session.named_project)
        return self._session

    def close(self) -> None:
        """Close the session if it was opened."""
        if self._session is not None:
            self._session.close()


Run = Callable[[Call], int]
"""Runs a command; returns its exit code."""


class Parser(argparse.ArgumentParser):
    """A parser that says which command or option the person probably meant."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            self.error(f"there is no command {value!r}{_meant(value, _commands(action))} See: {self.prog} --help")
        super()._check_value(action, value)

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """Refuse an empty word: it mostly comes from a variable that is not set, and means nothing."""
        if "" in arg_strings and action.nargs != argparse.PARSER and not getattr(action, "may_be_empty", False):
            remedy = "give a value, or leave it out" if action.option_strings else "give a value"
            raise argparse.ArgumentError(action, f"is empty: {remedy}")
        return super()._get_values(action, arg_strings)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print, and fail where argparse does not: when the help cannot be written."""
        if file is not sys.stdout:
            super()._print_message(message, file)
        elif message:
            with writing(file):
                file.write(message)
                file.flush()

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """End, because these words are not understood."""
        known = {name: name for name in self._option_string_actions if name.startswith("--")}
        options = [word.partition("=")[0] for word in unknown if word.startswith("--")]
        meant = _meant(options[0], known) if options else "."
        self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")


def _commands(action: argparse._SubParsersAction[Any]) -> dict[str, str]:
    """The commands by what a person may type for them: a command below a noun also without the noun."""
    found: dict[str, str] = {}
    for name, below in action.choices.items():
        for inner in below._actions:
            if isinstance(inner, argparse._SubParsersAction):
                found.update({word: f"{name} {word}" for word in inner.choices if word not in found})
    return {**found, **{name: name for name in action.choices}}


def _meant(word: str, known: Mapping[str, str]) -> str:
    """``. Did you mean ...?`` with the nearest of the known words, or only the end of the sentence."""
    near = nearest(word, known)
    return f". Did you mean {known[near]}?" if near else "."


class LateParser(Parser):
    """A command's parser that adds its arguments only when they are needed. Adding the arguments of
    all commands would take most of the time of a short command or of ``--help``."""

    def __init__(self, *, arguments: Arguments = lambda parser: None, **options: Any) -> None:
        super().__init__(**options)
        self._arguments: Arguments | None = arguments
        self._mixes = False

    def complete(self) -> None:
        """Add the arguments, unless that is done."""
        arguments, self._arguments = self._arguments, None
        if arguments is not None:
            arguments(self)

    def parse_known_args(self, *rest: Any, **options: Any) -> Any:
        """Add the arguments, then parse. Options may stand between the other words of a command: argparse by itself
        takes ``ID`` in ``ID --output DIR PATH`` for all of them."""
        self.complete()
        if self._mixes or any(action.nargs == argparse.PARSER for action in self._get_positional_actions()):
            return super().parse_known_args(*rest, **options)
        self._mixes = True  # argparse calls this method for each of the two kinds of words
        try:
            return self.parse_known_intermixed_args(*rest, **options)
        finally:
            self._mixes = False

    def format_help(self) -> str:
        """Add the arguments, then format the help."""
        self.complete()
        return super().format_help()


class Commands:
    """The commands at one level: at the top (``c2d status``), or below a noun (``c2d dataset
    upload``). A noun's module adds its commands here."""

    def __init__(self, parser: argparse.ArgumentParser, words: Sequence[str] = ("c2d",)) -> None:
        self.words = tuple(words)
        self._below = parser.add_subparsers(
            metavar="COMMAND", title="commands", dest=f"command{len(words)}", parser_class=LateParser
        )

    def add(
        self,
        name: str,
        run: Run,
        help: str,
        *,
        example: str,
        arguments: Arguments | None = None,
        takes_program: bool = False,
    ) -> None:
        """Add a command.

        ``help``: one line that begins with a verb. ``example``: a complete call, without ``c2d`` and
        the words above the command. ``arguments`` adds the command's arguments to its parser.
        ``takes_program``: the words after ``--`` are a task's program; they are in ``options.program``.
        """
        command = self._below.add_parser(
            name,
            help=help,
            description=_sentence(help),
            epilog=f"example:\n  {' '.join(self.words)} {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            prog=" ".join((*self.words, name)),
            allow_abbrev=False,
            arguments=lambda parser: _fill(parser, arguments),
        )
        command.set_defaults(run=run, parser=command, takes_program=takes_program)

    def group(self, name: str, help: str) -> Commands:
        """Add a noun that has commands below it."""
        words = (*self.words, name)
        parser = self._below.add_parser(name, help=help, description=_sentence(help), prog=" ".join(words))
        return Commands(parser, words)


def _sentence(help: str) -> str:
    return f"{help[0].upper()}{help[1:]}."


def _fill(parser: argparse.ArgumentParser, arguments: Arguments | None) -> None:
    """Add a command's own arguments and the common options."""
    if arguments is not None:
        arguments(parser)
    # Where --output also names a place, the command itself adds it, and --format is the form alone.
    taken = any("--output" in action.option_strings for action in parser._actions)
    add_common(parser, argparse.SUPPRESS, names=("--format",) if taken else ("--output", "--format"))


def add_common(
    parser: argparse.ArgumentParser, default: Any = "", names: Sequence[str] = ("--output", "--format")
) -> None:
    """The options that every command has. They can also be given before the command."""
    common = parser.add_argument_group("options of every command")
    common.add_argument(
        *names,
        dest="form",
        choices=FORMS,
        default=default,
        help="how to print results (C2D_OUTPUT)",
    )
    common.add_argument(
        "--config-file", metavar="FILE", default=default, help="read your settings from this file (C2D_CONFIG_FILE)"
    )
    common.add_argument(
        "--session-file", metavar="FILE", default=default, help="remember the project in this file (C2D_SESSION_FILE)"
    )
    project = common.add_argument(
        "--project", metavar="COLLECTION", default=default, help="the project for this command only (C2D_PROJECT)"
    )
    completes(project, zone_words.projects)
    common.add_argument(
        "--debug",
        action="store_true",
        default=default if default is argparse.SUPPRESS else False,
        help="print the traceback of an error (C2D_DEBUG=1)",
    )
