"""The log of what commands write: ``logging`` in a person's settings."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.gateways import PASSWORDS, gateway_settings, give_passwords, running, served
from support.site import TrialSite
from support.typed import Type

from compute_to_data.cli import command_log
from compute_to_data.cli.command_log import HIDDEN, CommandLog
from compute_to_data.client.this_computer import settings

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \d+ c2d[ a-z-]* (begin|out|err|note|end): .*")


def enable(config: Path, **more: Any) -> Path:
    """Turn the log on in a person's settings; returns its file."""
    file = config.parent / "log" / "c2d.log"
    document = {**json.loads(config.read_text()), "logging": {"file_location": str(file), **more}}
    config.write_text(json.dumps(document))
    return file


def said(file: Path) -> list[str]:
    """The lines of the log, without their times."""
    lines = file.read_text().splitlines()
    assert all(LINE.fullmatch(line) for line in lines), lines
    return [line.split(" ", 2)[2] for line in lines]


def test_everything_that_a_command_writes_is_there_with_times(typed: Type, own_files: Path, site: TrialSite) -> None:
    file = enable(own_files)
    with site.working():
        done = typed("run", site.image, "--", "/bin/sh", "-c", "echo first; echo wrong >&2; printf 'no end ü'")
    assert (done.code, done.out) == (0, "first\nno end ü"), "the command writes what it writes without a log"
    lines = said(file)
    assert lines[0] == "c2d run begin: "
    assert lines[-1] == "c2d run end: "
    assert {"c2d run out: first", "c2d run err: wrong", "c2d run out: no end ü"} <= set(lines)
    assert any(line.startswith("c2d run err: task ") for line in lines)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lock = file.with_name("c2d.log.lock")
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600, "whoever can open it can lock it for ever"
    refused = typed("status", "nonsense")
    assert refused.code == 4
    assert f"c2d status err: {refused.err.splitlines()[0]}" in said(file)


def test_it_is_off_without_the_setting(typed: Type, own_files: Path) -> None:
    file = enable(own_files, enabled=False)
    assert typed("list").code == 0
    assert not file.parent.exists()
    assert settings.load(str(own_files)).log_file == ""


