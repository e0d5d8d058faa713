"""The seccomp profile of a job: which system calls the kernel refuses.

It allows what Docker's default profile allows to a container without capabilities, except

- sockets of other families than UNIX, INET, INET6 and NETLINK. AF_VSOCK, for example, reaches the host of a virtual
  machine without any network device;
- ``io_uring_*``, asynchronous I/O (``io_setup``), whose number of requests all processes of the host share,
  ``keyctl``, ``userfaultfd``, ``bpf``, ``perf_event_open``, and new namespaces;
- setting extended attributes, and allocating blocks beyond the end of a file: both take space that a file's size does
  not show, and no output keeps them;
- changing the priority of the job's first process, which ends it at its deadline and must get its turn;
- changing the limit of core dumps. At 1 the kernel writes none and calls no program of the host for a crash; below, it
  would call one as root. Such a call returns success: programs that switch core dumps off go on;
- ``ioctl`` calls of file systems, with which the owner of a file can change its flags and its project id, and so
  escape a project quota.

The format is Docker's (``SecurityOpt``, ``seccomp=<JSON>``).
"""

from __future__ import annotations

import errno
import functools
import json
import socket
from typing import Any

from compute_to_data.engines.docker.system_calls import ALLOWED

_ARCHITECTURES = {
    "SCMP_ARCH_X86_64": ["SCMP_ARCH_X86"],  # old programs have 32 bits. Without x32, which no program uses
    "SCMP_ARCH_AARCH64": ["SCMP_ARCH_ARM"],
    "SCMP_ARCH_PPC64LE": [],
    "SCMP_ARCH_S390X": ["SCMP_ARCH_S390"],
    "SCMP_ARCH_RISCV64": [],
}
_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, 16)  # 16: AF_NETLINK, which only Linux knows
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""Linux, 32 bits, and the question which one it is. Others switch defences of the kernel off."""
_NEW_NAMESPACES = 0x7E020000
"""All CLONE_NEW* flags of ``clone``."""
_INT = 0xFFFFFFFF
_OTHER_THREADS = [(1 << bit, 1 << bit) for bit in range(1, 22)]
"""All numbers of threads but 1, the first process: those with any other bit. The kernel gives numbers below 1 << 22."""
_PRIO_PROCESS = 0
_RLIMIT_CORE, _RLIMITS = 4, 16
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
"""Flags of ``fallocate``. KEEP_SIZE without PUNCH_HOLE allocates blocks beyond the end of a file."""
_FILE_SYSTEM_TYPES = (ord("X"), ord("f"))
"""The types (bits 8 to 15) of the ``ioctl`` calls FS_IOC_FSSETXATTR and FS_IOC_SETFLAGS."""
_WITHOUT_WORD = ("io_uring_setup", "io_uring_enter", "io_uring_register", "io_setup", "clone3")
"""Programs have another way if the kernel does not know these. ``clone3`` has its flags where seccomp cannot look."""
_SETTING_ATTRIBUTES = (
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "setxattrat",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
    "removexattrat",
)


@functools.lru_cache(maxsize=1)
def option() -> str:
    """The profile as one of a container's ``SecurityOpt``."""
    return f"seccomp={text()}"


def text() -> str:
    """The profile as JSON."""
    return json.dumps(profile(), separators=(",", ":"))


def profile() -> dict[str, Any]:
    """The profile. A system call that no rule names fails with EPERM."""
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "archMap": [{"architecture": one, "subArchitectures": others} for one, others in _ARCHITECTURES.items()],
        "syscalls": [
            _allow(*ALLOWED),
            *(_allow("socket", argument=_equal(0, family)) for family in _FAMILIES),
            _allow("socketpair", argument=_equal(0, socket.AF_UNIX)),
            *(_allow("personality", argument=_equal(0, persona)) for persona in _PERSONALITIES),
            {**_allow("clone", argument=_masked(0, _NEW_NAMESPACES, 0)), "excludes": {"arches": ["s390", "s390x"]}},
            {**_allow("clone", argument=_masked(1, _NEW_NAMESPACES, 0)), "includes": {"arches": ["s390", "s390x"]}},
            *_for_all_threads_but_the_first(0, "sched_setscheduler", "sched_setparam", "sched_setattr"),
            *_for_all_threads_but_the_first(1, "setpriority", kind=_masked(0, _INT, _PRIO_PROCESS)),
            *_limits_but_core_dumps(),
            _allow("fallocate", argument=_masked(1, _KEEP_SIZE, 0)),
            _allow("fallocate", argument=_masked(1, _KEEP_SIZE | _PUNCH_HOLE, _KEEP_SIZE | _PUNCH_HOLE)),
            *(_allow("ioctl", argument=_masked(1, mask << 8, bits << 8)) for mask, bits in _other_types()),
            _refuse(errno.ENOSYS, *_WITHOUT_WORD),
            _refuse(errno.EOPNOTSUPP, *_SETTING_ATTRIBUTES),
        ],
    }


def _allow(*names: str, **arguments: dict[str, int | str]) -> dict[str, Any]:
    conditions = {"args": list(arguments.values())} if arguments else {}
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", **conditions}


def _for_all_threads_but_the_first(index: int, *names: str, **more: dict[str, int | str]) -> list[dict[str, Any]]:
    """Allow system calls whose argument ``index`` is a thread (0: the caller), unless it is the first process."""
    return [_allow(*names, thread=_masked(index, mask, bits), **more) for mask, bits in [(_INT, 0), *_OTHER_THREADS]]


def _limits_but_core_dumps() -> list[dict[str, Any]]:
    """Allow ``setrlimit`` and ``prlimit64`` for all limits but one, which can be read only."""
    others = [number for number in range(_RLIMITS) if number != _RLIMIT_CORE]
    core, new = _masked(1, _INT, _RLIMIT_CORE), {"index": 2, "op": "SCMP_CMP_NE", "value": 0}
    return [
        *(_allow("setrlimit", limit=_masked(0, _INT, number)) for number in others),
        *(_allow("prlimit64", limit=_masked(1, _INT, number)) for number in others),
        _allow("prlimit64", limit=core, new=_equal(2, 0)),
        {**_refuse(0, "prlimit64"), "args": [core, new]},
        {**_refuse(0, "setrlimit"), "args": [_masked(0, _INT, _RLIMIT_CORE)]},
    ]


def _refuse(error: int, *names: str) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ERRNO", "errnoRet": error}


def _equal(index: int, value: int) -> dict[str, int | str]:
    return {"index": index, "op": "SCMP_CMP_EQ", "value": value}


def _masked(index: int, mask: int, value: int) -> dict[str, int | str]:
    """The argument has these bits under this mask. The kernel ignores the upper half of an argument that is an int,
    so the masks leave it out."""
    return {"index": index, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": value}


def _other_types() -> list[tuple[int, int]]:
    """All types of ``ioctl`` calls but those of file systems, each as a mask and the bits under it.

    A profile can allow values but not exclude some, so this divides the 256 types: by the bits that they share
    with a type of file systems before the first one in which they differ from all of these.
    """
    found = []
    for bit in reversed(range(8)):
        mask = 0xFF & ~((1 << bit) - 1)
        excluded = {one & mask for one in _FILE_SYSTEM_TYPES}
        above = {one & mask & ~(1 << bit) for one in _FILE_SYSTEM_TYPES}
        candidates = {prefix | choice for prefix in above for choice in (0, 1 << bit)}
        found += [(mask, bits) for bits in sorted(candidates - excluded)]
    return found
