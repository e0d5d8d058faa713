"""The settings of the Slurm engine."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compute_to_data.engines import checks
from compute_to_data.engines.slurm import sandboxes
from compute_to_data.errors import ConfigurationError

SERVICE_SOCKET = "/run/compute-to-data-node/socket"
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:&|()*\[\]-]*")
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9._@+-]+)+")


@dataclass(frozen=True)
class SlurmSettings:
    """The engine's settings in the configuration.

    ``directory``: on a file system that this host and all nodes see under the same path, as they do the vault.
    ``sandbox``: the engine that runs a job on its node, with that engine's own settings. ``python``: the interpreter
    on the nodes, which has this package. ``partition``, ``account``, ``qos`` and ``constraint``: as for sbatch, empty
    for Slurm's defaults. ``accounts`` and ``wckeys``: Slurm's account and workload characterization key of a user
    (``name#zone``). ``extra``: further words for sbatch. ``memory_bytes``: what a job gets in Slurm besides its
    sandbox, for our program on the node. ``poll_seconds``: the time between two questions to slurmctld.
    ``timeout_seconds``: the time-out of one command. ``notes_seconds``: how long what a node wrote may take until this
    host sees it; only then a job that left no note counts as lost. ``service``: the socket of the resident service on
    nodes that have one.
    """

    directory: str
    sandbox: Mapping[str, Any] = field(default_factory=dict)
    python: str = sys.executable
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    accounts: Mapping[str, str] = field(default_factory=dict)
    wckeys: Mapping[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    memory_bytes: int = 128 << 20
    poll_seconds: float = 2.0
    timeout_seconds: float = 60.0
    notes_seconds: float = 30.0
    service: str = SERVICE_SOCKET


_KNOWN: dict[str, type] = {
    "directory": str, "sandbox": Mapping, "python": str, "partition": str, "account": str, "qos": str,
    "constraint": str, "accounts": Mapping, "wckeys": Mapping, "extra": list, "memory_bytes": int,
    "poll_seconds": float, "timeout_seconds": float, "notes_seconds": float, "service": str,
}  # fmt: skip


def read(given: Mapping[str, Any]) -> SlurmSettings:
    """The checked settings. ConfigurationError with the JSON pointer."""
    values = checks.settings("slurm", given, _KNOWN)
    for key in ("directory", "python", "service"):
        if key in values and not _PLAIN_PATH.fullmatch(values[key]):  # Slurm reads % and \ in names of files
            raise _wrong(key, f"{values[key]!r} is not an absolute path of letters, digits and . _ @ + -")
    if "directory" not in values:
        remedy = "Name a directory that this host and all nodes see under the same path"
        raise ConfigurationError("/engine/settings/directory", "the slurm engine needs it", remedy)
    for key in ("partition", "account", "qos", "constraint"):
        _check_word(key, values.get(key, ""))
    for key in ("accounts", "wckeys"):
        for user, word in values.get(key, {}).items():
            _check_word(f"{key}/{user}", word)
    if not all(isinstance(word, str) and word.startswith("-") and "\0" not in word for word in values.get("extra", [])):
        raise _wrong("extra", "each word must begin with '-', as in --reservation=name")
    for key in ("memory_bytes", "poll_seconds", "timeout_seconds"):
        if values.get(key, 1) <= 0:
            raise _wrong(key, "it must be more than 0")
    values["extra"] = tuple(values.get("extra", ()))
    sandbox = dict(values.get("sandbox", {}))
    name = sandbox.setdefault("name", sandboxes.KNOWN[0])
    if name not in sandboxes.KNOWN:
        raise _wrong("sandbox/name", f"{name!r} cannot run jobs on nodes: use one of {', '.join(sandboxes.KNOWN)}")
    if sandbox.setdefault("job_uids", None) is not None:
        raise _wrong("sandbox/job_uids", "nodes that share a vault cannot give each job an account of its own")
    return SlurmSettings(**{**values, "sandbox": sandbox, "python": values.get("python", _own_python())})


def _own_python() -> str:
    return os.path.abspath(sys.executable)


def _check_word(key: str, word: object) -> None:
    if word != "" and not (isinstance(word, str) and _WORD.fullmatch(word)):
        raise _wrong(key, f"{word!r} is not a name that Slurm takes")


def _wrong(key: str, cause: str) -> ConfigurationError:
    return ConfigurationError(f"/engine/settings/{key}", cause)
