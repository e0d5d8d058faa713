"""Programs a hostile user would run; executed inside the sandbox, never imported.

``hostile.py ATTACK ARGUMENTS...`` tries one thing in every way it knows and prints one line of
JSON: each way with what came of it. ``"got it"`` is a breach, anything else the refusal's name.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable

LIBC = ctypes.CDLL(None, use_errno=True)
BREACH = "got it"
CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWPID = 1 << 28, 1 << 17, 1 << 30, 1 << 29
# Numbers of system calls on x86-64.
PTRACE, SYSLOG, MOUNT, UMOUNT, KEYCTL, UNSHARE = 101, 103, 165, 166, 250, 272
FORBIDDEN = {
    "settimeofday": 164, "reboot": 169, "init_module": 175, "kexec_load": 246, "perf_event_open": 298,
    "open_by_handle_at": 304, "bpf": 321, "userfaultfd": 323,
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
    ways["signal init's parent"] = "one process tree" if os.getppid() in (0, 1) else BREACH
    listing = [entry for entry in os.listdir("/proc") if entry.isdigit()]
    ways["processes of others"] = BREACH if len(listing) > 4 else "none"
    return ways


def trace_init() -> dict[str, str]:
    """If the host lets processes of one uid trace each other, this stops the job's own first process."""
    return {"ptrace init": attempt(lambda: system_call(PTRACE, 16, 1, None, None))}


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
        ways[f"read {path}"] = attempt(lambda path=path: read(path))  # type: ignore[misc]
    return ways


ATTACKS = {name: value for name, value in list(globals().items()) if callable(value)}

if __name__ == "__main__":
    print(json.dumps(ATTACKS[sys.argv[1]](*sys.argv[2:])))
