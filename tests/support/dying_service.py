"""The resident service of a node, as a program that is killed at a certain point of a job, or that is of an earlier
release.

python dying_service.py POINT before|after WORDS...        WORDS as for the service
python dying_service.py upgraded never WORDS...            its files have changed since it started
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from compute_to_data.engines.docker import containers
from compute_to_data.engines.docker.connection import DockerClient
from compute_to_data.engines.slurm import client, node_state, service
from compute_to_data.engines.slurm.node_job import NodeJob
from compute_to_data.engines.slurm.notes import Notes

POINTS: dict[str, tuple[type, str]] = {
    "register": (node_state.Node, "registered"),
    "create": (DockerClient, "create_container_from_config"),
    "start": (DockerClient, "start"),
    "tell the start": (Notes, "write"),
    "forget the secrets": (Notes, "forget_secrets"),
    "wait": (DockerClient, "wait"),
    "tell the end": (NodeJob, "_tell_end"),
    "remove": (containers.ContainerEngine, "remove"),
    "answer": (service.Service, "_finish"),
}
"""Where the service may be killed, in the order in which a job comes there."""


def _deadly(kind: type, name: str, after: bool) -> None:
    """Kill this process where it calls a method."""
    real = getattr(kind, name)

    def dies(*words: Any, **more: Any) -> None:
        if after:
            real(*words, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(kind, name, dies)


def main(point: str, when: str, *words: str) -> int:
    """Be the service."""
    if point == "upgraded":
        stamps = iter(["before"])
        real = client.stamp
        client.stamp = lambda: next(stamps, real())
    else:
        _deadly(*POINTS[point], when == "after")
    return service.main(words)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
