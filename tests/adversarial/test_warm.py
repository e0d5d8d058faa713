"""Hostile tasks of a workload against later ones: after each, the next task has a clean sandbox."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.jobs import held, written
from support.real_docker import built_image, containers, open_docker
from support.site import SLOWNESS

from compute_to_data.engines.docker import sandbox, warm_sandbox
from compute_to_data.errors import EngineError, EngineOutOfReach
from compute_to_data.job import ENGINE_MARGIN_SECONDS, Job, JobKey, Sandbox
from compute_to_data.model import User
from tests.adversarial.conftest import HOSTILE, IMAGE, LIMITS, TIMEOUT, Attacker

if TYPE_CHECKING:
    from compute_to_data.ports.engine import Engine

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
    engine = open_docker(str(tmp_path / "state"))
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


def test_no_task_outlives_its_sandbox(mallory: Mallory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker watches the walltime here. The sandbox's first process holds it, once the time is over in which the
    sandbox takes tasks."""
    monkeypatch.setattr(warm_sandbox, "_REUSED_SECONDS", 0.5)
    short = replace(LIMITS, walltime_seconds=1.0)
    job = mallory.start("python3", "-c", HOSTILE, "outlive_detached", limits=short, grace_seconds=0.5)
    end = mallory.end(job)
    assert 1.0 <= end.finished - end.started < 0.5 + 1.0 + 0.5 + ENGINE_MARGIN_SECONDS + 0.5 + 3.0 * SLOWNESS
    assert end.status != 0


def test_a_sandbox_that_ends_too_soon_for_a_task_does_not_get_it(mallory: Mallory, first: str) -> None:
    longer = replace(LIMITS, walltime_seconds=LIMITS.walltime_seconds + warm_sandbox._REUSED_SECONDS)
    other = mallory.answers(WHICH, limits=longer)
    assert other != first
    assert mallory.answers(WHICH, limits=longer) == other
    assert mallory.sandboxes() == 1, "the first one is removed"


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
        "python3 -c \"import os; os.setxattr('/output', 'user.left', b'x')\" || true",
        "prlimit --pid $PPID --nofile=16:16",
        "renice -n 5 -p $PPID || true",
        "echo 1000 >/proc/$PPID/oom_score_adj",
        "mkdir /output/d && chmod 0 /output/d",
    ],
)
def test_a_sandbox_that_a_task_changed_is_not_used_again(mallory: Mallory, first: str, script: str) -> None:
    before = "stat -c %a /outputs; ulimit -n; nice; cat /proc/self/oom_score_adj; ls -A /output"
    was = mallory.answers(before)
    mallory.runs(script)
    assert mallory.answers(before) == was


PROBE = r"""
import ctypes, errno, fcntl, os, socket, struct, sys
libc, parent = ctypes.CDLL(None, use_errno=True), os.getppid()
def flags(change=None):
    folder = os.open("/output", os.O_RDONLY)
    try:
        found = struct.unpack("i", fcntl.ioctl(folder, 0x80086601, bytes(8))[:4])[0]
        if change is not None:
            fcntl.ioctl(folder, 0x40086602, struct.pack("q", found ^ change))
    except OSError as error:
        return error.errno
    return found
def project(change=None):
    folder = os.open("/output", os.O_RDONLY)
    try:
        found = list(struct.unpack("IIIII8x", fcntl.ioctl(folder, 0x801C581F, bytes(28))))
        if change is not None:
            found[0], found[3] = found[0] | 0x200, change  # FS_XFLAG_PROJINHERIT
            fcntl.ioctl(folder, 0x401C5820, struct.pack("IIIII8x", *found))
    except OSError as error:
        return error.errno
    return found[0], found[3]
def talk(port):
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        with socket.create_connection(("127.0.0.1", port)) as client:
            one = server.accept()[0]
            one.close()  # this side is the first to close, so it keeps the port
            client.recv(1)
    return "spoke"
def scheduling(process, change=None):
    value = ctypes.create_string_buffer(struct.pack("IIQiIQQQII", 56, 0, 0, 0, 0, 0, 0, 0, 0, 0))
    libc.syscall(315, process, value, 56, 0)
    found = list(struct.unpack("IIQiIQQQII", value.raw[:56]))
    if change is not None:
        found[:3] = 56, 3, found[2] | change  # SCHED_BATCH
        libc.syscall(314, process, ctypes.create_string_buffer(struct.pack("IIQiIQQQII", *found)), 0)
    return found[1:5]
def attributes(process, flags=0x18, runtime=0, most=1024):
    value = ctypes.create_string_buffer(struct.pack("IIQiIQQQII", 56, 0, 0, 0, 0, 0, 0, 0, 0, 0))
    libc.syscall(315, process, value, 56, 0)
    found = list(struct.unpack("IIQiIQQQII", value.raw[:56]))
    if runtime or most < 1024:
        found[2], found[5], found[9] = flags & ~0x18 if runtime else flags, runtime, most
        libc.syscall(314, process, ctypes.create_string_buffer(struct.pack("IIQiIQQQII", *found)), 0)
    return found[1:]
def signals(process):
    return [line.split()[1:] for line in open(f"/proc/{process}/status") if line.startswith("SigQ")][0][0].split("/")[0]
"""
"""Programs of both a task that leaves something and of the next, which looks for it."""


