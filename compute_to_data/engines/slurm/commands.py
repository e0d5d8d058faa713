"""The declared values of Slurm: how a job is submitted, asked for, signalled and cancelled, and what its errors mean.

All values are arguments of Slurm's commands; no shell reads them.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from compute_to_data.engines.slurm.settings import SlurmSettings
from compute_to_data.errors import EngineError, EngineOutOfReach
from compute_to_data.job import Job, JobKey

SUBJECT = "Slurm"
STOP_SIGNAL = "USR1"
"""Tells our program on the node to look for a note: only that can say how much grace the job has."""
_NAME = "compute-to-data-"
_START = Path(__file__).with_name("start.sh")
_CLIENT = Path(__file__).with_name("client.py")
_NODE = "compute_to_data.engines.slurm.node"
_MINUTE = 60.0
_STARTING_SECONDS = 60.0
"""How much longer than its sandbox a job lasts at most: the node starts the sandbox, and keeps its log."""
_MEBIBYTE = 1 << 20
_ENVIRONMENT = ("PATH", "SLURM_CONF", "SLURM_CONF_SERVER")
"""What the commands get of the worker's environment. Without the rest, no variable such as SBATCH_PARTITION changes
what they do, and sbatch has nothing of the worker's to pass on to a job."""

# A pattern in what a command wrote, and the error for it. The first match counts.
_KNOWN: tuple[tuple[str, type[EngineError], str, str], ...] = (
    (
        r"Unable to contact|[Cc]onnection refused|[Tt]imed out|Zero Bytes|standby|communication|Transport endpoint"
        r"|fetch_config|configuration source|process configuration|Protocol authentication",
        EngineOutOfReach,
        "slurmctld does not answer",
        "See whether slurmctld and munged run",
    ),
    (
        r"QOS\w*(Limit|Per\w+)|Assoc\w*Limit|accounting/QOS policy|temporarily unable|Resource temporarily",
        EngineOutOfReach,
        "Slurm takes no more jobs of this account at the moment",
        "Lower worker.submitted, or raise the limit in Slurm",
    ),
    (
        r"partition not available",
        EngineOutOfReach,
        "the partition takes no jobs at the moment",
        "See sinfo; an administrator opens it with: scontrol update partitionname=<name> state=up",
    ),
    (
        r"[Ii]nvalid partition",  # an administrator's fault, not the task's: it waits
        EngineOutOfReach,
        "there is no such partition",
        "Correct 'partition' in the engine's settings; sinfo lists them",
    ),
    (
        r"[Ii]nvalid (account|qos|feature|wckey)",
        EngineError,
        "Slurm does not accept the account, qos, constraint or wckey",
        "Correct it in the engine's settings",
    ),
    (
        r"node configuration is not available|[Mm]emory specification|time limit|cpu count|More processors",
        EngineError,
        "no node of the partition can give what the task asks for",
        "Ask for less in limits, or let an administrator lower limits.maximum",
    ),
)


def name_of(key: JobKey) -> str:
    """The name of a job in Slurm."""
    return f"{_NAME}{key.text}"


def submission(settings: SlurmSettings, job: Job, folder: str, nonce: str) -> list[str]:
    """The command that submits a job, whose notes are in ``folder``."""
    seconds = job.limits.walltime_seconds + job.own_margin + job.grace_seconds + _STARTING_SECONDS
    owner = str(job.owner)
    options = {
        "job-name": name_of(job.key),
        "comment": f"task {job.key.task_id} of {owner}",
        "time": str(math.ceil(seconds / _MINUTE)),  # in minutes
        "mem": f"{math.ceil((job.limits.memory_bytes + settings.memory_bytes) / _MEBIBYTE)}M",
        "cpus-per-task": str(max(math.ceil(job.limits.cpus), 1)),
        "account": settings.accounts.get(owner, settings.account),
        "wckey": settings.wckeys.get(owner, ""),
    }
    return [
        *_sbatch(settings, options, f"{folder}/node.log"),
        *_program(settings, "run", folder, nonce, service=settings.service),
    ]


def probe(settings: SlurmSettings, *words: str, log: str) -> list[str]:
    """The command that submits a probe: a short job that looks at a node."""
    options = {"job-name": f"{_NAME}probe", "time": "2", "mem": f"{math.ceil(settings.memory_bytes / _MEBIBYTE)}M"}
    return [*_sbatch(settings, {**options, "account": settings.account}, log), *_program(settings, *words)]


