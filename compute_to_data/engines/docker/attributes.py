"""What descendants of a process inherit, and the sockets of its network namespace, read from the kernel.

A task can change most of this for other processes of its uid, such as the shell that starts the next task.
"""

from __future__ import annotations

import ctypes
import platform

from compute_to_data.engines.docker.seen_process import SeenProcess

_OF_EACH = ("TracerPid", "Cpus_allowed", "Mems_allowed", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp")
_OF_RUNNER = ("Name", "Umask", "FDSize", "Threads", "SigBlk", "SigIgn", "SigCgt")
"""Lines of ``status``. An init still changes its own signals when the worker sees its descendants already."""
_FILES = ("limits", "oom_score_adj", "coredump_filter", "autogroup", "cgroup")
_PRIORITY, _NICE, _REAL_TIME_PRIORITY, _POLICY = 15, 16, 37, 38
"""Fields of ``stat`` after the name, from 0."""
_CALLS = {"x86_64": (252, 315), "aarch64": (31, 275)}
"""The numbers of ioprio_get and sched_getattr, which have no file and no function in libc."""
_ONE_PROCESS = 1  # IOPRIO_WHO_PROCESS
_SCHEDULING_BYTES = 56
_CORE_SCHEDULING, _GET_COOKIE = 62, 0
_COUNTS = ("used", "inuse", "tw")
"""The counts in ``sockstat`` that are those of one network namespace. Others are the host's."""


def of_process(process: SeenProcess) -> tuple[object, ...]:
    """The limits, priorities, scheduling, processors and more of a process, and whether it is stopped or traced.
    OSError when the process is gone."""
    statistics = process.text("stat").rpartition(")")[2].split()
    return (
        *(statistics[number] for number in (_PRIORITY, _NICE, _REAL_TIME_PRIORITY, _POLICY)),
        statistics[0] in "Tt",
        *(process.optional_text(name) for name in _FILES),
        *_status(process, _OF_EACH),
        *_scheduling(process.number),
    )


def of_runner(process: SeenProcess, descriptors: range) -> tuple[object, ...]:
    """What only the process that starts tasks can hand on: signals, its mask for new files, its core-scheduling
    cookie (the kernel shows it to a worker of root only), and the flags and locks of open files, which all processes
    that inherit a descriptor share."""
    cookie = ctypes.c_uint64()
    found = ctypes.CDLL(None).prctl(_CORE_SCHEDULING, _GET_COOKIE, process.number, 0, ctypes.byref(cookie))
    files = (process.information(number) for number in descriptors)
    return (*_status(process, _OF_RUNNER), found, cookie.value, *files)


def _status(process: SeenProcess, names: tuple[str, ...]) -> list[str]:
    lines = process.text("status").splitlines()
    return [line for line in lines if line.startswith(names)]


def sockets(process: SeenProcess) -> tuple[str, ...]:
    """How many sockets of each kind the process's network namespace has. TCP keeps some for a minute, without a
    process."""
    counts = []
    for name in ("sockstat", "sockstat6"):
        for line in process.optional_text(f"net/{name}").splitlines():
            kind, *values = line.split()
            pairs = zip(values[::2], values[1::2], strict=False)
            counts += [f"{kind} {key} {value}" for key, value in pairs if key in _COUNTS]
    return tuple(counts)


def _scheduling(process: int) -> tuple[object, ...]:
    """The io class and all scheduling attributes; -1 for what the kernel does not say."""
    numbers = _CALLS.get(platform.machine())
    if numbers is None:
        return ()
    libc, (io_priority, get_attributes) = ctypes.CDLL(None), numbers
    attributes = ctypes.create_string_buffer(_SCHEDULING_BYTES)
    return (
        libc.syscall(io_priority, _ONE_PROCESS, process),
        libc.syscall(get_attributes, process, attributes, _SCHEDULING_BYTES, 0),
        attributes.raw,
    )
