"""Hostile tasks of a workload against later ones: after each, the next task has a clean sandbox."""

from __future__ import annotations

import contextlib
import io
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.jobs import held, written

from compute_to_data.configuration import EngineSettings
from compute_to_data.engines import open_engine
from compute_to_data.engines.docker import sandbox
from compute_to_data.errors import EngineError, EngineOutOfReach
from compute_to_data.job import Job, JobKey, Sandbox
from compute_to_data.model import User
from tests.adversarial.conftest import IMAGE, LIMITS, TIMEOUT, Attacker

if TYPE_CHECKING:
    from compute_to_data.ports import Engine

pytestmark = pytest.mark.docker

WHICH = "echo $(readlink /proc/self/ns/pid)/$(cut -d' ' -f22 /proc/1/stat)"
"""Prints an id of the sandbox. The kernel reuses a namespace's number, but not at the same time."""


class Mallory(Attacker):
    """Runs tasks of one workload in at most two warm sandboxes."""

    def start(self, *command: str, **more: Any) -> Job:
        workload = Sandbox("workload", 2, str(self.directory / "vault"))
        return super().start(*command, **{"sandbox": workload, "scope": str(self.directory), **more})

    def runs(self, script: str, **more: Any) -> Job:
        """Run a shell script, which must succeed."""
        job = self.start("sh", "-c", script, **more)
        end = self.end(job)
        assert (end.status, end.out_of_memory) == (0, False), written(self.engine, job)
        return job

    def answers(self, script: str, **more: Any) -> str:
        return written(self.engine, self.runs(script, **more)).stdout.decode().strip()

    def sandboxes(self) -> int:
        return len(list((self.directory / "state" / "sandboxes").iterdir()))

    def clear(self) -> None:
        super().clear()
        self.engine.tidy(str(self.directory), frozenset(), 0)
        assert self.sandboxes() == 0
        assert not (self.directory / "vault").exists()


@pytest.fixture
def mallory(docker_engine: Engine, tmp_path: Path) -> Iterator[Mallory]:
    engine = open_engine(EngineSettings("docker"), str(tmp_path / "state"))
    mallory = Mallory(engine, tmp_path, IMAGE)
    yield mallory
    mallory.clear()


@pytest.fixture
def first(mallory: Mallory) -> str:
    """The sandbox in which the first task ran, and in which the next one would run."""
    seen = mallory.answers(WHICH)
    assert mallory.answers(WHICH) == seen, "after a harmless task, the next one has the same sandbox"
    return seen


def test_a_warm_sandbox_has_the_settings_of_any_sandbox(mallory: Mallory) -> None:
    job = mallory.runs("true")
    own = sandbox.container(job, (65534, 65534), volumes=["/data"])
    warm = sandbox.warm(job, (65534, 65534), "/folder", "/area", volumes=["/data"])
    of_its_own = {"Labels", "Entrypoint", "HostConfig"}
    assert {k: v for k, v in own.items() if k not in of_its_own} == {
        k: v for k, v in warm.items() if k not in of_its_own
    }
    for body in (own, warm):
        body["HostConfig"].pop("LogConfig")
    mounts, more = (body["HostConfig"].pop("Mounts") for body in (own, warm))
    assert own["HostConfig"] == warm["HostConfig"]
    for mount in mounts:
        mount["Source"] = "/area/outputs" if mount.get("Source") == job.outputs else mount.get("Source")
    new = [mount for mount in more if mount not in [{k: v for k, v in m.items() if v is not None} for m in mounts]]
    assert [(mount["Target"], mount["ReadOnly"]) for mount in new] == [("/inputs", True), ("/.compute-to-data", True)]


def test_nothing_of_a_task_is_there_for_the_next(mallory: Mallory, first: str) -> None:
    left = "mkdir -p /tmp/a/b /tmp/.hidden; for d in /tmp/a/b /dev/shm /dev/mqueue /output; do echo x >$d/left; done"
    mallory.runs(f"{left}; ln -s /etc /tmp/link; cd /output; export LEFT=1; alias ls=false")
    look = "find /tmp /dev/shm /dev/mqueue /output /outputs /inputs -mindepth 1; env | grep LEFT; pwd"
    assert mallory.answers(look) == "/tmp"
    assert mallory.answers(WHICH) == first


