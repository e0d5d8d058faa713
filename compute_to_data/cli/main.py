"""The entry point ``c2d``: find the command, run it, turn an error into a sentence and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TextIO

from compute_to_data import __version__
from compute_to_data.cli.command import Call, Commands, Parser, add_common
from compute_to_data.cli.command_log import logged
from compute_to_data.cli.exits import ExitCode, of_error
from compute_to_data.cli.interrupts import unwinding
from compute_to_data.cli.output import Output
from compute_to_data.cli.task_options import in_options, note_one_word
from compute_to_data.errors import ComputeToDataError, ConfigurationError, shortened_in_the_middle
from compute_to_data.plain_text import lines

NOUNS = (
    "running",
    "notebook",
    "mapping",
    "submitting",
    "tasks",
    "results",
    "fetching",
    "browsing",
    "removing",
    "archiving",
    "projects",
    "datasets",
    "workloads",
    "processes",
    "secrets",
    "queueing",
    "site",
    "login",
    "serving",
    "completion",
    "helping",
)
"""The modules beside this one that add commands, in the order of ``c2d --help``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (docs/reference/commands.md lists them)."""
    try:
        _prepare_streams()
        with unwinding():
            return _run(arguments)
    except KeyboardInterrupt:  # before the command began
        print("c2d: interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except OSError as error:  # of the help or the version
        return _failed(error, Output("pretty"))


def _run(arguments: Sequence[str] | None) -> int:
    """Find the command, and run it."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["__complete"]:
        from compute_to_data.cli.next_word import answer

        return answer(given[1:], parser())
    own, program = _divided(given)
    options, unknown = parser().parse_known_args(own)
    if not hasattr(options, "run"):
        return _usage(own)
    if options.takes_program and not program:
        place = f", before {' '.join(unknown)}" if unknown else ", as in: -- wc -l FILE"
        options.parser.error(f"no program is given: write it after --{place}")
    if unknown:
        options.parser.refuse(unknown)
    if program is not None and not options.takes_program:
        options.parser.error("this command takes no program: remove -- and what follows it")
    options.program = program or []
    with logged(options.config_file, options.session_file, options.parser.prog):
        return _guarded(options)


def _prepare_streams() -> None:
    """Replace streams that the caller has closed (``<&-``) with empty ones. Escape characters that
    the terminal cannot show, because names in a zone may have them. Write all or fail: with ``PYTHONUNBUFFERED``,
    Python ignores that a pipe or a full disk took only the first part."""
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115 - the process uses it until it ends
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    sys.stdout, sys.stderr = map(_buffered, (sys.stdout, sys.stderr))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _buffered(stream: TextIO) -> TextIO:
    is_own = stream in (sys.__stdout__, sys.__stderr__)  # and not what a test or another program has put there
    if not is_own or not isinstance(getattr(stream, "buffer", None), io.RawIOBase):
        return stream
    return open(stream.fileno(), "w", buffering=1, encoding=stream.encoding, errors=stream.errors, closefd=False)


def _divided(given: list[str]) -> tuple[list[str], list[str] | None]:
    """The words for c2d, and the words after the first ``--``, for the task's program (None without it)."""
    if "--" not in given:
        return given, None
    place = given.index("--")
    return given[:place], given[place + 1 :]


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = Parser(
        prog="c2d",
        description="Run programs on the storage resource that holds their data, and fetch the results.",
        epilog="example:\n  c2d run debian:bookworm --input a.txt --output-collection results -- wc -c /inputs/a.txt",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"c2d {__version__}")
    add_common(top)
    commands = Commands(top)
    for noun in NOUNS:
        import_module(f"compute_to_data.cli.{noun}").register(commands)
    return top


def _usage(own: Sequence[str]) -> int:
    """The command is incomplete: print the help, on stderr because it is not a result."""
    with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(SystemExit):
        parser().parse_args([*own, "--help"])
    return ExitCode.USAGE


def _guarded(options: argparse.Namespace) -> int:
    debug = options.debug or os.environ.get("C2D_DEBUG", "") not in ("", "0")
    out = Output("pretty")
    call = Call(options, out)
    try:
        out.form = _form(options)
        note_one_word(call)
        return int(options.run(call))
    except ComputeToDataError as error:
        if debug:
            _traceback()
        text = _readable(str(error))
        out.note(f"c2d: {in_options(text, options)}")
        return of_error(error)
    except KeyboardInterrupt:
        out.note("c2d: interrupted")
        return ExitCode.INTERRUPTED
    except OSError as error:
        if debug and not isinstance(error, BrokenPipeError):
            _traceback()
        return _failed(error, out)
    except Exception as error:  # noqa: BLE001 - the boundary: one sentence for the person, a traceback with --debug
        if debug:
            _traceback()
        out.note(f"c2d: internal error ({type(error).__name__}: {error}). Run it again with --debug for a traceback.")
        return ExitCode.UNREACHABLE
    finally:
        call.close()


def _failed(error: OSError, out: Output) -> ExitCode:
    """Say what of this computer failed. Nothing has failed when the reader of a pipe has closed it."""
    if isinstance(error, BrokenPipeError):
        return ExitCode.DONE
    out.note(f"c2d: {error.filename or _of_this_computer()}: {error.strerror or error}.")
    return ExitCode.UNREACHABLE


def _of_this_computer() -> str:
    """What an error is about that does not say it."""
    try:
        os.getcwd()
    except OSError:
        return "the current folder is gone: change into another one"
    return "this computer"


def _readable(text: str) -> str:
    """The text with the middle of very long words left out, for example of a path of a thousand characters."""

    return re.sub(r"\S+", lambda found: shortened_in_the_middle(found[0]), text)


def _form(options: argparse.Namespace) -> str:
    """pretty, raw or json, from the option, else from ``C2D_OUTPUT``, else from the settings."""
    from compute_to_data.client.this_computer import settings

    named = str(options.form or os.environ.get("C2D_OUTPUT", ""))
    if not named and getattr(options, "needs_no_settings", False):
        return "pretty"
    if named and named not in settings.OUTPUTS:
        raise ConfigurationError("C2D_OUTPUT", f"found {named!r}, expected one of {', '.join(settings.OUTPUTS)}")
    return named or settings.load(options.config_file).output


def _traceback() -> None:
    import traceback

    print(lines(traceback.format_exc()), file=sys.stderr, end="")


if __name__ == "__main__":
    code = main()
    # A Ctrl-C that arrives while Python runs code from a text, as dataclasses do when they are imported, makes
    # ``python -m`` end by SIGINT, although main() has caught it. The next text makes Python forget it
    # (run_eval_code_obj in CPython's Python/pythonrun.c).
    exec("")
    sys.exit(code)
