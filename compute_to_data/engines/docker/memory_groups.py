"""Control groups for containers, whose counters show whether the kernel killed a process for lack of memory.

If a container ends just when the kernel kills its process for lack of memory, Docker may miss the kill: on
cgroup v2, ``OOMKilled`` was false in about one of ten such cases. The kernel's counter does not miss any:
``oom_kill`` in a group's ``memory.events`` includes the groups below, also those that are gone. See
https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files

So the engine puts each container into a group that outlives it. Only root can remove such a group, and the
worker need not be root, so the engine uses the groups again, for one container at a time. Labels of the
containers say which groups are in use and what their counters were before, so a worker may restart.

On cgroup v1 a group does not count the kills below it, and Docker's ``OOMKilled`` is right.
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

from compute_to_data.engines.docker.client import Client

CGROUPS = Path("/sys/fs/cgroup")
GROUP_LABEL = "compute_to_data.memory_group"
KILLS_LABEL = "compute_to_data.memory_kills"
MOST = 1000
"""The most groups for one resource. When all are in use, a container gets none."""
_SLICE = ".slice"


@dataclass(frozen=True)
class MemoryGroup:
    """A control group with one container in it.

    ``name``: in the form that Docker takes as ``CgroupParent``. ``kills``: the kernel's counter before the
    container was made.
    """

    name: str
    kills: int

    def has_killed(self) -> bool:
        """Whether the kernel has killed a process of the container for lack of memory.

        Also False when this process cannot know it: the group is gone, its counter began again as after a restart
        of the host, or this process does not see the host's groups.
        """
        kills = _kills_below(self.name)
        return kills is not None and kills > self.kills


class MemoryGroups:
    """The groups of one worker. Threads may share it."""

    def __init__(self, docker: Callable[[], Client], state_directory: str, above: str = "") -> None:
        """``above``: the group, below the root, in which systemd makes the slices: that of the account's own systemd;
        '' for the root."""
        self._docker = docker
        self._above = above
        self._state_directory = state_directory
        self._lock = threading.Lock()
        self._name: Callable[[str, int], str] | None = None
        self._known = False
        self._chosen: set[str] = set()
        """Groups of containers that a thread is making, and that the daemon may not list yet."""

    def learn(self, info: Mapping[str, Any]) -> None:
        """Read from the daemon's answer to ``GET /info`` how it names groups, and whether their counters are usable."""
        names = {"systemd": slice_name, "cgroupfs": path_name} if info.get("CgroupVersion") == "2" else {}
        self._name = names.get(info.get("CgroupDriver", ""))
        self._known = True

    @contextmanager
    def place(self, body: dict[str, Any], scope: str) -> Iterator[MemoryGroup | None]:
        """Put the container in the request ``body`` into a free group of the scope. Create it in this context.

        Yields None, without a change to the body, when counters are not usable or no group is free.
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
            names = (os.path.join(self._above, self._name(own, number)) for number in range(1, MOST + 1))
            name = next((name for name in names if name not in taken), None)
            kills = None if name is None else _kills_before(name)
            if name is None or kills is None:
                return None
            self._chosen.add(name)
            return MemoryGroup(name, kills)


def group_of(container: Mapping[str, Any]) -> MemoryGroup | None:
    """A container's group, from Docker's inspection of it; None when :meth:`MemoryGroups.place` gave it none."""
    # Not the label: an image may define one, but it cannot define the parent.
    name, kills = container["HostConfig"]["CgroupParent"], container["Config"]["Labels"].get(KILLS_LABEL)
    return MemoryGroup(name, int(kills)) if name and kills else None


def killed_for_memory(container: Mapping[str, Any]) -> bool:
    """Whether the kernel killed a process of a container for lack of memory, from Docker's inspection of it."""
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
    """Identifies a worker's groups on the host. Contains no dash, which would mean a nested slice."""
    return hashlib.sha256(f"{state_directory}\0{resource}".encode()).hexdigest()[:12]


def slice_name(scope: str, number: int) -> str:
    """A group's name for systemd, which makes ``c2d-x-1.slice`` below ``c2d-x.slice`` below ``c2d.slice``."""
    return f"c2d-{scope}-{number}{_SLICE}"


def path_name(scope: str, number: int) -> str:
    """A group's name for Docker's cgroupfs driver."""
    return f"/c2d/{scope}/{number}"


def directory(name: str) -> Path:
    """The directory of a group on the host. https://www.freedesktop.org/software/systemd/man/systemd.slice.html"""
    if not name.endswith(_SLICE):
        return CGROUPS / name.lstrip("/")
    above, _, own = name.rpartition("/")
    parts = own[: -len(_SLICE)].split("-")
    return CGROUPS.joinpath(above, *("-".join(parts[:end]) + _SLICE for end in range(1, len(parts) + 1)))


def _kills_below(name: str) -> int | None:
    try:
        return count_of_kills(directory(name) / "memory.events")
    except OSError:
        return None


def _kills_before(name: str) -> int | None:
    """The counter of a group before its use; 0 when the group does not exist yet."""
    return _kills_below(name) if os.path.exists(directory(name)) else 0
