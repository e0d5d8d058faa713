"""Lets pytest read and change the files of Podman's jobs, as root can those of Docker's.

It enters a user namespace in which it has power over the files of its account and of jobs. A worker has a process of
the guard for that.
"""

from __future__ import annotations

import ctypes
import os
import subprocess

from compute_to_data.engines import job_ids

_NEW_USER_NAMESPACE = 0x10000000
_CHOWN, _DAC_OVERRIDE, _FOWNER = 0, 1, 3
_AMBIENT, _RAISE = 47, 2
_VERSION_3 = 0x20080522


def take() -> None:
    """Call it once, before the process has other threads, and after the start of its guard."""
    ids = job_ids.of_this_account()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)  # until this process has entered
        for kind, own, first in (("gid", os.getgid(), ids.first_gid), ("uid", os.getuid(), ids.first_uid)):
            numbers = map(str, (own, own, 1, first, first, ids.count))
            subprocess.run([f"new{kind}map", str(os.getppid()), *numbers], check=True)
        os._exit(0)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(_NEW_USER_NAMESPACE) == 0, os.strerror(ctypes.get_errno())
    os.write(write, b"x")
    assert os.waitpid(child, 0)[1] == 0
    os.close(read)
    os.close(write)
    kept = sum(1 << one for one in (_CHOWN, _DAC_OVERRIDE, _FOWNER))
    header, data = (ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)(kept, kept, kept, 0, 0, 0)
    assert libc.capset(header, data) == 0, os.strerror(ctypes.get_errno())
    for one in (_CHOWN, _DAC_OVERRIDE, _FOWNER):  # for programs that tests start, such as rm
        libc.prctl(_AMBIENT, _RAISE, one, 0, 0)
