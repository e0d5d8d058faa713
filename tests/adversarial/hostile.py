"""Programs a hostile user would run; executed inside the sandbox, never imported.

``hostile.py ATTACK ARGUMENTS...`` tries one thing in every way it knows and prints one line of
JSON: each way with what came of it. ``"got it"`` is a breach, anything else the refusal's name.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

LIBC = ctypes.CDLL(None, use_errno=True)
BREACH = "got it"
CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWPID = 1 << 28, 1 << 17, 1 << 30, 1 << 29
# Numbers of system calls on x86-64.
PTRACE, SYSLOG, MOUNT, UMOUNT, KEYCTL, UNSHARE, PROCESS_VM_WRITEV = 101, 103, 165, 166, 250, 272, 311
MQ_OPEN, TIMER_CREATE, IOPRIO_SET = 240, 222, 251
FORBIDDEN = {
    "settimeofday": 164, "reboot": 169, "init_module": 175, "kexec_load": 246, "perf_event_open": 298,
    "open_by_handle_at": 304, "bpf": 321, "userfaultfd": 323, "add_key": 248, "request_key": 249, "clone3": 435,
    "io_setup": 206, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "fanotify_init": 300,
    "name_to_handle_at": 303, "setns": 308, "modify_ldt": 154, "quotactl": 179, "file_setattr": 469,
}  # fmt: skip


def attempt(way: Callable[[], object]) -> str:
    """The result of one way: a breach, or the name of the error."""
    try:
        way()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    except Exception as error:  # noqa: BLE001  whatever it is, it is a refusal
        return type(error).__name__
    return BREACH


def first_above(process: int) -> int:
    """The first of the processes above one, as far as the sandbox shows them."""
    while True:
        with open(f"/proc/{process}/stat", encoding="ascii") as file:
            parent = int(file.read().rpartition(")")[2].split()[1])
        if parent == 0:
            return process
        process = parent


def system_call(*arguments: object) -> None:
    if LIBC.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def connect(host: str, port: str) -> None:
    socket.create_connection((host, int(port)), timeout=2).close()


def datagram(host: str, port: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"out", (host, int(port)))


def write(path: str) -> None:
    with open(path, "ab") as file:
        file.write(b"x")


def read(path: str) -> None:
    with open(path, "rb") as file:
        file.read(1)


def read_something(path: str) -> None:
    """An engine covers some files with /dev/null, which can be read and holds nothing."""
    with open(path, "rb") as file:
        if not file.read(1):
            raise EOFError


def network(*addresses: str) -> dict[str, str]:
    ways: dict[str, str] = {}
    for address in addresses:
        host, _, port = address.rpartition(":")
        ways[f"tcp {address}"] = attempt(lambda host=host, port=port: connect(host, port))  # type: ignore[misc]
        if host != "127.0.0.1":  # a datagram to its own loopback is allowed
            ways[f"udp {address}"] = attempt(lambda host=host, port=port: datagram(host, port))  # type: ignore[misc]
    for name in ("host.docker.internal", "example.com"):
        ways[f"dns {name}"] = attempt(lambda name=name: socket.getaddrinfo(name, 80))  # type: ignore[misc]
    ways["raw"] = attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close())
    ways["packet"] = attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3).close())
    others = [name for _, name in socket.if_nameindex() if name not in ("lo", "tunl0", "sit0", "ip6tnl0", "gre0")]
    ways["interfaces"] = BREACH if others else "none"
    return ways


def files(*paths: str) -> dict[str, str]:
    """Read what lies beside the input in the vault, by its host's path and from the mount."""
    return {f"read {path}": attempt(lambda path=path: read(path)) for path in paths}  # type: ignore[misc]


