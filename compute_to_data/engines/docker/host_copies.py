"""Folders with copies of the host's own programs and libraries, which run in any container.

An image may have neither a dynamic loader nor a shell, and nothing in it can be trusted. So what must run in every
container runs from the host's files, which the host's dynamic loader starts. A folder's name tells what it was made
from: after an update of the host there is a new one, while running containers keep theirs.
"""

from __future__ import annotations

import hashlib
import json
import os
import py_compile
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from compute_to_data.errors import EngineError

LOADER = "ld.so"
"""The name of the loader's copy."""
_LIBRARIES = "libraries.json"
_LIBRARY = re.compile(r"(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)")


def remembered(home: str, programs: Sequence[str], subject: str) -> dict[str, str]:
    """As :func:`libraries`, which starts some ten processes, or what a file below ``home`` has of an earlier call. A
    program that runs for each job on a Slurm node calls this."""
    asked = [(program, os.stat(program).st_size, os.stat(program).st_mtime_ns) for program in programs]
    file = os.path.join(home, _LIBRARIES)
    with suppress(OSError, ValueError, LookupError, TypeError), open(file, encoding="utf-8") as known:
        told = json.load(known)
        if told["programs"] == [list(one) for one in asked] and all(map(os.path.exists, told["found"].values())):
            return dict(told["found"])
    found = libraries(programs, subject)
    with suppress(OSError):  # the next call asks again
        os.makedirs(home, mode=0o711, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=home)
        with open(descriptor, "w", encoding="utf-8") as new:
            json.dump({"programs": asked, "found": found}, new)
        os.replace(draft, file)
    return found


def libraries(programs: Sequence[str], subject: str) -> dict[str, str]:
    """The loader and the libraries that the programs need, by the names under which the loader looks for them.

    EngineError about ``subject`` when a program has no dynamic loader.
    """
    found: dict[str, str] = {}
    for program in programs:
        command = ["ldd", program]
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=True, env={"LC_ALL": "C"}).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise EngineError(subject, f"{program} has no dynamic loader to copy ({error})") from error
        for line in map(str.strip, said.splitlines()):
            matched = _LIBRARY.fullmatch(line)
            if matched:
                is_loader = "=>" not in line
                found[LOADER if is_loader else line.partition(" ")[0]] = os.path.realpath(matched[1])
    if LOADER not in found:
        raise EngineError(subject, f"{programs[0]} has no dynamic loader to copy")
    return found


def folder(home: str, sources: Mapping[str, str], fill: Callable[[str], None], subject: str, remedy: str = "") -> str:
    """The folder below ``home`` with copies of ``sources`` (a file of the host for each name). Makes it if need be.

    ``fill`` puts the copies into a new folder and tries them. The folder gets its name only after that. EngineError
    about ``subject``, with ``remedy``.
    """
    state = [(name, path, os.stat(path).st_size, os.stat(path).st_mtime_ns) for name, path in sorted(sources.items())]
    made = os.path.join(home, hashlib.sha256(repr(state).encode()).hexdigest()[:20])
    if os.path.isdir(made):
        return made
    draft = ""
    try:
        os.makedirs(home, mode=0o711, exist_ok=True)
        draft = tempfile.mkdtemp(dir=home)
        fill(draft)
        os.rename(draft, made)
    except (OSError, py_compile.PyCompileError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        if not os.path.isdir(made):  # else another worker was faster
            cause = getattr(error, "strerror", None) or str(error)
            raise EngineError(subject, f"the worker cannot make it in {home} ({cause})", remedy) from error
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return made
