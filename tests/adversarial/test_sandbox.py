"""Hostile containers on the real engine. Each attack is tried, and must fail.

No attack is larger than it must be to pass its limit: where the sandbox is broken, a test fails,
and the machine that found it out is still of use.
"""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.jobs import held, written
from support.real_docker import ENGINE, STATE
from support.site import PATIENCE

from compute_to_data import log_file
from compute_to_data.job import Job, Mount

if TYPE_CHECKING:
    from tests.adversarial.conftest import Attacker

pytestmark = pytest.mark.docker
BREACH = "got it"


def breaches(ways: dict[str, str]) -> list[str]:
    return [way for way, outcome in ways.items() if outcome == BREACH]


@pytest.fixture
def vault(tmp_path: Path) -> dict[str, Path]:
    """An input in a vault, beside other users' data that the job's account may read."""
    collection = tmp_path / "vault" / "home" / "mallory"
    collection.mkdir(parents=True)
    other = tmp_path / "vault" / "home" / "alice"
    other.mkdir()
    files = {"input": collection / "x", "sibling": collection / "sibling", "other": other / "secret"}
    for name, path in files.items():
        path.write_text(f"content of {name}")
        path.chmod(0o666)
    return files


def neighbour(attacker: Attacker) -> Callable[[], None]:
    """A second job that works meanwhile. Calling the result checks that the attack did not affect it."""
    code = """
import subprocess, time
print("alive", flush=True)
end = time.monotonic() + 1.5
while time.monotonic() < end:
    subprocess.run(["true"], check=True)
    len(bytearray(20 << 20))
print("unharmed")
"""
    job = attacker.start("python3", "-c", code)

    def unharmed() -> None:
        assert attacker.said(job) == "alive\nunharmed\n"
        assert attacker.end(job).out_of_memory is False

    return unharmed


def test_nothing_answers_on_the_network(attacker: Attacker) -> None:
    """The test listens on every address of this host, and receives nothing."""
    addresses = {"127.0.0.1", "172.17.0.1"}
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing, but shows the address of this host's interface
            addresses.add(probe.getsockname()[0])
        except OSError:
            pass  # without a route, the host has only the other addresses
    with socket.create_server(("0.0.0.0", 0)) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        port = server.getsockname()[1]
        ear.bind(("0.0.0.0", port))
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        server.accept()[0].close()
        ways = attacker.tries("network", *(f"{address}:{port}" for address in sorted(addresses)))
        assert breaches(ways) == []
        assert select.select([server, ear], [], [], 0.2)[0] == []


def test_only_the_input_itself_is_seen(attacker: Attacker, vault: dict[str, Path]) -> None:
    paths = [str(vault["sibling"]), str(vault["other"]), "/inputs/sibling", "/inputs/../sibling",
             str(vault["input"]), "/inputs/x/../sibling", f"/proc/1/root{vault['sibling']}",
             f"/proc/1/cwd/..{vault['other']}", "/etc/shadow", "/var/run/docker.sock", "/run/docker.sock"]  # fmt: skip
    mounts = (Mount(str(vault["input"]), "/inputs/x"),)
    ways = attacker.tries("files", *paths, "/inputs/x", inputs=mounts)
    assert breaches(ways) == ["read /inputs/x"]


def test_the_directory_of_inputs_holds_nothing_else(attacker: Attacker, vault: dict[str, Path]) -> None:
    job = attacker.start("ls", "-A", "/inputs", inputs=(Mount(str(vault["input"]), "/inputs/x"),))
    assert attacker.said(job) == "x\n"


def test_an_input_cannot_be_changed(attacker: Attacker, vault: dict[str, Path]) -> None:
    def state() -> tuple[object, ...]:
        found = vault["input"].stat()
        return found.st_ino, found.st_mode, found.st_uid, found.st_gid, found.st_nlink, found.st_mtime_ns

    before = state()
    mounts = (Mount(str(vault["input"]), "/inputs/x"),)
    ways = attacker.tries("inputs", "/inputs/x", inputs=mounts)
    assert breaches(ways) == []
    assert vault["input"].read_text() == "content of input"
    assert state() == before


