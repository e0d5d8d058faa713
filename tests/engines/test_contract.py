"""The contract of the Engine port, tested on real engines: one suite that the tests of each engine inherit."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.jobs import held, remains, written
from support.site import PATIENCE, SLOWNESS, wait_until

from compute_to_data import log_file
from compute_to_data.engines.docker.backlog import LACKING
from compute_to_data.engines.slurm.engine import SlurmEngine
from compute_to_data.errors import EngineError, EngineOutOfReach, ImageMissing
from compute_to_data.job import ENGINE_MARGIN_SECONDS, GID, UID, Exit, Image, Job, JobKey, JobState, JobStatus, Mount
from compute_to_data.pipeline.running import command_line
from compute_to_data.ports.engine import Engine

if TYPE_CHECKING:
    from tests.engines.conftest import Bench, Pipe

    MakePipe = Callable[[Job], Pipe]

TIMEOUT = PATIENCE
TELL = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"
DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("/outputs/pipe", "w").write("ready")
while True: signal.pause()
"""
SAVING = f"""
import signal, time
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
open("/outputs/pipe", "w").write("ready")
while not told: signal.pause()
time.sleep({ENGINE_MARGIN_SECONDS + 1.5})  # to save takes longer than what is left of the walltime, and the margin
print("saved", len(told), flush=True)
"""
HEARING = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
open("/outputs/pipe", "w").write("ready")
signal.sigwait({signal.SIGTERM})
print("told", flush=True)
sys.exit(5)
"""


def ended(engine: Engine, job: Job) -> Exit:
    end = held(engine, job.key).wait(TIMEOUT)
    assert end is not None, "the job did not end in time"
    return end


READS_SECRETS = """
import hashlib, os, sys
path = sys.argv[1]
status = os.stat(path)
print(oct(status.st_mode & 0o7777), status.st_uid == os.geteuid(), hashlib.sha256(open(path, "rb").read()).hexdigest())
"""


def holding(folder: Path, value: bytes) -> list[str]:
    """The files below a folder that contain a value."""
    return [str(file) for file in folder.rglob("*") if file.is_file() and value in file.read_bytes()]


class EngineContract:
    outlives = True
    """Whether jobs run on without the worker that started them."""

    @pytest.fixture
    def bench(self) -> Bench:
        raise NotImplementedError

    def test_a_job_reads_its_secrets_as_files_of_its_own(self, bench: Bench) -> None:
        value = uuid.uuid4().hex.encode() + b"\0\xff"
        command = ("python3", "-c", READS_SECRETS, "/run/secrets/TOKEN")
        job = bench.started(*command, secrets={"TOKEN": value, "_2": b""})
        assert value[:32].decode() not in repr(job)
        assert ended(bench.engine, job).status == 0
        assert written(bench.engine, job).stdout.split() == [
            b"0o400",
            b"True",
            sha256(value).hexdigest().encode(),
        ]
        assert holding(bench.directory, value) == [], "the job has ended"

    @pytest.mark.parametrize("name", ["../TOKEN", "a/b", "", "..", "1st", "a" * 65, "a\n"])
    def test_an_invalid_name_of_a_secret_is_refused(self, bench: Bench, name: str) -> None:
        job = bench.job("/bin/true", secrets={name: b"x"})
        with pytest.raises(EngineError, match="name of a secret"):
            bench.engine.submit(job)
        assert bench.engine.jobs(bench.scope) == ()

    def test_a_job_reads_its_inputs_and_writes_its_outputs(self, bench: Bench) -> None:
        source = bench.directory / "some input"
        source.write_bytes(b"content")
        script = "cat '/inputs/a b'; cp '/inputs/a b' /outputs/copy; echo oops >&2"
        before = time.time()
        job = bench.started("sh", "-c", script, inputs=(Mount(str(source), "/inputs/a b"),))
        end = ended(bench.engine, job)
        assert (end.status, end.out_of_memory) == (0, False)
        assert before - 0.1 <= end.started <= end.finished + 0.1 <= time.time() + 0.2
        assert held(bench.engine, job.key).status().started == end.started
        assert (Path(job.outputs) / "copy").read_bytes() == b"content"
        logs = written(bench.engine, job)
        assert (logs.stdout, logs.stderr) == (b"content", b"oops\n")

    @pytest.mark.parametrize(
        ("script", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143), ("exit 255", 255)]
    )
    def test_the_exit_status_is_the_programs(self, bench: Bench, script: str, status: int) -> None:
        assert ended(bench.engine, bench.started("sh", "-c", script)).status == status

    @pytest.mark.parametrize("name", ["a'b", 'a"b', "a\nb", "é", "-x", "$(x)", "a:b,c=d", "%(X)s"])
    def test_an_input_may_have_any_name(self, bench: Bench, name: str) -> None:
        source = bench.directory / name
        source.write_text(name)
        job = bench.started("cat", f"/inputs/{name}", inputs=(Mount(str(source), f"/inputs/{name}"),))
        assert ended(bench.engine, job).status == 0
        assert written(bench.engine, job).stdout.decode() == name

    def test_words_and_variables_arrive_as_written(self, bench: Bench) -> None:
        words = ["", "a b", "a\nb", "'", '"', "\\", "$HOME", "$(x)", "`x`", "%(NAME)s", "${input_file}", "é", "-"]
        environment = {f"V{index}": word for index, word in enumerate(words)}
        job = bench.started("python3", "-c", TELL, *words, environment=environment)
        assert ended(bench.engine, job).status == 0
        seen, variables = json.loads(written(bench.engine, job).stdout)
        assert seen == words
        assert {name: variables[name] for name in environment} == environment

    def test_the_environment_may_have_the_numbers_of_the_jobs_account(self, bench: Bench) -> None:
        job = bench.started("sh", "-c", '[ "$WHO" = "<$(id -u):$(id -g)>" ]', environment={"WHO": f"<{UID}:{GID}>"})
        assert ended(bench.engine, job).status == 0

    def test_what_a_job_left_belongs_to_one_account_in_the_end(self, bench: Bench) -> None:
        job = bench.job("sh", "-c", "mkdir /outputs/a && echo x > /outputs/a/x && chmod 0 /outputs/a/x")
        before = os.stat(job.outputs)
        bench.engine.submit(job)
        assert ended(bench.engine, job).status == 0
        bench.engine.take_back(job.outputs)
        bench.engine.remove(job.key)
        found = [os.stat(os.path.join(job.outputs, name)) for name in ("", "a", "a/x")]
        assert {(one.st_uid, one.st_gid) for one in found} == {(before.st_uid, before.st_gid)}
        bench.engine.take_back(job.outputs)
        bench.engine.take_back(os.path.join(job.outputs, "gone"))

    def test_nothing_of_the_workers_environment_is_inherited(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("SECRET_OF_THE_WORKER", "HTTP_PROXY", "https_proxy"):
            monkeypatch.setenv(name, "secret-value")
        job = bench.started("env")
        assert ended(bench.engine, job).status == 0
        assert b"secret-value" not in written(bench.engine, job).stdout

    def test_several_commands_run_in_order(self, bench: Bench) -> None:
        source = bench.directory / "source"
        source.write_text("axb")
        vector = command_line.command(
            [["tr", "-d", "x"], ["false"], ["printf", "%s", "end"]], frozenset({1}), "/inputs/x", "/outputs/end"
        )
        job = bench.started(*vector, inputs=(Mount(str(source), "/inputs/x"),))
        assert ended(bench.engine, job).status == 0
        assert written(bench.engine, job).stdout == b"ab"
        assert (Path(job.outputs) / "end").read_text() == "end"

    @pytest.mark.parametrize(("asked", "seen"), [("", r".*/tmp"), ("/outputs", r".*/outputs(-\d+)?"), ("/usr", "/usr")])
    def test_the_working_directory(self, bench: Bench, asked: str, seen: str) -> None:
        job = bench.started("sh", "-c", "pwd && echo x > written || true", working_directory=asked)
        assert ended(bench.engine, job).status == 0
        assert re.fullmatch(seen, written(bench.engine, job).stdout.decode().strip())

    def test_wait_gives_up_after_its_timeout(self, bench: Bench) -> None:
        job = bench.started("sleep", "300")
        for timeout in (0, 0.3):
            before = time.monotonic()
            assert held(bench.engine, job.key).wait(timeout) is None
            assert timeout <= time.monotonic() - before < timeout + TIMEOUT, "not its end"

    def test_wait_returns_at_the_end(self, bench: Bench, pipe: MakePipe) -> None:
        """It does not poll: the time between the job's end and the return is short."""
        late = []
        for _ in range(3):
            job = bench.job("sh", "-c", "echo ready > /outputs/pipe; sleep 0.2")
            ready = pipe(job)
            bench.engine.submit(job)
            ready.read()
            end = ended(bench.engine, job)
            late.append(time.time() - end.finished)
        assert min(late) < 0.5 * SLOWNESS

    def test_every_waiting_thread_gets_the_exit(self, bench: Bench) -> None:
        job = bench.started("sleep", "0.5")
        with ThreadPoolExecutor(5) as pool:
            ends = list(pool.map(lambda _: held(bench.engine, job.key).wait(TIMEOUT), range(5)))
        assert len(set(ends)) == 1
        assert ends[0] is not None
        assert ends[0].status == 0

    def test_stop_sends_sigterm_first(self, bench: Bench, pipe: MakePipe) -> None:
        job = bench.job("python3", "-c", HEARING)
        ready = pipe(job)
        bench.engine.submit(job)
        ready.read()
        held(bench.engine, job.key).stop(TIMEOUT)
        end = held(bench.engine, job.key).wait(0)
        assert end is not None
        assert end.status == 5
        assert written(bench.engine, job).stdout == b"told\n"

    def test_stop_sends_sigterm_to_the_running_command(self, bench: Bench, pipe: MakePipe) -> None:
        job = bench.job(*command_line.command([["true"], ["python3", "-c", HEARING], ["echo", "next"]]))
        ready = pipe(job)
        bench.engine.submit(job)
        ready.read()
        held(bench.engine, job.key).stop(TIMEOUT)
        assert ended(bench.engine, job).status == 5
        assert written(bench.engine, job).stdout == b"told\n"

    def test_stop_kills_the_job_after_the_grace(self, bench: Bench, pipe: MakePipe) -> None:
        job = bench.job("python3", "-c", DEAF)
        ready = pipe(job)
        bench.engine.submit(job)
        ready.read()
        before = time.monotonic()
        held(bench.engine, job.key).stop(1.0)
        assert 0.9 <= time.monotonic() - before < TIMEOUT
        end = held(bench.engine, job.key).wait(0)
        assert end is not None
        assert (end.status, end.out_of_memory) == (137, False)

    def test_a_job_has_its_whole_grace_at_its_walltime(self, bench: Bench, pipe: MakePipe) -> None:
        """GNU ``timeout`` killed it a second after the walltime: what it saved in the grace was lost."""
        job = bench.job("python3", "-c", SAVING, grace_seconds=10.0)
        job = replace(job, limits=replace(job.limits, walltime_seconds=1.0))
        ready = pipe(job)
        bench.engine.submit(job)
        ready.read()
        held(bench.engine, job.key).stop(10.0)
        assert (ended(bench.engine, job).status, written(bench.engine, job).stdout) == (0, b"saved 1\n")

    @pytest.mark.parametrize(("program", "status"), [(HEARING, 5), (DEAF, 137)], ids=["hearing", "deaf"])
    def test_a_grace_of_less_than_a_second(self, bench: Bench, pipe: MakePipe, program: str, status: int) -> None:
        job = bench.job("python3", "-c", program)
        ready = pipe(job)
        bench.engine.submit(job)
        ready.read()
        held(bench.engine, job.key).stop(0.9 if status == 5 else 0.1)
        end = held(bench.engine, job.key).wait(0)
        assert end is not None
        assert end.status in (status, 137)  # on a busy machine, 0.9 s can be too short

    def test_stopping_an_ended_job_changes_nothing(self, bench: Bench) -> None:
        job = bench.started("sh", "-c", "exit 3")
        end = ended(bench.engine, job)
        held(bench.engine, job.key).stop(1.0)
        assert held(bench.engine, job.key).wait(0) == end

    def test_background_processes_end_with_the_job(self, bench: Bench, pipe: MakePipe) -> None:
        job = bench.job("sh", "-c", "(sleep 300) > /outputs/pipe & echo ready > /outputs/pipe; exit 4")
        ready = pipe(job)
        bench.engine.submit(job)
        assert ready.read() == b"ready\n"
        assert ended(bench.engine, job).status == 4
        assert ready.read() == b""

    def test_of_a_long_log_the_first_and_the_last_half_are_kept(self, bench: Bench) -> None:
        """They are cut at line ends, and a line between them says how many bytes are missing."""
        code = """
import os, sys
for number in range(40_000):
    os.write(1, b"%07d\\xff\\x00\\n" % number)
os.write(2, b"the last words")
"""
        bound = 5000
        job = bench.started("python3", "-c", code, limits=replace(bench.job("true").limits, log_bytes=bound))
        assert ended(bench.engine, job).status == 0
        logs = written(bench.engine, job)
        lines = [b"%07d\xff\x00\n" % number for number in range(40_000)]
        missing = 10 * len(lines) - 2 * 2500
        assert logs.stdout == b"".join([*lines[:250], log_file.gap_line(missing), *lines[-250:]])
        assert logs.stderr == b"the last words"

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("a fast writer", "for _ in range(2): os.write(1, b''.join(b'%d\\n' % n for n in range(1_000_000)))"),
            ("equal bursts", "for _ in range(3): os.write(1, b'same\\n' * 5000); time.sleep(0.3)"),
            ("a long line", "os.write(1, b'x' * 5_000_000)"),
            ("binary", "os.write(1, bytes(range(256)) * 4000); os.write(2, b'\\r\\n\\0\\n\\n' * 999)"),
            ("nothing", "pass"),
            ("both streams in turn", "for n in range(2000): os.write(1, b'%d\\n' % n); os.write(2, b'%d' % n)"),
        ],
    )
    def test_a_log_has_each_byte_once(self, bench: Bench, name: str, code: str) -> None:
        program = "import os, time, sys\ndef write(fd, data, w=os.write):\n  while data: data = data[w(fd, data):]\n"
        program = f"{program}os.write = write\n{code}"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
        limits = replace(bench.job("true").limits, log_bytes=1 << 26, memory_bytes=1 << 30)
        job = bench.started("python3", "-c", program, limits=limits)
        assert ended(bench.engine, job).status == 0
        logs = written(bench.engine, job)
        assert sha256(logs.stdout).hexdigest() == sha256(done.stdout).hexdigest(), (
            len(logs.stdout),
            len(done.stdout),
            name,
        )
        assert logs.stderr == done.stderr

    def test_logs_can_be_read_while_the_job_runs(self, bench: Bench, pipe: MakePipe) -> None:
        job = bench.job("sh", "-c", "printf early; echo ready > /outputs/pipe; sleep 300")
        ready = pipe(job)
        bench.engine.submit(job)
        ready.read()
        deadline = time.monotonic() + TIMEOUT
        while remains(job.log_file).stdout != b"early":
            assert time.monotonic() < deadline
        assert not log_file.is_closed(job.log_file)

    def test_a_log_is_marked_as_complete_when_it_is(self, bench: Bench) -> None:
        job = bench.started("sh", "-c", "seq 20000; echo oops >&2")
        ended(bench.engine, job)
        held(bench.engine, job.key).finish_log()
        assert log_file.is_closed(job.log_file)
        assert os.stat(job.log_file).st_size == log_file.Layout(job.limits.log_bytes).size
        assert stat.S_IMODE(os.stat(job.log_file).st_mode) == 0o600
        held(bench.engine, job.key).finish_log()
        assert remains(job.log_file).stderr == b"oops\n"

    def test_a_log_of_an_earlier_job_is_replaced(self, bench: Bench) -> None:
        first = bench.started("sh", "-c", "seq 100000")
        ended(bench.engine, first)
        written(bench.engine, first)
        second = replace(bench.job("echo", "second"), log_file=first.log_file)
        with log_file.opened(first.log_file) as reader:
            before = reader.header()
            bench.engine.submit(second)
            ended(bench.engine, second)
            assert written(bench.engine, second).stdout == b"second\n"
            assert reader.header().run != before.run, "who reads the file notices"

    def test_remove_ends_a_running_job(self, bench: Bench, pipe: MakePipe) -> None:
        job = bench.job("sh", "-c", "exec > /outputs/pipe; echo ready; sleep 300")
        ready = pipe(job)
        bench.engine.submit(job)
        assert ready.read() == b"ready\n"
        bench.engine.remove(job.key)
        assert ready.read() == b""
        assert bench.engine.jobs(job.scope) == ()

    def test_remove_leaves_nothing_and_can_be_repeated(self, bench: Bench) -> None:
        job = bench.started("sh", "-c", "echo x > /outputs/file")
        ended(bench.engine, job)
        bench.engine.remove(job.key)
        bench.engine.remove(job.key)
        assert bench.engine.find(job.key) is None
        assert bench.engine.jobs(job.scope) == ()
        assert (Path(job.outputs) / "file").read_text() == "x\n", "the worker removes the outputs, not the engine"

    def test_many_threads_remove_a_job_at_once(self, bench: Bench) -> None:
        job = bench.started("sleep", "300")
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda _: bench.engine.remove(job.key), range(6)))
        assert bench.engine.find(job.key) is None

    def test_a_job_removed_while_a_thread_waits(self, bench: Bench) -> None:
        """The waiting thread gets the exit, or the error that the job is gone, at once."""
        job = bench.started("sleep", "300")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(held(bench.engine, job.key).wait, TIMEOUT)
            bench.engine.remove(job.key)
            error = waiting.exception(TIMEOUT / 2)
        if error is None:
            end = waiting.result()
            assert end is not None
            assert end.status in (137, 143)
        else:
            assert isinstance(error, EngineError)
            assert job.key.text in str(error)

    def test_an_unknown_job(self, bench: Bench) -> None:
        unknown = JobKey(str(uuid.uuid4()))
        bench.engine.remove(unknown)
        assert bench.engine.find(unknown) is None
        assert bench.engine.statuses([unknown]) == {unknown: JobStatus(JobState.UNKNOWN)}

    def test_a_removed_job(self, bench: Bench) -> None:
        """Calls raise an error that names the task."""
        running = bench.engine.submit(bench.job("sleep", "300"))
        running.remove()
        assert running.status().state in (JobState.UNKNOWN, JobState.ENDED)
        calls: tuple[Callable[[], Any], ...] = (
            lambda: running.wait(0),
            lambda: running.wait(1),
            lambda: running.stop(1),
            running.finish_log,
        )
        self.check_gone(calls, running.key)

    def check_gone(self, calls: Iterable[Callable[[], Any]], key: JobKey) -> None:
        for call in calls:
            with pytest.raises(EngineError, match=f"task {key.task_id}: "):
                call()

    @pytest.mark.parametrize("text", ["", "..", "../x", "a/b", "a b", "-x", "a\n", "é", "a" * 200])
    def test_an_invalid_key_is_refused(self, bench: Bench, text: str) -> None:
        with pytest.raises(EngineError, match="job key"):
            bench.engine.submit(replace(bench.job("true"), key=JobKey(text)))
        for call in (bench.engine.find, bench.engine.remove):
            with pytest.raises(EngineError, match="job key"):
                call(JobKey(text))

    def test_jobs_lists_only_the_jobs_of_a_scope(self, bench: Bench) -> None:
        running, over = bench.started("sleep", "300"), bench.started("true")
        elsewhere = bench.started("true", scope=f"{bench.scope}-2")
        ended(bench.engine, over)
        assert set(bench.engine.jobs(bench.scope)) == {running.key, over.key}
        assert bench.engine.jobs(elsewhere.scope) == (elsewhere.key,)
        assert bench.engine.jobs("resource-of-nobody") == ()

    def test_a_restarted_worker_finds_its_jobs(self, bench: Bench, pipe: MakePipe) -> None:
        job = bench.job("sh", "-c", "echo ready > /outputs/pipe; read go < /outputs/go; echo words; exit 6")
        ready = pipe(job)
        os.mkfifo(Path(job.outputs) / "go")
        (Path(job.outputs) / "go").chmod(0o666)
        bench.engine.submit(job)
        ready.read()
        other = bench.reopen()
        assert other.jobs(bench.scope) == (job.key,)
        assert held(other, job.key).wait(0.1) is None
        (Path(job.outputs) / "go").write_text("go\n")
        end = ended(other, job)
        assert end.status == 6
        assert end == held(bench.engine, job.key).wait(0) == held(bench.reopen(), job.key).wait(0)
        assert written(other, job).stdout == b"words\n"
        other.remove(job.key)
        assert bench.engine.jobs(bench.scope) == ()

    def test_a_second_job_for_a_task_is_refused(self, bench: Bench) -> None:
        job = bench.started("sh", "-c", "sleep 0.5; exit 8")
        with pytest.raises(EngineError, match="already"):
            bench.engine.submit(job)
        assert ended(bench.engine, job).status == 8
        with pytest.raises(EngineError, match="already"):
            bench.engine.submit(job)

    def test_statuses_of_many_jobs(self, bench: Bench) -> None:
        running = [bench.started("sleep", "300") for _ in range(6)]
        over = [bench.started("sh", "-c", f"exit {number}") for number in range(6)]
        ends = [ended(bench.engine, job) for job in over]
        unknown = JobKey(str(uuid.uuid4()))
        keys = [unknown, *(job.key for job in (*running, *over))]
        for engine in (bench.engine, bench.engine, bench.reopen()) if self.outlives else (bench.engine,) * 2:
            found = engine.statuses(keys)
            assert list(found) == keys
            assert found[unknown] == JobStatus(JobState.UNKNOWN)
            assert {found[job.key].state for job in running} == {JobState.RUNNING}
            assert [found[job.key] for job in over] == [JobStatus(JobState.ENDED, end.started, end) for end in ends]
            assert all(0 < time.time() - (found[job.key].started or 0) < TIMEOUT for job in running)
        bench.engine.remove(running[0].key)
        assert bench.engine.statuses(keys)[running[0].key].state in (JobState.UNKNOWN, JobState.ENDED)
        assert bench.engine.statuses([]) == {}

    def test_a_change_is_reported_at_once(self, bench: Bench) -> None:
        """The waiting thread sleeps until the job's end, and then gets the job's key."""
        job = bench.started("sh", "-c", "while [ ! -e /outputs/go ]; do sleep 0.02; done; sleep 0.5")
        beside = bench.started("sleep", "300")
        self.settle(bench)
        assert held(bench.engine, job.key).status().state is JobState.RUNNING
        (Path(job.outputs) / "go").touch()
        wakes, changed = 0, bench.engine.wait_for_change(bench.scope, TIMEOUT)
        while changed is not None and job.key not in changed:
            wakes, changed = wakes + 1, bench.engine.wait_for_change(bench.scope, TIMEOUT)
        seen = time.time()
        end = bench.engine.statuses([job.key])[job.key].exit
        assert end is not None and seen - end.finished < 0.5 * SLOWNESS, "the engine reports the end without polling"
        assert wakes <= 1
        assert changed is None or beside.key not in changed
        before = time.monotonic()
        assert bench.engine.wait_for_change(bench.scope, 0.2) in (frozenset(), None)
        assert time.monotonic() - before < TIMEOUT

    def settle(self, bench: Bench) -> None:
        """Wait until no more changes are reported: at first, the engine may report all jobs."""
        deadline = time.monotonic() + TIMEOUT
        while bench.engine.wait_for_change(bench.scope, 1.5) != frozenset():
            assert time.monotonic() < deadline

    def test_an_end_before_the_wait_is_reported(self, bench: Bench) -> None:
        job = bench.started("true")
        self.settle(bench)
        second = bench.started("true")
        ended(bench.engine, second)
        reported: set[JobKey] = set()
        deadline = time.monotonic() + TIMEOUT
        while second.key not in reported:
            assert time.monotonic() < deadline
            changed = bench.engine.wait_for_change(bench.scope, 1.0)
            reported |= {second.key} if changed is None else changed
        assert ended(bench.engine, job).status == 0

    def test_a_waiting_thread_is_woken(self, bench: Bench) -> None:
        bench.started("sleep", "300")
        self.settle(bench)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(bench.engine.wait_for_change, bench.scope, TIMEOUT * 5)
            bench.engine.wake()
            assert waiting.result(TIMEOUT) == frozenset()

    def test_a_missing_image(self, bench: Bench) -> None:
        for name in ("no-such/image:1", "no-such-image", "", "../x", "UPPER:case", "a b", "-x", "sha256:" + "0" * 64):
            with pytest.raises(ImageMissing):
                bench.engine.identify(name)
        job = bench.job("true")
        gone = Image(bench.image, "sha256:" + "0" * 64)
        with pytest.raises(ImageMissing):
            bench.engine.submit(replace(job, image=gone))
        assert bench.engine.jobs(job.scope) == ()

    def test_an_image_is_identified_by_its_content(self, bench: Bench) -> None:
        image = bench.engine.identify(bench.image)
        assert image.name == bench.image
        assert re.fullmatch("sha256:[0-9a-f]{64}", image.digest)
        assert bench.reopen().identify(bench.image) == image

    def test_the_images_that_are_there_are_listed(self, bench: Bench) -> None:
        listed = bench.engine.images()
        assert listed is None or bench.image in listed

    def test_a_missing_program_ends_with_status_127(self, bench: Bench) -> None:
        job = bench.started("no-such-program", "x")
        assert ended(bench.engine, job).status == 127
        assert b"no-such-program" in written(bench.engine, job).stderr

    def test_an_input_must_be_a_regular_file(self, bench: Bench) -> None:
        target, link = bench.directory / "target", bench.directory / "link"
        target.write_text("secret")
        link.symlink_to(target)
        for source in (link, bench.directory, bench.directory / "missing", Path("/dev/zero")):
            job = bench.job("true", inputs=(Mount(str(source), "/inputs/x"),))
            with pytest.raises(EngineError, match=re.escape(str(source))):
                bench.engine.submit(job)
        assert bench.engine.jobs(bench.scope) == ()
        assert not (bench.directory / "missing").exists()

    @pytest.mark.parametrize(
        "change",
        [
            {"command": ()},
            {"command": ("",)},
            {"command": ("echo", "a\0b")},
            {"command": ("echo", "\udcff")},
            {"environment": {"A": "a\0b"}},
            {"environment": {"A": "\udcff"}},
            {"environment": {"A=B": "c"}},
            {"environment": {"": "c"}},
        ],
    )
    def test_a_job_with_invalid_text_is_refused(self, bench: Bench, change: dict[str, Any]) -> None:
        with pytest.raises(EngineError):
            bench.engine.submit(replace(bench.job("true"), **change))
        assert bench.engine.jobs(bench.scope) == ()

    def test_prepare_makes_a_directory_for_the_job_alone(self, bench: Bench) -> None:
        outputs = bench.directory / "new" / "parents" / "outputs"
        bench.engine.prepare(str(outputs))
        assert stat.S_IMODE(outputs.stat().st_mode) == 0o700
        with pytest.raises(EngineError, match="exists already"):
            bench.engine.prepare(str(outputs))
        (bench.directory / "dangling").symlink_to(bench.directory / "elsewhere")
        with pytest.raises(EngineError):
            bench.engine.prepare(str(bench.directory / "dangling"))

    def test_many_threads(self, bench: Bench) -> None:
        barrier = threading.Barrier(8)

        def one(number: int) -> tuple[int, bytes]:
            job = bench.job("sh", "-c", f"echo {number}; exit {number}")
            barrier.wait(TIMEOUT)
            bench.engine.submit(job)
            end = ended(bench.engine, job)
            logs = written(bench.engine, job)
            bench.engine.remove(job.key)
            return end.status, logs.stdout

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(one, range(8))) == [(number, b"%d\n" % number) for number in range(8)]
        assert bench.engine.jobs(bench.scope) == ()

    def test_check_accepts_a_working_engine(self, bench: Bench) -> None:
        bench.engine.check()


