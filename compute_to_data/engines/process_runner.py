"""The process that looks after one job of the process engine; standard library only.

``process_runner.py FOLDER`` starts the job in ``FOLDER/request.json`` and returns. A process in its own session
stays behind, keeps the last bytes of the job's streams, and writes how the job ended. As long as it
lives, it holds the pipe ``FOLDER/alive`` open for writing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

REQUEST = "request.json"
STARTED = "started.json"
EXIT = "exit.json"
ALIVE = "alive"

_BLOCK = 1 << 16


def write_whole(file: Path, document: dict[str, Any]) -> None:
    """Write a JSON document atomically."""
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(document))
    os.replace(draft, file)


def birth(pid: int) -> str:
    """When a process began, in the kernel's ticks, to distinguish it from a later process with the same id.

    '' when the system has no ``/proc`` or the process is gone.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


class Stream:
    """Keeps the last ``bound`` bytes of a stream in two files; the older one has that many bytes."""

    def __init__(self, file: Path, bound: int) -> None:
        self._file, self._bound = file, bound
        self._out = file.open("wb")

    def write(self, data: bytes) -> None:
        """Append. A file that has reached the bound becomes the older one."""
        if self._out.tell() >= self._bound:
            self._out.close()
            os.replace(self._file, _older(self._file))
            self._out = self._file.open("wb")
        self._out.write(data[-self._bound :] if self._bound else b"")
        self._out.flush()

    def close(self) -> None:
        """Close the file."""
        self._out.close()


def tail(file: Path, bound: int) -> bytes:
    """The last ``bound`` bytes that a :class:`Stream` kept under ``file``."""
    parts = []
    for part in (_older(file), file):
        try:
            parts.append(part.read_bytes())
        except FileNotFoundError:
            continue  # not rotated yet, or being rotated now
    return b"".join(parts)[-bound:] if bound else b""


def _older(file: Path) -> Path:
    return file.with_suffix(".older")


def main(folder: Path) -> None:
    """Start the job in a child process that stays; return when the child reports that the job runs."""
    request = json.loads((folder / REQUEST).read_text())
    reader, writer = os.pipe()
    if os.fork() > 0:
        os.close(writer)
        with os.fdopen(reader) as answer:
            report = answer.read()
        sys.exit(0 if report == "started" else f"{report or 'the runner ended at once'}")
    os.close(reader)
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _ignore)  # unlike SIG_IGN, the job does not inherit this
    os.open(folder / ALIVE, os.O_RDWR)  # open until this process ends; the job does not inherit it
    _look_after(folder, request, writer)


def _ignore(number: int, frame: object) -> None:
    """Ignore signals to the worker's process group: jobs outlive their worker."""


def _look_after(folder: Path, request: dict[str, Any], writer: int) -> None:
    out, err = (Stream(folder / name, request["log_bytes"]) for name in ("stdout", "stderr"))
    try:
        job = _start(request)
    except (FileNotFoundError, PermissionError) as error:
        status = 127 if isinstance(error, FileNotFoundError) else 126
        err.write(f"{request['command'][0]}: {error.strerror}\n".encode())
        write_whole(folder / STARTED, {"time": time.time(), "pid": 0, "birth": "none"})
        _report(writer, "started")
    except OSError as error:
        _report(writer, f"{error}")
        return
    else:
        write_whole(folder / STARTED, {"time": time.time(), "pid": job.pid, "birth": birth(job.pid)})
        _report(writer, "started")
        status = _follow(job, out, err)
    out.close()
    err.close()
    write_whole(folder / EXIT, {"status": status, "finished": time.time()})


def _start(request: dict[str, Any]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        request["command"],
        env=request["environment"],
        cwd=request["directory"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _report(writer: int, text: str) -> None:
    """Report to the parent process, and close the worker's streams."""
    os.write(writer, text.encode())
    os.close(writer)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


def _follow(job: subprocess.Popen[bytes], out: Stream, err: Stream) -> int:
    """Keep what the job writes until it has ended, then kill what is left of its process group."""
    pumps = [
        threading.Thread(target=_pump, args=(pipe, stream), daemon=True)
        for pipe, stream in ((job.stdout, out), (job.stderr, err))
    ]
    for pump in pumps:
        pump.start()
    status = job.wait()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(job.pid, signal.SIGKILL)
    for pump in pumps:
        pump.join(1.0)  # a process outside the group may hold a stream open forever
    return status if status >= 0 else 128 - status


def _pump(pipe: IO[bytes], stream: Stream) -> None:
    while data := os.read(pipe.fileno(), _BLOCK):
        stream.write(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