def test_its_usual_place(own_files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    document = {**json.loads(own_files.read_text()), "logging": {}}
    own_files.write_text(json.dumps(document))
    assert settings.load(str(own_files)).log_file == str(tmp_path / "compute-to-data/c2d.log")


def test_a_log_that_cannot_be_written_is_told_and_hinders_nothing(typed: Type, own_files: Path) -> None:
    file = enable(own_files)
    file.parent.write_text("a file in its way")
    done = typed("list", "--output", "json")
    assert (done.code, done.json) == (0, [])
    assert f"not everything is in the log: {file}" in done.err


def test_arguments_are_not_logged(typed: Type, own_files: Path, site: TrialSite) -> None:
    file = enable(own_files)
    with site.working():
        assert typed("run", site.image, "-e", "KEY=hunter2hunter2", "--", "/bin/true").code == 0
    assert "hunter2" not in file.read_text()


def test_no_token_and_no_password_gets_into_it(
    typed: Type, own_files: Path, site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a gateway: the token of the session and of C2D_TOKEN, also where a program prints it; the password."""
    file = enable(own_files)
    give_passwords(site)
    with running(gateway_settings(site)) as gateway, site.working():
        login = [sys.executable, "-m", "compute_to_data.cli.main", "login", gateway.url, "--user", "alice"]
        subprocess.run(login, input=f"{PASSWORDS['alice']}\n", text=True, check=True, capture_output=True)
        token = json.loads((own_files.parent / "session.json").read_text())["token"]
        half = len(token) // 2
        script = f"printf {token[:half]}; sleep 0.3; echo {token[half:]}"
        printed = typed("run", site.image, "--", "/bin/sh", "-c", script)
        assert token in printed.out
        with gateway.client("alice") as client:
            other = client.post("/authenticate").text
        monkeypatch.setenv("C2D_TOKEN", other)
        printed = typed("run", site.image, "--", "/bin/sh", "-c", f"echo {other}")
        assert other in printed.out
    text = file.read_text()
    assert f"c2d run out: {HIDDEN}" in text
    for secret in (token, token[:half], token[half:], other, *PASSWORDS.values()):
        assert secret not in text


def test_the_one_time_token_of_serve_is_hidden(site: TrialSite, tmp_path: Path) -> None:
    file = tmp_path / "c2d.log"
    known = {"logging": {"file_location": str(file)}}
    with served(site, "--port", "0", settings=known) as (address, _):
        url, _, token = address.partition("/?token=")
        assert token
    text = file.read_text()
    assert f"c2d serve out: {url}/?token={HIDDEN}" in text
    assert token not in text


@pytest.mark.parametrize(
    "text",
    [
        "https://alice:SECRET@c2d.example.org is wrong",
        "Authorization: Bearer SECRET",
        "Authorization: Basic U0VDUkVUOg==",
        "a token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.SECRET",
        "http://127.0.0.1:8427/?token=SECRET",
        "known-SECRET",
        "x" * command_log.LONGEST_LINE + "known-SECRET",
    ],
)
def test_what_looks_like_a_credential_is_hidden(tmp_path: Path, text: str) -> None:
    for cut in (len(text), len(text) - 3):  # also when it comes in two pieces
        log = CommandLog(str(tmp_path / f"{cut}.log"), "c2d x", ["known-SECRET"])
        log.add("out", text[:cut])
        log.add("out", text[cut:] + "\n")
        assert log.end() == ""
        found = (tmp_path / f"{cut}.log").read_text()
        assert HIDDEN in found
        for secret in ("SECRET", "U0VDUkVU"):
            assert secret not in found


def test_no_text_adds_lines_or_moves_a_cursor(tmp_path: Path) -> None:
    path = tmp_path / "c2d.log"
    log = CommandLog(str(path), "c2d x", [])
    log.add("out", "10 %\r50 %\r100 %\n\x1b]0;title\x07\x1b[31mred\x1b[0m\u202e\n\x85forged line\n")
    log.end()
    lines = said(path)
    assert "c2d x out: 100 %" in lines
    assert "c2d x out: \\x1b]0;title\\x07red\\u202e" in lines
    assert "c2d x out: \\x85forged line" in lines
    assert len(lines) == 4


def test_it_is_rotated_and_nothing_is_lost_by_commands_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c2d.log"
    program = (
        "import sys\nfrom compute_to_data.cli import command_log as c\nc.ROTATED_BYTES = 60_000\n"
        "log = c.CommandLog(sys.argv[1], 'c2d x', [])\n"
        "for n in range(300): log.add('out', f'{sys.argv[2]} line {n}\\n')\n"
        "log.end()\n"
    )
    commands = [subprocess.Popen([sys.executable, "-c", program, str(path), str(number)]) for number in range(4)]
    assert [one.wait(60) for one in commands] == [0] * 4
    files = sorted(tmp_path.glob("c2d.log*"))
    kept = [one for one in files if not one.name.endswith(".lock")]
    assert {"c2d.log", "c2d.log.1"} <= {one.name for one in kept}
    assert all(one.stat().st_size <= 60_000 for one in kept)
    lines = [line for one in kept for line in said(one)]
    assert sorted(line for line in lines if "line" in line) == sorted(
        f"c2d x out: {number} line {n}" for number in range(4) for n in range(300)
    )


def test_only_so_many_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_log, "ROTATED_BYTES", 100)
    log = CommandLog(str(tmp_path / "c2d.log"), "c2d x", [])
    for number in range(20):
        log.add("out", f"line {number}\n")
    names = {one.name for one in tmp_path.iterdir()} - {"c2d.log.lock"}
    assert names == {"c2d.log", *(f"c2d.log.{number}" for number in range(1, command_log.KEPT + 1))}
    assert "line 19" in (tmp_path / "c2d.log").read_text()


def test_content_is_logged_up_to_a_bound_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_log, "CONTENT_BYTES", 10)
    log = CommandLog(str(tmp_path / "c2d.log"), "c2d x", [])
    log.add_content("out", 6, "first\n")
    log.add_content("out", 7, "second\n")
    log.end()
    assert said(tmp_path / "c2d.log") == [
        "c2d x out: first",
        "c2d x note: 13 bytes of content; what is beyond 10 is not here",
        "c2d x end: ",
    ]