def test_there_is_nowhere_else_to_write(attacker: Attacker, vault: dict[str, Path]) -> None:
    paths = ["/new", "/etc/passwd", "/etc/new", "/inputs/new", "/usr/bin/new", "/usr/bin/python3", "/var/new",
             "/run/new", "/root/new", "/home/new", "/open/file", "/open/new", "/dev/new", "/etc/resolv.conf",
             "/etc/hosts", "/etc/hostname", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname",
             "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper", "/sys/new",
             "/sys/fs/cgroup/new", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/proc/1/oom_score_adj",
             "/sbin/docker-init"]  # fmt: skip
    ways = attacker.tries("outside", *paths, inputs=(Mount(str(vault["input"]), "/inputs/x"),))
    assert breaches(ways) == []


def test_what_is_mounted_writable(attacker: Attacker) -> None:
    job = attacker.start("cat", "/proc/self/mounts")
    mounts = [line.split() for line in attacker.said(job).splitlines()]
    options = {target: set(flags.split(",")) for _, target, _, flags, *_ in mounts}
    assert "ro" in options["/"]
    assert {"rw", "noexec", "nosuid", "nodev", "size=4096k"} <= options["/tmp"]
    assert {"noexec", "nosuid", "nodev", "size=4096k"} <= options["/dev/shm"]


def test_what_can_be_written_at_all(attacker: Attacker, vault: dict[str, Path]) -> None:
    """Only the outputs, limited scratch space, the kernel's limited queues, and devices that store nothing."""
    found = attacker.tries("writable", inputs=(Mount(str(vault["input"]), "/inputs/x"),))
    devices = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "pts/ptmx")}
    assert set(found) - devices == {"/outputs", "/tmp", "/dev/shm", "/dev/mqueue"}


def test_no_process_becomes_root(attacker: Attacker) -> None:
    ways = attacker.tries("root", "/usr/local/bin/rootid")
    assert breaches(ways) == []
    assert ways["/usr/local/bin/rootid bears setuid"] == "yes", "otherwise the attack was not tried"
    code = "import os; os.setuid(0); print(os.getresuid())"
    job = attacker.start("/usr/local/bin/rootpython", "-c", code)
    assert attacker.end(job).status == 1
    assert b"PermissionError" in written(attacker.engine, job).stderr


def test_its_own_setuid_file_gives_no_rights(attacker: Attacker) -> None:
    ways = attacker.tries("own_setuid")
    assert breaches(ways) == []
    assert ways["run /tmp/id"] == "EACCES"


def test_outputs_belong_to_the_jobs_account(attacker: Attacker) -> None:
    job = attacker.start("sh", "-c", "touch /outputs/file; ls -ln /outputs/file; id -u; id -g; id -G")
    said = attacker.said(job).split()
    assert "0" not in said[-3:]
    found = (Path(job.outputs) / "file").stat()
    seen = attacker.engine._seen((found.st_uid, found.st_gid))  # type: ignore[attr-defined]
    assert seen == (int(said[-3]), int(said[-2]))
    assert 0 not in (found.st_uid, found.st_gid)


def test_the_kernel_refuses(attacker: Attacker, vault: dict[str, Path]) -> None:
    ways = attacker.tries("kernel", inputs=(Mount(str(vault["input"]), "/inputs/x"),))
    assert breaches(ways) == []


def test_there_are_sockets_of_four_families_only(attacker: Attacker) -> None:
    ways = attacker.tries("families")
    families = {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}
    allowed = {f"socket {family:#x}" for family in families} | {f"pair {socket.AF_UNIX:#x}"}
    assert allowed == set(breaches(ways))


def test_a_file_takes_no_more_than_its_size_shows(attacker: Attacker) -> None:
    assert breaches(attacker.tries("file_system")) == []


def test_a_job_cannot_slow_its_first_process_down(attacker: Attacker) -> None:
    assert breaches(attacker.tries("priorities")) == []


def test_programs_with_32_bits_are_refused_the_same(attacker: Attacker) -> None:
    assert breaches(attacker.tries("with_32_bits")) == []


def test_system_calls_have_no_third_way(attacker: Attacker) -> None:
    assert breaches(attacker.tries("with_the_numbers_of_x32")) == []


