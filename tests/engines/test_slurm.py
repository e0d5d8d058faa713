"""What only the Slurm engine has to hold: one question for all jobs, workers killed between two steps, secrets, and
nodes that do not see what this host sees."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.crashes import Died
from support.jobs import held, written
from support.real_slurm import containers, drained, job_of, node_of, program_of, slurm
from support.site import BASE_IMAGE, until, wait_until

from compute_to_data.engines.slurm import commands, images, probe
from compute_to_data.engines.slurm.engine import SlurmEngine
from compute_to_data.engines.slurm.node_state import Node
from compute_to_data.engines.slurm.notes import EXIT, STARTED, SUBMITTED, Directory, Notes
from compute_to_data.errors import EngineError, EngineNotReady, EngineOutOfReach, ImageMissing
from compute_to_data.job import JobKey, JobState, OutputMount
from tests.engines.conftest import Bench, SlurmBench, open_slurm

TIMEOUT = 60.0


def the_engine(bench: Bench) -> SlurmEngine:
    assert isinstance(bench.engine, SlurmEngine)
    return bench.engine


def test_one_question_for_all_jobs(slurm_bench: Bench) -> None:
    """While jobs wait, Slurm is asked about all of them together, once a poll."""
    engine = the_engine(slurm_bench)
    with drained("n1", "n2"):
        jobs = [slurm_bench.job("true") for _ in range(12)]
        for job in jobs:
            engine.submit(job)
        before, since = engine._queue.questions, time.monotonic()
        while time.monotonic() - since < 4.0:
            engine.wait_for_change(slurm_bench.scope, 0.2)
            assert {one.state for one in engine.statuses([job.key for job in jobs]).values()} == {JobState.PENDING}
        polls = (time.monotonic() - since) / 0.5
        assert 1 <= engine._queue.questions - before <= polls + 1
        for job in jobs:
            engine.remove(job.key)
    assert engine.jobs(slurm_bench.scope) == ()


def test_one_change_wakes_once(slurm_bench: Bench) -> None:
    """A thread that waits gets the job about which Slurm says something new, and sleeps again at the next call."""
    engine, key = the_engine(slurm_bench), JobKey("a")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(engine.wait_for_change, slurm_bench.scope, TIMEOUT)
        engine._changes.add(key)
        assert waiting.result() == {key}
    before = time.monotonic()
    assert engine.wait_for_change(slurm_bench.scope, 0.5) == frozenset()
    assert time.monotonic() - before >= 0.5


def test_a_job_that_is_over_is_reported_until_its_note_cannot_come_any_more(slurm_bench: Bench) -> None:
    """And then no more: its outputs may be registered for hours."""
    engine, job = the_engine(slurm_bench), slurm_bench.started("true")
    identity, view = job_of(job.key), engine._queue.view
    wait_until(lambda: (found := view(identity)) is not None and found.is_over, "Slurm to end the job")
    asked = engine._queue.questions
    reported: list[frozenset[JobKey]] = []
    while engine._queue.questions < asked + 12:  # 6 s, and a note may take 1 s
        reported.append(engine.wait_for_change(slurm_bench.scope, 0.5) or frozenset())
    assert any(reported)
    assert not any(reported[-4:])


def test_a_worker_that_dies_before_it_notes_the_id(slurm_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm has the job, and no note says so. The next worker finds it by its name."""

    def die(self: Notes, name: str, document: dict[str, Any]) -> None:
        if name == SUBMITTED:
            raise Died
        written_before(self, name, document)

    written_before = Notes.write
    job = slurm_bench.job("sh", "-c", "echo once >> /outputs/runs")
    with monkeypatch.context() as patched, drained("n1", "n2"):
        patched.setattr(Notes, "write", die)
        with pytest.raises(Died):
            slurm_bench.engine.submit(job)
        patched.undo()
        other = slurm_bench.reopen()
        assert other.jobs(slurm_bench.scope) == (job.key,)
        found = other.find(job.key)
        assert found is not None
    end = found.wait(TIMEOUT)
    assert end is not None and end.status == 0
    assert (Path(job.outputs) / "runs").read_text() == "once\n"


