"""The process that looks after one job of the process engine; standard library only.

``process_runner.py FOLDER`` starts the job in ``FOLDER/request.json`` and returns. A process in its own session
stays behind, writes the job's log, and at last how the job ended. As long as it lives, it holds the pipe
``FOLDER/alive`` open for writing.
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

sys.path.append(str(Path(__file__).resolve().parents[2]))  # the interpreter starts without any package

from compute_to_data.engines.log_writer import LogWriter

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
    log = LogWriter.create(request["log_file"], request["log_bytes"])
    try:
        job = _start(request)
    except (FileNotFoundError, PermissionError) as error:
        status = 127 if isinstance(error, FileNotFoundError) else 126
        log.append(1, f"{request['command'][0]}: {error.strerror}\n".encode())
        write_whole(folder / STARTED, {"time": time.time(), "pid": 0, "birth": "none"})
        _report(writer, "started")
    except OSError as error:
        _report(writer, f"{error}")
        return
    else:
        write_whole(folder / STARTED, {"time": time.time(), "pid": job.pid, "birth": birth(job.pid)})
        _report(writer, "started")
        status = _follow(job, log, request)
    log.close(complete=True)
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


def _follow(job: subprocess.Popen[bytes], log: LogWriter, request: dict[str, Any]) -> int:
    """Keep what the job writes until it has ended or its time is over, then kill what is left of its process group."""
    pumps = [
        threading.Thread(target=_pump, args=(pipe, log, number), daemon=True)
        for number, pipe in enumerate((job.stdout, job.stderr))
    ]
    for pump in pumps:
        pump.start()
    status = _wait(job, request["seconds"], request["grace_seconds"])
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(job.pid, signal.SIGKILL)
    for pump in pumps:
        pump.join(1.0)  # a process outside the group may hold a stream open forever
    return status if status >= 0 else 128 - status


def _wait(job: subprocess.Popen[bytes], seconds: float, grace: float) -> int:
    """Wait for the job's end, and end it when its time is over: the worker may be dead."""
    for number, longest in ((signal.SIGTERM, seconds), (signal.SIGKILL, grace)):
        try:
            return job.wait(min(longest, threading.TIMEOUT_MAX))
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(job.pid, number)
    return job.wait()


def _pump(pipe: IO[bytes], log: LogWriter, stream: int) -> None:
    while data := os.read(pipe.fileno(), _BLOCK):
        log.append(stream, data)
        log.publish()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
