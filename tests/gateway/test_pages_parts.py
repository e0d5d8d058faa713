"""What pages are made of: the line of time, the beginnings of files, and text of programs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest
from support.gateways import RunningGateway
from support.site import HOME, TrialSite

from compute_to_data.client.task_status.status import TaskStatus
from compute_to_data.gateway import request_bounds
from compute_to_data.gateway.pages import previews, timeline
from compute_to_data.gateway.pages.tasks import ShownLog, as_text, shown_log
from compute_to_data.records.state import State

STATUS = TaskStatus("t", "/z/t", State.COMPLETED, "r")
TIMES = {
    "QUEUED": "2026-11-29T10:00:00.000Z",
    "STAGING_IN": "2026-11-29T10:00:10.000Z",
    "RUNNING": "2026-11-29T10:00:10.000Z",
    "STAGING_OUT": "2026-11-29T10:01:30.000Z",
    "COMPLETED": "2026-11-29T10:01:40.000Z",
}


def test_the_line_of_time() -> None:
    found = timeline.steps(replace(STATUS, times=TIMES))
    assert [(one.name, one.seconds) for one in found] == [
        ("In the queue", 10.0),
        ("Bringing the inputs", 0.0),
        ("Running", 80.0),
        ("Registering the results", 10.0),
    ]
    assert [(one.start, one.width) for one in found] == [(0, 10), (10, 0.6), (10, 80), (90, 10)]
    assert not any(one.is_current for one in found)


def test_the_line_of_time_of_a_running_task() -> None:
    times = {name: TIMES[name] for name in ("QUEUED", "RUNNING")}
    now = timeline.unix_time("2026-11-29T10:00:20.000Z")
    found = timeline.steps(replace(STATUS, state=State.RUNNING, times=times), now)
    assert [(one.seconds, one.is_current) for one in found] == [(10.0, False), (10.0, True)]
    assert found[-1].start + found[-1].width == 100


@pytest.mark.parametrize(
    "times",
    [{}, {"QUEUED": "yesterday"}, {"COMPLETED": TIMES["QUEUED"]}, {"RUNNING": TIMES["COMPLETED"], "QUEUED": "9" * 400}],
)
def test_times_that_an_owner_has_damaged(times: dict[str, str]) -> None:
    for one in timeline.steps(replace(STATUS, times=times)):
        assert 0 <= one.start <= one.start + one.width <= 100.001


def test_what_programs_write_is_text() -> None:
    assert as_text(b"\x1b[1;31mred\x1b[0m\n") == "red\n"
    assert as_text(b"at 1%\rat 99%\r\nnext\r\n") == "at 99%\nnext\n"
    assert as_text(b"\xff\xfe\n") == "\ufffd\ufffd\n"


def test_a_page_that_shows_the_end_of_a_log_says_so() -> None:
    lines = b"".join(b"%d\r%d\n" % (number, number) for number in range(501))
    assert shown_log(lines).text.startswith("1\n2\n")
    assert [shown_log(one).is_cut for one in (lines, lines[:-1], lines[4:], b"\n" * 500, b"x", b"")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
    assert shown_log(b"x" * 1_000_000) == ShownLog("x" * 200_000, True)


def beginning(site: TrialSite, name: str, content: bytes, **more: Any) -> previews.Preview:
    site.alice.write(f"{HOME}/{name}", content, force=True)
    return previews.beginning(previews.file(site.alice, HOME, name), **more)  # type: ignore[arg-type]


def test_tables(site: TrialSite) -> None:
    for name, content in (("a.csv", b"a,b\n1,2\n"), ("a.tsv", b"a\tb\n1\t2\n"), ("b.CSV", b"a;b\r\n1;2\r\n")):
        assert beginning(site, name, content).rows == (("a", "b"), ("1", "2")), name
    long = b"a,b\n" + b"1,2\n" * 5000
    found = beginning(site, "a.csv", long)
    assert (len(found.rows), found.is_cut) == (1000, True)
    assert beginning(site, "a.csv", long, is_little=True).is_cut
    assert beginning(site, "a.csv", b",".join([b"x"] * 500)).is_cut
    assert beginning(site, "a.csv", b"x" * 200 + b"," + b"y" * 201).rows == (("x" * 200, "y" * 200 + "…"),)
    assert beginning(site, "a.csv", b'"' + b"x" * 200_000).kind == "text"  # a cell that the reader refuses
    assert beginning(site, "a.csv", b"").kind == "text"


def test_text_and_what_is_none(site: TrialSite) -> None:
    assert beginning(site, "a.txt", b"\xffa\r\nb").text == "\ufffda\nb"
    assert beginning(site, "noending", b"plain").kind == "text"
    assert beginning(site, "noending", b"\x00\x01binary").kind == ""
    assert beginning(site, "noending", b"\xff\xfe\xfd").kind == ""
    found = beginning(site, "a.txt", b"x" * 600_000)
    assert (len(found.text), found.is_cut) == (512 << 10, True)
    for name, kind in (("p.PNG", "picture"), ("p.svg", "picture"), ("r.html", "report"), ("x.pdf", "")):
        assert previews.kind_of(name, 10) == kind
    assert previews.kind_of("p.png", 1 << 30) == ""


def test_a_slow_form_is_given_up(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_bounds, "DOCUMENT_SECONDS", 0.2)
    monkeypatch.setattr(request_bounds, "_DRAINED_SECONDS", 0.2)
    head = "POST /sign-in HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99\r\n"
    answer = gateway.raw(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\nname=".encode())
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert httpx.get(f"{gateway.url}/healthz", trust_env=False).status_code == 200
