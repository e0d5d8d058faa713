"""The resident service of a node: one process that has everything imported that a job needs there. A job then costs a
tenth of the processor time that a program of its own would need.

::

    python3 -I -m compute_to_data.engines.slurm.service [--socket PATH] DIRECTORY...

``client.py`` is what Slurm starts for a job where this service runs. The two exchange messages on a socket that only
their account can reach: the client names the job and hands over the locked note about it and its log, the service
answers ``READY``, and begins at ``GO``. It sends the exit status when nothing of the job is left. The client passes on
Slurm's signals. If it ends, Slurm has killed it, and the job ends. Where the service does not take a job, or dies, the
client becomes a program that runs or adopts the job itself. So this process may end at any time.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import logging
import os
import queue
import re
import resource
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from compute_to_data.engines import checks
from compute_to_data.engines.slurm import client, node
from compute_to_data.engines.slurm.node_job import Event, NodeJob, Place
from compute_to_data.engines.slurm.node_state import Node
from compute_to_data.engines.slurm.notes import Directory, need_private
from compute_to_data.engines.slurm.settings import SERVICE_SOCKET
from compute_to_data.errors import EngineError
from compute_to_data.job import JobKey

log = logging.getLogger(__name__)

_MOST_CALLERS = 256
"""More jobs than this at a time run without the service, as with more processors than a node has today."""
_LONGEST_MESSAGE = 16 << 10
_PATIENCE_SECONDS = 10.0
"""How long a client may take to name its job."""
_FILES_OF_A_CALLER = 16
_NUMBER = re.compile(r"[0-9]{1,20}")
_FAILED = 1


class Caller:
    """A client, and the job that it has handed over."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.descriptors: list[int] = []
        self.folder = self.nonce = self.number = self.node = ""
        self.until = time.monotonic() + _PATIENCE_SECONDS
        self.has_begun = False
        self._lock = threading.Lock()
        self._job: NodeJob | None = None
        self._early: list[Event] = []

    def say(self, line: str) -> None:
        """Write a line into the job's log of Slurm."""
        with contextlib.suppress(OSError):
            os.write(self.descriptors[1], f"{line}\n".encode())

    def begins(self, job: NodeJob) -> None:
        """Tell the job what has happened so far, and from now on."""
        with self._lock:
            self._job = job
            for event in self._early:
                job.note(event)

    def note(self, event: Event) -> None:
        """Something has happened to the job."""
        with self._lock:
            if self._job is None:
                self._early.append(event)
            else:
                self._job.note(event)

    def close(self) -> None:
        """Close the connection, and what came with it."""
        self.connection.close()
        for one in self.descriptors:
            os.close(one)


