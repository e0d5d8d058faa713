"""Prints what a task's program wrote: unchanged to a file or a pipe, harmless on a terminal."""

from __future__ import annotations

import codecs
import contextlib
import json
import re
import sys
from collections.abc import Callable
from typing import TextIO

from compute_to_data.cli.output import writing

_MOVES_THE_CURSOR = re.compile(
    r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Control characters and escapes, except tabs, line ends and colours; also marks that reverse text, and characters
that show nothing."""
_ERASES_THE_LINE = re.compile(r"\x1b\[[012]?K")
"""Progress bars send it beside ``\\r``. We erase the overwritten line ourselves."""


class LogPrinter:
    """Prints a program's output on the streams that it wrote to; with ``only``, all on that stream.

    ``as_json``: all on stdout, as a line of JSON a piece. ``on_closed`` is called when the reader of a pipe has
    closed it; what comes later is not printed. Without it, BrokenPipeError.
    """

    def __init__(self, *, as_json: bool = False, only: str = "", on_closed: Callable[[], None] | None = None) -> None:
        self._json = as_json
        self._only = only
        self._on_closed = on_closed
        self._shown: dict[str, TerminalText] = {}
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}
        self._open_lines: set[TextIO] = set()
        """The streams whose last line the program has not ended."""

    def print(self, stream: str, said: bytes) -> None:
        """Print bytes unchanged to a file or pipe; as JSON, one object for each call; on a terminal,
        without control characters."""
        target = self._target(stream)
        try:
            with writing(target):
                self._print(target, stream, said)
        except BrokenPipeError:
            if self._on_closed is None:
                raise
            self._on_closed()

    def end(self) -> None:
        """Print what the beginning of a character holds back, when no more comes."""
        for stream, decoder in self._decoders.items():
            self._print_json(self._target(stream), stream, decoder.decode(b"", final=True))

    def begin_line(self, target: TextIO | None = None) -> None:
        """End the line that the program left open, so that what comes next on ``target`` (default: stderr) has its
        own. On a terminal, stdout and stderr are one."""
        target = target or sys.stderr
        if self._json:
            return
        is_shared = sys.stdout.isatty() and sys.stderr.isatty()
        seen = {sys.stdout, sys.stderr} if is_shared else {target}
        if self._open_lines & seen:
            with contextlib.suppress(OSError), writing(target):
                target.write("\n")
                target.flush()
            self._open_lines -= seen

    def _target(self, stream: str) -> TextIO:
        return sys.stderr if (self._only or stream) == "stderr" and not self._json else sys.stdout

    def _print_json(self, target: TextIO, stream: str, text: str) -> None:
        if text:
            target.write(json.dumps({"stream": stream, "text": text}) + "\n")

    def _print(self, target: TextIO, stream: str, said: bytes) -> None:
        target.flush()
        if self._json:
            decoder = self._decoders.setdefault(stream, codecs.getincrementaldecoder("utf-8")("replace"))
            self._print_json(target, stream, decoder.decode(said))
        elif target.isatty():
            target.write(self._shown.setdefault(stream, TerminalText()).text(said))
        elif hasattr(target, "buffer"):
            target.buffer.write(said)
        else:
            target.write(said.decode("utf-8", "replace"))
        target.flush()
        if said and not self._json:
            (self._open_lines.discard if said.endswith(b"\n") else self._open_lines.add)(target)


class TerminalText:
    """One stream as a terminal shows it. Of a line that the program overwrites, as a progress bar does
    with ``\\r``, it keeps the last state. Except for colours, control sequences are replaced."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def text(self, said: bytes) -> str:
        """The text to print for the program's next bytes."""
        *ended, last = (self._held + self._decoder.decode(said)).split("\n")
        shown = last.rstrip("\r")
        self._held = "\r" if shown != last else ""  # the next bytes decide whether the line ends or starts again
        lines = [*(line.rstrip("\r") for line in ended), shown]
        return "\n".join(map(_last_state, lines))


def _last_state(line: str) -> str:
    """The last state of a line, or of a part that was added to a line."""
    _, again, state = line.rpartition("\r")
    harmless = _MOVES_THE_CURSOR.sub("\N{REPLACEMENT CHARACTER}", _ERASES_THE_LINE.sub("", state))
    return f"\r\x1b[K{harmless}" if again else harmless
