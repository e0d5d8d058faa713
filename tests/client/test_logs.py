"""What `c2d run` and `c2d logs` print of a program's output: each byte once, whatever its speed and form."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.faults import Troubled
from support.site import WAITS, TrialSite, wait_until

import compute_to_data as c2d_package
from compute_to_data import log_file
from compute_to_data.cli.main import main
from compute_to_data.client import logs
from compute_to_data.client.task_logs.log_source import EndedLog
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.errors import AccessDenied, Code, ZoneError, zone_error
from compute_to_data.records.state import State
from compute_to_data.task import LIVE_LOG_NAME, TIMES_NAME

C2D = Callable[..., "tuple[int, bytes, str]"]
STAMP = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "


@pytest.fixture
def c2d(own_files: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> C2D:
    """Run a command line as alice: its exit code, the bytes on stdout, the text on stderr."""

    def typed(*words: str) -> tuple[int, bytes, str]:
        capfdbinary.readouterr()
        code = main(words)
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    return typed


@pytest.fixture
def session(own_files: Path) -> Iterator[c2d_package.Session]:
    with c2d_package.connect() as connected:
        yield connected


@pytest.fixture
def working(site: TrialSite) -> Iterator[TrialSite]:
    with site.working():
        yield site


def small(site: TrialSite, log_bytes: int) -> None:
    """Keep only this many bytes of each stream."""
    engine = {"name": "process", "images": {"tools": str(site.folder / "tools")}}
    site.configuration = site.configure(engine=engine, limits={"default": {"log_bytes": log_bytes}})


def submit(site: TrialSite, session: c2d_package.Session, script: str) -> TaskHandle:
    return session.submit(site.request("/bin/sh", "-c", script))


@contextmanager
def following(task: TaskHandle, **options: Any) -> Iterator[list[tuple[str, bytes]]]:
    """Follow a task in another thread, to its end."""
    heard: list[tuple[str, bytes]] = []
    thread = threading.Thread(
        target=logs.follow, args=(task, lambda name, said: heard.append((name, said))), kwargs=options
    )
    thread.start()
    yield heard
    thread.join(60)
    assert not thread.is_alive()


def said(heard: list[tuple[str, bytes]], stream: str = "stdout") -> bytes:
    return b"".join(content for name, content in heard if name == stream)


@pytest.mark.parametrize(
    "script",
    [
        "seq 3000; sleep 0.5",
        "seq 400000",
        "for i in 1 2 3; do yes same | head -2000; sleep 0.3; done",
        "head -c 5000000 /dev/zero | tr '\\0' x; sleep 0.3",
        "head -c 300000 /dev/urandom > /outputs/random; cat /outputs/random; sleep 0.3",
        "seq 100; exit 3",
        "printf 'no line end'",
        "true",
    ],
    ids=["lines", "fast lines", "equal bursts", "a long line", "any bytes", "failing", "no line end", "nothing"],
)
def test_what_a_run_prints_is_what_the_program_wrote(working: TrialSite, c2d: C2D, script: str) -> None:
    code, out, err = c2d("run", "tools", "--", "sh", "-c", script)
    assert (code != 0) == ("exit" in script)
    assert "missing" not in err and "not kept" not in err
    if "random" in script:
        task = re.search(r"^task (\S+)$", err, re.MULTILINE)
        assert task is not None
        code, random, _ = c2d("logs", task[1])
        assert hashlib.sha256(out).digest() == hashlib.sha256(random).digest()
        assert len(out) == 300_000
        return
    expected = subprocess.run(["sh", "-c", script], capture_output=True, check=False).stdout
    assert hashlib.sha256(out).digest() == hashlib.sha256(expected).digest(), (len(out), len(expected), out[:20])


def test_a_long_output_is_printed_whole_but_not_kept_whole(
    site: TrialSite, c2d: C2D, session: c2d_package.Session
) -> None:
    """While it runs, a follower gets all. What is kept has both ends, and each command says so."""
    small(site, 10_000)
    whole = b"".join(b"%d\n" % number for number in (*range(1, 11), *range(1, 20_001)))
    with site.working():
        task = submit(site, session, f"seq 10; {WAITS}; seq 20000; sleep 0.5")
        with following(task) as heard:
            wait_until(lambda: said(heard).endswith(b"10\n"), "the first lines")
            site.let_go(task)
        assert said(heard) == whole
        code, kept, err = c2d("logs", task.id)
        (missing,) = re.findall(r"^(\d+) bytes of stdout were not kept: the site keeps limits.log_bytes", err)
        first, last = kept.split(log_file.gap_line(int(missing)))
        assert code == 0 and whole.startswith(first) and whole.endswith(b"\n" + last)
        assert len(first) + int(missing) + len(last) == len(whole)
        status = json.loads(c2d("status", task.id, "--output", "json")[1])
        assert status["log_bytes_missing"] == {"stdout": int(missing)}
        assert ["stdout_bytes_missing", missing] in [
            line.split() for line in c2d("status", task.id)[1].decode().splitlines()
        ]
        assert c2d("logs", task.id, "--tail", "1")[1] == b"20000\n"
        assert f"{missing} bytes of stdout were not kept" in c2d("logs", task.id, "--follow")[2]
        _, out, err = c2d("run", "tools", "--", "sh", "-c", "seq 20000")
        assert out.startswith(b"1\n2\n") and "bytes of stdout were not kept" in err


def test_logs_of_a_running_task_show_what_there_is(working: TrialSite, c2d: C2D, session: c2d_package.Session) -> None:
    task = submit(working, session, f"echo begun; echo oops >&2; {WAITS}; echo ended")
    working.outputs(task)
    wait_until(lambda: c2d("logs", task.id)[1] == b"begun\n", "the first line")
    code, out, err = c2d("logs", task.id)
    assert (code, out, "oops" in err) == (0, b"begun\n", True)
    working.let_go(task)
    task.wait()
    assert c2d("logs", task.id)[1] == b"begun\nended\n"


def test_logs_of_a_task_that_has_printed_nothing_say_so(
    working: TrialSite, c2d: C2D, session: c2d_package.Session
) -> None:
    task = submit(working, session, f"{WAITS}; echo ended")
    working.outputs(task)
    code, out, err = c2d("logs", task.id)
    assert (code, out) == (0, b"")
    assert "has printed nothing yet. Follow it: c2d logs" in err and "python with -u" in err
    working.let_go(task)
    task.wait()


def test_a_log_that_the_user_sees_and_may_not_read_is_not_empty(
    working: TrialSite, session: c2d_package.Session
) -> None:
    """A zone without strict access lists shows names that the user may not read."""
    task = submit(working, session, "echo said")
    task.wait()

    def refused(_: object, path: str) -> None:
        raise zone_error(Code.USER_FILE_DOES_NOT_EXIST, path, "no such data object")

    with pytest.raises(AccessDenied, match=f"{task.collection}/STDOUT.txt: you may not read it.*Ask the task's owner"):
        EndedLog(Troubled(task.catalog, open_to_read=refused), task.collection)


def test_logs_of_a_task_in_the_queue_say_so(site: TrialSite, c2d: C2D) -> None:
    submitted = site.submit(site.request("/bin/sh", "-c", "echo x"))
    assert "is QUEUED" in c2d("logs", submitted.collection)[2]


def test_a_progress_bar_shows_while_it_runs(working: TrialSite, session: c2d_package.Session) -> None:
    task = submit(working, session, f"printf '\\r10%%'; {WAITS}; printf '\\r99%%\\n'")
    with following(task) as heard:
        wait_until(lambda: said(heard) == b"\r10%", "the first state")
        working.let_go(task)
    assert said(heard) == b"\r10%\r99%\n"


@pytest.mark.parametrize("ended", [False, True])
def test_the_last_lines_with_times(working: TrialSite, c2d: C2D, session: c2d_package.Session, ended: bool) -> None:
    before = time.time()
    task = submit(working, session, f"echo one; sleep 1.3; echo two; printf three; {WAITS}")
    working.outputs(task)
    wait_until(lambda: c2d("logs", task.id)[1].endswith(b"three"), "the last line")
    if ended:
        working.let_go(task)
        task.wait()
    _, out, _ = c2d("logs", task.id, "--timestamps")
    lines = out.split(b"\n")
    assert [re.sub(STAMP, b"", line) for line in lines] == [b"one", b"two", b"three"]
    stamps = [logs_time(line) for line in lines]
    assert before - 1 < stamps[0] and 1.0 < stamps[1] - stamps[0] < 30 and stamps[1] <= stamps[2] < time.time() + 1
    assert re.fullmatch(STAMP + b"two\n" + STAMP + b"three", c2d("logs", task.id, "-t", "--tail", "2")[1])
    assert c2d("logs", task.id, "--tail", "2")[1] == b"two\nthree"
    assert c2d("logs", task.id, "--tail", "0")[1] == b""
    if not ended:
        working.let_go(task)
        task.wait()


def logs_time(line: bytes) -> float:
    from compute_to_data.client.task_status.status import unix_time

    found = unix_time(line.split(b" ")[0].decode())
    assert found is not None
    return found


def test_times_of_a_short_task(working: TrialSite, c2d: C2D, session: c2d_package.Session) -> None:
    """All came within a second, so there is no file with times: the lines have the time of the end."""
    task = submit(working, session, "seq 3")
    task.wait()
    assert TIMES_NAME not in working.contents(task.collection)
    out = c2d("logs", task.id, "--timestamps")[1]
    assert re.fullmatch(b"".join(STAMP + b"%d\n" % number for number in (1, 2, 3)), out)


def test_following_with_a_tail_begins_with_the_last_lines(working: TrialSite, session: c2d_package.Session) -> None:
    task = submit(working, session, f"seq 100; {WAITS}; echo more")
    working.outputs(task)
    wait_until(lambda: logs.read(task).stdout.endswith(b"100\n"), "the first lines")
    with following(task, tail=2, stamps=True) as heard:
        wait_until(lambda: said(heard).endswith(b"100\n"), "the last lines")
        working.let_go(task)
    assert re.fullmatch(STAMP + b"99\n" + STAMP + b"100\n" + STAMP + b"more\n", said(heard))


def test_a_broken_connection_loses_nothing(working: TrialSite, session: c2d_package.Session) -> None:
    """The follower opens the log again, and continues at its own offset."""
    opened: list[Any] = []

    class Breaking:
        def __init__(self, found: Any) -> None:
            self._found, self._reads = found, 0

        def read(self, offset: int, size: int) -> bytes:
            self._reads += 1
            if self._reads > 7:
                raise ZoneError("the connection", "is broken")
            return bytes(self._found.read(offset, size))

    @contextmanager
    def open_to_read(original: Any, path: str) -> Iterator[Any]:
        with original(path) as found:
            opened.append(path)
            yield Breaking(found) if path.endswith(LIVE_LOG_NAME) else found

    task = submit(working, session, f"i=0; while [ $i -lt 60 ]; do i=$((i+1)); seq $i 999; sleep 0.02; done; {WAITS}")
    catalog: Any = Troubled(session.catalog, open_to_read=open_to_read)
    with following(TaskHandle(session, task.collection, catalog)) as heard:
        wait_until(lambda: opened.count(f"{task.collection}/{LIVE_LOG_NAME}") > 2, "the log to be opened again")
        working.let_go(task)
    expected = b"".join(b"%d\n" % n for first in range(1, 61) for n in range(first, 1000))
    assert said(heard) == expected


def test_a_follower_that_never_saw_the_log_gets_what_is_kept(
    site: TrialSite, session: c2d_package.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(site, 10_000)
    task = submit(site, session, "seq 20000")
    with site.working():
        task.wait()
    heard: list[tuple[str, bytes]] = []
    assert logs.follow(task, lambda name, content: heard.append((name, content))) is State.COMPLETED
    assert said(heard) == logs.read(task).stdout
    assert b"bytes are missing here" in said(heard)


@pytest.mark.parametrize("seen", ["the first half", "the middle", "the last half"])
def test_a_follower_that_lost_the_log_continues_in_what_is_kept(
    site: TrialSite, session: c2d_package.Session, seen: str
) -> None:
    small(site, 10_000)
    task = submit(site, session, "seq 20000")
    with site.working():
        task.wait()
    whole = b"".join(b"%d\n" % number for number in range(1, 20_001))
    offset = {"the first half": 3000, "the middle": 50_000, "the last half": len(whole) - 2000}[seen]
    heard: list[tuple[str, bytes]] = []
    notes: list[str] = []
    follower = logs._Follower(task, lambda *words: heard.append(words), notes.append, None, False)
    follower._offsets = [offset, 0]
    follower.run(lambda state: None)
    rest = said(heard)
    if seen == "the first half":
        missing = task.status().log_bytes_missing["stdout"]
        first, last = rest.split(log_file.gap_line(missing))
        assert whole[offset:].startswith(first) and whole.endswith(last)
    elif seen == "the middle":
        missed = int(notes[0].split()[0])
        assert whole[offset + missed :] == rest
    else:
        assert whole[offset:] == rest


def test_a_job_that_was_lost_and_began_again(working: TrialSite, session: c2d_package.Session) -> None:
    """The follower says so, and begins again, too."""
    task = submit(working, session, f"echo first; {WAITS}")
    notes: list[str] = []
    working.outputs(task)
    with following(task, on_note=notes.append) as heard:
        wait_until(lambda: said(heard) == b"first\n", "the first line")
        (log,) = (working.folder / "zone" / "vaults").rglob("LOG")
        held = log.read_bytes()
        header = log_file.unpack(held)
        assert header is not None
        again = log_file.Header(header.bound, header.run + 1, (3, 0), False, time.time(), 0)
        layout = log_file.Layout(header.bound)
        with log.open("r+b") as file:
            file.seek(layout.place(0, 0)[0])
            file.write(b"new")
            file.seek(0)
            file.write(again.pack())
        wait_until(lambda: said(heard) == b"first\nnew", "the new output")
        working.let_go(task)
    assert notes[0] == "the task's job was lost and began again, and so does its output"


def test_a_line_reaches_a_follower_soon(working: TrialSite, session: c2d_package.Session) -> None:
    task = submit(working, session, f"echo 0; {WAITS}; for i in $(seq 20); do date +%s.%N; sleep 0.1; done")
    delays: list[float] = []

    def on_output(name: str, content: bytes) -> None:
        delays.extend(time.time() - float(line) for line in content.split())

    thread = threading.Thread(target=logs.follow, args=(task, on_output))
    thread.start()
    wait_until(lambda: delays, "the first line")
    working.let_go(task)
    thread.join(60)
    assert len(delays) == 21
    assert sorted(delays)[10] < 0.5, "a busy machine may delay single lines (tests/benchmarks)"


def test_a_follower_asks_the_catalog_nothing_while_the_job_runs(
    working: TrialSite, session: c2d_package.Session
) -> None:
    asked: list[str] = []

    def noting(name: str) -> Any:
        def ask(original: Any, *words: Any, **more: Any) -> Any:
            asked.append(name)
            return original(*words, **more)

        return ask

    names = ("avus", "find", "stat", "resources", "read", "annotate", "children", "query")
    catalog: Any = Troubled(session.catalog, **{name: noting(name) for name in names})
    task = submit(working, session, f"echo one; {WAITS}")
    working.outputs(task)
    with following(TaskHandle(session, task.collection, catalog)) as heard:
        wait_until(lambda: said(heard) == b"one\n", "the first line")
        before = len(asked)
        time.sleep(2.0)
        assert asked[before:] == []
        working.let_go(task)
