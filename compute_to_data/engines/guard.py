"""``python3 -m compute_to_data.engines.guard``: helps workers that are not root to give each job ids of its own.

It has two capabilities, CAP_SETUID and CAP_SETGID, and does three things with them, only for processes of its account:

- It writes the maps of the user namespace in which its child changes the files of a worker's jobs (``namespace.py``):
  the account's ids and those of jobs, each to itself. Both belong to this worker until the worker ends.
- It opens what the worker's own view of /proc does not show, or the kernel only to the job's own uid: the directory of
  a job's process in /proc, its root directory and its open files. It hands the descriptors to the worker.
- When the worker has ended, it looks at the outputs of the jobs that go on, and ends those that break their limits. It
  does that as the job's own account.

Each connection has a process of its own, which ends when its worker and all of the worker's jobs have ended. A request
is JSON.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from compute_to_data.disk_usage import measure
from compute_to_data.engines import namespace
from compute_to_data.engines.job_ids import JobIds, of_setting
from compute_to_data.errors import ComputeToDataError, EngineError

SOCKET = "/run/compute-to-data/guard"
"""Where the unit's process listens."""
MOST_BYTES = 1 << 12
FILES, LIMITS_ONLY = b"files", b"limits only"
"""What a worker asks for: help with jobs' files too, or, if it is root, only to hold limits after its end."""
_LOOK_SECONDS = 0.5
CAPABILITIES = (6, 7)
"""CAP_SETGID and CAP_SETUID."""
_PROCESS = re.compile(r"/proc/[1-9][0-9]*")
_OF_PROCESS = re.compile(rf"{_PROCESS.pattern}/(root|fdinfo/[0-9]+)")
_CREDENTIALS = struct.Struct("3i")


def may_set_ids() -> bool:
    """Whether this process has the two capabilities."""
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith("CapEff:"))
    held = int(line.split()[1], 16)
    return all(held >> number & 1 for number in CAPABILITIES)


@dataclass(frozen=True)
class _Kept:
    """A job whose outputs (an open directory) take at most so much."""

    uid: int
    gid: int
    outputs: int
    most_bytes: int
    most_entries: int


