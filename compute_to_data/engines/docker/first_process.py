"""The first process of a container, which ends the job at its walltime even when no worker or other process of ours
runs on the host.

A site's host has no compiler, and nothing of an image can be trusted. So the first process is the host's own
``timeout`` (GNU coreutils), started by a copy of the host's dynamic loader with copies of the libraries that it needs.
Below it, the host's ``env`` sets the job's environment, and becomes ``docker-init``, which reaps processes and starts
the program::

    ld.so timeout --kill-after=GRACE SECONDS  ld.so env -S "NAME=${C2D_VALUE_0}"  docker-init -s --  PROGRAM...

The kernel lets no process of a container kill or stop its first one, and ends all of them with it. The loader's copy is
not readable for jobs, so the kernel also lets no process of another uid than the copy's owner trace the first process
or write into its memory. The first process has the job's and the image's environment under other names, because the
loader would load what ``LD_PRELOAD`` names. For the same reason ``/etc/ld.so.preload`` is empty in the container.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compute_to_data.engines.docker import host_copies
from compute_to_data.engines.docker.host_copies import LOADER
from compute_to_data.errors import EngineError
from compute_to_data.job import Job

log = logging.getLogger(__name__)

FOLDER = "/.compute-to-data-init"
"""Where a container sees the copies, read-only."""
_PREFIX = "C2D_VALUE_"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""Variables that a loader or a program could take for its own; others, it ignores."""
_EMPTY = "empty"
_PROGRAMS = ("timeout", "env", "docker-init")
_OTHER_PLACES = os.pathsep.join(
    ("/usr/local/bin", "/usr/bin", "/bin", "/usr/libexec/docker", "/usr/local/libexec/docker")
)
_TRIAL_SECONDS = 20.0
_SUBJECT = "the sandbox's own deadline"


class FirstProcess:
    """Gives containers their first process. Where the host cannot provide it, they get Docker's own init instead, and
    only the worker and what runs beside it hold their walltime. Threads may share it."""

    def __init__(self, state_directory: str) -> None:
        self._home = os.path.join(state_directory, "first-process")
        self._lock = threading.Lock()
        self._folder = ""
        self._lacks = False
        self._environments: dict[str, tuple[str, ...]] = {}

    def learn(self, digest: str, environment: Sequence[str]) -> None:
        """Note the environment of an image (``NAME=VALUE``)."""
        self._environments[digest] = tuple(environment)

    def wrap(self, body: dict[str, Any], job: Job, seconds: float) -> None:
        """Give the container of a job with a known image its first process, which ends it after ``seconds``."""
        folder = self._copies()
        if folder:
            wrap(body, folder, job, seconds, self._environments[job.image.digest])

    def _copies(self) -> str:
        """The folder with the copies; '' when the host cannot provide them."""
        with self._lock:
            if not os.path.isdir(self._folder) and not self._lacks:
                try:
                    self._folder = install(self._home)
                except EngineError as error:
                    log.warning("only the worker ends jobs at their walltime: %s", error)
                    self._lacks = True
            return self._folder if not self._lacks else ""


def install(home: str) -> str:
    """Copy what the first process needs from the host to a folder below ``home``. Returns that folder.

    EngineError when the host lacks something, or its programs do not do what is needed.
    """
    programs = {name: _found(name) for name in _PROGRAMS}
    sources = {**host_copies.remembered(home, (programs["timeout"], programs["env"]), _SUBJECT), **programs}

    def fill(draft: str) -> None:
        _fill(draft, sources)
        _try(draft)

    return host_copies.folder(home, sources, fill, _SUBJECT)


def wrap(body: dict[str, Any], folder: str, job: Job, seconds: float, environment: Sequence[str]) -> None:
    """Give a container from ``sandbox`` its first process, which ends it after ``seconds``.

    ``environment``: the image's (``NAME=VALUE``), which Docker would otherwise give to the first process, too.
    """
    wanted = dict(one.partition("=")[::2] for one in (*environment, *body["Env"]))
    renamed = {name: f"{_PREFIX}{number}" for number, name in enumerate(wanted) if _NAME.fullmatch(name)}
    body["Entrypoint"] = [*_start(FOLDER, seconds, job.grace_seconds, renamed), *body["Entrypoint"]]
    body["Env"] = [
        *(name for name in renamed),  # a name without a value: Docker removes the image's variable
        *(f"{renamed.get(name, name)}={value}" for name, value in wanted.items()),
    ]
    body["HostConfig"]["Init"] = False
    body["HostConfig"]["PidsLimit"] += 1
    body["HostConfig"]["Mounts"] += [
        {"Type": "bind", "Source": folder, "Target": FOLDER, "ReadOnly": True},
        {"Type": "bind", "Source": f"{folder}/{_EMPTY}", "Target": "/etc/ld.so.preload", "ReadOnly": True},
    ]


def _start(folder: str, seconds: float, grace: float, renamed: Mapping[str, str]) -> list[str]:
    """The command before the program. ``renamed``: for each variable the name under which the first process has it.

    The values are not in the command, which all accounts of the host can see. ``env`` expands ``${NAME}`` in the
    argument of ``-S`` without splitting or expanding the value.
    """
    loader = [f"{folder}/{LOADER}", "--library-path", folder]
    limits = ["--signal=TERM", f"--kill-after={max(grace, 0.001):.3f}", f"{max(seconds, 0.001):.3f}"]
    given = [
        *(f"-u {other}" for other in renamed.values()),
        *(f"{name}=${{{other}}}" for name, other in renamed.items()),
    ]
    return [
        *loader, f"{folder}/timeout", "--foreground", *limits,
        *loader, f"{folder}/env", "-S", " ".join(given),
        f"{folder}/docker-init", "-s", "--",
    ]  # fmt: skip


def _found(name: str) -> str:
    path = shutil.which(name) or shutil.which(name, path=_OTHER_PLACES)
    if path is None:
        raise EngineError(_SUBJECT, f"this host has no program '{name}'", "Install GNU coreutils and Docker's init")
    return os.path.realpath(path)


def _fill(folder: str, sources: Mapping[str, str]) -> None:
    os.chmod(folder, 0o711)
    for name, path in sources.items():
        copy = os.path.join(folder, name)
        shutil.copyfile(path, copy)
        # Who cannot read the loader's file cannot trace a process that it runs. The loader itself reads the others.
        os.chmod(copy, 0o711 if name in (LOADER, "docker-init") else 0o755)
    Path(folder, _EMPTY).touch(mode=0o644)


def _try(folder: str) -> None:
    """EngineError unless the copies run here, and end a program that goes on."""
    for program, seconds, wanted in ((r'[ "$TRIAL" = "a  \$b" ] && exit 3', 10.0, 3), ("exec sleep 10", 0.01, 124)):
        command = [*_start(folder, seconds, 1.0, {"TRIAL": f"{_PREFIX}0"}), "/bin/sh", "-c", program]
        given = {"PATH": os.defpath, f"{_PREFIX}0": "a  $b"}
        try:
            done = subprocess.run(
                command, env=given, capture_output=True, text=True, timeout=_TRIAL_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(_SUBJECT, "this host's timeout does not end a program") from error
        if done.returncode != wanted:
            last = done.stderr.strip().rpartition("\n")[2]
            raise EngineError(_SUBJECT, f"a trial ended with {done.returncode} instead of {wanted}: {last}")