def test_a_crash_starts_no_program_on_the_host(attacker: Attacker) -> None:
    """The kernel starts one as root, where the host has one for core dumps, unless the limit is 1."""
    assert attacker.tries("core_dumps") == {"limit": "kept", "other limits": "work"}


def test_the_kernels_limits_for_each_account_are_low(attacker: Attacker) -> None:
    """Other jobs, and processes of the service account on the host, share what the kernel counts for a uid."""
    ways = attacker.tries("limits")
    assert breaches(ways) == []
    assert ways["message queue"] in ("EMFILE", "EPERM")
    assert ways["timers"] == "EAGAIN"
    seen = {name: ways[name] for name in ("SIGPENDING", "MSGQUEUE", "MEMLOCK", "RTPRIO", "NICE")}
    assert seen == {
        "SIGPENDING": "1024 1024",
        "MSGQUEUE": "0 0",
        "MEMLOCK": "65536 65536",
        "RTPRIO": "0 0",
        "NICE": "0 0",
    }


def test_a_job_gets_less_of_a_busy_host_than_irods(attacker: Attacker) -> None:
    """The kernel's own file of the job's control group. Other groups have 1024 (cgroup v1) or 100 (v2)."""
    job = attacker.start(
        "sh", "-c", "cd /sys/fs/cgroup; cat cpu.weight 2>/dev/null || { echo v1; cat cpu/cpu.shares; }"
    )
    weight = attacker.said(job).split()
    assert weight == ["v1", "256"] or int(weight[0]) < 50, weight


def test_tracing_its_own_init_stops_only_its_own_job(attacker: Attacker) -> None:
    """Docker's seccomp profile lets processes of one uid trace each other. This stops only the attacker's own job."""
    unharmed = neighbour(attacker)
    job = attacker.start("python3", "-c", (Path(__file__).parent / "hostile.py").read_text(), "trace_init")
    unharmed()
    held(attacker.engine, job.key).stop(1.0)
    assert attacker.end(job, 0).status in (0, 137, 143), "its own end, or ours; on a slow machine SIGTERM comes first"


def test_there_are_no_devices(attacker: Attacker) -> None:
    assert breaches(attacker.tries("devices")) in ([], ["read /proc/1/environ"])


def test_a_fork_bomb_meets_its_limit(attacker: Attacker) -> None:
    code = """
import os, signal, time
number = 0
for _ in range(200):
    try:
        if os.fork() == 0:
            for _ in range(2):
                try: os.fork()
                except OSError: pass
            signal.pause()
    except OSError as error:
        number = error.errno
        break
time.sleep(0.5)  # let the whole bomb go off
print(sum(name.isdigit() for name in os.listdir("/proc")), number, flush=True)
"""
    unharmed = neighbour(attacker)
    job = attacker.start("python3", "-c", code)
    processes, number = map(int, attacker.said(job).split())
    assert processes <= 32 + 1, "and the first process, which holds the deadline"
    assert number == 11
    unharmed()


@pytest.mark.parametrize("where", ["itself", "a child", "/tmp", "/dev/shm"])
def test_a_memory_bomb_is_reported_as_out_of_memory(attacker: Attacker, where: str) -> None:
    code = {
        "itself": "x = bytearray(500 << 20)",
        "a child": "import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = bytearray(500 << 20)'])",
        "/tmp": "for n in range(200): open(f'/tmp/{n}', 'wb').write(bytes(1 << 20))",
        "/dev/shm": "for n in range(200): open(f'/dev/shm/{n}', 'wb').write(bytes(1 << 20))",
    }[where]
    unharmed = neighbour(attacker) if where == "itself" else None
    limits = replace(attacker.limits, memory_bytes=48 << 20, tmp_bytes=300 << 20)
    job = attacker.start("python3", "-c", code, limits=limits)
    assert attacker.end(job).out_of_memory is True
    if unharmed:
        unharmed()


CUT = (4 << 20) + 1
"""The size at which the kernel cuts a file: one byte over the outputs' limit, so that the cut is seen."""


