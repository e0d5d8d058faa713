"""What a command is: its words, an example, and the function that does it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from compute_to_data.cli import zone_words
from compute_to_data.cli.output import Output
from compute_to_data.cli.zone_words import completes

if TYPE_CHECKING:
    from compute_to_data.client.session import Session

Arguments = Callable[[argparse.ArgumentParser], None]


class Call:
    """One call of a command: what was asked for, where answers go, the person's session."""

    def __init__(self, options: argparse.Namespace, out: Output) -> None:
        self.options = options
        self.out = out
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """The person's session, opened when a command first needs it."""
        if self._session is None:
            from compute_to_data.client.session import connect

            options = self.options
            self._session = connect(options.config_file, options.session_file, project=options.project)
        return self._session

    def close(self) -> None:
        """Give back what was opened."""
        if self._session is not None:
            self._session.close()


Run = Callable[[Call], int]
"""Does the work of a command; returns its exit code."""


class LateParser(argparse.ArgumentParser):
    """A command's parser, which is given its arguments when they are first asked for: making those
    of all commands would be most of the time that one of them, or ``--help``, takes."""

    def __init__(self, *, arguments: Arguments = lambda parser: None, **options: Any) -> None:
        super().__init__(**options)
        self._arguments: Arguments | None = arguments

    def complete(self) -> None:
        """Add the arguments, if they are not there yet."""
        arguments, self._arguments = self._arguments, None
        if arguments is not None:
            arguments(self)

    def parse_known_args(self, *rest: Any, **options: Any) -> Any:
        """As the base class does."""
        self.complete()
        return super().parse_known_args(*rest, **options)

    def format_help(self) -> str:
        """As the base class does."""
        self.complete()
        return super().format_help()


class Commands:
    """Where a noun's module puts its commands: at the top (``c2d status``), or below a word of
    their own (``c2d dataset upload``)."""

    def __init__(self, parser: argparse.ArgumentParser, words: Sequence[str] = ("c2d",)) -> None:
        self.words = tuple(words)
        self._parser = parser
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
        """A command. ``help``: one line; ``example``: one that works as it stands, without ``c2d`` and
        the words before; ``arguments`` adds what it takes to its parser. ``takes_program``: what
        follows ``--`` is for a task's program, and comes as ``options.program``."""
        command = self._below.add_parser(
            name,
            help=help,
            description=help,
            epilog=f"example:\n  {' '.join(self.words)} {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            prog=" ".join((*self.words, name)),
            allow_abbrev=False,
            arguments=lambda parser: _fill(parser, arguments),
        )
        command.set_defaults(run=run, parser=command, takes_program=takes_program)

    def group(self, name: str, help: str) -> Commands:
        """A word with commands of its own below it."""
        words = (*self.words, name)
        parser = self._below.add_parser(name, help=help, description=help, prog=" ".join(words))
        return Commands(parser, words)


def _fill(parser: argparse.ArgumentParser, arguments: Arguments | None) -> None:
    """Add a command's arguments, and what every command has."""
    if arguments is not None:
        arguments(parser)
    # Of `c2d run`, --output is the collection: there, and only there, the form has one name.
    taken = any("--output" in action.option_strings for action in parser._actions)
    add_common(parser, argparse.SUPPRESS, names=("--format",) if taken else ("--output", "--format"))


def add_common(
    parser: argparse.ArgumentParser, default: Any = "", names: Sequence[str] = ("--output", "--format")
) -> None:
    """The options that every command has; they may stand before the command, too."""
    common = parser.add_argument_group("for every command")
    common.add_argument(
        *names,
        dest="form",
        choices=("pretty", "raw", "json"),
        default=default,
        help="how results are printed (C2D_OUTPUT)",
    )
    common.add_argument(
        "--config-file", metavar="FILE", default=default, help="settings to go by instead (C2D_CONFIG_FILE)"
    )
    common.add_argument(
        "--session-file", metavar="FILE", default=default, help="session to remember things in (C2D_SESSION_FILE)"
    )
    project = common.add_argument(
        "--project", metavar="COLLECTION", default=default, help="the project for this command alone (C2D_PROJECT)"
    )
    completes(project, zone_words.projects)
    common.add_argument(
        "--debug",
        action="store_true",
        default=default if default is argparse.SUPPRESS else False,
        help="show where an error comes from (C2D_DEBUG=1)",
    )
