"""The entry point ``c2d``: find the command, call it, turn what goes wrong into a sentence and a code."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from compute_to_data import __version__
from compute_to_data.cli.command import Call, Commands, add_common
from compute_to_data.cli.exits import ExitCode, of_error
from compute_to_data.cli.output import Output
from compute_to_data.errors import ComputeToDataError, ConfigurationError

NOUNS = ("running", "tasks", "results", "projects", "datasets", "workloads", "secrets", "site", "completion")
"""The modules beside this one that have commands, in the order of ``c2d --help``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (docs/reference/commands.md lists them)."""
    _prepare_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["__complete"]:
        from compute_to_data.cli.next_word import answer

        return answer(given[1:], parser())
    own, program = _divided(given)
    options, unknown = parser().parse_known_args(own)
    if not hasattr(options, "run"):
        return _usage(own)
    if options.takes_program and not program:
        forgotten = f", before {' '.join(unknown)}" if unknown else ", as in: -- wc -l FILE"
        options.parser.error(f"no program is given: write it after --{forgotten}")
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if program is not None and not options.takes_program:
        options.parser.error("nothing can follow -- here")
    options.program = program or []
    return _guarded(options)


def _prepare_streams() -> None:
    """A stream that whoever called has closed (``<&-``) is an empty one; a zone may hold names that
    a terminal cannot show."""
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115 - the program's own, for as long as it lives
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _divided(given: list[str]) -> tuple[list[str], list[str] | None]:
    """What is for c2d, and what comes after the first ``--``, for the task's program."""
    if "--" not in given:
        return given, None
    place = given.index("--")
    return given[:place], given[place + 1 :]


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="c2d",
        description="Run tasks on the storage resource that holds their data, and fetch what they make.",
        epilog="example:\n  c2d run debian:bookworm --input a.txt --output results -- wc -c /inputs/a.txt",
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
    """A word was left out: say which there are, on stderr, since that is no result."""
    with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(SystemExit):
        parser().parse_args([*own, "--help"])
    return ExitCode.USAGE


def _guarded(options: argparse.Namespace) -> int:
    debug = options.debug or os.environ.get("C2D_DEBUG", "") not in ("", "0")
    out = Output("pretty")
    call = Call(options, out)
    try:
        out.form = _form(options)
        return int(options.run(call))
    except ComputeToDataError as error:
        if debug:
            _traceback()
        out.note(f"c2d: {error}")
        return of_error(error)
    except KeyboardInterrupt:
        out.note("c2d: interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read has enough. What is still buffered must not fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    except OSError as error:
        if debug:
            _traceback()
        out.note(f"c2d: {error.filename or 'this computer'}: {error.strerror or error}.")
        return ExitCode.UNREACHABLE
    except Exception as error:  # noqa: BLE001 - the boundary: a person gets a sentence, --debug the rest
        if debug:
            _traceback()
        out.note(f"c2d: internal error ({type(error).__name__}: {error}). Run it again with --debug to see where.")
        return ExitCode.UNREACHABLE
    finally:
        call.close()


def _form(options: argparse.Namespace) -> str:
    """pretty, raw or json: the option, else ``C2D_OUTPUT``, else the settings."""
    from compute_to_data.client import settings

    named = str(options.form or os.environ.get("C2D_OUTPUT", ""))
    if not named and getattr(options, "writes_settings", False):
        return "pretty"
    if named and named not in settings.OUTPUTS:
        raise ConfigurationError("C2D_OUTPUT", f"found {named!r}, expected one of {', '.join(settings.OUTPUTS)}")
    return named or settings.load(options.config_file).output


def _traceback() -> None:
    import traceback

    traceback.print_exc()


if __name__ == "__main__":
    sys.exit(main())
