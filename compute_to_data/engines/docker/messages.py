"""Turns errors of Docker and of its client into our errors, with cause and remedy."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from docker.errors import APIError, DockerException
from requests.exceptions import ReadTimeout, RequestException
from urllib3.exceptions import HTTPError, ReadTimeoutError

from compute_to_data.engines.docker.client import AnswerTooLarge
from compute_to_data.errors import EngineError, EngineNotReady, EngineOutOfReach, ImageMissing

# A pattern in the daemon's message, and the error for it. The first match counts.
_KNOWN: tuple[tuple[str, type[EngineError], str, str], ...] = (
    (r"No such image", ImageMissing, "the engine no longer holds its image", "load the image again"),
    (
        r"containerd\.sock|transport is closing|error reading from server",
        EngineOutOfReach,
        "the Docker daemon has lost the connection to containerd",
        "Check that both are running",
    ),
    (
        r"executable file not found|no such file or directory: unknown",
        EngineError,
        "the image does not have the program that the command names",
        "Name a program of the image, by its full path or one found on the image's PATH",
    ),
    (
        r"permission denied: unknown",
        EngineError,
        "the program that the command names cannot be executed",
        "Make it executable in the image",
    ),
    (
        r"bind source path does not exist",
        EngineError,
        "an input or the outputs directory is gone",
        "The engine must run on the host that holds the vault",
    ),
    (
        r"[Uu]nknown runtime|unknown or invalid runtime",
        EngineError,
        "Docker does not know the configured runtime",
        "Install it, or take 'runtime' out of the engine's settings",
    ),
    (
        r"docker-init|exec: \"/sbin/docker-init\"",
        EngineError,
        "Docker finds no init program",
        "Install docker-init, or set 'init' to false",
    ),
)


_LONGEST_TEXT = 1000
_NONSENSE = (LookupError, TypeError, ValueError, AttributeError, struct.error)
"""Errors in reading an answer that Docker did not write."""
_REFUSED = (FileNotFoundError, ConnectionRefusedError)
"""The client could not connect, so nothing was asked."""


def timed_out(error: BaseException) -> bool:
    """Whether the request timed out.

    When the body of an answer is late, the client reports a lost connection, caused by the time-out.
    """
    return _comes_from(error, ReadTimeout, ReadTimeoutError)


def _comes_from(error: BaseException | None, *kinds: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kinds) or any(isinstance(part, kinds) for part in error.args):
            return True
        error = error.__cause__ or error.__context__
    return False


def explained(subject: str, error: Exception) -> EngineError:
    """Our error for ``error``, which a request to Docker about ``subject`` raised. The errors of other clients explain
    themselves."""
    if hasattr(error, "explained"):
        made: EngineError = error.explained(subject)
        return made
    if isinstance(error, AnswerTooLarge):
        return EngineError(subject, f"Docker answers too much: {error}", "Remove what has huge labels or settings")
    if isinstance(error, APIError):
        text = _shortened(str(error.explanation or error))
        for pattern, kind, cause, remedy in _KNOWN:
            if re.search(pattern, text):
                return kind(subject, f"{cause} ({text})", remedy)
        return EngineError(subject, f"Docker refused: {text}")
    if timed_out(error):
        return EngineOutOfReach(subject, "Docker did not answer in time", "Check its load, or raise 'timeout_seconds'")
    if _comes_from(error, PermissionError):
        remedy = "Allow it: on most hosts, add the account to the group 'docker'"
        return EngineOutOfReach(subject, "the worker's account may not use the Docker daemon's socket", remedy)
    if isinstance(error, _NONSENSE):
        text = f"{type(error).__name__}: {_shortened(str(error))}"
        cause = f"the answer from the Docker daemon's socket makes no sense ({text})"
        return EngineOutOfReach(subject, cause, "Check what listens there: 'socket' in the engine's settings")
    refused = isinstance(error, (DockerException, RequestException)) and _comes_from(error, *_REFUSED)
    kind = EngineNotReady if refused else EngineOutOfReach
    return kind(
        subject,
        f"the Docker daemon does not answer ({_shortened(str(error))})",
        "Start it, or set 'socket' in the engine's settings",
    )


def _shortened(text: str) -> str:
    """The beginning of what the daemon says, which may quote an image's settings."""
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."


@contextmanager
def asking_about(subject: str) -> Iterator[None]:
    """Turn errors of the daemon, and of the connection to it, into :class:`EngineError`."""
    try:
        yield
    except (DockerException, OSError, HTTPError, *_NONSENSE) as error:  # all errors of requests are OSErrors
        raise explained(subject, error) from error
