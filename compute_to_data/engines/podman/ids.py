"""The ids of the host as a rootless Podman sees them: it runs in a user namespace with its own numbers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from compute_to_data.errors import EngineError

Range = tuple[int, int, int]
"""The first id in the namespace, the first on the host, and how many follow each other."""


@dataclass(frozen=True)
class Ids:
    """The maps of Podman's user namespace."""

    uids: tuple[Range, ...]
    gids: tuple[Range, ...]

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Ids:
        """From Podman's answer to ``GET /info``."""
        maps = info["host"].get("idMappings") or {}
        return cls(_ranges(maps.get("uidmap") or ()), _ranges(maps.get("gidmap") or ()))

    def is_shared(self, user: str) -> bool:
        """Whether a user of the host (``UID:GID``) is the account of Podman itself."""
        return int(user.partition(":")[0]) == os.geteuid()

    def inside(self, user: str) -> str:
        """A user of the host as Podman's namespace numbers it. EngineError when it is not in there."""
        uid, gid = map(int, user.split(":"))
        found = _mapped(self.uids, uid, 1, 0), _mapped(self.gids, gid, 1, 0)
        if None in found:
            raise EngineError(
                "the user ids of jobs",
                f"uid {uid}, gid {gid} are not among the subordinate ids that Podman uses",
                "After a change of /etc/subuid or /etc/subgid, run as the worker's account: podman system migrate",
            )
        return "{}:{}".format(*found)

    def outside(self, user: str) -> str:
        """The user of the host for one of the namespace; '' when there is none."""
        uid, _, gid = user.partition(":")
        if not (uid.isdecimal() and gid.isdecimal()):
            return ""
        found = _mapped(self.uids, int(uid), 0, 1), _mapped(self.gids, int(gid), 0, 1)
        return "" if None in found else "{}:{}".format(*found)


def _ranges(given: Iterable[Mapping[str, Any]]) -> tuple[Range, ...]:
    return tuple((int(one["container_id"]), int(one["host_id"]), int(one["size"])) for one in given)


def _mapped(ranges: Iterable[Range], number: int, source: int, target: int) -> int | None:
    for one in ranges:
        if one[source] <= number < one[source] + one[2]:
            return one[target] + number - one[source]
    return None
