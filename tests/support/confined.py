"""Confines a process as systemd would for a unit, on a machine where systemd is not the init.

    confined.py UNIT INSTANCE

Reads the properties from the unit's own file, takes them on and becomes the program of ``ExecStart``.
Needs root, ``systemd-analyze``, which knows systemd's groups of system calls, and libseccomp, which
systemd brings along. It applies ``User``, ``SupplementaryGroups``, ``UMask``, ``WorkingDirectory``,
``CapabilityBoundingSet``, ``AmbientCapabilities``, ``Environment``, ``NoNewPrivileges`` and ``SystemCallFilter`` with
``SystemCallErrorNumber``. Namespaces (``ProtectSystem`` and the like) are applied where systemd runs:
``worker_unit.py``.
"""

from __future__ import annotations

import ctypes
import errno
import grp
import os
import pwd
import subprocess
import sys
from pathlib import Path

_SET_NO_NEW_PRIVILEGES, _DROP_CAPABILITY, _KEEP_CAPABILITIES, _AMBIENT, _RAISE = 38, 24, 8, 47, 2
_CAPABILITIES = {"CAP_SETGID": 6, "CAP_SETUID": 7}
_VERSION_3 = 0x20080522
_KILL, _ALLOW, _ERROR = 0x80000000, 0x7FFF0000, 0x00050000  # libseccomp's SCMP_ACT_KILL_PROCESS, _ALLOW, _ERRNO


def service_of(unit: Path) -> list[tuple[str, str]]:
    """The properties in the unit's section ``[Service]``, in order: a list's property may stand there twice."""
    found, section = [], ""
    for line in unit.read_text().splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            found.append((name, value))
    return found


class Service:
    """The properties of one unit's ``[Service]``."""

    def __init__(self, unit: Path) -> None:
        self._properties = service_of(unit)

    def every(self, name: str) -> list[str]:
        return [value for given, value in self._properties if given == name]

    def last(self, name: str) -> str | None:
        return next(reversed(self.every(name)), None)


def calls(groups: list[str]) -> set[str]:
    """The system calls in systemd's groups (``@system-service``) and single ones, as systemd itself lists them."""
    found: set[str] = set()
    for name in groups:
        if not name.startswith("@"):
            found.add(name)
            continue
        listed = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
        lines = [line.strip() for line in listed.stdout.splitlines()[1:]]
        found |= calls([line for line in lines if line and not line.startswith("#")])
    return found


def allowed_calls(filters: list[str]) -> set[str]:
    """What lines of ``SystemCallFilter`` allow, the first of which must be a list of allowed calls.

    systemd always allows the group ``@default``, which every program needs.
    """
    assert filters and not filters[0].startswith("~"), f"expected a list of allowed calls first: {filters}"
    allowed = calls(["@default"])
    for line in filters:
        if line.startswith("~"):
            allowed -= calls(line[1:].split())
        else:
            allowed |= calls(line.split())
    return allowed


def _check(returned: int, what: str) -> None:
    if returned < 0:
        number = ctypes.get_errno() or -returned
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _filter(service: Service) -> None:
    """From here on a forbidden system call has the consequence that the unit names; an unknown one fails (ENOSYS)."""
    number = service.last("SystemCallErrorNumber")
    forbidden = _ERROR | getattr(errno, number) if number else _KILL
    allowed, known = allowed_calls(service.every("SystemCallFilter")), calls(["@known"])
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ERROR | errno.ENOSYS)))
    assert rules.value, "seccomp_init failed"
    for name in sorted(known | allowed):
        call = library.seccomp_syscall_resolve_name(name.encode())
        if call < 0:
            continue  # another architecture has it
        action = ctypes.c_uint32(_ALLOW if name in allowed else forbidden)
        _check(library.seccomp_rule_add(rules, action, ctypes.c_int(call), ctypes.c_uint(0)), f"the rule for {name}")
    _check(library.seccomp_load(rules), "seccomp_load")


def _capabilities(service: Service, name: str) -> set[int]:
    return {_CAPABILITIES[one] for line in service.every(name) for one in line.split()}


def _drop_capabilities(library: ctypes.CDLL, kept: set[int]) -> None:
    for capability in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1):
        if capability not in kept:
            _check(library.prctl(_DROP_CAPABILITY, capability, 0, 0, 0), f"dropping capability {capability}")


def _hand_on(library: ctypes.CDLL, ambient: set[int]) -> None:
    """Let the program that this process becomes have these capabilities, and no others."""
    bits = sum(1 << capability for capability in ambient)
    header, data = (ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)(bits, bits, bits, 0, 0, 0)
    _check(library.capset(header, data), "capset")
    for capability in ambient:
        _check(library.prctl(_AMBIENT, _RAISE, capability, 0, 0), f"raising capability {capability}")


def confine(service: Service) -> None:
    """Take on the account and the limits that the unit gives its process."""
    library = ctypes.CDLL(None, use_errno=True)
    account = pwd.getpwnam(service.last("User") or "root")
    more = [grp.getgrnam(name).gr_gid for line in service.every("SupplementaryGroups") for name in line.split()]
    if service.last("CapabilityBoundingSet") is not None:
        _drop_capabilities(library, _capabilities(service, "CapabilityBoundingSet"))
    _check(library.prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0), "PR_SET_KEEPCAPS")
    os.setgroups([*os.getgrouplist(account.pw_name, account.pw_gid), *more])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    _hand_on(library, _capabilities(service, "AmbientCapabilities"))
    os.umask(int(service.last("UMask") or "0022", 8))
    os.chdir(service.last("WorkingDirectory") or "/")
    if service.last("NoNewPrivileges") == "true":
        _check(library.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    _filter(service)


def main(unit: str, instance: str) -> None:
    """Become the unit's program."""
    service = Service(Path(unit))
    command = (service.last("ExecStart") or "").replace("%i", instance).split()
    home = pwd.getpwnam(service.last("User") or "root").pw_dir
    environment = dict(one.partition("=")[::2] for one in service.every("Environment"))
    confine(service)
    usual = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home, "LANG": "C.UTF-8"}
    os.execve(command[0], command, {**usual, **environment})


if __name__ == "__main__":
    main(*sys.argv[1:])
