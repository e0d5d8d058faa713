"""The program that Slurm starts on a node. It runs one job in its sandbox, and leaves notes for the worker.

::

    python3 -I -m compute_to_data.engines.slurm.node run FOLDER NONCE      what the worker submits
    python3 -I -m compute_to_data.engines.slurm.node probe DIRECTORY ...   looks at a node
    python3 -I -m compute_to_data.engines.slurm.node clean DIRECTORY       for Slurm's Epilog: SLURM_JOB_ID is over

If the folder is gone, or has another nonce, the worker has given the job up, and the program does nothing. A file
``running/<Slurm's job id>`` in the node's state directory, locked while the program lives, has the job's key: what a
killed program left is removed by the Epilog, or by the next job on the node.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compute_to_data.engines.slurm import client, images, notes, written_job
from compute_to_data.engines.slurm.node_job import Event, NodeJob, Place
from compute_to_data.engines.slurm.node_state import Node
from compute_to_data.engines.slurm.notes import REQUEST, Directory, Notes
from compute_to_data.errors import EngineError

_EVENTS = {number: Event(word.decode()) for number, word in client.SIGNALS.items()}


def run(folder: str, nonce: str, lock: str = "", ended: str = "") -> int:
    """Run the job of a folder, unless the worker has given it up.

    ``lock``: the descriptor of the locked note, from :mod:`client`, whose service may have begun the job. ``ended``:
    not empty if Slurm had ended the job before.
    """

    def begins(job: NodeJob) -> None:
        for number in _EVENTS:
            signal.signal(number, lambda number, frame: job.note(_EVENTS[number]))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _EVENTS)
        if ended:
            job.note(Event.ENDED_BY_SLURM)

    place = Place(os.environ.get("SLURM_JOB_ID", f"p{os.getpid()}"), _name(), _say)
    return run_job(folder, nonce, place, int(lock) if lock else None, Node, begins)


def run_job(
    folder: str,
    nonce: str,
    place: Place,
    lock: int | None,
    node_of: Callable[[Directory, str], Node],
    begins: Callable[[NodeJob], None],
) -> int:
    """As :func:`run`, in any process. ``begins`` gets the job before it begins. Returns the exit status for Slurm."""
    directory = Directory(str(Path(folder).parents[1]))
    directory.need_own()
    own = Notes(Path(folder))
    request = own.read(REQUEST)
    if request is None or request["nonce"] != nonce:
        place.say("the worker has given this job up")
        return 0
    job, sandbox = written_job.job(request["job"], own.secrets()), request["sandbox"]
    node = node_of(directory, place.node)
    running = NodeJob(own, directory, job, node.engine(sandbox), place, lambda: node.need_promises(sandbox))
    begins(running)
    with node.registered(job, sandbox, place.number, lock, place.say) as has_begun:
        running.to_its_end(has_begun)
        node.keep_paths()
    return 0


def _name() -> str:
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def _say(line: str) -> None:
    print(line, flush=True)


def probe(directory: str, answer: str, *places: str) -> int:
    """Look at this node: write the images that it has, and try to write and read in ``places``.

    Each place is a directory with a file ``question``; its content goes into a new file ``answer`` beside it.
    """
    own = Directory(directory)
    own.need_own()
    request = notes.read(own.path / answer)
    if request is None:
        return 0
    node = Node(own, _name())
    said: dict[str, Any] = {"node": node.name, "asked": request["asked"], "problem": ""}
    try:
        engine = node.engine(request["sandbox"])
        engine.check()
        images.write(own, engine, node.name, request["asked"])
        for place in places:
            content = Path(place, "question").read_text(encoding="utf-8")
            Path(place, "answer").write_text(content, encoding="utf-8")
    except (EngineError, OSError) as error:
        said["problem"] = str(error)
    notes.write(own.path / f"{answer}.answer", said)
    return 0


def clean(directory: str) -> int:
    """For Slurm's Epilog: remove what the job that is over has left on this node."""
    own = Directory(directory)
    own.need_own()
    Node(own, _name()).clean(_say, os.environ["SLURM_JOB_ID"])
    return 0


def main(words: list[str]) -> int:
    """Run one of the commands above. Returns the exit status."""
    commands: dict[str, Callable[..., int]] = {"run": run, "probe": probe, "clean": clean}
    return commands[words[0]](*words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
