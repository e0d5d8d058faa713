"""What each state of a job in Slurm means for us, in one table.

https://slurm.schedmd.com/squeue.html#SECTION_JOB-STATE-CODES
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from compute_to_data.errors import ReasonCode
from compute_to_data.job import EndedBy


class Phase(Enum):
    """Where a job is."""

    WAITS = "waits"
    RUNS = "runs"
    """On a node, or about to leave it: the node's notes tell more."""
    OVER = "over"
    """It has ended. The node's note says how."""
    PREEMPTED = "preempted"
    """Slurm ended it to run another job."""
    LOST = "lost"
    """Through no fault of its own, as when its node fails."""


@dataclass(frozen=True)
class Meaning:
    """What a state means. ``ended_by``: what ended a job that did not end by itself. ``out_of_memory``: whether Slurm
    ended it for that."""

    phase: Phase
    ended_by: EndedBy | None = None
    out_of_memory: bool = False


_TIME_LIMIT = EndedBy(
    ReasonCode.WALLTIME_EXCEEDED,
    "Slurm ended its job at the job's time limit in Slurm",
    "An administrator sees the limits of the partition with: scontrol show partition",
)
_CANCELLED = EndedBy(ReasonCode.CANCELLED, "its job was cancelled in Slurm (scancel)")

STATES = {
    "PENDING": Meaning(Phase.WAITS),
    "CONFIGURING": Meaning(Phase.WAITS),
    "REQUEUED": Meaning(Phase.WAITS),
    "REQUEUE_HOLD": Meaning(Phase.WAITS),
    "REQUEUE_FED": Meaning(Phase.WAITS),
    "RESV_DEL_HOLD": Meaning(Phase.WAITS),
    "SPECIAL_EXIT": Meaning(Phase.WAITS),
    "RUNNING": Meaning(Phase.RUNS),
    "SUSPENDED": Meaning(Phase.RUNS),
    "STOPPED": Meaning(Phase.RUNS),
    "SIGNALING": Meaning(Phase.RUNS),
    "RESIZING": Meaning(Phase.RUNS),
    "STAGE_OUT": Meaning(Phase.RUNS),
    "COMPLETING": Meaning(Phase.RUNS),
    "COMPLETED": Meaning(Phase.OVER),
    "FAILED": Meaning(Phase.OVER),
    "CANCELLED": Meaning(Phase.OVER, _CANCELLED),
    "TIMEOUT": Meaning(Phase.OVER, _TIME_LIMIT),
    "DEADLINE": Meaning(Phase.OVER, _TIME_LIMIT),
    "OUT_OF_MEMORY": Meaning(Phase.OVER, out_of_memory=True),
    "PREEMPTED": Meaning(Phase.PREEMPTED),
    "NODE_FAIL": Meaning(Phase.LOST),
    "BOOT_FAIL": Meaning(Phase.LOST),
    "REVOKED": Meaning(Phase.LOST),
}

GONE = Meaning(Phase.LOST)
"""Slurm knows nothing of the job."""


def meaning(state: str) -> Meaning:
    """The meaning of a state as Slurm writes it, such as ``CANCELLED by 0``. A state that is not in the table, from a
    later version, is one of a running job: the node's notes tell its end."""
    return STATES.get(state.strip().split(" ")[0].rstrip("+"), Meaning(Phase.RUNS))