def inputs(path: str) -> dict[str, str]:
    return {
        "append": attempt(lambda: write(path)),
        "truncate": attempt(lambda: os.truncate(path, 0)),
        "chmod": attempt(lambda: os.chmod(path, 0o777)),
        "chown": attempt(lambda: os.chown(path, os.getuid(), os.getgid())),
        "rename": attempt(lambda: os.rename(path, path + ".old")),
        "rename away": attempt(lambda: os.rename(path, "/outputs/taken")),
        "replace": attempt(lambda: os.replace("/outputs/mine", path)),
        "unlink": attempt(lambda: os.unlink(path)),
        "hard link": attempt(lambda: os.link(path, "/outputs/link")),
        "utime": attempt(lambda: os.utime(path, (0, 0))),
        "xattr": attempt(lambda: os.setxattr(path, "user.mine", b"x")),
        "through proc": attempt(lambda: write(f"/proc/self/fd/{os.open(path, os.O_RDONLY)}")),
    }


def outside(*paths: str) -> dict[str, str]:
    ways = {f"write {path}": attempt(lambda path=path: write(path)) for path in paths}  # type: ignore[misc]
    ways["mkdir /new"] = attempt(lambda: os.mkdir("/new"))
    ways["chmod /"] = attempt(lambda: os.chmod("/", 0o777))
    ways["chmod /inputs"] = attempt(lambda: os.chmod("/inputs", 0o777))
    return ways


