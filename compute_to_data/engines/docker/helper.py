"""The helper of jobs with an adapter for a pipe, an appended file or a port, in any image.

An image may have no Python, and no shell. So the helper (``engines/channels.py``) runs with copies of the host's
Python, of its dynamic loader and libraries, and of the modules that the helper imports. A container with such a job
sees them read-only. The helper has no more rights than the job, which could run all of this itself.
"""

from __future__ import annotations

import os
import py_compile
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from compute_to_data.engines import channels
from compute_to_data.engines.docker import host_copies
from compute_to_data.engines.docker.host_copies import LOADER
from compute_to_data.errors import EngineError
from compute_to_data.job import Job

FOLDER = "/.compute-to-data-helper"
"""Where a container sees the copies."""
_PYTHON, _PROGRAM = "bin/python3", "channels.py"
_FLAGS = ("-I", "-S", "-B", "-X", "utf8")  # no encoding of the job's locale, whose module may not be there
_SUBJECT = "the helper for adapters"
_REMEDY = "Run the worker with the Python of a Linux distribution, or use adapters for files and streams"
_TRIAL_SECONDS = 20.0


class Helper:
    """Puts the helper in front of jobs that need it. Threads may share it."""

    def __init__(self, state_directory: str) -> None:
        self._home = os.path.join(state_directory, "helper")
        self._lock = threading.Lock()
        self._folder = ""

    def wrap(self, body: dict[str, Any], job: Job) -> None:
        """Let the container of a job start the helper, which starts the job's program. EngineError when this host has
        nothing to make it from."""
        with self._lock:
            if not os.path.isdir(self._folder):
                self._folder = install(self._home)
            folder = self._folder
        body["Entrypoint"] = [*_start(FOLDER), *job.helper, "--", *body["Entrypoint"]]
        body["HostConfig"]["PidsLimit"] += 1
        mount = {"Type": "bind", "Source": folder, "Target": FOLDER, "ReadOnly": True}
        body["HostConfig"]["Mounts"] = [*body["HostConfig"]["Mounts"], mount]


def _start(folder: str) -> list[str]:
    return [f"{folder}/{LOADER}", "--library-path", folder, f"{folder}/{_PYTHON}", *_FLAGS, f"{folder}/{_PROGRAM}"]


def install(home: str) -> str:
    """Copy what the helper needs from the host to a folder below ``home``. Returns that folder. EngineError."""
    python = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    modules = _modules(python)
    shared = [file for file in modules.values() if not file.endswith(".py")]
    sources = {
        **host_copies.libraries([python, *shared], _SUBJECT),
        _PYTHON: python,
        _PROGRAM: channels.__file__,
        **_places(modules),
    }

    def fill(draft: str) -> None:
        _fill(draft, sources)
        _try(draft)

    return host_copies.folder(home, sources, fill, _SUBJECT, _REMEDY)


def _modules(python: str) -> dict[str, str]:
    """The modules that the helper imports, with their files."""
    command = [python, *_FLAGS, channels.__file__, "--modules"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TRIAL_SECONDS).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(_SUBJECT, f"{python} does not run it ({error})", _REMEDY) from error
    return {name: file for name, _, file in (line.partition("\t") for line in said.splitlines())}


def _places(modules: dict[str, str]) -> dict[str, str]:
    """Where the copies of modules go, so that Python finds them from its own place: ``lib/python3.11``."""
    library = f"{sys.platlibdir}/python{sys.version_info[0]}.{sys.version_info[1]}"
    places = {}
    for name, file in modules.items():
        stem = name.replace(".", "/")
        if not file.endswith(".py"):
            places[f"{library}/lib-dynload/{os.path.basename(file)}"] = file
        elif os.path.basename(file) == "__init__.py":
            places[f"{library}/{stem}/__init__.pyc"] = file
        elif "." not in name or os.path.basename(modules.get(name.rpartition(".")[0], "")) == "__init__.py":
            places[f"{library}/{stem}.pyc"] = file
    return places


def _fill(folder: str, sources: dict[str, str]) -> None:
    os.chmod(folder, 0o755)
    for name, path in sources.items():
        copy = Path(folder, name)
        copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if name.endswith(".pyc"):
            mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(path, str(copy), doraise=True, invalidation_mode=mode)
        else:
            shutil.copyfile(path, copy)
        copy.chmod(0o755)
    library = f"{sys.platlibdir}/python{sys.version_info[0]}.{sys.version_info[1]}"
    Path(folder, library, "lib-dynload").mkdir(mode=0o755, parents=True, exist_ok=True)


def _try(folder: str) -> None:
    """EngineError unless the copies run here, without the host's own."""
    nothing = [*channels.words(), *channels.words()]
    command = [*_start(folder), *nothing, "--", "/bin/sh", "-c", "exit 3"]
    try:
        done = subprocess.run(command, env={}, capture_output=True, text=True, timeout=_TRIAL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise EngineError(_SUBJECT, "a trial of it did not end", _REMEDY) from error
    if done.returncode != 3:
        last = done.stderr.strip().rpartition("\n")[2]
        raise EngineError(_SUBJECT, f"a trial of it ended with {done.returncode} instead of 3: {last}", _REMEDY)