class OutlivingContract(EngineContract):
    """What holds beside the contract where jobs outlive their worker."""

    def test_a_job_writes_on_while_no_worker_runs(self, bench: Bench, pipe: MakePipe) -> None:
        """A worker starts the job and is killed. Another one adopts the job: the log has each byte once."""
        script = "seq 50000; echo ready > /outputs/pipe; seq 50000; read go < /outputs/go; seq 50000; printf end >&2"
        job = bench.job("sh", "-c", script)
        job = replace(job, limits=replace(job.limits, log_bytes=1 << 22))
        ready = pipe(job)
        os.mkfifo(Path(job.outputs) / "go")
        (Path(job.outputs) / "go").chmod(0o666)
        worker = os.fork()
        if not worker:
            try:
                bench.reopen().submit(job)
                time.sleep(TIMEOUT)
            finally:
                os._exit(1)
        try:
            assert ready.read() == b"ready\n"
        finally:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
        time.sleep(0.2)  # the job writes meanwhile, but it does not matter how much
        other = bench.reopen()
        running = held(other, job.key)
        (Path(job.outputs) / "go").write_text("go\n")
        assert ended(other, job).status == 0
        running.finish_log()
        numbers = b"".join(b"%d\n" % number for number in range(1, 50001))
        logs = remains(job.log_file)
        written = logs.stdout.replace(LACKING, b"")  # a Docker on a slow host leaves a doubt, and no byte is lost
        assert (len(written), logs.stderr) == (3 * len(numbers), b"end")
        assert written == numbers * 3