def root(*programs: str) -> dict[str, str]:
    """``programs``: setuid-root ones that print an effective user id."""
    ways = {
        "setuid": attempt(lambda: os.setuid(0)),
        "setgid": attempt(lambda: os.setgid(0)),
        "setgroups": attempt(lambda: os.setgroups([0])),
        "setresuid": attempt(lambda: os.setresuid(0, 0, 0)),
        "chroot": attempt(lambda: os.chroot("/tmp")),
        "nice": attempt(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5)),
        "ids": BREACH if 0 in (os.getuid(), os.geteuid(), os.getgid(), os.getegid(), *os.getgroups()) else "not 0",
    }
    for program in programs:
        done = subprocess.run([program, "-u"], capture_output=True, text=True, check=False)
        ways[f"run {program}"] = BREACH if done.stdout.strip() == "0" else f"ran as {done.stdout.strip() or 'nobody'}"
        ways[f"{program} bears setuid"] = "yes" if os.stat(program).st_mode & stat.S_ISUID else "no"
    for command in (["su", "-c", "id -u"], ["newgrp", "root"], ["mount", "/dev/vda", "/tmp"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        ways[" ".join(command)] = BREACH if done.returncode == 0 else "refused"
    status = dict(line.split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)  # noqa: SIM115
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        ways[name] = "none" if int(status[name], 16) == 0 else BREACH
    ways["NoNewPrivs"] = "set" if status["NoNewPrivs"].strip() == "1" else BREACH
    ways["Seccomp"] = "filters" if status["Seccomp"].strip() == "2" else BREACH
    return ways


def own_setuid() -> dict[str, str]:
    """Make a setuid copy where this user may write. At best it runs as this user."""
    ways = {}
    for place in ("/outputs", "/tmp", "/dev/shm"):
        copy = f"{place}/id"
        subprocess.run(["cp", "/usr/bin/id", copy], check=True)
        os.chmod(copy, 0o6755)
        ways[f"chown {copy}"] = attempt(lambda copy=copy: os.chown(copy, 0, 0))  # type: ignore[misc]
        try:
            done = subprocess.run([copy, "-u"], capture_output=True, text=True, check=False)
            ways[f"run {copy}"] = BREACH if done.stdout.strip() == "0" else f"ran as {done.stdout.strip()}"
        except OSError as error:
            ways[f"run {copy}"] = errno.errorcode[error.errno or 0]
        os.unlink(copy)
    return ways


def kernel() -> dict[str, str]:
    mount = (b"none", b"/tmp", b"tmpfs", 0, None)
    ways = {
        f"unshare {flag:#x}": attempt(lambda flag=flag: system_call(UNSHARE, flag))  # type: ignore[misc]
        for flag in (CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWUSER | CLONE_NEWNS)
    }
    ways["mount"] = attempt(lambda: system_call(MOUNT, *mount))
    ways["remount input"] = attempt(lambda: system_call(MOUNT, b"none", b"/inputs/x", b"none", 32 | 4096, None))
    ways["umount"] = attempt(lambda: system_call(UMOUNT, b"/inputs/x", 0))
    for place in ("/outputs/device", "/tmp/device"):
        for kind in (stat.S_IFBLK, stat.S_IFCHR):
            ways[f"mknod {kind:o} {place}"] = attempt(
                lambda kind=kind, place=place: os.mknod(place, kind | 0o666, os.makedev(1, 1))  # type: ignore[misc]
            )
    ways["keyctl"] = attempt(lambda: system_call(KEYCTL, 0, -3, 1))
    for name, number in FORBIDDEN.items():
        ways[name] = attempt(lambda number=number: system_call(number, 0, 0, 0, 0, 0))  # type: ignore[misc]
    ways["kernel log"] = attempt(lambda: system_call(SYSLOG, 3, ctypes.create_string_buffer(64), 64))
    ways["signal init's parent"] = "one process tree" if first_above(os.getpid()) == 1 else BREACH
    listing = [entry for entry in os.listdir("/proc") if entry.isdigit()]
    ways["processes of others"] = BREACH if len(listing) > 4 else "none"
    return ways


FALLOCATE, KEEP_SIZE = 285, 1
FS_IOC_SETFLAGS, FS_IOC32_SETFLAGS, FS_IOC_FSSETXATTR = 0x40086602, 0x40046602, 0x401C5820


def families() -> dict[str, str]:
    """Open a socket of every family, also with a number whose upper half the kernel ignores."""
    ways = {}
    for family in range(64):
        for number in (family, family | 1 << 32):
            pair = (ctypes.c_int * 2)()
            tried = [
                attempt(lambda number=number, kind=kind: system_call(41, ctypes.c_long(number), kind, 0))  # type: ignore[misc]
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET)
            ]
            ways[f"socket {number:#x}"] = BREACH if BREACH in tried else tried[0]
            ways[f"pair {number:#x}"] = attempt(
                lambda number=number, pair=pair: system_call(53, ctypes.c_long(number), 1, 0, pair)  # type: ignore[misc]
            )
    return ways


def file_system() -> dict[str, str]:
    """Give a file of its own what its size does not show."""
    descriptor = os.open("/outputs/own", os.O_CREAT | os.O_RDWR)
    flags = ctypes.create_string_buffer(64)
    ways = {
        f"allocate beyond the end, {mode:#x}": attempt(
            lambda mode=mode: system_call(FALLOCATE, descriptor, ctypes.c_long(mode), ctypes.c_long(0), 1 << 20)  # type: ignore[misc]
        )
        for mode in (KEEP_SIZE, KEEP_SIZE | 1 << 32)
    }
    ways["attribute by path"] = attempt(lambda: os.setxattr("/outputs/own", "user.mine", b"x"))
    ways["attribute by descriptor"] = attempt(lambda: os.setxattr(descriptor, "user.mine", b"x"))
    ways["attribute of the directory"] = attempt(lambda: os.setxattr("/outputs", "user.mine", b"x"))
    for number in (FS_IOC_SETFLAGS, FS_IOC32_SETFLAGS, FS_IOC_FSSETXATTR):
        for given in (number, number | 1 << 32):
            ways[f"ioctl {given:#x}"] = attempt(
                lambda given=given: system_call(16, descriptor, ctypes.c_long(given), flags)  # type: ignore[misc]
            )
    ways["blocks"] = BREACH if os.fstat(descriptor).st_blocks else "none"
    return ways


def priorities() -> dict[str, str]:
    """Change the priority of the job's first process."""
    parameter = (ctypes.c_int * 1)(0)
    return {
        "nice": attempt(lambda: os.setpriority(os.PRIO_PROCESS, 1, 19)),
        "nice of all": attempt(lambda: os.setpriority(os.PRIO_USER, 0, 19)),
        "nice of its group": attempt(lambda: os.setpriority(os.PRIO_PGRP, 0, 19)),
        "nice of its user": attempt(lambda: os.setpriority(os.PRIO_USER, os.getuid(), 19)),
        "upper bits": attempt(lambda: system_call(141, ctypes.c_long(1 << 32), ctypes.c_long(1 | 1 << 32), 19)),
        "idle": attempt(lambda: system_call(144, 1, 5, parameter)),
        "upper bits, idle": attempt(lambda: system_call(144, ctypes.c_long(1 | 1 << 32), 5, parameter)),
        "parameters": attempt(lambda: system_call(142, 1, parameter)),
    }


def with_32_bits() -> dict[str, str]:
    """Make system calls in the way of programs with 32 bits, which have other numbers."""
    calls = {
        "socket AF_VSOCK": (359, 40, 1, 0),
        "socket AF_ALG": (359, 38, 5, 0),
        "socketcall": (102, 1, 0, 0),
        "keyctl": (288, 0, -3, 1),
        "io_setup": (245, 1, 0, 0),
        "bpf": (357, 0, 0, 0),
        "unshare": (310, CLONE_NEWUSER, 0, 0),
        "clone": (120, CLONE_NEWUSER | 17, 0, 0),
        "perf_event_open": (336, 0, 0, 0),
        "mount": (21, 0, 0, 0),
        "clone3": (435, 0, 88, 0),
        "io_uring_setup": (425, 1, 0, 0),
        "userfaultfd": (374, 0, 0, 0),
        "add_key": (286, 0, 0, 0),
        "request_key": (287, 0, 0, 0),
        "setns": (346, 0, CLONE_NEWNS, 0),
        "open_by_handle_at": (342, 0, 0, 0),
        "kexec_load": (283, 0, 0, 0),
        "init_module": (128, 0, 0, 0),
        "quotactl": (131, 0, 0, 0),
        "open_tree": (428, -100, 0, 0),
        "fsopen": (430, 0, 0, 0),
        "pidfd_getfd": (438, 0, 0, 0),
        "memfd_secret": (447, 0, 0, 0),
        "file_setattr": (469, -100, 0, 0),
        "setxattr": (226, 0, 0, 0),
        "flags of a file": (54, 1, FS_IOC32_SETFLAGS, 0),
        "blocks beyond the end": (324, 1, KEEP_SIZE, 0),
        "nice value of the init": (97, 0, 1, 19),
        "scheduling of the init": (156, 1, 5, 0),
    }
    return {name: _result_in_a_child(numbers) for name, numbers in calls.items()}


X32 = 1 << 30
"""Of a number of a system call: it has the arguments of programs with 32 bits and the registers of those with 64."""


def with_the_numbers_of_x32() -> dict[str, str]:
    """Make system calls by the third way of this processor."""
    numbers = {**FORBIDDEN, "keyctl": KEYCTL, "unshare": UNSHARE, "mount": MOUNT, "ptrace": 521, "getpid": 39}
    ways = {}
    for name, number in numbers.items():
        child = os.fork()
        if not child:
            result = LIBC.syscall(ctypes.c_long(number | X32), 0, 0, 0, 0, 0)
            os._exit(0 if result >= 0 else ctypes.get_errno())
        _, status = os.waitpid(child, 0)
        ended = os.WIFSIGNALED(status) or os.WEXITSTATUS(status) != 0
        ways[name] = "refused" if ended else BREACH
    return ways


def _result_in_a_child(numbers: tuple[int, ...]) -> str:
    """The result of one call with ``int 0x80``. The kernel may kill the process for it."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        # push rbx; mov eax, edi; mov ebx, esi; xchg ecx, edx; int 0x80; pop rbx; ret
        code.write(bytes.fromhex("5389f889f387cacd805bc3"))
        call = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_int] * 4)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
        result = call(*numbers)
        os.write(writer, (BREACH if result >= 0 else errno.errorcode.get(-result, str(result))).encode())
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    answer = os.read(reader, 100).decode()
    os.close(reader)
    return answer or f"ended by signal {os.WTERMSIG(status)}"


def limits() -> dict[str, str]:
    """What the kernel counts for each uid, or would take from other processes on the host."""
    ways = {
        "message queue": attempt(lambda: _message_queue()),
        "real time": attempt(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))),
        "better priority": attempt(lambda: os.setpriority(os.PRIO_PROCESS, 0, -1)),
        "real-time i/o": attempt(lambda: system_call(IOPRIO_SET, 1, 0, 1 << 13)),
        "locked memory": attempt(lambda: _lock(1 << 20)),
        "timers": attempt(lambda: [_timer() for _ in range(1100)]),
    }
    for name in ("SIGPENDING", "MSGQUEUE", "MEMLOCK", "RTPRIO", "NICE"):
        limit = getattr(resource, f"RLIMIT_{name}")
        soft, hard = resource.getrlimit(limit)
        ways[f"raise {name}"] = attempt(lambda limit=limit, hard=hard: resource.setrlimit(limit, (hard + 1, hard + 1)))  # type: ignore[misc]
        ways[name] = f"{soft} {hard}"
    return ways


def _message_queue() -> None:
    queue = LIBC.syscall(MQ_OPEN, b"mine", os.O_CREAT | os.O_RDWR, 0o600, None)
    if queue < 0:
        raise OSError(ctypes.get_errno(), "refused")


def _lock(size: int) -> None:
    memory = ctypes.create_string_buffer(size)
    if LIBC.mlock(memory, size):
        raise OSError(ctypes.get_errno(), "refused")


def _timer() -> None:
    system_call(TIMER_CREATE, 1, None, ctypes.byref(ctypes.c_int()))


INOTIFY_INIT, SET_PIPE_SIZE, PIPE_SIZE = 294, 1031, 1 << 20


def share() -> dict[str, Callable[[], object]]:
    """One of each thing that the kernel counts for a uid."""
    return {
        "inotify instance": lambda: system_call(INOTIFY_INIT, 0),
        "large pipe": lambda: fcntl.fcntl(os.pipe()[1], SET_PIPE_SIZE, PIPE_SIZE),
        "timer": _timer,
        "descriptor on its way": _send_descriptor,
    }


def _send_descriptor() -> None:
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.setblocking(False)
    socket.send_fds(sender, [b"x"], [0] * 253)  # the most at a time
    _kept.append((sender, receiver))


_kept: list[object] = []


def take_a_share() -> dict[str, str]:
    """One of each, as an ordinary program needs."""
    return {name: attempt(take) for name, take in share().items()}


def take_all() -> None:
    """Take as many of each as the kernel grants, say so, and keep them."""
    ways = {}
    for name, take in share().items():
        while (outcome := attempt(take)) == BREACH:
            pass
        ways[name] = outcome
    print(json.dumps(ways), flush=True)
    keep_on()


def trace_init() -> dict[str, str]:
    """Take over the sandbox's first process, which holds the job's deadline."""
    word = ctypes.create_string_buffer(8)

    class Part(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

    local = Part(ctypes.addressof(word), 8)
    remote = Part(0x400000, 8)
    ways = {
        f"ptrace {request}": attempt(lambda request=request: system_call(PTRACE, request, 1, None, None))  # type: ignore[misc]
        for request in (16, 0x4206)  # PTRACE_ATTACH, PTRACE_SEIZE
    }
    ways["write memory"] = attempt(
        lambda: system_call(PROCESS_VM_WRITEV, 1, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    )
    for name in ("mem", "task/1/mem", "oom_score_adj", "timerslack_ns", "comm", "clear_refs"):
        ways[f"open {name}"] = attempt(lambda name=name: os.close(os.open(f"/proc/1/{name}", os.O_RDWR)))  # type: ignore[misc]
    for name in ("exe", "root", "cwd", "fd/0", "ns/pid"):
        ways[f"see {name}"] = attempt(lambda name=name: os.readlink(f"/proc/1/{name}"))  # type: ignore[misc]
    return ways


def be_deaf() -> None:
    """Ignore all signals that can be ignored."""
    for number in range(1, 65):
        if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
            signal.signal(number, signal.SIG_IGN)


def keep_on() -> None:
    """Never end by itself."""
    be_deaf()
    while True:
        time.sleep(1)


def outlive_by_signals() -> None:
    """Stop and kill the first process and the init below it."""
    be_deaf()
    for process in (1, os.getppid()):
        for number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGRTMIN + 3, signal.SIGUSR1, signal.SIGCONT):
            attempt(lambda process=process, number=number: os.kill(process, number))  # type: ignore[misc]
    attempt(lambda: os.kill(1, signal.SIGKILL))
    keep_on()


def outlive_detached() -> None:
    """Leave the job's process group and session."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            keep_on()
        os._exit(0)
    keep_on()


def outlive_by_processes() -> None:
    """Leave no process or thread for others."""
    with suppress(OSError):
        while True:
            if os.fork() == 0:
                break
    keep_on()


def outlive_by_load() -> None:
    """Give the first process the lowest priority, and use all that the job may have of the processors."""
    attempt(lambda: os.setpriority(os.PRIO_PROCESS, 1, 19))
    attempt(lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for _ in range(8):
        if os.fork() == 0:
            break
    while True:
        pass


def outlive_by_limits() -> None:
    """Take all signals that the kernel queues for the account, and bound the resources of the first process."""
    timer = ctypes.c_int()
    event = (ctypes.c_long * 8)(0, signal.SIGUSR1)  # sigev_notify stays SIGEV_SIGNAL
    while LIBC.timer_create(0, ctypes.byref(event), ctypes.byref(timer)) == 0:
        pass
    for number in (resource.RLIMIT_NOFILE, resource.RLIMIT_SIGPENDING, resource.RLIMIT_AS, resource.RLIMIT_NPROC):
        attempt(lambda number=number: resource.prlimit(1, number, (0, 0)))  # type: ignore[misc]
    keep_on()


def outlive_by_memory() -> None:
    """Fill the memory that the job may have, nearly."""
    kept = []
    with suppress(MemoryError):
        while len(kept) < 44:
            kept.append(bytearray(os.urandom(1 << 20)))
    keep_on()


def writable() -> dict[str, str]:
    """Every path in the sandbox that this account may write."""
    found = {}
    for folder, folders, names in os.walk("/"):
        if folder == "/":
            folders.remove("proc")
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            if not os.path.islink(path) and os.access(path, os.W_OK):
                found[path] = "writable"
    return found


def devices() -> dict[str, str]:
    usual = {"console", "core", "fd", "full", "init", "mqueue", "null", "ptmx", "pts", "random", "shm",
             "stderr", "stdin", "stdout", "tty", "urandom", "zero"}  # fmt: skip
    ways = {f"/dev/{name}": BREACH for name in os.listdir("/dev") if name not in usual}
    paths = ("/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/kvm", "/dev/fuse", "/dev/net/tun", "/proc/kcore",
             "/proc/kmsg", "/proc/1/environ", "/proc/1/mem", "/sys/firmware/acpi/tables")  # fmt: skip
    for path in paths:
        ways[f"read {path}"] = attempt(lambda path=path: read_something(path))  # type: ignore[misc]
    return ways


def core_dumps() -> dict[str, str]:
    """Lower the limit of core dumps to 0: then the kernel could call a program of the host for each crash."""
    lower = (ctypes.c_ulong * 2)(0, 0)
    attempt(lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
    attempt(lambda: system_call(160, 4, lower))
    attempt(lambda: system_call(160, ctypes.c_long(4 | 1 << 32), lower))
    attempt(lambda: system_call(302, 0, ctypes.c_long(4 | 1 << 32), lower, None))
    attempt(lambda: system_call(302, ctypes.c_long(1), 4, lower, None))
    memory = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40)  # below 4 GiB
    low = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for numbers in ((75, 4, low, 0), (340, 0, 4, low)):
        if low < 1 << 32:
            _result_in_a_child(numbers)
    subprocess.run(["sh", "-c", "kill -SEGV $$"], check=False)
    limits = {str(resource.prlimit(process, resource.RLIMIT_CORE)) for process in (0, 1)}
    return {"limit": "kept" if limits == {"(1, 1)"} else BREACH, "other limits": _lower_another()}


def _lower_another() -> str:
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
    return "work" if resource.getrlimit(resource.RLIMIT_NOFILE) == (100, 200) else BREACH


def terminals() -> None:
    """Take all pseudo-terminals that there are, say how many, and keep them."""
    taken = 0
    with suppress(OSError):
        while True:
            os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
            taken += 1
    print(json.dumps(taken), flush=True)
    keep_on()


ATTACKS = {name: value for name, value in list(globals().items()) if callable(value)}

if __name__ == "__main__":
    print(json.dumps(ATTACKS[sys.argv[1]](*sys.argv[2:])))
