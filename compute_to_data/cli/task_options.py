"""The options that several commands have: image, place, environment, secrets and limits of a task."""

from __future__ import annotations

import argparse
import math
import re
import shlex
from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

from compute_to_data.cli import zone_words
from compute_to_data.cli.zone_words import completes
from compute_to_data.task import HIGHEST_PRIORITY, LOWEST_PRIORITY

if TYPE_CHECKING:
    from compute_to_data.cli.command import Call

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_FOR_A_SHELL = re.compile(r"\S\s|[|<>;&*]")
_BYTES = re.compile(r"(\d+(?:\.\d+)?)(?:([kmgt])(?:i?b)?|b)?", re.IGNORECASE)
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+", re.IGNORECASE)
_PART = re.compile(r"(\d+(?:\.\d+)?)([dhms])", re.IGNORECASE)
_OPTIONS = {"walltime_seconds": "--walltime", "memory_bytes": "--memory", "cpus": "--cpus"}
"""The option for each of a request's limits."""
_LIMIT = re.compile(rf"(?:/?limits[./])?\b({'|'.join(_OPTIONS)})\b")


def image_argument(parser: ArgumentParser, *, optional: bool = False) -> None:
    """``IMAGE``, what programs run in."""
    help, many = "an image that the site allows", "?" if optional else None
    image = parser.add_argument("image", metavar="IMAGE", nargs=many, default="" if optional else None, help=help)
    completes(image, zone_words.images)


def place_arguments(parser: ArgumentParser) -> None:
    """``--resource`` and ``--role``: where programs run, and as what."""
    named = "the compute resource (default: one that has the role)"
    completes(parser.add_argument("--resource", "-r", default="", help=named), zone_words.resources)
    kind = "the kind of computation (default: CONTAINER)"
    completes(parser.add_argument("--role", default="", help=kind), zone_words.roles)


def environment_argument(parser: ArgumentParser) -> None:
    """``--env KEY=VALUE``, which can be repeated."""
    parser.add_argument(
        "--env",
        "-e",
        action=_EachOnce,
        default=[],
        type=_variable,
        metavar="KEY=VALUE",
        help="an environment variable for the program; repeat for more",
    )


def secret_argument(parser: ArgumentParser) -> None:
    """``--secret NAME``, which can be repeated."""
    secret = parser.add_argument(
        "--secret",
        action="append",
        default=[],
        metavar="NAME",
        help="a secret that the program reads as /run/secrets/NAME; repeat for more",
    )
    completes(secret, zone_words.secrets)


def parameter_argument(parser: ArgumentParser, help: str) -> None:
    """``-p NAME=VALUE``, which can be repeated, and ``-P FILE``."""
    parser.add_argument(
        "-p",
        "--parameter",
        dest="pairs",
        action=_EachOnce,
        default=[],
        type=_pair,
        metavar="NAME=VALUE",
        help=f"{help}: a number, true, false, null or a list as in JSON, else a text; repeat for more",
    )
    parser.add_argument("-P", "--parameters", metavar="FILE", default="", help="a JSON file with values of parameters")


class _EachOnce(argparse.Action):
    """An option that is repeated for more names, and has one value for each of them."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        before, (name, value) = getattr(namespace, self.dest), values
        if any(name == other for other, _ in before):
            raise argparse.ArgumentError(self, f"{name} is given twice: give it one value")
        setattr(namespace, self.dest, [*before, (name, value)])


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def walltime_argument(parser: ArgumentParser) -> None:
    """``--walltime TIME``, in seconds or with units."""
    parser.add_argument(
        "--walltime",
        "-w",
        type=_duration,
        metavar="TIME",
        help="how long a task may run, for example 90s, 30m or 1h30m",
    )


def limit_arguments(parser: ArgumentParser) -> None:
    """The options that :func:`limits` reads."""
    walltime_argument(parser)
    parser.add_argument(
        "--memory", "-m", type=_bytes, metavar="SIZE", help="how much memory a task may use, for example 512m or 4g"
    )
    parser.add_argument("--cpus", type=_number, help="how many processors a task may use, for example 0.5 or 2")


def priority_argument(parser: ArgumentParser) -> None:
    """``--priority N``, among the user's own tasks."""
    parser.add_argument(
        "--priority",
        type=_priority,
        metavar="N",
        help="of your own queued tasks, those with the highest begin first: -10 to 10 (default: 0)",
    )


def _priority(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = HIGHEST_PRIORITY + 1
    if not LOWEST_PRIORITY <= number <= HIGHEST_PRIORITY:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from {LOWEST_PRIORITY} to {HIGHEST_PRIORITY}")
    return number


def limits(options: argparse.Namespace) -> dict[str, Any]:
    """A request's ``limits``, from the options given."""
    asked = {"walltime_seconds": options.walltime, "memory_bytes": options.memory, "cpus": options.cpus}
    return {name: value for name, value in asked.items() if value is not None}


def of_a_workload(options: argparse.Namespace, instances: int | None) -> dict[str, Any]:
    """What the options ask of a workload, besides its image and its dataset. ``instances``: how many of its tasks run
    at a time; None for as many as may."""
    return {
        "instances": instances,
        "environment": dict(options.env),
        "limits": limits(options),
        "name": options.name,
        "role": options.role,
        "resource": options.resource,
    }


def at_least_one(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def note_one_word(call: Call) -> None:
    """Say that no shell reads a program that is one word and looks like a shell's line."""
    program: list[str] = call.options.program
    if len(program) == 1 and _FOR_A_SHELL.search(program[0]):
        word = shlex.quote(program[0])
        call.out.note(f"{word} is the name of one program: no shell reads it. For a shell: -- sh -c {word}")


def in_options(text: str, options: argparse.Namespace) -> str:
    """A message with the limits named as the options are, ``--memory`` for ``limits.memory_bytes``, where the command
    has such options. A person who typed ``--walltime`` knows nothing of ``limits.walltime_seconds``."""
    if not hasattr(options, "walltime"):
        return text
    return _LIMIT.sub(lambda found: _OPTIONS[found[1]], text)


def _variable(text: str) -> tuple[str, str]:
    """The name and value of ``KEY=VALUE``."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return name, value


def _bytes(text: str) -> int:
    """A number of bytes: ``1024``, ``512m``, ``4G``, ``4GiB``. Units are powers of 1024, as Docker's are."""
    found = _BYTES.fullmatch(text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes, such as 512m or 4g")
    size = int(float(found[1]) * _UNITS.get((found[2] or "").lower(), 1))
    if not size:
        raise argparse.ArgumentTypeError(f"{text!r} is no memory at all: give at least some, such as 512m")
    return size


def _number(text: str) -> float:
    """A finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, such as 0.5 or 2")
    return number


def _duration(text: str) -> float:
    """Seconds: ``90``, ``90s``, ``30m``, ``1h30m``, ``2d``."""
    given = text.strip()
    try:
        parts = _PART.findall(given) if _DURATION.fullmatch(given) else [(given, "s")]
        seconds = sum(float(number) * _SECONDS[unit.lower()] for number, unit in parts)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time above 0, such as 90s, 30m or 1h30m")
    return seconds