class TestProcess(OutlivingContract):
    @pytest.fixture
    def bench(self, process_bench: Bench) -> Bench:
        return process_bench


@pytest.mark.docker
class TestDocker(OutlivingContract):
    @pytest.fixture
    def bench(self, docker_bench: Bench) -> Bench:
        return docker_bench


class TestSlurm(OutlivingContract):
    @pytest.fixture
    def bench(self, slurm_bench: Bench) -> Bench:
        return slurm_bench

    def settle(self, bench: Bench) -> None:
        """Slurm's queue has been asked about the jobs, too, and has nothing new to say."""
        assert isinstance(bench.engine, SlurmEngine)
        queue = bench.engine._queue
        asked = queue.questions
        wait_until(lambda: queue.questions > asked + 1, "an answer to a question that was asked from now on")
        super().settle(bench)


@pytest.mark.docker
class TestWarmSandboxes(EngineContract):
    """Jobs of a workload follow the contract, with one exception: they do not outlive their worker."""

    outlives = False

    @pytest.fixture
    def bench(self, warm_bench: Bench) -> Bench:
        return warm_bench

    def check_gone(self, calls: Iterable[Callable[[], Any]], key: JobKey) -> None:
        """The process that ran the job knows how it ended, even after its removal."""
        first, second, *others = [call() for call in calls]
        assert first == second and first.status == 137
        assert others == [None, None]

    def test_a_restarted_worker_finds_its_jobs(self, bench: Bench, pipe: MakePipe) -> None:
        """It removes them instead, so that their tasks can begin again."""
        job = bench.job("sh", "-c", "exec > /outputs/pipe; echo ready; sleep 300")
        ready = pipe(job)
        bench.engine.submit(job)
        ready.read()
        other = bench.reopen()
        other.tidy(bench.scope, frozenset({"workload"}), 60.0)
        assert ready.read() == b""
        assert other.find(job.key) is None
        assert other.jobs(bench.scope) == ()
        with pytest.raises(EngineOutOfReach, match="lost"):
            ended(bench.engine, job)
