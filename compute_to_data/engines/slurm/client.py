"""What Slurm starts on a node with a resident service: it hands its job to the service, and lives as long as the job.

::

    python3 -I -S client.py SOCKET PROGRAM...      PROGRAM ends with the job's folder and nonce

If the service does not take the job, or dies, this process becomes PROGRAM, which runs the job without the service, or
goes on with it: ``node.py``. This process starts for each job, so it imports as little as it can.
"""

from __future__ import annotations

# Importing ``signal`` and ``socket`` instead would double the time that this process needs.
import _signal  # type: ignore[import-not-found]
import _socket
import fcntl
import os
import sys

READY, GO, ENDED_BY_SLURM, LOOK = b"ready", b"go", b"ended by Slurm", b"look"
SIGNALS = {_signal.SIGTERM: ENDED_BY_SLURM, _signal.SIGINT: ENDED_BY_SLURM, _signal.SIGUSR1: LOOK}
_PATIENCE_SECONDS = 10.0
_CREDENTIALS = 12
"""The size of the kernel's word about a peer: pid, uid and gid, 4 bytes each."""


def stamp() -> str:
    """What tells this file from the same one of another release."""
    found = os.stat(__file__)
    return f"{found.st_ino} {found.st_mtime_ns} {found.st_size}"


def locked(path: str) -> int:
    """A descriptor of a file that is locked while a process has it open. It has mode 0600, and is made if it is
    missing. OSError without its folder."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file).st_nlink:  # else another job has just removed it
            return file
        os.close(file)


def _note(directory: str, node: str, job: str) -> int:
    """The locked note about a job on its node. OSError without the directory."""
    running = f"{directory}/nodes/{node}/running"
    try:
        return locked(f"{running}/{job}")
    except FileNotFoundError:  # the first job of the node
        for folder in (os.path.dirname(running), running):
            try:  # noqa: SIM105 - contextlib takes long to import
                os.mkdir(folder, 0o700)
            except FileExistsError:
                pass
        return locked(f"{running}/{job}")


def uid_of_peer(connection: _socket.socket) -> int:
    """The uid of the process at the other end, as the kernel has noted it."""
    said = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS)
    return int.from_bytes(said[4:8], sys.byteorder)


def _connected(address: str) -> _socket.socket:
    """A connection to the service. OSError unless it is this account's, in a folder that is this account's alone."""
    folder = os.lstat(os.path.dirname(address))
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    connection.settimeout(_PATIENCE_SECONDS)
    connection.connect(address)
    if folder.st_uid != os.geteuid() or folder.st_mode & 0o077 or uid_of_peer(connection) != os.geteuid():
        raise PermissionError(f"{address} is not this account's alone")
    return connection


def _hand_over(connection: _socket.socket, lock: int, fields: list[str]) -> bool:
    """Whether the service takes the job. It begins only after the last message, so never beside PROGRAM."""
    log = sys.stdout.fileno()
    descriptors = b"".join(one.to_bytes(4, sys.byteorder) for one in (lock, log))
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)]
    connection.sendmsg(["\0".join((stamp(), *fields)).encode()], rights)
    if connection.recv(len(READY)) != READY:
        return False
    connection.send(GO)
    connection.settimeout(None)
    return True


def _status(connection: _socket.socket) -> int | None:
    """The exit status for Slurm, when the job has ended; None when the service has died."""
    try:
        said = connection.recv(1)
    except OSError:
        return None
    return said[0] if said else None


def _become(program: list[str], lock: int, heard: list[bytes]) -> None:
    # The lock says whether the service had begun the job, and keeps others from removing its container. PROGRAM lets
    # signals through as soon as it can take them.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, SIGNALS)
    os.set_inheritable(lock, True)
    ended = ["ended"] if ENDED_BY_SLURM in heard else []
    os.execv(program[0], [*program, str(lock), *ended])


def main(address: str, program: list[str]) -> int:
    """The exit status of the job, unless this process becomes ``program``."""
    folder, nonce = program[-2:]
    job, node = os.environ["SLURM_JOB_ID"], os.environ["SLURMD_NODENAME"]
    heard: list[bytes] = []
    try:
        lock = _note(os.path.dirname(os.path.dirname(folder)), node, job)
    except OSError:  # PROGRAM says what it is
        os.execv(program[0], program)
    try:
        connection = _connected(address)

        def pass_on(number: int, frame: object) -> None:
            heard.append(SIGNALS[number])
            try:  # noqa: SIM105 - contextlib takes long to import
                connection.send(SIGNALS[number])
            except OSError:
                pass  # the service is gone, which the main program sees, too

        for number in SIGNALS:
            _signal.signal(number, pass_on)
        if _hand_over(connection, lock, [folder, nonce, job, node]):
            status = _status(connection)
            if status is not None:
                return status
        connection.close()
    except OSError as error:
        print("the service of this node cannot be used:", error, flush=True)
    _become(program, lock, heard)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
