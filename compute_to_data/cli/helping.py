"""``c2d help | version``."""

from __future__ import annotations

import platform
from argparse import ArgumentParser

from compute_to_data import __version__
from compute_to_data.cli.command import Call, Commands


def register(commands: Commands) -> None:
    """Add these commands."""
    commands.add("help", _help, "show how a command is used", example="help dataset upload", arguments=_words)
    commands.add("version", _version, "show the version", example="version", arguments=_without_settings)


def _words(parser: ArgumentParser) -> None:
    parser.add_argument("words", metavar="COMMAND", nargs="*", help="the command's words; without them: all commands")

    _without_settings(parser)


def _without_settings(parser: ArgumentParser) -> None:
    parser.set_defaults(needs_no_settings=True)


def _help(call: Call) -> int:
    from compute_to_data.cli.main import parser

    try:
        parser().parse_args([*call.options.words, "--help"])
    except SystemExit as ended:  # as argparse ends after a help, and after an error
        return int(ended.code or 0)
    return 0


def _version(call: Call) -> int:
    document = {"version": __version__, "python": platform.python_version()}
    call.out.result(document, f"c2d {__version__}", __version__)
    return 0
