"""The control groups that containers run in, so that the kernel's count of those it killed for memory is kept.

When a container ends at the moment at which the kernel kills its process for want of memory, Docker may
miss the kill: on cgroup v2 its ``OOMKilled`` was false in about one of ten such ends. The kernel misses none.
Its count, ``oom_kill`` in a group's ``memory.events``, includes the groups below and those that are gone:
https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files

So each container is put into a group of its own that outlives it. Only root can remove such a group,
and the worker need not be root; so groups are used again, one container at a time. Which are in use, and what
they had counted before, are labels of the containers: the worker itself keeps nothing and may be restarted.

On cgroup v1 a group does not count for those below it, and Docker's word is right there.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker import APIClient

CGROUPS = Path("/sys/fs/cgroup")
GROUP_LABEL = "compute_to_data.memory_group"
KILLS_LABEL = "compute_to_data.memory_kills"
MOST = 1000
"""Groups of one resource. A container that finds all of them taken gets none."""
_SLICE = ".slice"


@dataclass(frozen=True)
class MemoryGroup:
    """A control group with one container in it.

    ``name``: as Docker takes it for a parent. ``kills``: the kernel's count before the container was made.
    """

    name: str
    kills: int

    def has_killed(self) -> bool:
        """Whether the kernel has since killed a process there for want of memory.

        False, too, when that cannot be known: the group is gone or began to count anew, as after the host was
        started again, or this process does not see the host's groups.
        """
        kills = _kills_below(self.name)
        return kills is not None and kills > self.kills


class MemoryGroups:
    """The groups of one worker. Threads may share it."""

    def __init__(self, docker: Callable[[], APIClient], state_directory: str) -> None:
        self._docker = docker
        self._state_directory = state_directory
        self._lock = threading.Lock()
        self._name: Callable[[str, int], str] | None = None
        self._known = False
        self._chosen: set[str] = set()
        """Groups of containers that are being made, and that the daemon may not list yet."""

    def learn(self, info: Mapping[str, Any]) -> None:
        """See from the daemon's answer to ``GET /info`` how it names groups, and whether they count."""
        names = {"systemd": slice_name, "cgroupfs": path_name} if info.get("CgroupVersion") == "2" else {}
        self._name = names.get(info.get("CgroupDriver", ""))
        self._known = True

    @contextmanager
    def place(self, body: dict[str, Any], scope: str) -> Iterator[MemoryGroup | None]:
        """Put the container that the body describes into a free group of the scope; make it in this context.

        None, with the body as it was, where groups do not count or none is free.
        """
        group = self._choose(scope)
        if group is None:
            yield None
            return
        body["HostConfig"]["CgroupParent"] = group.name
        body["Labels"].update({GROUP_LABEL: group.name, KILLS_LABEL: str(group.kills)})
        try:
            yield group
        finally:
            with self._lock:
                self._chosen.discard(group.name)

    def _choose(self, scope: str) -> MemoryGroup | None:
        with self._lock:
            if not self._known:
                self.learn(self._docker().info())
            if self._name is None:
                return None
            found = self._docker().containers(all=True, filters={"label": GROUP_LABEL})
            taken = self._chosen.union(container["Labels"][GROUP_LABEL] for container in found)
            own = scope_of(self._state_directory, scope)
            names = (self._name(own, number) for number in range(1, MOST + 1))
            name = next((name for name in names if name not in taken), None)
            kills = None if name is None else _kills_before(name)
            if name is None or kills is None:
                return None
            self._chosen.add(name)
            return MemoryGroup(name, kills)


def group_of(container: Mapping[str, Any]) -> MemoryGroup | None:
    """A container's group, from Docker's answer about it; None when :meth:`MemoryGroups.place` gave it none."""
    # The parent is never an image's word, as a label may be where the container has none of that name.
    name, kills = container["HostConfig"]["CgroupParent"], container["Config"]["Labels"].get(KILLS_LABEL)
    return MemoryGroup(name, int(kills)) if name and kills else None


def killed_for_memory(container: Mapping[str, Any]) -> bool:
    """Whether the kernel killed a process of a container for want of memory, from Docker's answer about it."""
    group = group_of(container)
    return bool(container["State"]["OOMKilled"]) or (group is not None and group.has_killed())


def count_of_kills(file: Path) -> int:
    """``oom_kill`` in ``memory.events``, or in cgroup v1's ``memory.oom_control``. OSError when it cannot be read."""
    for line in file.read_text().splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill":
            return int(count)
    return 0


def scope_of(state_directory: str, resource: str) -> str:
    """What tells a worker's groups from those of others on the host; a dash would mean a group below another."""
    return hashlib.sha256(f"{state_directory}\0{resource}".encode()).hexdigest()[:12]


def slice_name(scope: str, number: int) -> str:
    """A group's name for systemd, which makes ``c2d-x-1.slice`` below ``c2d-x.slice`` below ``c2d.slice``."""
    return f"c2d-{scope}-{number}{_SLICE}"


def path_name(scope: str, number: int) -> str:
    """A group's name where Docker makes control groups itself."""
    return f"/c2d/{scope}/{number}"


def directory(name: str) -> Path:
    """Where the host shows a group. https://www.freedesktop.org/software/systemd/man/systemd.slice.html"""
    if not name.endswith(_SLICE):
        return CGROUPS / name.lstrip("/")
    parts = name[: -len(_SLICE)].split("-")
    return CGROUPS.joinpath(*("-".join(parts[:end]) + _SLICE for end in range(1, len(parts) + 1)))


def _kills_below(name: str) -> int | None:
    try:
        return count_of_kills(directory(name) / "memory.events")
    except OSError:
        return None


def _kills_before(name: str) -> int | None:
    """The same of a group that is to be used; one that is not there yet has counted nothing."""
    return _kills_below(name) if os.path.exists(directory(name)) else 0