class Service:
    """One main thread that listens to all clients, and two threads for each job."""

    def __init__(self, listener: socket.socket, directories: Sequence[str], most: int) -> None:
        """``directories``: those of the engines whose jobs it takes. ``most``: how many at a time."""
        self._most = most
        self._listener = listener
        self._directories = {os.path.abspath(one): Directory(os.path.abspath(one)) for one in directories}
        self._nodes: dict[tuple[str, str], Node] = {}
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._callers: set[Caller] = set()
        self._done: queue.SimpleQueue[tuple[Caller, int | None]] = queue.SimpleQueue()
        self._reader, self._waker = socket.socketpair()
        self._stamp = client.stamp()

    def serve(self) -> None:
        """Serve until the files of this release have changed and no job is left."""
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._reader, selectors.EVENT_READ, self._finish)
        while self._callers or self._listener.fileno() >= 0:
            for ready, _ in self._selector.select(_PATIENCE_SECONDS / 2):
                act: Callable[[], None] = ready.data
                act()
            for one in [one for one in self._callers if not one.has_begun and one.until < time.monotonic()]:
                self._drop(one)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            if len(self._callers) >= self._most or client.uid_of_peer(connection) != os.geteuid():
                connection.close()
                return
            connection.setblocking(False)
            caller = Caller(connection)
            self._callers.add(caller)
            self._selector.register(connection, selectors.EVENT_READ, lambda: self._hear(caller))

    def _hear(self, caller: Caller) -> None:
        try:
            said, descriptors, _, _ = socket.recv_fds(caller.connection, _LONGEST_MESSAGE, 2)
        except OSError:
            said, descriptors = b"", []
        if caller.has_begun:
            for one in descriptors:
                os.close(one)
            self._tell(caller, said)
            return
        caller.descriptors += descriptors
        try:
            if not caller.number:
                self._name(caller, said)
                caller.connection.send(client.READY)
            elif said == client.GO:
                caller.has_begun = True
                threading.Thread(target=self._run, args=[caller], daemon=True).start()
            else:
                raise ValueError(f"{said[:80]!r} instead of a begin")
        except (OSError, ValueError, EngineError) as error:
            if said:
                log.warning("a client is refused: %s", error)
            self._drop(caller)

    def _name(self, caller: Caller, said: bytes) -> None:
        """Note what a client says about its job. ValueError, EngineError for anything but a job in Slurm that lies in
        one of our directories."""
        stamp, caller.folder, caller.nonce, number, caller.node = said.decode().split("\0")
        if stamp != self._stamp:
            if client.stamp() != self._stamp:
                self._end_soon()
            raise ValueError("it is of another release")
        directory, _, key = caller.folder.rpartition("/jobs/")
        if directory not in self._directories or not _NUMBER.fullmatch(number):
            raise ValueError(f"{caller.folder} is no job in {', '.join(self._directories)}")
        checks.key(JobKey(key))
        if len(caller.descriptors) != 2 or not self._node(Directory(directory), caller.node).is_note(
            number, caller.descriptors[0]
        ):
            raise ValueError("it does not hand over the note about its job")
        caller.number = number

    def _tell(self, caller: Caller, said: bytes) -> None:
        """Tell a job what its client has said; nothing for one that has ended."""
        if said:
            caller.note(Event.ENDED_BY_SLURM if said == client.ENDED_BY_SLURM else Event.LOOK)
        else:
            self._selector.unregister(caller.connection)
            caller.note(Event.GONE)

    def _run(self, caller: Caller) -> None:
        status = None
        try:
            place = Place(caller.number, caller.node, caller.say)
            status = node.run_job(caller.folder, caller.nonce, place, caller.descriptors[0], self._node, caller.begins)
        except EngineError as error:
            caller.say(str(error))
            log.warning("job %s of Slurm: %s", caller.number, error)
            status = _FAILED
        except Exception:  # this process serves all jobs; the client goes on with this one
            log.exception("job %s of Slurm", caller.number)
        finally:
            self._done.put((caller, status))
            self._waker.send(b"!")

    def _node(self, directory: Directory, name: str) -> Node:
        with self._lock:
            key = (str(directory.path), name)
            if key not in self._nodes:
                directory.need_own()
                self._nodes[key] = Node(directory, name)
            return self._nodes[key]

    def _finish(self) -> None:
        """Take leave of clients whose jobs have ended."""
        self._reader.recv(1 << 12)
        with contextlib.suppress(queue.Empty):
            while True:
                caller, status = self._done.get_nowait()
                if status is not None:
                    with contextlib.suppress(OSError):  # Slurm has killed it meanwhile
                        caller.connection.send(bytes([status]))
                self._drop(caller)

    def _drop(self, caller: Caller) -> None:
        with contextlib.suppress(KeyError):  # its client has gone before
            self._selector.unregister(caller.connection)
        caller.close()
        self._callers.discard(caller)

    def _end_soon(self) -> None:
        """Take no more jobs. What started this process starts the new release when the last job has ended."""
        if self._listener.fileno() >= 0:
            log.warning("the files of this release have changed")
            self._selector.unregister(self._listener)
            os.unlink(self._listener.getsockname())
            self._listener.close()


def main(words: Sequence[str]) -> int:
    """Be the service. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="service", description="the resident service of a node of Slurm")
    parser.add_argument("--socket", default=SERVICE_SOCKET, help="its socket, in a directory of this account alone")
    parser.add_argument("directories", nargs="+", metavar="DIRECTORY", help="the 'directory' of the engine's settings")
    options = parser.parse_args(words)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        with _alone(options.socket) as listener:
            _clean(options.directories)
            log.info("ready at %s", options.socket)
            Service(listener, options.directories, _most_callers()).serve()
    except EngineError as error:
        log.error("%s", error)
        return _FAILED
    return 0


def _most_callers() -> int:
    """How many jobs this process may serve at a time: as many as it can have files for."""
    wanted = _MOST_CALLERS * _FILES_OF_A_CALLER
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= files < wanted:  # a negative number means no limit
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if most < 0 else min(wanted, most), most))
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(wanted, files if files >= 0 else wanted) // _FILES_OF_A_CALLER


@contextlib.contextmanager
def _alone(address: str) -> Iterator[socket.socket]:
    """The listening socket at an address, in a folder that is this account's alone. EngineError."""
    folder = Path(address).parent
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        need_private(folder, folder.lstat())
        with open(folder / "lock", "w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise EngineError(address, "another service of this node has it") from error
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listener.bind(address)
            listener.listen(_MOST_CALLERS)
            listener.setblocking(False)
            yield listener
    except OSError as error:
        raise EngineError(address, f"the service cannot use it ({error.strerror})") from error


def _clean(directories: Sequence[str]) -> None:
    """Remove what was left when this service and what Slurm had started were killed together."""
    names = {socket.gethostname(), socket.gethostname().partition(".")[0]}
    for directory in map(Directory, directories):
        for name in names:
            if (directory.path / "nodes" / name).is_dir():
                try:
                    directory.need_own()
                    Node(directory, name).clean(log.info)
                except EngineError as error:
                    log.warning("the next job on this node cleans it: %s", error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
