"""The log of what commands write, with times: ``logging`` in a person's settings.

It holds no credential: tokens that this computer knows, and what looks like one, are replaced. Several commands may
write it at the same time. It is rotated: ``c2d.log`` becomes ``c2d.log.1``, up to ``c2d.log.5``.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any

from compute_to_data.plain_text import one_line

ROTATED_BYTES = 10 << 20
KEPT = 5
LONGEST_LINE = 64 << 10
"""A longer line becomes several."""
CONTENT_BYTES = 1 << 20
"""Of a program's output and of content that a command copies, this is logged, and how much more there was."""
HIDDEN = "[hidden]"
_CREDENTIALS = re.compile(
    r"(?<=[?&]token=)[^&\s\"']+"  # the address that c2d serve prints
    r"|(?<=://)[^/\s@\"']*:[^/\s@\"']*(?=@)"  # user and password in an address
    r"|(?<=\bBearer )\S+|(?<=\bBasic )[A-Za-z0-9+/=]{8,}"
    r"|\beyJ[\w-]+\.[\w-]+\.[\w-]*"  # a JWT
)
_OVERWRITES = re.compile(r".*\r(?!$)|\x1b\[[0-9;]*[A-Za-z]")
"""What a line said before it was overwritten, and colours."""


class CommandLog:
    """One command's part of the log. ``command``: its words without arguments, which may hold secrets."""

    def __init__(self, path: str, command: str, secrets: Sequence[str]) -> None:
        self.path = path
        self._command = command
        self._secrets = sorted((one for one in secrets if one), key=len, reverse=True)
        self._held = {"out": "", "err": ""}
        self._content = 0
        self._problem = ""
        self._lock = threading.RLock()

    def add(self, stream: str, text: str) -> None:
        """Log what was written to a stream. The last line is kept until it ends."""
        with self._lock:
            *ended, rest = (self._held[stream] + text).split("\n")
            if len(rest) > LONGEST_LINE:
                # What follows may complete a secret, so its length stays.
                rest = self._without_secrets(rest)
                cut = len(rest) - max([1, *map(len, self._secrets)])
                ended.append(rest[:cut])
                rest = rest[cut:]
            self._held[stream] = rest
            self._write([(stream, line) for line in ended])

    def add_content(self, stream: str, size: int, text: str) -> None:
        """Log what a program wrote, or a file's content, up to a bound."""
        self._content += size
        if self._content <= CONTENT_BYTES:
            self.add(stream, text)

    def begin(self) -> None:
        """Say that the command begins."""
        self._write([("begin", "")])

    def end(self) -> str:
        """Log what is left; returns why something could not be logged, or ''."""
        left = [(stream, text) for stream, text in self._held.items() if text]
        if self._content > CONTENT_BYTES:
            left.append(("note", f"{self._content} bytes of content; what is beyond {CONTENT_BYTES} is not here"))
        self._write([*left, ("end", "")])
        return self._problem

    def _without_secrets(self, text: str) -> str:
        for one in self._secrets:
            text = text.replace(one, HIDDEN)
        return _CREDENTIALS.sub(HIDDEN, text)

    def _write(self, lines: Sequence[tuple[str, str]]) -> None:
        now = time.time()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        head = f"{moment} {os.getpid()} {self._command}"
        text = "".join(
            f"{head} {stream}: {one_line(self._without_secrets(_OVERWRITES.sub('', line)))}\n" for stream, line in lines
        )
        try:
            if text:
                _append(self.path, text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            self._problem = f"{self.path}: {error.strerror}"


def _append(path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with _alone(path):
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_size + len(content) > ROTATED_BYTES:
                _rotate(path)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        with open(os.open(path, flags, 0o600), "wb") as file:
            file.write(content)


def _rotate(path: str) -> None:
    for number in range(KEPT - 1, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}.{number}", f"{path}.{number + 1}")
    os.replace(path, f"{path}.1")


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    """While no other command writes the log. Where the system has no such locks, two may rotate it at once."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    # An account that can open it can lock it, and then every command of this user would wait.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with open(os.open(f"{path}.lock", flags, 0o600), "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Tee:
    """A stream whose text also goes to the log. For all else it is the stream."""

    def __init__(self, stream: Any, log: CommandLog, name: str) -> None:
        self._stream, self._log, self._name = stream, log, name
        if hasattr(stream, "buffer"):
            self.buffer = _TeeBytes(stream.buffer, log, name)

    def write(self, text: str) -> int:
        """Write to both."""
        written = int(self._stream.write(text))
        self._log.add(self._name, text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _TeeBytes:
    """The same for bytes: what programs have written, and the content of files."""

    def __init__(self, stream: IO[bytes], log: CommandLog, name: str) -> None:
        self._stream, self._log, self._name = stream, log, name
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(self, content: bytes) -> int:
        """Write to both."""
        written = self._stream.write(content)
        self._log.add_content(self._name, len(content), self._decoder.decode(content))
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def logged(config_file: str, session_file: str, command: str) -> Iterator[None]:
    """Log what is written to standard output and standard error while inside, if the person's settings say so."""
    log = _log(config_file, session_file, command)
    if log is None:
        yield
        return
    before = sys.stdout, sys.stderr
    log.begin()
    sys.stdout, sys.stderr = _Tee(sys.stdout, log, "out"), _Tee(sys.stderr, log, "err")
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        problem = log.end()
        if problem:
            print(f"c2d: not everything is in the log: {one_line(problem)}", file=sys.stderr)


def _log(config_file: str, session_file: str, command: str) -> CommandLog | None:
    """None where the settings want no log, and where they are wrong: the command itself says so."""
    from compute_to_data.client.signing_in.login import TOKEN_VARIABLE
    from compute_to_data.client.this_computer import settings
    from compute_to_data.errors import ConfigurationError

    try:
        path = settings.load(config_file).log_file
        if not path:
            return None
        token = str(settings.load_session(session_file).get("token", ""))
    except ConfigurationError:
        return None
    return CommandLog(path, command, [os.environ.get(TOKEN_VARIABLE, ""), token])