@dataclass(frozen=True)
class Legacy:
    """What a task tries to leave for the next ones. ``look`` prints what a task finds."""

    leave: str
    look: str


def code(leave: str, look: str) -> Legacy:
    return Legacy(f"python3 -c '{PROBE}{leave}'", f"python3 -c '{PROBE}print({look})'")


LEGACIES = {
    "io class": Legacy("ionice -c 3 -p $PPID", "ionice -p $$"),
    "autogroup": Legacy("echo 10 >/proc/$PPID/autogroup", "sed s/.*nice// /proc/self/autogroup"),
    "own autogroup": Legacy("echo 5 >/proc/self/autogroup", "sed s/.*nice// /proc/self/autogroup"),
    "coredump filter": Legacy("echo 0x7f >/proc/$PPID/coredump_filter", "cat /proc/self/coredump_filter"),
    "coredump filter of the init": Legacy("echo 0x7f >/proc/1/coredump_filter", "cat /proc/1/coredump_filter"),
    "nice value of the init": Legacy("renice -n 5 -p 1", "cut -d' ' -f19 /proc/1/stat"),
    "memory score of the init": Legacy("echo 1000 >/proc/1/oom_score_adj", "cat /proc/1/oom_score_adj"),
    "batch scheduling": Legacy("chrt -b -p 0 $PPID", "chrt -p $$ | head -1 | sed s/.*policy//"),
    "idle scheduling": Legacy("chrt -i -p 0 $PPID", "chrt -p $$ | head -1 | sed s/.*policy//"),
    "reset on fork": code("scheduling(parent, 1)", "scheduling(parent)"),
    "processors": Legacy("taskset -p 1 $PPID", "taskset -p $$ | sed s/.*mask//"),
    "timer slack": Legacy("echo 9000000 >/proc/$PPID/timerslack_ns; echo 9 >/proc/1/timerslack_ns",
                          "cat /proc/self/timerslack_ns"),
    "limits of the init": Legacy("prlimit --pid 1 --nofile=16:16", "grep files /proc/1/limits"),
    "a core-scheduling cookie": code("libc.prctl(62, 1, parent, 0, 0)",
                                     "libc.prctl(62, 0, parent, 0, ctypes.byref(c := ctypes.c_uint64())), c.value"),
    "a stream that does not block": code("os.set_blocking(1, False); os.set_blocking(2, False)",
                                         "os.get_blocking(1), os.get_blocking(2)"),
    "signals of a stream": code("fcntl.fcntl(1, fcntl.F_SETFL, os.O_APPEND | os.O_ASYNC | os.O_WRONLY)",
                                "fcntl.fcntl(1, fcntl.F_GETFL), fcntl.fcntl(1, fcntl.F_GETOWN)"),
    "a lock on a stream": code("fcntl.flock(1, fcntl.LOCK_EX)",
                               "fcntl.flock(os.open(\"/.compute-to-data/stdout\", 1), fcntl.LOCK_EX | fcntl.LOCK_NB)"),
    "a narrow stream": code("fcntl.fcntl(1, 1031, 4096)", "fcntl.fcntl(1, 1032)"),
    "a wide stream": code("fcntl.fcntl(2, 1031, 1 << 20)", "fcntl.fcntl(2, 1032)"),
    "a port in TIME_WAIT": code("print(talk(4242))", "talk(4242)"),
    "inode flags of the outputs": code("flags(0x40)", "flags()"),
    "synchronous outputs": code("flags(0x8 | 0x10000)", "flags()"),
    "a project id of the outputs": code("project(4242)", "project()"),
    "times of the outputs": Legacy("touch -d @1 /output", "find /output -maxdepth 0 -mtime +9 -o -atime +9"),
    "a long directory": Legacy("cd /output; seq -f %0200.0f 900 | xargs touch; ls | xargs rm", "stat -c %s /output"),
    "a default access list": Legacy("setfacl -d -m u:1:rwx /output", "stat -c %a /output; ls -ld /output | cut -c11"),
    "attributes of the scratch space": Legacy(
        "for d in /tmp /dev/shm /dev/mqueue; do chmod 700 $d; setfattr -n user.x -v y $d; chattr +d $d; done",
        "stat -c %a:%u /tmp /dev/shm /dev/mqueue"),
    "a message queue": code("libc.syscall(240, b\"left\", os.O_CREAT, 0o600, None)", "os.listdir(\"/dev/mqueue\")"),
    "an abstract socket": code("s = socket.socket(socket.AF_UNIX); s.bind(\"\\0left\"); os._exit(0)",
                               "socket.socket(socket.AF_UNIX).bind(\"\\0left\")"),
    "an unread datagram": code(
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((\"127.0.0.1\", 4245)); "
        "s.sendto(b\"x\", s.getsockname())",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind((\"127.0.0.1\", 4245))"),
    "a key": code("libc.syscall(248, b\"user\", b\"left\", b\"x\", 1, -3)",
                  "libc.syscall(250, 10, -3, b\"user\", b\"left\", 0) < 0"),
    "the host name": Legacy("hostname left; echo left >/proc/sys/kernel/hostname", "hostname"),
    "a loopback device that is down": code(
        "fcntl.ioctl(socket.socket(), 0x8914, struct.pack(\"16sh14x\", b\"lo\", 0))", "talk(4243)"),
    "a set of semaphores": code("libc.semget(7, 1, 0o1600)", "libc.semget(7, 1, 0)"),
    "a queue of System V": code("libc.msgget(7, 0o1600)", "libc.msgget(7, 0)"),
    "a slice of time": code("attributes(parent, runtime=100_000_000)", "attributes(parent)"),
    "bounds of the processor's speed": code("attributes(parent, flags=0x78, most=1)", "attributes(parent)"),
    "orphans that have ended": Legacy(
        "for n in 1 2 3 4 5 6 7 8; do sh -c 'sleep 0.02 & sleep 0.03 &' & done; wait; sleep 0.2",
        "cat /proc/[0-9]*/stat | grep -c ') Z ' || true"),
    "a terminal": code("os.openpty(); os._exit(0)", "os.listdir(\"/dev/pts\")"),
    "queued signals of the runner": code(
        "[libc.sigqueue(parent, 28, ctypes.c_void_p(1)) for _ in range(2000)]", "signals(parent)"),
    "a group of multicast": code(
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
        "s.setsockopt(0, 35, socket.inet_aton(\"224.1.1.1\") + socket.inet_aton(\"127.0.0.1\"))",
        "[line for line in open(\"/proc/net/igmp\") if \"010101E0\" in line]"),
    "an address of the loopback device": code(
        "mine = struct.pack(\"16sHH4s8x\", b\"lo\", 2, 0, socket.inet_aton(\"10.9.8.7\")); "
        "fcntl.ioctl(socket.socket(), 0x8916, mine)",
        "open(\"/proc/net/fib_trie\").read().count(\"10.9.8.7\")"),
    "a directory of a mode without rights": Legacy(
        "mkdir -p /tmp/a/b /dev/shm/c/d; echo x >/tmp/a/b/f; chmod 0 /tmp/a/b /tmp/a /dev/shm/c",
        "ls -A /tmp /dev/shm"),
    "names that are no text": code(
        "[open(place + bytes([255, 10, 7]), \"w\") for place in (b\"/tmp/\", b\"/dev/shm/\", b\"/output/\")]",
        "os.listdir(b\"/tmp\"), os.listdir(b\"/dev/shm\")"),
    "a deep directory": code(
        "os.chdir(\"/tmp\"); [(os.mkdir(\"d\" * 200), os.chdir(\"d\" * 200)) for _ in range(60)]",
        "os.listdir(\"/tmp\")"),
    "memory that is shared by a name": code("open(\"/dev/shm/sem.left\", \"w\").truncate(1 << 20)",
                                            "os.listdir(\"/dev/shm\")"),
    "the score of the memory's end": Legacy("echo 1 >/proc/$PPID/oom_adj; echo 999 >/proc/$PPID/oom_score_adj",
                                            "cat /proc/self/oom_score_adj"),
    "limits of the runner's processor time": Legacy("prlimit --pid $PPID --cpu=1:1", "ulimit -Ht"),
    "limits of the runner's stack": Legacy("prlimit --pid $PPID --stack=65536:", "ulimit -s"),
    "the shell's mask and personality": Legacy("umask 0; setarch -R true", "umask; cat /proc/self/personality"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEGACIES)
def test_what_a_task_leaves_does_not_reach_the_next(mallory: Mallory, first: str, name: str) -> None:
    legacy = LEGACIES[name]
    was = mallory.answers(legacy.look)
    mallory.runs(f"{{ {legacy.leave}; }} || true")
    assert mallory.answers(legacy.look) == was


def test_an_ordinary_task_leaves_its_sandbox_to_the_next(mallory: Mallory, first: str) -> None:
    """Servers on loopback, as of a notebook's kernel, and streams that do not block, as in many programs."""
    program = code("print(talk(4244)); os.set_blocking(1, False)", "talk(4244)")
    mallory.runs(program.leave)
    assert mallory.answers(WHICH) == first


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
    job = mallory.start("sh", "-c", f"kill -9 {victim}; sleep 3600")
    end = mallory.end(job)
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
        pytest.param(("python3", "-c", f"{KNOWN}\nimport time; time.sleep(3600)"), id="the truth, too early"),
        pytest.param(("python3", "-c", f"{KNOWN}\nsys.exit(1)"), id="the truth, and another"),
        pytest.param(("sh", "-c", "echo run 0123456789abcdef >/.compute-to-data/requests"), id="a request"),
        pytest.param(("sh", "-c", "yes idle | head -c 300000 >/.compute-to-data/answers"), id="a flood"),
        pytest.param(("sh", "-c", "printf x >/.compute-to-data/answers"), id="half a line"),
    ],
)
def test_a_task_that_forges_answers_of_the_runner(mallory: Mallory, first: str, attack: tuple[str, ...]) -> None:
    job = mallory.start(*attack)
    with contextlib.suppress(EngineError):
        assert mallory.end(job).status != 0
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
        thread.join(TIMEOUT)
    assert len(set(seen)) == 2
    assert mallory.sandboxes() == 2


def test_an_idle_sandbox_that_was_removed_is_replaced(mallory: Mallory, first: str) -> None:
    folder = next((mallory.directory / "state" / "sandboxes").iterdir())
    with containers() as client:
        client.remove_container(f"compute-to-data-warm-{folder.name}", force=True)
    assert mallory.answers(WHICH) != first


def test_a_sandbox_that_is_lost_with_its_task_is_not_the_tasks_failure(mallory: Mallory, first: str) -> None:
    """An administrator or a restarted daemon removed it. The task can begin again."""
    job = mallory.start("sleep", "60")
    folder = next((mallory.directory / "state" / "sandboxes").iterdir())
    with containers() as client:
        client.remove_container(f"compute-to-data-warm-{folder.name}", force=True)
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
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "of the host").write_text("x")
    with built_image("volumes", f"FROM {IMAGE}\n{trap.format(tmp_path)}") as mallory.image:
        job = mallory.runs("for d in /data /link/inside; do echo x >$d/left; done 2>/dev/null; echo 1 >/output/kept")
        assert (Path(job.outputs) / "kept").read_text() == "1\n"
        assert mallory.answers("find /data /link/inside/ /output -mindepth 1 2>/dev/null; true") == ""
        mallory.clear()
    assert (inside / "of the host").read_text() == "x"