def test_a_job_that_its_worker_has_given_up_does_nothing(slurm_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """sbatch's answer comes too late: the worker submits the job once more. Slurm starts both, and one of them runs."""
    late = [True]

    def too_late(words: Any, *more: Any) -> str:
        said = ran(words, *more)
        if words[0] == "sbatch" and late.pop():
            raise EngineOutOfReach("Slurm", "sbatch did not end in 60 s")
        return said

    ran = commands.run
    job = slurm_bench.job("sh", "-c", "echo once >> /outputs/runs")
    with drained("n1", "n2"), monkeypatch.context() as patched:
        patched.setattr(commands, "run", too_late)
        with pytest.raises(EngineOutOfReach):
            slurm_bench.engine.submit(job)
        first = job_of(job.key)
        late.append(False)
        slurm_bench.engine.submit(job)
        assert job_of(job.key) != first
    end = held(slurm_bench.engine, job.key).wait(TIMEOUT)
    assert end is not None and end.status == 0

    def over() -> bool:
        states = slurm("squeue", "--noheader", "--states=all", f"--name={commands.name_of(job.key)}", "--format=%T")
        return set(states.split()) == {"COMPLETED"}

    wait_until(over, "both to end")
    assert (Path(job.outputs) / "runs").read_text() == "once\n"


def test_a_job_that_is_removed_while_it_waits_never_runs(slurm_bench: Bench) -> None:
    job = slurm_bench.job("touch", "/outputs/ran")
    with drained("n1", "n2"):
        slurm_bench.engine.submit(job)
        identity = job_of(job.key)
        slurm_bench.engine.remove(job.key)
        assert slurm_bench.engine.find(job.key) is None
        state = slurm("squeue", "--noheader", "--states=all", f"--jobs={identity}", "--format=%T").strip()
        assert state == "CANCELLED"
    assert not (Path(job.outputs) / "ran").exists()


def test_a_removed_job_leaves_no_container(slurm_bench: Bench) -> None:
    job = slurm_bench.started("sleep", "300")
    slurm_bench.engine.remove(job.key)
    wait_until(lambda: containers(slurm_bench.scope) == [], "the node to remove the container")


def test_secrets_wait_where_only_the_worker_reads_them(slurm_bench: Bench, slurm_directory: str) -> None:
    """While the job waits, they are in files with mode 0400 in directories with mode 0700. Then they are gone."""
    job = slurm_bench.job("sh", "-c", "cat /run/secrets/TOKEN", secrets={"TOKEN": b"value"})
    folder = Path(slurm_directory, "jobs", job.key.text)
    with drained("n1", "n2"):
        slurm_bench.engine.submit(job)
        assert stat.S_IMODE((folder / "secrets" / "TOKEN").stat().st_mode) == 0o400
        for place in (Path(slurm_directory), folder, folder / "secrets"):
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
        for file in (folder / "request.json", folder / "slurm.json"):
            assert b"value" not in file.read_bytes()
        assert "value" not in slurm("scontrol", "show", "job", job_of(job.key))
    end = held(slurm_bench.engine, job.key).wait(TIMEOUT)
    assert end is not None and end.status == 0
    assert written(slurm_bench.engine, job).stdout == b"value"
    assert not (folder / "secrets").exists()


@pytest.mark.parametrize("is_there", [True, False], ids=["draining", "gone"])
def test_a_partition_that_takes_no_jobs(slurm_bench: Bench, slurm_directory: str, is_there: bool) -> None:
    """Which is no fault of the task: it waits."""
    name = f"c2d{uuid.uuid4().hex[:8]}"
    create = ("scontrol", "create", f"partitionname={name}", "nodes=n1,n2")
    engine, job = open_slurm(slurm_directory, partition=name), slurm_bench.job("true")
    if is_there:
        slurm(*create, "state=drain")
    try:
        with pytest.raises(EngineNotReady, match="takes no jobs at the moment" if is_there else "no such partition"):
            engine.submit(job)
        slurm(*(("scontrol", "update", f"partitionname={name}", "state=up") if is_there else create))
        end = engine.submit(job).wait(TIMEOUT)
        assert end is not None and end.status == 0
    finally:
        engine.remove(job.key)
        wait_until(lambda: slurm("squeue", "--noheader", f"--partition={name}").strip() == "", "its jobs to end")
        slurm("scontrol", "delete", f"partitionname={name}")


def test_an_error_of_the_node_is_the_jobs(slurm_bench: Bench) -> None:
    """The image cannot be used as the job wants it, which only the node can see."""
    mounts = (OutputMount("kept", "/usr/bin/env"),)
    job = slurm_bench.job("true", output_mounts=mounts)
    running = slurm_bench.engine.submit(job)
    with pytest.raises(EngineError, match="/usr/bin/env"):
        running.wait(TIMEOUT)
    assert running.status().state is JobState.ENDED
    assert running.status().exit is None


def test_an_image_that_the_node_no_longer_has(slurm_bench: Bench, slurm_directory: str) -> None:
    """The list of images is older than the node's images."""
    gone = replace(slurm_bench.engine.identify(slurm_bench.image), name="gone:1", digest=f"sha256:{'0' * 64}")
    entry = {"digest": gone.digest, "aliases": [], "unused": ""}
    listed = images.ListedImages(the_engine(slurm_bench)._directory)
    file = Path(slurm_directory, "images.json")
    before = file.read_bytes()
    try:
        images.notes.write(file, {"asked": listed.asked, "node": "n1", "images": {**listed._images, "gone:1": entry}})
        running = slurm_bench.engine.submit(slurm_bench.job("true", image=gone))
    finally:
        file.write_bytes(before)
    with pytest.raises(ImageMissing):
        running.wait(TIMEOUT)


class TestCheck:
    def test_a_partition_that_does_not_exist(self, slurm_directory: str) -> None:
        with pytest.raises(EngineError, match="no partition nothing"):
            open_slurm(slurm_directory, partition="nothing").check()

    def test_a_directory_of_others(self, slurm_answers: None, tmp_path: Path) -> None:
        shared = tmp_path / "shared"
        shared.mkdir(mode=0o755)
        with pytest.raises(EngineError, match="other accounts may use it"):
            open_slurm(str(shared)).check()

    def test_a_node_reads_and_writes_in_a_vault(self, slurm_bench: Bench, tmp_path: Path) -> None:
        slurm_bench.engine.check_directory(str(tmp_path))
        assert list(tmp_path.iterdir()) == [], "the probe leaves nothing"

    def test_a_vault_that_the_nodes_do_not_see(
        self, slurm_bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The node looks elsewhere, as where another file system is mounted under the same path."""
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()

        def on_the_node(settings: Any, *words: str, log: str) -> list[str]:
            return original(settings, *words[:-1], words[-1].replace(str(tmp_path), str(elsewhere)), log=log)

        original = commands.probe
        monkeypatch.setattr(commands, "probe", on_the_node)
        with pytest.raises(EngineError, match="No such file or directory"):
            slurm_bench.engine.check_directory(str(tmp_path))

    def test_nodes_that_do_not_answer(
        self, slurm_bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(probe, "_WAIT_SECONDS", 0.5)
        with drained("n1", "n2"), pytest.raises(EngineOutOfReach, match="no node has answered"):
            slurm_bench.engine.check_directory(str(tmp_path))


def test_many_jobs_need_one_thread(slurm_bench: Bench) -> None:
    with drained("n1", "n2"):
        before = threading.active_count()
        jobs = [slurm_bench.job("true") for _ in range(10)]
        for job in jobs:
            slurm_bench.engine.submit(job)
        assert threading.active_count() <= before + 1
        for job in jobs:
            slurm_bench.engine.remove(job.key)


@pytest.mark.parametrize("told", [False, True], ids=["killed", "ended by Slurm"])
def test_a_job_that_slurm_starts_once_more_does_nothing(slurm_bench: Bench, slurm_directory: str, told: bool) -> None:
    """An administrator has requeued it. Its outputs are not empty any more, so the worker begins it again."""
    job = slurm_bench.started("sh", "-c", "echo once >> /outputs/runs; sleep 300")
    wait_until((Path(job.outputs) / "runs").exists, "the job to run")
    identity = job_of(job.key)
    node, notes = node_of(identity), Notes(Path(slurm_directory, "jobs", job.key.text))
    if told:
        slurm("scancel", identity)
        wait_until(lambda: notes.read(EXIT) is not None, "the node to tell the end")
    else:
        for program in program_of(identity):
            os.kill(program, signal.SIGKILL)
    wait_until(lambda: program_of(identity) == [], "the program to be gone")
    clean = [sys.executable, "-I", "-m", "compute_to_data.engines.slurm.node", "clean", slurm_directory]
    environment = {**os.environ, "SLURM_JOB_ID": identity, "SLURMD_NODENAME": node}
    subprocess.run(clean, env=environment, check=True, timeout=60)
    nonce = json.loads((notes.folder / "request.json").read_text())["nonce"]
    again = [*clean[:4], "run", str(notes.folder), nonce]
    done = subprocess.run(again, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "this job has run before\n"
    assert (Path(job.outputs) / "runs").read_text() == "once\n"
    assert slurm_bench.engine.statuses([job.key])[job.key].state is JobState.PREEMPTED


def test_a_job_that_has_ended_keeps_its_end_when_slurm_starts_it_once_more(
    slurm_bench: Bench, slurm_directory: str
) -> None:
    job = slurm_bench.started("sh", "-c", "exit 4")
    end = held(slurm_bench.engine, job.key).wait(TIMEOUT)
    notes = Notes(Path(slurm_directory, "jobs", job.key.text))
    nonce = json.loads((notes.folder / "request.json").read_text())["nonce"]
    environment = {**os.environ, "SLURM_JOB_ID": job_of(job.key), "SLURMD_NODENAME": "n1"}
    again = [sys.executable, "-I", "-m", "compute_to_data.engines.slurm.node", "run", str(notes.folder), nonce]
    subprocess.run(again, env=environment, check=True, timeout=60)
    assert end is not None and end.status == 4
    assert held(slurm_bench.engine, job.key).wait(TIMEOUT) == end


@pytest.mark.parametrize("ahead", [-200.0, 0.0, 200.0])
def test_times_are_those_of_this_hosts_clock(slurm_bench: Bench, slurm_directory: str, ahead: float) -> None:
    """The node's clock may be wrong by minutes: munge takes five."""
    began = time.time()
    job = slurm_bench.started("true")
    assert held(slurm_bench.engine, job.key).wait(TIMEOUT) is not None
    notes = Notes(Path(slurm_directory, "jobs", job.key.text))
    for name, times in ((STARTED, ("time", "told")), (EXIT, ("started", "finished"))):
        document = notes.read(name)
        assert document is not None
        written_at = (notes.folder / name).stat().st_mtime_ns
        notes.write(name, {**document, **{one: document[one] + ahead for one in times}})
        os.utime(notes.folder / name, ns=(written_at, written_at))
    status = held(slurm_bench.engine, job.key).status()
    assert status.exit is not None and status.started == status.exit.started
    assert began - 1 < status.exit.started <= status.exit.finished < time.time() + 1


def test_slurms_epilog_removes_what_a_killed_program_left(slurm_bench: Bench, slurm_directory: str) -> None:
    """As an administrator runs it on the node, for the job that is over."""
    job = slurm_bench.started("sleep", "300")
    identity = job_of(job.key)
    node = node_of(identity)
    epilog = [sys.executable, "-I", "-m", "compute_to_data.engines.slurm.node", "clean", slurm_directory]
    environment = {**os.environ, "SLURM_JOB_ID": identity, "SLURMD_NODENAME": node}
    subprocess.run(epilog, env=environment, check=True, timeout=60)
    assert len(containers(slurm_bench.scope)) == 1, "its program lives"
    for program in program_of(identity):
        os.kill(program, signal.SIGKILL)
    wait_until(lambda: program_of(identity) == [], "the program to be gone")
    subprocess.run(epilog, env=environment, check=True, timeout=60)
    assert containers(slurm_bench.scope) == []


class TestSharedFileSystem:
    """Errors of the file system that worker and nodes share decide nothing about a job."""

    def test_a_note_that_cannot_be_read(self, tmp_path: Path) -> None:
        own = Notes(tmp_path)
        assert own.read(SUBMITTED) is None
        (tmp_path / SUBMITTED).mkdir()  # reading it is an error, as with a server that is away
        with pytest.raises(EngineOutOfReach, match="cannot be read"):
            own.read(SUBMITTED)
        with pytest.raises(EngineOutOfReach, match="cannot be written"):
            own.write(SUBMITTED, {})
        assert [one.name for one in tmp_path.iterdir()] == [SUBMITTED], "no draft is left"

    def test_a_folder_that_is_gone(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            Notes(tmp_path / "gone").write(SUBMITTED, {})

    def test_a_node_tries_again_to_write_its_note(self, slurm_bench: Bench, slurm_directory: str) -> None:
        """The first attempts at the note about the end fail, because something else has its name."""
        job = slurm_bench.job("sh", "-c", "while [ ! -e /outputs/go ]; do sleep 0.02; done; exit 4")
        running = slurm_bench.engine.submit(job)
        wait_until(lambda: running.status().state is JobState.RUNNING, "the job to run")
        folder = Path(slurm_directory, "jobs", job.key.text)
        (folder / EXIT).mkdir()
        Path(job.outputs, "go").touch()
        wait_until(lambda: "does not learn" in (folder / "node.log").read_text(), "an attempt to fail")
        with pytest.raises(EngineOutOfReach):
            running.status()
        (folder / EXIT).rmdir()
        end = running.wait(TIMEOUT)
        assert end is not None and end.status == 4


def test_a_node_keeps_what_it_knows_about_an_images_paths(slurm_bench: Bench, slurm_directory: str) -> None:
    """Each job has a program of its own there, which need not ask Docker about the same image again."""
    with drained("n2"):
        for _ in range(2):
            job = slurm_bench.started("true")
            end = held(slurm_bench.engine, job.key).wait(TIMEOUT)
            assert end is not None and end.status == 0
            file = Path(slurm_directory, "nodes", "n1", "image-paths.json")
            wait_until(file.exists, "the node to keep it")
    known = json.loads(file.read_text())
    assert known[job.image.digest]["/proc"] == ""


class Failing(NamedTuple):
    """An engine whose probes fail on their node until ``mended`` exists."""

    engine: SlurmEngine
    mended: Path


@pytest.fixture
def failing(slurm_answers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Failing:
    python, mended = tmp_path / "python", tmp_path / "mended"
    script = f"[ -e {mended} ] || {{ echo the disk is gone >&2; exit 1; }}; exec {sys.executable} $@"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr("compute_to_data.engines.slurm.probe._WAIT_SECONDS", 1.0)
    monkeypatch.setattr("compute_to_data.engines.slurm.probe._QUEUE_SECONDS", 0.1)
    return Failing(open_slurm(str(tmp_path / "shared"), python=str(python)), mended)


def test_a_probe_that_fails_on_its_node(failing: Failing) -> None:
    """Its log says why. When that is mended, the next look begins another one."""
    engine, mended = failing

    def refused() -> str:
        try:
            engine.identify(BASE_IMAGE)
        except EngineOutOfReach as error:
            return str(error)
        return ""

    until(lambda: "without an answer (the disk is gone)" in refused(), "the probe's end")
    mended.touch()
    until(lambda: refused() == "", "another probe")


def test_a_list_of_images_is_read_again_and_again(failing: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a probe that has failed, and no sooner than it has ended."""
    engine, mended = failing
    directory = engine._directory
    mended.touch()
    until(lambda: _has_listed(engine), "the first list")

    def again() -> None:
        earlier = images.ListedImages(directory).asked
        until(lambda: engine.images() is not None and images.ListedImages(directory).asked > earlier, "another list")

    monkeypatch.setattr("compute_to_data.engines.slurm.engine._OLD_SECONDS", 0.0)
    again()
    mended.unlink()
    until(lambda: engine.images() is not None and _has_failed(directory.path), "a probe that fails")
    mended.touch()
    again()


def _has_listed(engine: SlurmEngine) -> bool:
    with suppress(EngineOutOfReach):
        engine.identify(BASE_IMAGE)
        return True
    return False


def _has_failed(directory: Path) -> bool:
    return any("the disk is gone" in log.read_text() for log in directory.glob("probe-*.log"))


PODMAN = {"name": "podman", "socket": "/nonexistent/podman.sock"}


class TestPodmanOnNodes:
    """As far as a node without cgroup v2, or with Slurm of root, can show it."""

    def test_a_node_whose_podman_cannot_hold_the_promises(self, slurm_answers: None, tmp_path: Path) -> None:
        with pytest.raises(EngineOutOfReach, match=r"node n\d: the Podman engine: "):
            open_slurm(str(tmp_path / "shared"), sandbox=PODMAN).identify("any:1")

    def test_a_job_on_a_node_that_no_probe_has_seen(self, slurm_answers: None, tmp_path: Path) -> None:
        """Its engine cannot hold what another node's can, so the job does not begin there, and says why. What it could
        have left does not keep jobs in Docker from the node."""
        directory = str(tmp_path / "shared")
        engine, other = open_slurm(directory), open_slurm(directory, sandbox=PODMAN)
        bench = SlurmBench(engine, lambda: engine, tmp_path)
        with drained("n2"):
            running = other.submit(bench.job("true"))
            with pytest.raises(EngineError, match=r"node n1: the Podman engine: ") as raised:
                running.wait(TIMEOUT)
            assert not isinstance(raised.value, EngineOutOfReach)
            checked = Path(directory, "nodes", "n1", "checked.json")
            assert not checked.exists()
            for _ in range(2):
                end = held(engine, bench.started("sh", "-c", "exit 3").key).wait(TIMEOUT)
                assert end is not None and end.status == 3
            assert [name for name in json.loads(checked.read_text()) if "docker" in name]
        bench.clear()


def test_a_node_is_checked_again_after_it_has_started_or_an_hour(tmp_path: Path) -> None:
    class Checked:
        times = 0

        def check(self) -> None:
            self.times += 1

    directory = Directory(str(tmp_path / "shared"))
    directory.make()
    sandbox = {"name": "docker"}
    engine = Checked()
    file = tmp_path / "shared" / "nodes" / "n1" / "checked.json"

    def asked() -> int:
        node = Node(directory, "n1")
        node._engines[json.dumps(sandbox)] = engine  # type: ignore[assignment]
        node.need_promises(sandbox)
        return engine.times

    assert (asked(), asked()) == (1, 1)
    known = json.loads(file.read_text())
    file.write_text(json.dumps({**known, "boot": "another"}))
    assert (asked(), asked()) == (2, 2)
    file.write_text(json.dumps({key: one if key == "boot" else one - 3601 for key, one in known.items()}))
    assert (asked(), asked()) == (3, 3)
    file.write_text(json.dumps({key: one if key == "boot" else one + 9000 for key, one in known.items()}))
    assert asked() == 4, "the clock was ahead"