def test_one_file_cannot_outgrow_the_outputs(attacker: Attacker) -> None:
    code = """
import os
size = 0
with open("/outputs/huge", "wb", buffering=0) as file:
    try:
        for _ in range(64): size += file.write(bytes(1 << 20))
    except OSError as error:
        print(size, error.errno)
file = os.open("/outputs/file", os.O_RDWR | os.O_CREAT)
for way in (lambda: os.truncate("/outputs/huge", 1 << 40), lambda: os.posix_fallocate(file, 0, 1 << 26)):
    try: way(); print("got it")
    except OSError as error: print(error.errno)
"""
    job = attacker.start("python3", "-c", code)
    assert attacker.said(job).split() == [str(CUT), "27", "27", "27"]
    assert (Path(job.outputs) / "huge").stat().st_size == CUT


def test_a_shell_is_ended_by_its_huge_file(attacker: Attacker) -> None:
    job = attacker.start("sh", "-c", "exec head -c 67108864 /dev/zero > /outputs/huge")
    assert attacker.end(job).status == 128 + 25
    assert (Path(job.outputs) / "huge").stat().st_size == CUT


def test_tmp_is_bounded(attacker: Attacker) -> None:
    job = attacker.start("sh", "-c", "for n in 1 2 3; do dd if=/dev/zero of=/tmp/$n bs=1M count=3; done; du -sm /tmp")
    assert attacker.said(job).split()[0] == "4"
    assert b"No space left on device" in written(attacker.engine, job).stderr


def test_a_job_that_ignores_sigterm_is_killed_after_the_grace(attacker: Attacker) -> None:
    code = """
import os, signal
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0: os.setsid()
os.mkfifo("/outputs/ready")
print("deaf", flush=True)
while True: signal.pause()
"""
    job = attacker.start("python3", "-c", code)
    _until(lambda: (Path(job.outputs) / "ready").exists())
    before = time.monotonic()
    held(attacker.engine, job.key).stop(1.0)
    assert time.monotonic() - before < PATIENCE / 2
    assert attacker.end(job, 0).status == 137


def test_a_flood_of_log_does_not_fill_the_disk(attacker: Attacker) -> None:
    """A job writes a thousand times the limit, with empty and with long lines. The test measures what is on disk."""
    for flood in ("yes '' | head -c 1000000", "head -c 268435456 /dev/zero"):
        job = attacker.start("sh", "-c", flood)
        attacker.end(job)
        kept = _kept_log(job)
        assert kept is None or 0 < kept <= 17 << 20, "two files of the least size"
        logs = written(attacker.engine, job)
        assert 0 < len(logs.stdout) <= job.limits.log_bytes + 100, "what is kept, and the line about the rest"
        assert os.stat(job.log_file).st_blocks * 512 <= log_file.Layout(job.limits.log_bytes).size
    assert len(logs.stdout) > job.limits.log_bytes


def _kept_log(job: Job) -> int | None:
    """The bytes of a job's logs on the engine's disk, or None when this process cannot see them."""
    if ENGINE == "podman":
        return Path(STATE, "podman", "logs", f"compute-to-data-{job.key}").stat().st_size
    import docker

    with closing(docker.APIClient()) as client:
        found = client.inspect_container(f"compute-to-data-{job.key}")
        folder = Path(client.info()["DockerRootDir"]) / "containers" / found["Id"]
    if not os.access(folder, os.R_OK | os.X_OK):
        return None
    sizes: list[int] = [file.stat().st_size for file in (folder / "local-logs").iterdir()]
    return sum(sizes)


TRICKS = ("$(id)", "`id`", "a\nb", "a\r\nb", "';rm -rf /;'", '"', "\\n", "%(HOME)s", "${HOME}", "{{ 7*7 }}", "a=b",
          " lead", "trail ", "", "\t", "é\u202e", "\x1b[31m", "() { :; }; echo hit", "A" * 100_000)  # fmt: skip


def test_values_arrive_literally(attacker: Attacker) -> None:
    environment = {f"V{index}": trick for index, trick in enumerate(TRICKS)}
    job = attacker.start(
        "python3", "-c", "import json, os; print(json.dumps(dict(os.environ)))", environment=environment,
        limits=replace(attacker.limits, log_bytes=1 << 20),
    )  # fmt: skip
    seen: dict[str, Any] = json.loads(attacker.said(job))
    assert {name: seen.get(name) for name in environment} == environment


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