def serve(channel: socket.socket, ids: JobIds) -> NoReturn:
    """Help one worker until it ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the worker needs it until its own end
    for stream in range(3):  # it may outlive the program that reads the worker's output
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    kept: dict[str, _Kept] = {}
    with suppress(OSError):
        asked = channel.recv(MOST_BYTES)
        by_itself = may_set_ids()
        files, problem = None, ""
        if asked == FILES:
            # A worker that loses this process loses its child, too, and so notices it and gets two others.
            files, problem = namespace.start(
                lambda process: _map(process, ids, by_itself=by_itself), channel, ends_with_this=by_itself
            )
        if asked:
            answer = json.dumps({"problem": problem, "stays": by_itself and not problem}).encode()
            socket.send_fds(channel, [answer], [] if files is None else [files.fileno()])
        if files is not None:
            files.close()  # the worker has it now
        if asked and by_itself and not problem:
            os.setgroups([])
            _answer(channel, ids, kept)
    _hold_limits(kept)
    os._exit(0)


def _map(process: int, ids: JobIds, *, by_itself: bool) -> str:
    """Write the maps of a process's namespace, or let ``newuidmap`` do it. Returns the problem; '' for none."""
    for kind, own, first in (("gid", os.getegid(), ids.first_gid), ("uid", os.geteuid(), ids.first_uid)):
        numbers = [own, own, 1, first, first, ids.count]
        try:
            if by_itself:
                with open(f"/proc/{process}/{kind}_map", "w", encoding="ascii") as file:
                    file.write("{} {} {}\n{} {} {}\n".format(*numbers))
                continue
            command = [f"new{kind}map", str(process), *map(str, numbers)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            return f"new{kind}map: {error.strerror}"
        if done.returncode:
            return done.stderr.strip() or f"new{kind}map ended with status {done.returncode}"
    return ""


def _answer(channel: socket.socket, ids: JobIds, kept: dict[str, _Kept]) -> None:
    """Do what the worker asks until it ends."""
    own = os.geteuid(), os.getegid()
    while True:
        request, descriptors, _, _ = socket.recv_fds(channel, MOST_BYTES, 1)
        if not request:
            return
        kind, *values = json.loads(request)
        if kind == "open":
            _open(channel, values, ids, own)
            continue
        old = kept.pop(values[0], None)
        if old is not None:
            os.close(old.outputs)
        if kind == "keep" and descriptors:
            _, uid, gid, most_bytes, most_entries = values
            if _are_a_jobs(uid, gid, ids):
                kept[values[0]] = _Kept(uid, gid, descriptors.pop(), most_bytes, most_entries)
        for descriptor in descriptors:
            os.close(descriptor)


def _are_a_jobs(uid: int, gid: int, ids: JobIds) -> bool:
    return ids.has(uid) and gid - uid == ids.first_gid - ids.first_uid


def _open(channel: socket.socket, values: list[Any], ids: JobIds, own: tuple[int, int]) -> None:
    try:
        descriptor = _opened(*values, ids=ids, own=own)
    except OSError as error:
        channel.send(str(error.errno).encode())
        return
    socket.send_fds(channel, [b"0"], [descriptor])
    os.close(descriptor)


def _opened(path: str, uid: int, gid: int, flags: int, *, ids: JobIds, own: tuple[int, int]) -> int:
    if not _are_a_jobs(uid, gid, ids):
        raise PermissionError(1, "refused")
    if _PROCESS.fullmatch(path):
        return _opened_process(path, uid, flags)
    if not _OF_PROCESS.fullmatch(path):
        raise PermissionError(1, "refused")
    try:
        return _opened_as(path, uid, gid, flags, own)
    except PermissionError:
        # A process in a user namespace of the account's, such as that of a rootless Podman, is shown to the account,
        # which owns the namespace, and not to the job's uid outside of it.
        if os.stat("/".join(path.split("/")[:3])).st_uid != uid:
            raise
        return os.open(path, flags | os.O_CLOEXEC)


def _opened_process(path: str, uid: int, flags: int) -> int:
    """The directory of a process with this uid. Who owns the directory says nothing: the first process of a container
    cannot be traced, and root owns the directories of such processes."""
    place = os.open(path, flags | os.O_CLOEXEC)
    try:
        with open(os.open("status", os.O_RDONLY, dir_fd=place), encoding="utf-8", errors="replace") as status:
            if uid not in _uids(status):
                raise PermissionError(1, "refused")
    except BaseException:
        os.close(place)
        raise
    return place


def _opened_as(path: str, uid: int, gid: int, flags: int, own: tuple[int, int]) -> int:
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    finally:
        os.setresuid(own[0], own[0], own[0])
        os.setresgid(own[1], own[1], own[1])


# When the worker has ended


def _hold_limits(kept: dict[str, _Kept]) -> None:
    """End each job whose outputs break its limits, until all of the jobs have ended."""
    while kept:
        time.sleep(_LOOK_SECONDS)  # the daemon may be starting the last one
        running = _uids_of_processes()
        for name, one in list(kept.items()):
            if one.uid not in running:
                os.close(kept.pop(name).outputs)
            elif os.fork() == 0:
                _look(one)
        with suppress(ChildProcessError):
            while True:
                os.wait()


def _uids_of_processes() -> set[int]:
    found: set[int] = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/status", encoding="utf-8", errors="replace") as file:
                found.update(_uids(file))
    return found


def _uids(status: Iterable[str]) -> set[int]:
    """The real uid in the lines of a process's status."""
    return {int(line.split()[1]) for line in status if line.startswith("Uid:")}


def _look(one: _Kept) -> NoReturn:
    """Become the job's account, for ever, and kill its processes if its outputs are too large or cannot be read."""
    try:
        os.setresgid(one.gid, one.gid, one.gid)
        os.setresuid(one.uid, one.uid, one.uid)
        top = os.open(f"/proc/self/fd/{one.outputs}", os.O_RDONLY | os.O_DIRECTORY)
        usage = measure(top, most_bytes=one.most_bytes, most_entries=one.most_entries)
        if usage.hidden or usage.size > one.most_bytes or usage.entries > one.most_entries:
            os.kill(-1, signal.SIGKILL)  # all that this account may kill: only its own processes
    finally:
        os._exit(0)


# The unit's process


def listen(place: str, serve: Callable[[socket.socket], NoReturn]) -> NoReturn:
    """Accept workers of this account at a socket, for ever. ``serve`` gets each connection in a process of its own."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel then keeps no ended children
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    hidden = f"{place}.new"  # who sees the socket at its place can connect
    with suppress(FileNotFoundError):
        os.unlink(hidden)
    listener.bind(hidden)
    os.chmod(hidden, 0o600)
    listener.listen()
    os.replace(hidden, place)
    say_ready()
    while True:
        channel, _ = listener.accept()
        with channel:
            credentials = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            _, uid, _ = _CREDENTIALS.unpack(credentials)
            if uid == os.geteuid() and os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                serve(channel)


def say_ready() -> None:
    """Tell systemd that workers can connect: sd_notify(3)."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if place:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(b"READY=1", f"\0{place[1:]}" if place.startswith("@") else place)


def main(arguments: Sequence[str] | None = None) -> int:
    """``python3 -m compute_to_data.engines.guard --configuration FILE``."""
    import argparse

    from compute_to_data import site_file  # here, since a program on a Slurm node imports this module for each job

    parser = argparse.ArgumentParser(prog="compute_to_data.engines.guard", description="Give jobs ids of their own.")
    parser.add_argument("--configuration", required=True, help="the site's configuration file")
    parser.add_argument("--socket", default=SOCKET, help="where workers find it (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        ids = of_setting(site_file.load(options.configuration).engine.settings.get("job_uids", ""))
        if ids is None:
            print('nothing to do: the configuration has "job_uids": null', file=sys.stderr)
            say_ready()  # else systemd would take this end for a failure, and start it again
            return 0
        if not may_set_ids():
            raise EngineError("the guard", "it needs CAP_SETUID and CAP_SETGID", "Start it with its systemd unit")
    except ComputeToDataError as error:
        print(error, file=sys.stderr)
        return 1
    found = ids
    listen(options.socket, lambda channel: serve(channel, found))


if __name__ == "__main__":
    sys.exit(main())