def test_a_sandbox_that_cannot_be_cleaned_is_not_used_again(mallory: Mallory, first: str) -> None:
    shared = "import ctypes; assert ctypes.CDLL(None).shmget(7, 4096, 0o1600) >= 0"
    mallory.runs(f'python3 -c "{shared}"')
    assert mallory.answers(f"{WHICH}; cat /proc/sysvipc/shm | wc -l").split() != [first, "2"]
    assert mallory.answers("wc -l </proc/sysvipc/shm") == "1"


@pytest.mark.parametrize(
    "script",
    [
        "chmod 0777 /output",
        "python3 -c \"import os; os.setxattr('/output', 'user.left', b'x')\"",
        "prlimit --pid $PPID --nofile=16:16",
        "renice -n 5 -p $PPID",
        "echo 1000 >/proc/$PPID/oom_score_adj",
        "mkdir /output/d && chmod 0 /output/d",
    ],
)
def test_a_sandbox_that_a_task_changed_is_not_used_again(mallory: Mallory, first: str, script: str) -> None:
    before = "stat -c %a /outputs; ulimit -n; nice; cat /proc/self/oom_score_adj; ls -A /output"
    was = mallory.answers(before)
    mallory.runs(script)
    assert mallory.answers(before) == was


def test_a_daemon_dies_before_the_next_task(mallory: Mallory, first: str) -> None:
    daemon = "setsid sh -c 'trap \"\" HUP TERM; while :; do echo x >>/output/left; sleep 0.01; done' >/dev/null 2>&1 &"
    job = mallory.runs(f"{daemon} echo mine >/output/mine")
    size = sum(path.stat().st_size for path in Path(job.outputs).iterdir())
    following = mallory.runs(f"sleep 0.2; {WHICH}; ls -A /output")
    assert written(mallory.engine, following).stdout.decode().split() != [first]
    assert list(Path(following.outputs).iterdir()) == []
    assert sum(path.stat().st_size for path in Path(job.outputs).iterdir()) == size
    assert (Path(job.outputs) / "mine").read_text() == "mine\n"


def test_the_outputs_cannot_be_replaced(mallory: Mallory, first: str) -> None:
    ways = ["rmdir /output", "mv /output /tmp/x", "ln -sfT /etc /output", "mount --bind /tmp /output",
            "rmdir /outputs && ln -s /tmp /outputs", "mv /.compute-to-data /tmp/y"]  # fmt: skip
    mallory.runs("".join(f"if {way} 2>/dev/null; then exit 9; fi; " for way in ways))
    job = mallory.runs("ln -s /etc/passwd /output/link; ln -s / /output/root; true")
    assert sorted(path.name for path in Path(job.outputs).iterdir()) == ["link", "root"]
    assert mallory.answers(f"ls -A /output; {WHICH}") == first


@pytest.mark.parametrize("victim", ["$PPID", "-1"])
def test_a_task_that_kills_its_parent(mallory: Mallory, first: str, victim: str) -> None:
    job = mallory.start("sh", "-c", f"kill -9 {victim}; sleep 30")
    end = mallory.end(job, 20)
    assert end.status == 137
    assert b"ended its sandbox" in written(mallory.engine, job).stderr
    assert mallory.answers(WHICH) != first


def test_a_task_that_stops_its_parent(mallory: Mallory, first: str) -> None:
    job = mallory.start("sh", "-c", "kill -STOP $PPID")
    assert held(mallory.engine, job.key).wait(0.5) is None, "the engine does not know its end, so the walltime stops it"
    held(mallory.engine, job.key).stop(0)
    assert mallory.end(job).status == 137
    assert mallory.answers(WHICH) != first