def _sbatch(settings: SlurmSettings, options: Mapping[str, str], log: str) -> list[str]:
    more = {"partition": settings.partition, "qos": settings.qos, "constraint": settings.constraint}
    given = [f"--{name}={value}" for name, value in {**options, **more}.items() if value]
    # Slurm must not start a job again by itself: an earlier one may still write on a node that Slurm cannot reach.
    # Nor has a job the worker's own limits, as of its systemd unit.
    fixed = [
        "--no-requeue",
        "--propagate=NONE",
        "--nodes=1",
        "--ntasks=1",
        "--chdir=/",
        "--input=/dev/null",
        "--open-mode=append",
    ]
    streams = [f"--output={log}", f"--error={log}"]
    return ["sbatch", "--parsable", *fixed, *streams, *given, *settings.extra, str(_START)]


def _program(settings: SlurmSettings, *words: str, service: str = "") -> list[str]:
    return [service, str(_CLIENT), settings.python, "-I", "-m", _NODE, *words]


QUEUE = ("squeue", "--noheader", "--states=all", "--format=%i|%T|%j")
"""All jobs of an account that Slurm knows, running, waiting or ended a short time ago, in one question."""
ACCOUNTING = ("sacct", "--noheader", "--parsable2", "--allocations", "--format=JobIDRaw,State")


def queue_of(account: str) -> list[str]:
    """The question for all jobs of an account. slurmctld then sends no others."""
    return [*QUEUE, f"--user={account}"]


def question_about(identity: str) -> list[str]:
    """The question for one job. An error when slurmctld has forgotten it."""
    return [*QUEUE, f"--jobs={identity}"]


def states(answer: str) -> dict[str, tuple[str, str]]:
    """State and name of each job in the answer to :func:`queue_of`, by its id. EngineOutOfReach for nonsense."""
    found = {}
    for line in answer.splitlines():
        parts = line.strip().split("|", 2)
        if len(parts) != 3 or not parts[0][:1].isdigit():
            raise EngineOutOfReach(SUBJECT, f"squeue answers nonsense ({line[:80]!r})", "See what squeue prints")
        found[parts[0]] = (parts[1], parts[2])
    return found


def ended_long_ago(ids: Sequence[str]) -> list[str]:
    """The question to Slurm's accounting for jobs that slurmctld has forgotten."""
    return [*ACCOUNTING, f"--jobs={','.join(ids)}"]


def ended_states(answer: str) -> dict[str, str]:
    """The state of each job in the answer to :func:`ended_long_ago`, by its id."""
    return {line.partition("|")[0]: line.partition("|")[2] for line in answer.splitlines() if "|" in line}


def to_stop(identity: str) -> tuple[list[str], ...]:
    """The commands that end a job in the queue, or tell our program on the node to look for its note."""
    return (
        ["scancel", "--state=PENDING", identity],
        ["scancel", "--batch", f"--signal={STOP_SIGNAL}", identity],
    )


def to_cancel(identity: str) -> list[str]:
    """The command that ends a job: SIGTERM, and after Slurm's KillWait SIGKILL."""
    return ["scancel", identity]


def nodes_of(settings: SlurmSettings) -> list[str]:
    """The question for the nodes of the partition."""
    partition = [f"--partition={settings.partition}"] if settings.partition else []
    return ["sinfo", "--noheader", "--format=%a|%D", *partition]


def run(words: Sequence[str], seconds: float, subject: str = SUBJECT) -> str:
    """Run a command of Slurm; returns what it wrote to standard output. EngineError, EngineOutOfReach."""
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            env={"PATH": os.defpath, **environment, "LC_ALL": "C.UTF-8", "SLURM_TIME_FORMAT": "%s"},
            check=False,
        )
    except FileNotFoundError as error:
        remedy = "Install Slurm's commands (Debian: slurm-client), and give the worker their PATH"
        raise EngineError(subject, f"this host has no command {words[0]}", remedy) from error
    except subprocess.TimeoutExpired as error:
        raise EngineOutOfReach(subject, f"{words[0]} did not end in {seconds:g} s", _KNOWN[0][3]) from error
    except OSError as error:
        raise EngineOutOfReach(subject, f"{words[0]} cannot be run at the moment ({error.strerror})") from error
    if done.returncode != 0:
        raise explained(subject, words[0], done.stderr.decode(errors="replace"))
    return done.stdout.decode(errors="replace")


def explained(subject: str, command: str, said: str) -> EngineError:
    """Our error for what a command wrote to standard error."""
    text = " ".join(said.split())[-300:] or "it wrote nothing"
    for pattern, kind, cause, remedy in _KNOWN:
        if re.search(pattern, said):
            return kind(subject, f"{cause} ({text})", remedy)
    return EngineError(subject, f"{command} failed: {text}")
