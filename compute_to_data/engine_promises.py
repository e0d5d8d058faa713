"""What each engine promises, in one table: for people (``c2d resources``, docs/engines.md) and for submissions, which
refuse a task that needs what the engine of its resource lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from compute_to_data.task import INPUTS, NOTEBOOK_PLACE, Task


class Promise(Enum):
    """Something that an engine may promise. The value is its name in JSON."""

    SANDBOX = "sandbox"
    """Jobs are isolated from the host and from each other."""
    LIMITS = "limits"
    """The kernel holds a job to its memory, processors, processes and size of files."""
    PLACES = "places"
    """Inputs and output directories may be at any path of the sandbox, also outside /inputs and /outputs."""
    SECRETS = "secrets"
    """A job can read secrets."""
    WARM = "warm"
    """Tasks of a workload may follow each other in one sandbox. Without it, each has its own."""
    LIVE_LOGS = "live_logs"
    """A user can follow what a job writes while it runs."""
    QUEUE = "queue"
    """Jobs wait in a queue of the engine's own, and may run on other hosts."""
    ACCOUNTING = "accounting"
    """The engine records what jobs used, for accounts of the site."""


@dataclass(frozen=True)
class Held:
    """Whether a promise is held, and in words what there is to know about it."""

    is_held: bool
    words: str = ""

    def __str__(self) -> str:
        yes_or_no = "yes" if self.is_held else "no"
        return f"{yes_or_no}: {self.words}" if self.words else yes_or_no


_YES, _NO = Held(True), Held(False)

PROMISES: Mapping[str, Mapping[Promise, Held]] = {
    "docker": {
        Promise.SANDBOX: _YES,
        Promise.LIMITS: _YES,
        Promise.PLACES: _YES,
        Promise.SECRETS: Held(True, "in the host's memory until the job has started"),
        Promise.WARM: _YES,
        Promise.LIVE_LOGS: _YES,
        Promise.QUEUE: _NO,
        Promise.ACCOUNTING: _NO,
    },
    "podman": {
        Promise.SANDBOX: _YES,
        Promise.LIMITS: Held(True, "with cgroup v2 only; without it the engine refuses to run"),
        Promise.PLACES: _YES,
        Promise.SECRETS: Held(True, "in the host's memory until the job has started"),
        Promise.WARM: _YES,
        Promise.LIVE_LOGS: _YES,
        Promise.QUEUE: _NO,
        Promise.ACCOUNTING: _NO,
    },
    "slurm": {
        Promise.SANDBOX: Held(True, "that of docker or podman, on the node"),
        Promise.LIMITS: Held(True, "as docker or podman, on the node; Slurm places by memory, processors and time"),
        Promise.PLACES: _YES,
        Promise.SECRETS: Held(True, "in files of the service account on the shared disk until the job has started"),
        Promise.WARM: _NO,
        Promise.LIVE_LOGS: Held(True, "as soon as the shared file system shows them"),
        Promise.QUEUE: _YES,
        Promise.ACCOUNTING: Held(True, "time, processors and memory as they were asked for; not what containers used"),
    },
    "process": {
        Promise.SANDBOX: Held(False, "it isolates nothing"),
        Promise.LIMITS: Held(False, "only walltime, logs and outputs"),
        Promise.PLACES: _NO,
        Promise.SECRETS: Held(True, "in files of the worker's account until the job has ended"),
        Promise.WARM: _NO,
        Promise.LIVE_LOGS: _YES,
        Promise.QUEUE: _NO,
        Promise.ACCOUNTING: _NO,
    },
}  # fmt: skip


def of(engine: str) -> Mapping[Promise, Held]:
    """The promises of an engine; none for one that this release does not know."""
    return PROMISES.get(engine, {})


def may_lack(task: Task) -> bool:
    """Whether any engine lacks something that the task needs."""
    return any(lacking(engine, task) is not None for engine in PROMISES)


def lacking(engine: str, task: Task) -> tuple[str, str] | None:
    """What a task needs and an engine lacks: the place in the request, and the need in words. None for nothing, and
    for an engine that this release does not know: the worker decides."""
    promises = of(engine)
    for promise, place, need in _needs(task):
        if promise in promises and not promises[promise].is_held:
            return place, need
    return None


def _needs(task: Task) -> Iterator[tuple[Promise, str, str]]:
    usual = (f"{INPUTS}/", f"{NOTEBOOK_PLACE}/")
    for number, one in enumerate(task.inputs):
        if one.path and not one.path.startswith(usual):
            yield Promise.PLACES, f"/inputs/{number}", f"an input at {one.path}"
    for number, output in enumerate(task.outputs):
        yield Promise.PLACES, f"/outputs/{number}", f"outputs at {output.path}"
    if task.secrets:
        yield Promise.SECRETS, "/secrets/0", "secrets"