GUESSED = "echo 'done 0123456789abcdef 0' >/.compute-to-data/answers"
# The shell has the number of its task in memory, and processes of one uid may read each other's memory.
KNOWN = r"""
import os, re, sys
parent = os.getppid()
with open(f"/proc/{parent}/maps") as maps, open(f"/proc/{parent}/mem", "rb", buffering=0) as memory:
    for line in maps:
        low, high = (int(one, 16) for one in line.split()[0].split("-"))
        if "[heap]" in line or "[stack]" in line:
            memory.seek(low)
            found = re.search(rb"c2d_number=([0-9a-f]{16})", memory.read(high - low))
            if found:
                with open("/.compute-to-data/answers", "wb", buffering=0) as answers:
                    answers.write(b"done " + found.group(1) + b" 0\n")
                    break
    else:
        sys.exit(3)
"""


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(("sh", "-c", f"{GUESSED}; exit 1"), id="a guess"),
        pytest.param(("python3", "-c", f"{KNOWN}\nimport time; time.sleep(30)"), id="the truth, too early"),
        pytest.param(("python3", "-c", f"{KNOWN}\nsys.exit(1)"), id="the truth, and another"),
        pytest.param(("sh", "-c", "echo run 0123456789abcdef >/.compute-to-data/requests"), id="a request"),
        pytest.param(("sh", "-c", "yes idle | head -c 300000 >/.compute-to-data/answers"), id="a flood"),
        pytest.param(("sh", "-c", "printf x >/.compute-to-data/answers"), id="half a line"),
    ],
)
def test_a_task_that_forges_answers_of_the_runner(mallory: Mallory, first: str, attack: tuple[str, ...]) -> None:
    job = mallory.start(*attack)
    with contextlib.suppress(EngineError):
        assert mallory.end(job, 20).status != 0
    assert mallory.answers(WHICH) != first
    assert mallory.answers("ls -A /output /tmp") == "/output:\n\n/tmp:"


def test_a_task_that_reads_the_next_tasks_request(mallory: Mallory, first: str) -> None:
    mallory.runs("setsid sh -c 'cat /.compute-to-data/requests >/dev/null' >/dev/null 2>&1 & true")
    assert mallory.answers(f"echo here; {WHICH}") != f"here\n{first}"


def test_a_task_writes_nothing_beside_its_outputs(mallory: Mallory, first: str) -> None:
    ways = ["echo x >/.compute-to-data/task", "rm -f /.compute-to-data/requests", "mkfifo /.compute-to-data/new",
            "chmod 0 /.compute-to-data", "touch /inputs/new", "chmod 0777 /inputs"]  # fmt: skip
    mallory.runs("".join(f"if {way} 2>/dev/null; then exit 9; fi; " for way in ways))
    assert mallory.answers(WHICH) == first


def test_a_neighbour_comes_to_no_harm(mallory: Mallory) -> None:
    """Each sandbox has its own memory, processes and descriptors."""
    quiet = mallory.start("sh", "-c", "for i in 1 2 3 4 5 6 7 8; do true & wait; sleep 0.1; done; echo unharmed")
    greedy = mallory.start("python3", "-c", "x = bytearray(100 << 20); print(len(x))")
    crowd = "import os\nfor _ in range(60):\n    if os.fork() == 0:\n        import time; time.sleep(5); os._exit(0)"
    assert mallory.end(greedy).out_of_memory
    crowded = mallory.start("python3", "-c", crowd)
    assert mallory.end(crowded).status != 0
    assert mallory.said(quiet) == "unharmed\n"


def test_only_tasks_of_the_same_kind_share_a_sandbox(mallory: Mallory, first: str) -> None:
    other = Sandbox("other workload", 2, str(mallory.directory / "vault"))
    assert mallory.answers(WHICH, sandbox=other) != first
    assert mallory.answers(WHICH, limits=replace(LIMITS, pids=31)) != first
    assert mallory.answers(WHICH, scope="elsewhere") != first
    mallory.engine.tidy("elsewhere", frozenset(), 0)
    job = mallory.start("sh", "-c", WHICH)
    mallory.end(job)
    outputs = str(mallory.directory / "bobs")
    mallory.engine.prepare(outputs)
    bobs = replace(job, owner=User("bob", "tempZone"), key=JobKey("bobs"), outputs=outputs, log_file=f"{outputs}.log")
    mallory.keys.append(JobKey("bobs"))
    mallory.engine.submit(bobs)
    assert mallory.said(bobs).strip() not in ("", first)
    assert mallory.answers(WHICH, limits=replace(LIMITS, walltime_seconds=5)) == first


