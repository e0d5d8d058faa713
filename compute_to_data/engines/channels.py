"""The helper beside a program whose input or output is a named pipe, an appended file or a TCP port of its sandbox.

It runs in the sandbox, in front of the program, as the job's account and within the job's limits: with a copy of the
host's Python in a container (``docker/helper.py``), as the image may have none. It uses the standard library only.

    channels.py FEED... COLLECT... -- PROGRAM ARGUMENTS

FEED and COLLECT are five words each: the kind ('' for none, pipe, append, tcp), the file that is the input or the
output, the path of the pipe or of the appended file, the port, and how many bytes are moved at a time.

It ends with the program's status. It ends with 1, and says why, when the program did not take its input or gave no
answer where it should. A program that goes on after its answer on a port is complete is stopped, which is no failure.
Nothing here ends a program that never reads or never answers: the job's walltime does.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress

sys.path.append(os.path.abspath(f"{__file__}/../../.."))  # on a host, the interpreter starts without this package

from compute_to_data.engines.channel_ends import Channel, CollectedPipe, Failed, FedFile, FedPipe, Port

TYPE_CHECKING = False  # the name is enough for a type checker, and each import delays the job
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Optional

PAUSE_SECONDS = 0.02
"""How often to look whether the program has opened its pipe, or listens at its port."""
LINGER_SECONDS, STOP_SECONDS = 1.0, 5.0
"""How long a program may go on by itself, and then after SIGTERM, when its answer is complete."""


def words(kind: str = "", file: str = "", place: str = "", port: int = 0, chunk_bytes: int = 0) -> tuple[str, ...]:
    """FEED or COLLECT."""
    return (kind, file, place, str(port), str(chunk_bytes))


def main(given: list[str]) -> int:
    """Run the program; returns the status to end with."""
    feed, collect, command = given[:5], given[5:10], given[11:]
    try:
        channels = list(_channels(feed, collect))
    except OSError as error:
        return _say(f"cannot make {error.filename}: {error.strerror}")
    return Helper(channels, command).run()


def _say(text: str) -> int:
    sys.stderr.write(f"adapter: {text}\n")
    sys.stderr.flush()
    return 1


def _channels(feed: list[str], collect: list[str]) -> Iterator[Channel]:
    both_on_one_port = feed[0] == collect[0] == "tcp" and feed[3] == collect[3]
    if both_on_one_port or feed[0] == "tcp":
        yield Port(int(feed[3]), feed[1], collect[1] if both_on_one_port else "", int(feed[4]))
    elif feed[0]:
        _make_parents(feed[2])
        yield (FedPipe if feed[0] == "pipe" else FedFile)(feed[1], feed[2], int(feed[4]))
    if collect[0] == "tcp" and not both_on_one_port:
        yield Port(int(collect[3]), "", collect[1], int(collect[4]))
    elif collect[0] == "pipe":
        _make_parents(collect[2])
        yield CollectedPipe(collect[1], collect[2], int(collect[4]))
    elif collect[0] == "append":
        _make_parents(collect[2])
        open(collect[1], "ab").close()
        if collect[2] != collect[1]:
            os.symlink(collect[1], collect[2])


def _make_parents(place: str) -> None:
    os.makedirs(os.path.dirname(place), exist_ok=True)


class Helper:
    """Starts the program, and moves bytes until it has ended."""

    def __init__(self, channels: list[Channel], command: list[str]) -> None:
        self._channels = channels
        self._command = command
        self._program = 0
        self._answered_at: Optional[float] = None
        self._stopped = False
        self._asked = False
        self._own_status = 0
        self._woken, wakes = os.pipe()
        for end in (self._woken, wakes):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGTERM, self._pass_on)

    def _pass_on(self, number: int, frame: object) -> None:
        """The job is to end: so does the program, and its status counts."""
        self._asked = True
        if self._program:  # not reaped yet
            os.kill(self._program, signal.SIGTERM)

    def run(self) -> int:
        self._start()
        try:
            status = self._move_until_it_ends()
            for channel in self._channels:
                channel.end()
        except (Failed, OSError) as error:
            self._kill()
            text = f"{error}" if isinstance(error, Failed) else f"{error.strerror or error}"
            return self._failed(text)
        return status

    def _failed(self, text: str) -> int:
        """The program's own failure says more than that it did not do its part."""
        said = _say(text)
        return self._own_status or said

    def _start(self) -> None:
        self._program = os.fork()
        if self._program:
            if self._asked:
                self._pass_on(signal.SIGTERM, None)
            return
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            os.execvp(self._command[0], self._command)
        except OSError as error:
            _say(f"{self._command[0]}: {error.strerror}")
            os._exit(127 if isinstance(error, FileNotFoundError) else 126)

    def _move_until_it_ends(self) -> int:
        while True:
            status = self._ended()
            if status is not None:
                self._own_status = 0 if self._stopped and not self._asked else status
                return self._own_status
            self._stop_what_has_answered()
            self._wait_and_move()

    def _wait_and_move(self) -> None:
        events = select.poll()
        events.register(self._woken, select.POLLIN)
        soon = self._answered_at is not None
        ready: list[Channel] = []
        by_descriptor: dict[int, Channel] = {}
        for channel in self._channels:
            if channel.is_done:
                continue
            wanted = channel.waits_for()
            if wanted is None:
                soon = True
                ready.append(channel)
            elif wanted[1]:
                events.register(*wanted)
                by_descriptor[wanted[0]] = channel
            else:
                ready.append(channel)
        at_once = any(channel.waits_for() is not None for channel in ready)
        found = events.poll(0 if at_once else PAUSE_SECONDS * 1000 if soon else None)
        for descriptor, _ in found:
            if descriptor == self._woken:
                with suppress(BlockingIOError):
                    os.read(self._woken, 4096)
            else:
                ready.append(by_descriptor[descriptor])
        for channel in ready:
            channel.move()

    def _ended(self) -> Optional[int]:
        """The program's status, None while it runs."""
        pid, status = os.waitpid(self._program, os.WNOHANG)
        if not pid:
            return None
        self._program = 0
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)

    def _stop_what_has_answered(self) -> None:
        """A server goes on when its answer is complete: let it end, then end it."""
        if not any(channel.answered for channel in self._channels):
            return
        now = time.monotonic()
        self._answered_at = now if self._answered_at is None else self._answered_at
        waited = now - self._answered_at
        if waited > LINGER_SECONDS + STOP_SECONDS:
            os.kill(self._program, signal.SIGKILL)
        elif waited > LINGER_SECONDS and not self._stopped:
            self._stopped = True
            os.kill(self._program, signal.SIGTERM)

    def _kill(self) -> None:
        if self._program:
            os.kill(self._program, signal.SIGKILL)
            os.waitpid(self._program, 0)
            self._program = 0


def modules() -> None:
    """Print the files of all modules that this program has loaded, one a line after its name."""
    os.get_exec_path()  # which imports a module, as execvp does later
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and name != "__main__":
            print(f"{name}\t{file}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--modules"]:
        modules()
    else:
        sys.exit(main(sys.argv[1:]))
