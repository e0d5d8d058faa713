"""What a command prints: results on stdout, everything else on stderr.

All text passes through ``plain_text``; only :meth:`Output.text` and the printer of logs do without.

``pretty`` is for reading. ``raw`` prints one line for each thing, with tabs between the values.
``json`` is for programs. Colours and progress appear only on a terminal; ``NO_COLOR`` turns colours off.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from compute_to_data import plain_text
from compute_to_data.client.task_status.wording import shortened
from compute_to_data.plain_text import indented, lines

_WIDEST = 44
_SHOWN = 10
"""How many notes of one kind are printed."""
_COLOURS = {"green": "32", "red": "31", "yellow": "33", "blue": "34", "bold": "1", "dim": "2"}
_OF_STATE = {
    "COMPLETED": "green",
    "FAILED": "red",
    "CANCELLED": "yellow",
    "RUNNING": "blue",
    "STAGING_IN": "blue",
    "STAGING_OUT": "blue",
}


class Output:
    """The output of one command. ``form`` is ``pretty``, ``raw`` or ``json``."""

    def __init__(self, form: str = "pretty", stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self.form = form
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr
        self._has_progress = False

    @property
    def is_terminal(self) -> bool:
        """Whether stdout is a terminal."""
        return self._stdout.isatty()

    @property
    def shows_progress(self) -> bool:
        """Whether stderr is a terminal that can redraw a line."""
        return self._stderr.isatty() and os.environ.get("TERM") != "dumb"

    def result(self, document: Any, pretty: str | None = None, raw: str | tuple[str, ...] | None = None) -> None:
        """Print one result: ``document`` as JSON, or the text for the form. ``raw`` defaults to ``pretty``;
        a tuple is a line of values."""
        if self.form == "json":
            self._print(self._json(document))
            return
        if self.form == "raw" and isinstance(raw, tuple):
            self._print("\t".join(map(one_line, raw)))
            return
        text = pretty if self.form == "pretty" or raw is None else raw
        if isinstance(text, str) and text:
            self._print(lines(text))

    def table(
        self,
        rows: Sequence[Mapping[str, Any]],
        columns: Mapping[str, str],
        *,
        empty: str = "",
        free: Collection[str] = (),
    ) -> None:
        """Print many results. ``columns`` maps the members of a row to show to their headings; JSON
        has whole rows. ``empty`` is the note for no results. ``free``: those members that may be texts of any length;
        a person reads their beginnings."""
        if self.form == "json":
            self._print(self._json(list(rows)))
            return
        cells = [[one_line(row.get(name)) for name in columns] for row in rows]
        if self.form == "raw":
            for line in cells:
                self._print("\t".join(line))
            return
        if not cells:
            self.note(empty)
            return
        short = [name in free for name in columns]
        cells = [[shortened(text, _WIDEST) if cut else text for text, cut in zip(line, short)] for line in cells]
        headings = list(columns.values())
        widths = [max(len(line[place]) for line in (headings, *cells)) for place in range(len(headings))]
        self._print(self._row(headings, widths, "bold"))
        for line in cells:
            self._print(self._row(line, widths))

    def facts(self, document: Mapping[str, Any], values: Sequence[tuple[str, str]]) -> None:
        """Print one thing with its properties; ``values`` are their names and values for reading."""
        if self.form == "json":
            self._print(self._json(document))
            return
        shown = [(one_line(name), value) for name, value in values]
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            if self.form == "raw":
                self._print(f"{name}\t{one_line(value)}")
            else:
                self._print(f"{self.coloured(name.ljust(width), 'dim')}  {self.coloured(value, _OF_STATE.get(value))}")

    def text(self, text: str) -> None:
        """Print text unchanged in every form, for example a log."""
        with writing(self._stdout):
            self._stdout.write(text)
            self._stdout.flush()

    def note(self, text: str) -> None:
        """Print a note beside the results, on stderr, in the place of a progress line. An empty text prints nothing."""
        if text:
            self.progress("")
            self._beside(f"{indented(text)}\n")

    def notes(self, texts: Iterable[str]) -> None:
        """Print notes of one kind: the first ten, and how many more there are."""
        given = list(texts)
        for text in given[:_SHOWN]:
            self.note(text)
        if len(given) > _SHOWN:
            self.note(f"... and {len(given) - _SHOWN} more like this")

    def progress(self, text: str) -> None:
        """Replace the progress line, when stderr is a terminal; '' erases it."""
        if self.shows_progress and (text or self._has_progress):
            self._has_progress = bool(text)
            width = shutil.get_terminal_size().columns - 1
            self._beside(f"\r\x1b[K{plain_text.one_line(text)[:width]}")

    def coloured(self, text: str, colour: str | None) -> str:
        """The text in a colour, when results go to a terminal in the pretty form."""
        if not colour or self.form != "pretty" or not self.is_terminal or "NO_COLOR" in os.environ:
            return indented(text)
        return f"\x1b[{_COLOURS[colour]}m{indented(text)}\x1b[0m"

    def _row(self, values: Sequence[str], widths: Sequence[int], colour: str = "") -> str:
        last = len(values) - 1
        cells = [
            value.ljust(width) if place < last else value for place, (value, width) in enumerate(zip(values, widths))
        ]
        return "  ".join(
            self.coloured(cell, colour or _OF_STATE.get(value)) for cell, value in zip(cells, values)
        ).rstrip()

    def _json(self, document: Any) -> str:
        """As JSON, with characters that could move the cursor escaped."""
        encoding = (self._stdout.encoding or "utf-8").lower().replace("-", "")
        text = json.dumps(document, indent=2, ensure_ascii=encoding != "utf8")
        return "".join(c if plain_text.is_plain(c) or c == "\n" else json.dumps(c)[1:-1] for c in text)

    def _print(self, text: str) -> None:
        self.text(f"{text}\n")

    def _beside(self, text: str) -> None:
        """Write to stderr. A command does not fail because nobody can read its notes."""
        with contextlib.suppress(OSError), writing(self._stderr):
            self._stderr.write(text)
            self._stderr.flush()


@contextlib.contextmanager
def writing(stream: TextIO) -> Iterator[None]:
    """Name the stream in an error of writing to it, and drop what is still written there: what Python holds would
    fail again when Python ends, and change the exit code."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or ("standard error" if stream is sys.stderr else "standard output")
        _drop(stream)
        raise


def _drop(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):  # a test's stream has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def one_line(value: Any) -> str:
    """A value on one line without tabs; '' for None."""
    if value is None:
        return ""
    return plain_text.one_line(" ".join(str(value).split()))
