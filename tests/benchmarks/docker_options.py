"""What each option of the sandbox costs a run, and what the engine adds to Docker's own calls.

    python tests/benchmarks/docker_options.py [--runs 20] [--image NAME]

Prints a Markdown table for docs/performance-docker.md. The variants take turns, so that a busy
moment of the machine falls on all of them; compare the medians of one table with each other.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docker import APIClient

from compute_to_data.engines.docker import DockerEngine, sandbox, settings
from compute_to_data.job import Job, JobKey, Limits, Mount
from compute_to_data.model import User
from compute_to_data.ports.engine import RunningJob

PHASES = ("create", "start", "wait", "remove")
LIMITS = Limits(60.0, 256 << 20, 1.0, 100, 1 << 30, 1000, 64 << 20, 1 << 20)
Change = Callable[[dict[str, Any]], None]


def host(**changes: Any) -> Change:
    """Different values in the container's HostConfig; None takes a key away."""

    def change(body: dict[str, Any]) -> None:
        for key, value in changes.items():
            if value is None:
                body["HostConfig"].pop(key, None)
            else:
                body["HostConfig"][key] = value

    return change


def without_mounts(kind: str) -> Change:
    def change(body: dict[str, Any]) -> None:
        mounts = body["HostConfig"]["Mounts"]
        body["HostConfig"]["Mounts"] = [mount for mount in mounts if mount["Type"] != kind]
        body["WorkingDir"] = "/"

    return change


def log(kind: str, **options: str) -> Change:
    return host(LogConfig={"Type": kind, "Config": options})


FILES = {"max-size": "8388608", "max-file": "2"}


def network(mode: str) -> Change:
    def change(body: dict[str, Any]) -> None:
        del body["NetworkDisabled"]
        body["HostConfig"]["NetworkMode"] = mode

    return change


VARIANTS: dict[str, Change] = {
    "the sandbox as it is": lambda body: None,
    "network `none`, set up by Docker": network("none"),
    "network `bridge`": network("bridge"),
    "network `host`": network("host"),
    "log driver `json-file` instead of `local`": log("json-file", **FILES),
    "log driver `local`, compressing": log("local", **FILES),
    "log driver `none`": log("none"),
    "without an init": host(Init=False),
    "seccomp `unconfined`": host(SecurityOpt=["no-new-privileges", "seccomp=unconfined"]),
    "without a tmpfs": without_mounts("tmpfs"),
    "without bind mounts": without_mounts("bind"),
    "without limits of cpu": host(CpuPeriod=None, CpuQuota=None),
    "without a limit of processes": host(PidsLimit=None),
    "without a limit of memory": host(Memory=None, MemorySwap=None, MemorySwappiness=None),
    "writable root": host(ReadonlyRootfs=False),
}


def plain(client: APIClient, job: Job, change: Change) -> list[float]:
    """Seconds of each of Docker's four calls for the job's container, and of all."""
    body = sandbox.container(job, settings.account(settings.read({})))
    change(body)
    name = sandbox.container_name(job.key)
    calls: tuple[Callable[[], object], ...] = (
        lambda: client.create_container_from_config(body, name),  # type: ignore[no-untyped-call]
        lambda: client.start(name),
        lambda: client.wait(name),
        lambda: client.remove_container(name, force=True, v=True),
    )
    return timed(calls)


def ours(engine: DockerEngine, job: Job) -> list[float]:
    """Seconds of each of the engine's calls for the same job, and of all."""
    running: list[RunningJob] = []
    calls: tuple[Callable[[], object], ...] = (
        lambda: running.append(engine.submit(job)),
        lambda: running[0].wait(60),
        lambda: running[0].finish_log(),
        lambda: running[0].remove(),
    )
    return timed(calls)


def timed(calls: tuple[Callable[[], object], ...]) -> list[float]:
    marks = [time.perf_counter()]
    for call in calls:
        call()
        marks.append(time.perf_counter())
    return [after - before for before, after in zip(marks, marks[1:])] + [marks[-1] - marks[0]]


def row(name: str, runs: list[list[float]], reference: float) -> str:
    medians = [statistics.median(column) * 1000 for column in zip(*runs)]
    return f"| {name} | " + " | ".join(f"{value:.1f}" for value in medians) + f" | {medians[-1] - reference:+.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--image", default="compute-to-data/base:bookworm")
    arguments = parser.parse_args()
    client, engine = APIClient(), DockerEngine({}, tempfile.gettempdir())
    image = engine.identify(arguments.image)
    engine_calls: list[list[float]] = []
    runs: dict[str, list[list[float]]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "input"
        source.touch()
        outputs = str(Path(directory) / "outputs")
        engine.prepare(outputs)

        def job() -> Job:
            mounts = (Mount(str(source), "/inputs/input"),)
            owner = User("benchmark", "tempZone")
            places = (outputs, f"{outputs}.log")
            return Job(JobKey(str(uuid.uuid4())), owner, "benchmark", image, ("true",), LIMITS, *places, mounts)

        plain(client, job(), VARIANTS["the sandbox as it is"])  # warm
        for _ in range(arguments.runs):
            for name, change in VARIANTS.items():
                runs[name].append(plain(client, job(), change))
            engine_calls.append(ours(engine, job()))
    reference = statistics.median(run[-1] for run in runs["the sandbox as it is"]) * 1000
    print(f"Medians of {arguments.runs} runs of `true`, in milliseconds.\n")
    print("| Docker's calls | " + " | ".join(PHASES) + " | all | difference |")
    print("| --- |" + " ---: |" * 6)
    for name, measured in runs.items():
        print(row(name, measured, reference))
    print("\n| the engine's calls | submit | wait | logs | remove | all | difference |")
    print("| --- |" + " ---: |" * 6)
    print(row("the same job", engine_calls, reference))


if __name__ == "__main__":
    main()
