"""Requests to Podman's own REST interface (``/libpod``) on its socket.

https://docs.podman.io/en/v4.3/_static/api.html
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode

from docker.errors import APIError, DockerException, NotFound

from compute_to_data.engines.docker import stream
from compute_to_data.engines.docker.client import MOST_BYTES, AnswerTooLarge
from compute_to_data.errors import EngineError, EngineNotReady, EngineOutOfReach, ImageMissing

VERSION = "/v4.0.0/libpod"
"""All releases from 4.0 on answer requests of this version."""
_TAKEN = re.compile(r"is already in use|that name is already in use")
_LOST = re.compile(r"no such container\Z")
_OURS = "/run/compute-to-data-podman/podman.sock"
"""In a directory that only the service account can enter."""
_GONE = 404
_CONFLICT = 409

# A pattern in Podman's message, and the error for it. The first match counts.
_KNOWN: tuple[tuple[re.Pattern[str], type[EngineError], str, str], ...] = (
    (
        re.compile(r"image not known|no such image|unable to find .* in local storage"),
        ImageMissing,
        "the engine no longer holds its image",
        "load the image again",
    ),
    (
        re.compile(r"invoke a command that was not found|executable file .* not found"),
        EngineError,
        "the image does not have the program that the command names",
        "Name a program of the image, by its full path or one found on the image's PATH",
    ),
    (
        re.compile(r"statfs .*: no such file|cannot stat|error stat'ing"),
        EngineError,
        "an input or the outputs directory is gone",
        "The engine must run on the host that holds the vault",
    ),
    (
        re.compile(r"default OCI runtime .* not found|(?:no|invalid|unknown) .*OCI runtime|requested OCI runtime"),
        EngineError,
        "Podman does not know the configured runtime",
        "Install it, or take 'runtime' out of the engine's settings",
    ),
)


class _Explained:
    """An error that the engine explains in Podman's words."""

    def explained(self, subject: str) -> EngineError:
        """Our error about ``subject``."""
        text = str(getattr(self, "explanation", "") or self)[:1000]
        for pattern, kind, cause, remedy in _KNOWN:
            if pattern.search(text):
                return kind(subject, f"{cause} ({text})", remedy)
        return EngineError(subject, f"Podman refused: {text}")


class PodmanRefused(_Explained, APIError):
    """Podman answers that it did not do what was asked."""


class PodmanHasNot(_Explained, NotFound):
    """Podman has no such container or image."""


class OutOfReach(DockerException):
    """Podman's service does not answer as it should. ``kind``: of the error that this means for us."""

    def __init__(self, address: str, cause: str, remedy: str, kind: type[EngineOutOfReach] = EngineOutOfReach) -> None:
        super().__init__(cause)
        self._kind = kind
        self._address = address
        self._remedy = remedy

    def explained(self, subject: str) -> EngineError:
        """Our error about ``subject``."""
        return self._kind(subject, f"Podman's service at {self._address} does not answer ({self})", self._remedy)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("podman", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Connection:
    """Podman's service on a unix socket. Threads may share it: each request has its own connection, which costs little
    on a unix socket, and none breaks when the service restarts."""

    def __init__(self, address: str, seconds: float) -> None:
        """``address``: ``unix://PATH``. ``seconds``: the time-out for an answer."""
        self.address = address
        self.seconds = seconds

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        seconds: float | None = None,
        query: Mapping[str, object] | None = None,
    ) -> tuple[int, Any]:
        """The status and the document of the answer.

        PodmanHasNot, PodmanRefused; OutOfReach when nothing sensible answers in time.
        """
        status, _, content = self._answer(method, path, body, self.seconds if seconds is None else seconds, query or {})
        try:
            document = json.loads(content) if content else None
        except ValueError as error:
            raise self._nonsense(content) from error
        if status >= 400:
            raise self._refusal(method, path, status, document)
        return status, document

    def head(self, path: str, header: str, query: Mapping[str, object]) -> tuple[int, str]:
        """The status, and the value of one header of the answer to a HEAD request; '' without it."""
        status, headers, _ = self._answer("HEAD", path, None, self.seconds, query)
        return status, headers.get(header, "")

    def stream(self, method: str, path: str, **query: object) -> tuple[socket.socket, bytes]:
        """As :func:`compute_to_data.engines.docker.stream.request`."""
        return stream.request(self.address, self.seconds, method, f"{VERSION}{path}", **query)

    def idle(self) -> socket.socket:
        """A connection on which nothing is asked. OSError."""
        return stream.connected(self.address, self.seconds)

    def _answer(
        self, method: str, path: str, body: object, seconds: float, query: Mapping[str, object]
    ) -> tuple[int, Any, bytes]:
        url = f"{VERSION}{quote(path)}" + (f"?{urlencode(query)}" if query else "")
        connection = _Connection(self.address[len("unix://") :], seconds)
        try:
            given = None if body is None else json.dumps(body)
            connection.request(method, url, given, {"Content-Type": "application/json"} if given else {})
            answer = connection.getresponse()
            content = answer.read(MOST_BYTES + 1)
        except socket.timeout as error:
            remedy = "Check its load, or raise 'timeout_seconds'"
            raise OutOfReach(self.address, f"no answer within {seconds:g} s", remedy) from error
        except PermissionError as error:
            remedy = "The worker must run as the account whose Podman it is, which owns the socket"
            raise OutOfReach(self.address, "permission denied", remedy) from error
        except (OSError, http.client.HTTPException) as error:
            remedy = f"Run: systemctl restart user@{os.geteuid()}. It must have Podman's socket: docs/podman.md"
            refused = isinstance(error, (FileNotFoundError, ConnectionRefusedError))  # so nothing was asked
            kind = EngineNotReady if refused else EngineOutOfReach
            raise OutOfReach(self.address, getattr(error, "strerror", None) or repr(error), remedy, kind) from error
        finally:
            connection.close()
        if len(content) > MOST_BYTES:
            raise AnswerTooLarge
        return answer.status, answer.headers, content

    def _nonsense(self, content: bytes) -> OutOfReach:
        remedy = "Check what listens there: 'socket' in the engine's settings"
        return OutOfReach(self.address, f"the answer makes no sense: {content[:100]!r}", remedy)

    def _refusal(self, method: str, path: str, status: int, document: object) -> DockerException:
        if not isinstance(document, dict):
            return self._nonsense(repr(document).encode())
        text = str(document.get("message") or document.get("cause") or status)
        if status == 500:  # for any error: the words tell what it is
            status = _CONFLICT if _TAKEN.search(text) else _GONE if _LOST.search(text) else status
        kind = PodmanHasNot if status == _GONE else PodmanRefused
        answer: Any = SimpleNamespace(status_code=status, reason=str(document.get("cause", "")), url=f"{method} {path}")
        made: DockerException = kind(text, response=answer, explanation=text)
        return made


def default_address() -> str:
    """The socket of this account's Podman that the installer makes, else the one of Podman's own unit."""
    found = _OURS if os.path.exists(_OURS) else f"/run/user/{os.geteuid()}/podman/podman.sock"
    return f"unix://{found}"
