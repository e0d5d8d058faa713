"""Text that users write must not reach a terminal or a log as it is, for example escape sequences and line ends."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from support.people import settings_of
from support.site import HOME, TrialSite

from compute_to_data import plain_text
from compute_to_data.agent import boundary
from compute_to_data.cli.log_printer import LogPrinter
from compute_to_data.cli.main import main
from compute_to_data.cli.output import Output
from compute_to_data.errors import ZoneError
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.worker.log_format import PlainFormatter

HOSTILE = {
    "an escape sequence": "\x1b[2J",
    "a title": "\x1b]0;title\x07",
    "a C1 control": "\x9b2J",
    "a reversal": "\u202egnp.exe",
    "an isolate": "\u2066x\u2069",
    "a mark of direction": "\u200f\u200e\u061c",
    "nothing to see": "a\u200b\u2060\ufeff\u3164b",
    "a carriage return": "COMPLETED\rFAILED",
    "a line end": "x\n2026-01-01 00:00:00,000 ERROR compute_to_data.worker forged",
    "a line separator": "x\u2028\u2029\x85\x0b\x0cy",
    "half a character": "\ud800",
    "a tag": "\U000e0041",
}
NEVER = set("".join(HOSTILE.values())) - set(map(chr, range(0x20, 0x7F))) - {"\n"}


@pytest.fixture(params=list(HOSTILE.values()), ids=list(HOSTILE))
def hostile(request: pytest.FixtureRequest) -> str:
    text: str = request.param
    return text


def assert_harmless(text: str, lines: int | None = None) -> None:
    assert not NEVER & set(text), ascii(text)
    assert lines is None or text.count("\n") == lines, ascii(text)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("form", ["pretty", "raw"])
@pytest.mark.parametrize("stream", [io.StringIO, Terminal], ids=["in a pipe", "on a terminal"])
def test_no_command_prints_it(hostile: str, form: str, stream: type[io.StringIO], monkeypatch: Any) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    said, noted = stream(), stream()
    out = Output(form, said, noted)
    out.result({}, f"a {hostile}", ("a", hostile))
    out.table([{"name": hostile}], {"name": "NAME"})
    out.facts({}, [(f"name {hostile}", f"value {hostile}")])
    out.note(f"not fetched: {hostile}")
    out.progress(hostile)
    assert_harmless(said.getvalue())
    assert_harmless(noted.getvalue().replace("\r\x1b[K", ""))
    if form == "raw":
        assert said.getvalue().count("\n") == 3
    forged = [line for line in (said.getvalue() + noted.getvalue()).splitlines() if line.startswith("2026")]
    assert form == "pretty" or not forged
    assert not [line for line in noted.getvalue().splitlines() if line.startswith("2026")]


def test_json_has_the_exact_value_in_plain_characters(hostile: str) -> None:
    said = io.StringIO()
    Output("json", said).result({"value": hostile})
    assert_harmless(said.getvalue())
    assert json.loads(said.getvalue())["value"] == hostile


def test_a_worker_logs_one_line_for_each_message(hostile: str) -> None:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(PlainFormatter())
    log = logging.Logger("compute_to_data.worker")
    log.addHandler(handler)
    log.warning("ignoring %s: %s", f"/tempZone/home/alice/{hostile}", ValueError(hostile))
    assert_harmless(said.getvalue(), lines=1)
    try:
        raise ValueError(f"before\n{hostile}")
    except ValueError:
        log.exception("could not run %s", hostile)
    _, _, *rest = said.getvalue().splitlines()
    assert_harmless(said.getvalue())
    assert all(line.startswith("  ") for line in rest), "a traceback's line cannot pass for a message"


def test_a_worker_does_not_log_megabytes() -> None:
    record = logging.LogRecord("compute_to_data.worker", logging.ERROR, "", 0, "%s", ("x" * 10_000_000,), None)
    assert len(PlainFormatter().format(record)) < 10_000


def test_a_rule_tells_it_to_nobody(hostile: str) -> None:
    """Neither to a person who calls ``irule`` nor to the server's log."""
    assert_harmless(boundary.sendable(f"results in /tempZone/{hostile}"), lines=0)


def test_a_log_is_harmless_on_a_terminal_and_unchanged_in_a_pipe(
    hostile: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    said = hostile.encode("utf-8", "surrogatepass")
    LogPrinter().print("stdout", said)
    assert capfdbinary.readouterr().out == said
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    LogPrinter().print("stdout", said)
    assert_harmless(terminal.getvalue().replace("\r\x1b[K", "").replace("\u3164", ""))


def test_what_a_task_is_called_and_what_its_owner_records(
    site: TrialSite, hostile: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Through the whole program: another user's facts, and names that the zone holds."""
    settings = tmp_path / "config.json"
    settings.write_text(json.dumps(settings_of(site, "alice")))
    monkeypatch.setenv("C2D_CONFIG_FILE", str(settings))
    monkeypatch.setenv("C2D_SESSION_FILE", str(tmp_path / "session.json"))
    submitted = site.submit(site.request("/bin/true"))
    named = f"irods::compute_to_data::{hostile}"
    avus = [Avu("irods::compute_to_data::reason", hostile), Avu(named, hostile)]
    avus.append(Avu("irods::compute_to_data::parameter::x", json.dumps(hostile)))
    if "\ud800" in hostile:
        avus = avus[2:]  # no catalog stores the others
    site.alice.annotate(Entity(EntityKind.COLLECTION, submitted.collection), add=avus)
    with contextlib.suppress(ZoneError, UnicodeError):
        site.alice.write(f"{HOME}/{hostile}", b"")
    for words in (
        ["status", submitted.task_id],
        ["status", submitted.task_id, "--output", "raw"],
        ["show", submitted.task_id],
        ["show", submitted.task_id, "--output", "raw"],
        ["list"],
        ["list", "--output", "raw"],
        ["ls", HOME],
        ["status", hostile],
        ["fetch", submitted.task_id, hostile],
    ):
        main(words)
        printed = capsys.readouterr()
        assert_harmless(printed.out)
        assert_harmless(printed.err)
        assert not [line for line in (printed.out + printed.err).splitlines() if line.startswith("2026-01-01 00:00")]


def test_ordinary_text_is_printed_as_it_is() -> None:
    for text in ("größe", "データ", "naïve café", "π ≈ 3.14159", "a b-c_d", "\U0001f600", ""):
        assert plain_text.one_line(text) == text
        assert plain_text.spaced(text) == text
    assert plain_text.one_line("a\tb\nc\x1b") == "a\\tb\\nc\\x1b"
    assert plain_text.indented("a\nb") == "a\n  b"