def test_two_at_a_time_have_two_sandboxes(mallory: Mallory) -> None:
    barrier, seen = threading.Barrier(2), []

    def one() -> None:
        barrier.wait(TIMEOUT)
        job = mallory.start("sh", "-c", f"until [ -e /output/go ]; do sleep 0.02; done; {WHICH}")
        barrier.wait(TIMEOUT)
        (Path(job.outputs) / "go").touch()
        seen.append(mallory.said(job))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(seen)) == 2
    assert mallory.sandboxes() == 2


def test_an_idle_sandbox_that_was_removed_is_replaced(mallory: Mallory, first: str) -> None:
    import docker

    client = docker.APIClient()
    folder = next((mallory.directory / "state" / "sandboxes").iterdir())
    client.remove_container(f"compute-to-data-warm-{folder.name}", force=True)
    client.close()
    assert mallory.answers(WHICH) != first


def test_a_sandbox_that_is_lost_with_its_task_is_not_the_tasks_failure(mallory: Mallory, first: str) -> None:
    """An administrator or a restarted daemon removed it. The task can begin again."""
    import docker

    job = mallory.start("sleep", "60")
    client = docker.APIClient()
    folder = next((mallory.directory / "state" / "sandboxes").iterdir())
    client.remove_container(f"compute-to-data-warm-{folder.name}", force=True)
    client.close()
    with pytest.raises(EngineOutOfReach, match="lost"):
        mallory.end(job)
    assert mallory.engine.find(job.key) is None
    assert mallory.answers(WHICH) != first


def test_secrets_never_enter_a_warm_sandbox(mallory: Mallory, first: str) -> None:
    secret = {"token": b"hush"}
    assert mallory.answers(f"{WHICH}; cat /run/secrets/token", secrets=secret).split() != [first, "hush"]
    assert mallory.answers("cat /run/secrets/token", secrets=secret) == "hush"
    assert mallory.answers(f"{WHICH}; ls -A /run/secrets 2>/dev/null; true") == first


LINK = "RUN mkdir -p /elsewhere && ln -s {} /link\nVOLUME /link/inside"
VOLUMES = "VOLUME /outputs\nVOLUME /output\nVOLUME /inputs\nVOLUME /data"


@pytest.mark.parametrize("trap", [LINK, VOLUMES], ids=["a link", "volumes"])
def test_links_in_an_image_are_not_followed(mallory: Mallory, tmp_path: Path, trap: str) -> None:
    """The engine empties the image's volumes after each task, but not its outputs. It does not follow a symbolic
    link on the way to a volume, because on the host the link would name a path of the host."""
    import docker

    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "of the host").write_text("x")
    name = f"compute-to-data/test-volumes:{uuid.uuid4().hex[:12]}"
    with closing(docker.APIClient()) as client:
        try:
            build = io.BytesIO(f"FROM {IMAGE}\n{trap.format(tmp_path)}".encode())
            said = list(client.build(fileobj=build, tag=name, rm=True, decode=True))
            assert client.images(name), said
            mallory.image = name
            job = mallory.runs(
                "for d in /data /link/inside; do echo x >$d/left; done 2>/dev/null; echo 1 >/output/kept"
            )
            assert (Path(job.outputs) / "kept").read_text() == "1\n"
            assert mallory.answers("find /data /link/inside/ /output -mindepth 1 2>/dev/null; true") == ""
            mallory.clear()
        finally:
            client.remove_image(name, force=True)
    assert (inside / "of the host").read_text() == "x"
