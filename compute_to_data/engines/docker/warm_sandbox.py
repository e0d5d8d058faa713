"""One warm sandbox: a container with the settings of any job's, in which tasks run one by one.

Whatever a task could have forged is asked of somebody else. That a task has ended is the kernel's
word (the number of processes in the container, the runner's children); the runner tells only with
which status, and a task that fakes that could as well have exited with it. What a task left is
looked at from outside, and when anything is not as it should be, the sandbox is thrown away.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from docker import APIClient
from docker.errors import NotFound

from compute_to_data.engines import checks
from compute_to_data.engines.docker import memory_groups, sandbox, warm_runner
from compute_to_data.engines.docker.connection import remove_container
from compute_to_data.engines.docker.memory_groups import MemoryGroup, MemoryGroups
from compute_to_data.engines.docker.messages import asking_about
from compute_to_data.engines.docker.vitals import Vitals
from compute_to_data.engines.docker.warm_channel import Channel, Closed, Tail
from compute_to_data.engines.docker.warm_outputs import LentOutputs
from compute_to_data.errors import EngineError, EngineOutOfReach
from compute_to_data.job import Job

_READY_SECONDS = 30.0
_LOOK_SECONDS = 0.5
_LONGEST_POLL = 3600.0
_ANSWER_SECONDS = 10.0
_SETTLE_SECONDS = 0.1
"""How long processes that end with their task may take to be gone."""
_UNKNOWN = 255  # what the daemon says of a container that it lost sight of
_TAKEN_AWAY = ("removing", "dead", "gone")
_SHARED = ("/dev/shm", "/dev/mqueue")
RECORD = "sandbox.json"
_FORGED = "sent what only its sandbox may send, so that its end is not known"


class Tampered(EngineError):
    """Somebody inside sent what only the runner may send."""


class Unsuited(EngineError):
    """What a task needs cannot be given to a sandbox that runs already; the sandbox is as it was."""


class WarmSandbox:
    """A running container with its runner; used by one thread at a time."""

    def __init__(self, docker: Callable[[], APIClient], folder: str, job: Job, groups: MemoryGroups) -> None:
        """``folder``: of its own on the host, not made yet. Nothing is done before :meth:`open`."""
        assert job.sandbox is not None
        self.token = os.path.basename(folder)
        self.idle_since = time.monotonic()
        self._docker = docker
        self._folder = folder
        self._area = os.path.join(job.sandbox.directory, self.token)
        self._scope = job.scope
        self._groups = groups
        self._group: MemoryGroup | None = None
        self._channel: Channel | None = None
        self._vitals: Vitals | None = None

    @property
    def name(self) -> str:
        """The container's."""
        return f"compute-to-data-warm-{self.token}"

    def _in_area(self, name: str) -> str:
        return os.path.join(self._area, name)

    def open(self, job: Job, account: tuple[int, int], volumes: Iterable[str], **options: Any) -> None:
        """Make the container and wait for its runner. EngineError when there will be none: then
        nothing is left of it."""
        try:
            self._lay_out(account)
            body = sandbox.warm(job, account, self._folder, self._area, volumes=volumes, **options)
            mounts = body["HostConfig"]["Mounts"]
            self._scratch = (*_SHARED, *(mount["Target"] for mount in mounts if mount["Type"] == "tmpfs"))
            subject = f"a warm sandbox of {job.image.name}"
            with asking_about(subject), self._groups.place(body, self._scope) as self._group:
                self._docker().create_container_from_config(body, self.name)  # type: ignore[no-untyped-call]
                self._docker().start(self.name)
                self._vitals = self._when_ready()
        except BaseException:
            self.destroy()
            raise

    def _when_ready(self) -> Vitals:
        """What can be seen of it, once the runner is ready; where an image has no /bin/sh, none ever is."""
        deadline = time.monotonic() + _READY_SECONDS
        while not self._expect("ready", _LOOK_SECONDS):
            state = self._docker().inspect_container(self.name)["State"]
            if not state["Running"] or time.monotonic() > deadline:
                raise EngineError(f"warm sandbox {self.token}", "the image's /bin/sh did not begin to work")
        found = self._docker().inspect_container(self.name)
        return Vitals(found["State"]["Pid"], found["Id"])

    def _lay_out(self, account: tuple[int, int]) -> None:
        os.makedirs(self._folder, mode=0o700)
        # Written first: whoever finds it takes away all that may have come after.
        with open(os.path.join(self._folder, RECORD), "w", encoding="utf-8") as file:
            json.dump({"resource": self._scope, "area": self._area, "container": self.name}, file)
        os.makedirs(self._area, mode=0o700)
        for name in ("outputs", "inputs"):
            os.mkdir(self._in_area(name), 0o700)
        for place in (self._folder, self._in_area("outputs"), self._in_area("inputs")):
            checks.give(place, account)
        self._outputs = LentOutputs(self._area)
        self._channel = Channel(self._folder, account)

    @property
    def channel(self) -> Channel:
        """Its FIFOs."""
        if self._channel is None:
            raise Closed
        return self._channel

    @property
    def vitals(self) -> Vitals:
        """What can be seen of it from outside."""
        if self._vitals is None:
            raise Closed
        return self._vitals

    def begin(self, job: Job) -> None:
        """Run a job. EngineError, with the job's outputs directory as it was, when it cannot."""
        self.stdout, self.stderr = Tail(job.limits.log_bytes), Tail(job.limits.log_bytes)
        self._number = secrets.token_hex(8)
        self.started = time.time()
        self._give_inputs(job)
        try:
            directory = sandbox.working_directory(job)
            script = warm_runner.task_script(job.command, job.environment, directory)
            with open(os.path.join(self._folder, warm_runner.TASK), "w", encoding="utf-8") as file:
                file.write(script)
            if self.channel.answer(0) is not None or self.channel.asked:
                raise Tampered(f"warm sandbox {self.token}", "somebody spoke in it while it was idle")
            self._outputs.lend(job.outputs)
            self.channel.begin(self.stdout, self.stderr)
            self.channel.ask(f"run {self._number}")
        except (OSError, Closed) as error:
            self._outputs.give_back(job.outputs)
            raise EngineError(f"warm sandbox {self.token}", f"cannot run a task ({error!r})") from error

    def _give_inputs(self, job: Job) -> None:
        try:
            for mount in job.inputs:
                link = self._in_area(f"inputs/{mount.target.rpartition('/')[2]}")
                os.link(mount.physical_path, link, follow_symlinks=False)
        except OSError as error:  # on another file system, say
            self._take_inputs()
            raise Unsuited(job.key.task, f"needs a sandbox of its own ({error.strerror})") from error

    def _take_inputs(self) -> None:
        for name in os.listdir(self._in_area("inputs")):
            os.unlink(self._in_area(f"inputs/{name}"))

    def wait(self) -> int:
        """The status with which the task's first process ended, once it has.

        Closed when the sandbox ended with it; Tampered when something else than its end is told.
        """
        line = None
        while line is None:
            line = self.channel.answer(_LONGEST_POLL)
        what, _, status = line.rpartition(" ")
        if what != f"done {self._number}" or not status.isdecimal() or self.vitals.runs_a_task():
            raise Tampered("the task", _FORGED)
        self.channel.drain()
        return int(status)

    def killed_for_memory(self) -> bool:
        """Whether the kernel has ended a process of it for want of memory."""
        if self._group is not None and self._group.has_killed():
            return True
        try:
            return self.vitals.killed_for_memory() > 0
        except OSError:  # it is gone
            return False

    def ended_for_memory(self) -> bool:
        """The same of one that has ended, which the daemon knows better than its traces.
        EngineOutOfReach when nobody can know any more why it ended."""
        if self.killed_for_memory():
            return True
        with asking_about(f"warm sandbox {self.token}"):
            try:
                self._docker().wait(self.name, timeout=_ANSWER_SECONDS)  # type: ignore[arg-type]  # floats are taken
                found = self._docker().inspect_container(self.name)
            except NotFound:
                found = {"State": {"ExitCode": _UNKNOWN, "Status": "gone"}}
        state = found["State"]
        if state["ExitCode"] == _UNKNOWN or state["Status"] in _TAKEN_AWAY:
            raise EngineOutOfReach(f"warm sandbox {self.token}", "was lost with the task in it")
        return memory_groups.killed_for_memory(found)

    def recycle(self, job: Job) -> bool:
        """Make it as new after a task, and move what the task left to a directory of its own.

        False when it cannot be used again, because something of the task is left: then the outputs
        lie in the right place, too. Tampered when the task sent what only the runner may.
        """
        try:
            again = self._alone_and_unharmed() and self._emptied(job.outputs)
        except (OSError, RecursionError, Closed):
            return False
        self.idle_since = time.monotonic()
        return again

    def _alone_and_unharmed(self) -> bool:
        if not self._settled() or self.vitals.killed_for_memory():
            return False
        number = secrets.token_hex(8)
        self.channel.ask(f"reset {number}")
        # Its answer shows that the runner waits for the next request, and that nobody has sent it
        # another one meanwhile: it would have answered that before.
        left = self._expect(f"idle {number}", _ANSWER_SECONDS)
        return left == "clean" and not self.channel.asked and self.vitals.as_it_was()

    def _emptied(self, outputs: str) -> bool:
        self.vitals.empty(self._scratch)
        self._take_inputs()
        return self._outputs.take(outputs)

    def _settled(self) -> bool:
        """Whether all of the task's processes are gone; those about to end get a moment."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while self.vitals.processes() != self.vitals.baseline:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return not self.vitals.runs_a_task()

    def _expect(self, wanted: str, timeout: float) -> str:
        """The rest of the answer that begins so, or all of it; '' when there was none in time.
        Anything else is none of the runner's."""
        try:
            line = self.channel.answer(timeout)
        except Closed:
            line = None
        if line is None:
            return ""
        if not f"{line} ".startswith(f"{wanted} "):
            raise Tampered("the task", _FORGED)
        return line[len(wanted) + 1 :] or wanted

    def stop(self, grace: int) -> None:
        """Ask the task to end, after ``grace`` seconds make it; the sandbox goes with it."""
        with asking_about(f"warm sandbox {self.token}"), contextlib.suppress(NotFound):
            self._docker().stop(self.name, timeout=grace)

    def kill(self) -> None:
        """End whatever runs in it. The thread that follows it learns of that by itself."""
        with asking_about(f"warm sandbox {self.token}"):
            remove_container(self._docker(), self.name, _ANSWER_SECONDS)

    def destroy(self) -> None:
        """End whatever runs in it; afterwards nothing of it is left but a task's outputs."""
        if self._vitals is not None:
            self._vitals.close()
            self._vitals = None
        self.kill()
        if self._channel is not None:
            with contextlib.suppress(Closed):
                self._channel.drain()
            self._channel.close()
            self._channel = None
        _clear(self._folder, self._area)


def sweep(docker: APIClient, folder: str, record: Mapping[str, str]) -> None:
    """Remove a sandbox that another process made, by its record."""
    with asking_about(record["container"]):
        remove_container(docker, record["container"], _ANSWER_SECONDS)
    _clear(folder, record["area"])


def _clear(folder: str, area: str) -> None:
    """Remove what a sandbox has on the disk; its record last, so that it can be found until then."""
    shutil.rmtree(area, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(area))
    shutil.rmtree(folder, ignore_errors=True)
