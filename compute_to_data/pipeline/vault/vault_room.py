"""The reserve of free space in a vault: jobs must leave it to the iRODS server, and to other users.

Below it, no task begins, and the worker ends running jobs, the largest first. This also bounds what no look at outputs
shows, such as deleted files that a job keeps open.
"""

from __future__ import annotations

import os

from compute_to_data.errors import ReasonCode, TaskFailed
from compute_to_data.model import Resource

_RESERVE, _SHARE = 1 << 30, 100
"""Without a setting, the reserve is 1 GiB, or on a small file system its hundredth part."""
_LEAST_INODES_SHARE = 1000
"""The reserve of inodes: one in so many."""


class VaultRoom:
    """The free space in a resource's vault.

    ``reserve``: how many bytes stay free; None for the usual reserve, 0 for none.
    """

    def __init__(self, resource: Resource, reserve: int | None) -> None:
        self._resource = resource
        self._reserve = reserve

    @property
    def subject(self) -> str:
        """The vault, as the subject of an error."""
        return f"the vault of resource {self._resource.name}"

    def free(self) -> int | None:
        """How many bytes are free besides the reserve; None when the worker cannot find out."""
        found = self._found()
        return None if found is None else max(0, _free(found) - self._reserve_of(found))

    def _found(self) -> os.statvfs_result | None:
        try:
            return os.statvfs(self._resource.vault)
        except OSError:
            return None

    def _reserve_of(self, found: os.statvfs_result) -> int:
        size = found.f_blocks * found.f_frsize
        return min(_RESERVE, size // _SHARE) if self._reserve is None else self._reserve

    def lack(self) -> str:
        """What the vault lacks, as a cause; '' when it has room, or when the worker cannot find out."""
        found = self._found()
        if self._reserve == 0 or found is None:
            return ""
        reserve, free = self._reserve_of(found), _free(found)
        if free < reserve:
            return f"has {free} bytes free, less than its reserve of {reserve}"
        if found.f_files and found.f_favail < found.f_files // _LEAST_INODES_SHARE:  # some file systems count none
            return f"has room for {found.f_favail} more files, less than its reserve"
        return ""

    def must_end(self, lack: str) -> TaskFailed:
        """The failure of the task whose job takes the most room."""
        return TaskFailed(
            ReasonCode.VAULT_FULL,
            self.subject,
            f"{lack}, and of the running tasks this one takes the most",
            "Write less, or submit it again when there is room; an administrator can make room",
        )


def _free(found: os.statvfs_result) -> int:
    return found.f_bavail * found.f_frsize
