"""One warm sandbox: a container with the settings of a job's container, in which tasks run one by one.

A task could forge the runner's answers, so the worker asks the kernel whether a task has ended (the number of
processes in the container, the runner's children). It takes only the exit status from the runner: a task that
forges that could also have exited with it. After a task the worker checks the sandbox from outside, and
removes it if anything has changed.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from docker.errors import NotFound

from compute_to_data.engines import ownership
from compute_to_data.engines.docker import memory_groups, sandbox, warm_runner
from compute_to_data.engines.docker.client import Client
from compute_to_data.engines.docker.connection import remove_container
from compute_to_data.engines.docker.first_process import FirstProcess
from compute_to_data.engines.docker.image_paths import ImagePaths
from compute_to_data.engines.docker.job_accounts import JobAccounts
from compute_to_data.engines.docker.memory_groups import MemoryGroup, MemoryGroups
from compute_to_data.engines.docker.messages import asking_about
from compute_to_data.engines.docker.vitals import Vitals
from compute_to_data.engines.docker.warm_channel import Channel, Closed
from compute_to_data.engines.docker.warm_outputs import LentOutputs
from compute_to_data.engines.log_writer import created
from compute_to_data.errors import EngineError, EngineOutOfReach
from compute_to_data.job import Job

_READY_SECONDS = 30.0
_LOOK_SECONDS = 0.5
_LONGEST_POLL = 3600.0
_ANSWER_SECONDS = 10.0
_REUSED_SECONDS = 300.0
"""For how long a sandbox takes tasks. Its first process ends it after this and the walltime of the task that it was
made for, which is the longest time that a task can run there while no worker watches it."""
_SETTLE_SECONDS = 0.1
"""How long processes may take to end after their task's first process."""
_UNKNOWN = 255  # the status that the daemon reports when it lost track of a container
_TAKEN_AWAY = ("removing", "dead", "gone")
_SHARED = ("/dev/shm", "/dev/mqueue")
RECORD = "sandbox.json"
_FORGED = "forged a message of its sandbox, so the engine cannot know how it ended"


class Tampered(EngineError):
    """A process in the sandbox forged a message of the runner."""


class Unsuited(EngineError):
    """A running sandbox cannot provide what a task needs. The sandbox has not changed."""


class WarmSandbox:
    """A running container with its runner. One thread at a time uses it."""

    def __init__(
        self,
        docker: Callable[[], Client],
        folder: str,
        job: Job,
        groups: MemoryGroups,
        paths: ImagePaths,
        accounts: JobAccounts,
    ) -> None:
        """``folder``: the sandbox's folder on the host, which :meth:`open` makes."""
        assert job.sandbox is not None
        self.token = os.path.basename(folder)
        self.idle_since = time.monotonic()
        self._docker = docker
        self._folder = folder
        self._area = os.path.join(job.sandbox.directory, self.token)
        self._dataset = [job.sandbox.inputs] if job.sandbox.inputs else []
        self._scope = job.scope
        self._groups = groups
        self._paths = paths
        self._accounts = accounts
        self._ends_at = math.inf
        self._group: MemoryGroup | None = None
        self._channel: Channel | None = None
        self._vitals: Vitals | None = None

    @property
    def name(self) -> str:
        """The container's name."""
        return f"compute-to-data-warm-{self.token}"

    def _in_area(self, name: str) -> str:
        return os.path.join(self._area, name)

    def open(self, job: Job, volumes: Iterable[str], first: FirstProcess | None, **options: Any) -> None:
        """Make the container and wait for its runner. After an EngineError, nothing of it is left."""
        try:
            self._account = account = self._accounts.choose()
            self._make_folders(account)
            body = sandbox.warm(job, account, self._folder, self._area, volumes=volumes, **options)
            self._accounts.mark(body)
            mounts = body["HostConfig"]["Mounts"]
            self._scratch = (*_SHARED, *(mount["Target"] for mount in mounts if mount["Type"] == "tmpfs"))
            if first is not None:
                seconds = job.limits.walltime_seconds + _REUSED_SECONDS
                self._ends_at = time.monotonic() + seconds
                first.wrap(body, job, seconds + job.own_margin)
            self._paths.check(body, job.image.name, volumes)
            subject = f"a warm sandbox of {job.image.name}"
            with asking_about(subject), self._groups.place(body, self._scope) as self._group:
                self._docker().create_container_from_config(body, self.name)
                self._accounts.hand_over(self.name, body, self._dataset)
                self._docker().start(self.name)
                self._vitals = self._when_ready()
        except BaseException:
            self.destroy()
            raise

    def _when_ready(self) -> Vitals:
        """Wait until the runner is ready. EngineError when it does not start: the image may have no /bin/sh."""
        deadline = time.monotonic() + _READY_SECONDS
        while not self._expect("ready", _LOOK_SECONDS):
            state = self._docker().inspect_container(self.name)["State"]
            if not state["Running"] or time.monotonic() > deadline:
                raise EngineError(f"warm sandbox {self.token}", "the image's /bin/sh did not start")
        found = self._docker().inspect_container(self.name)
        return Vitals(found["State"]["Pid"], found["Id"], self._account)

    def _make_folders(self, account: tuple[int, int]) -> None:
        os.makedirs(self._folder)
        os.chmod(self._folder, 0o711)  # the sandbox's account finds its files by name, and the folder above is private
        # The record comes first, so that a later worker finds and removes everything else.
        with open(os.path.join(self._folder, RECORD), "w", encoding="utf-8") as file:
            json.dump({"resource": self._scope, "area": self._area, "container": self.name}, file)
        os.makedirs(self._area, mode=0o700)
        for name in ("outputs", "inputs"):
            os.mkdir(self._in_area(name), 0o700)
        os.chmod(self._in_area("inputs"), 0o755)
        ownership.give(self._in_area("outputs"), account)
        self._outputs = LentOutputs(self._area)
        self._channel = Channel(self._folder, account)

    def seconds_left(self) -> float:
        """For how long the sandbox still lives."""
        return self._ends_at - time.monotonic()

    @property
    def channel(self) -> Channel:
        """The FIFOs. Closed when the sandbox is not open."""
        if self._channel is None:
            raise Closed
        return self._channel

    @property
    def vitals(self) -> Vitals:
        """The container's state, from the kernel. Closed when the sandbox is not open."""
        if self._vitals is None:
            raise Closed
        return self._vitals

    def begin(self, job: Job) -> None:
        """Start a job. After an EngineError, the job's outputs directory is as it was."""
        self._number = secrets.token_hex(8)
        self.started = time.time()
        self._give_inputs(job)
        try:
            directory = sandbox.working_directory(job)
            environment = job.run_by(*self._accounts.seen(self._account)).environment
            self._write_task(warm_runner.task_script(job.command, environment, directory))
            if self.channel.answer(0) is not None or self.channel.asked:
                raise Tampered(f"warm sandbox {self.token}", "a process in it sent a message while it was idle")
            self._outputs.lend(job.outputs)
            self._accounts.keep("{}:{}".format(*self._account), job)
            self.log = created(job.log_file, job.limits.log_bytes)
            try:
                self.channel.begin(self.log)
                self.channel.ask(f"run {self._number}")
            except BaseException:
                self.log.close(complete=False)
                raise
        except (OSError, Closed, EngineOutOfReach) as error:
            self._outputs.give_back(job.outputs)
            raise EngineError(f"warm sandbox {self.token}", f"cannot run a task ({error!r})") from error

    def _write_task(self, script: str) -> None:
        place = os.path.join(self._folder, warm_runner.TASK)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place)  # it is the account's
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(script)
            ownership.give(descriptor, self._account, place)

    def _give_inputs(self, job: Job) -> None:
        try:
            for mount in job.inputs:
                link = self._in_area(f"inputs/{mount.target.rpartition('/')[2]}")
                os.link(mount.physical_path, link, follow_symlinks=False)
                self._accounts.allow([link], self._account[0])
        except OSError as error:  # for example on another file system
            self._take_inputs()
            raise Unsuited(job.key.task, f"needs its own container ({error.strerror})") from error

    def _take_inputs(self) -> None:
        for name in os.listdir(self._in_area("inputs")):
            self._accounts.forbid([self._in_area(f"inputs/{name}")], self._account[0])
            os.unlink(self._in_area(f"inputs/{name}"))

    def wait(self) -> int:
        """Wait for the end of the task's first process. Returns its exit status.

        Closed when the sandbox ended with it. Tampered when the message is not the expected one.
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
        """Whether the kernel has killed a process in the sandbox for lack of memory."""
        if self._group is not None and self._group.has_killed():
            return True
        try:
            return self.vitals.killed_for_memory() > 0
        except OSError:  # the sandbox is gone
            return False

    def ended_for_memory(self) -> bool:
        """As :meth:`killed_for_memory`, for a sandbox that has ended: also asks the daemon.
        EngineOutOfReach when the reason of its end is unknown."""
        if self.killed_for_memory():
            return True
        with asking_about(f"warm sandbox {self.token}"):
            try:
                self._docker().wait(self.name, timeout=_ANSWER_SECONDS)
                found = self._docker().inspect_container(self.name)
            except NotFound:
                found = {"State": {"ExitCode": _UNKNOWN, "Status": "gone"}}
        state = found["State"]
        if state["ExitCode"] == _UNKNOWN or state["Status"] in _TAKEN_AWAY:
            raise EngineOutOfReach(f"warm sandbox {self.token}", "was lost while a task ran in it")
        return memory_groups.killed_for_memory(found)

    def recycle(self, job: Job) -> bool:
        """Prepare the sandbox for the next task, and move the outputs of this one to their final directory.

        False when something of the task is left, so that no other task may use the sandbox. The outputs are in
        the right place then, too. Tampered when the task forged a message of the runner.
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
        # The answer shows that the runner waits for the next request, and that no process has sent it another
        # request before: the runner would have answered that first.
        left = self._expect(f"idle {number}", _ANSWER_SECONDS)
        return left == "clean" and not self.channel.asked and self.channel.as_it_was() and self._as_it_was()

    def _as_it_was(self) -> bool:
        """Whether the kernel shows the sandbox as it was. Waits a moment for sockets that are being closed."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while not self.vitals.as_it_was():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True

    def _emptied(self, outputs: str) -> bool:
        self.vitals.empty(self._scratch)
        self._take_inputs()
        return self._outputs.take(outputs)

    def _settled(self) -> bool:
        """Whether all of the task's processes have ended. Waits a moment for those that are about to end."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while self.vitals.processes() != self.vitals.baseline:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return not self.vitals.runs_a_task()

    def _expect(self, wanted: str, timeout: float) -> str:
        """The rest of an answer that begins with ``wanted``, or all of it if there is no rest; '' when there was no
        answer in time. Tampered for any other answer."""
        try:
            line = self.channel.answer(timeout)
        except Closed:
            line = None
        if line is None:
            return ""
        if not f"{line} ".startswith(f"{wanted} "):
            raise Tampered("the task", _FORGED)
        return line[len(wanted) + 1 :] or wanted

    def stop(self, grace: float) -> None:
        """Stop the container: SIGTERM, and SIGKILL after ``grace`` seconds."""
        with asking_about(f"warm sandbox {self.token}"), contextlib.suppress(NotFound):
            self._docker().stop(self.name, timeout=grace)

    def kill(self) -> None:
        """Remove the container. The thread that waits for the job notices it."""
        with asking_about(f"warm sandbox {self.token}"):
            remove_container(self._docker(), self.name, _ANSWER_SECONDS)

    def destroy(self) -> None:
        """Remove the container and all files of the sandbox, except a task's outputs."""
        if self._vitals is not None:
            self._vitals.close()
            self._vitals = None
        _end(self._docker(), self._accounts, self.name)
        if self._channel is not None:
            with contextlib.suppress(Closed):
                self._channel.drain()
            self._channel.close()
            self._channel = None
        _clear(self._folder, self._area)


def sweep(docker: Client, accounts: JobAccounts, folder: str, record: Mapping[str, str]) -> None:
    """Remove a sandbox that another process made. ``record``: the content of its :data:`RECORD` file."""
    _end(docker, accounts, record["container"])
    _clear(folder, record["area"])


def _end(docker: Client, accounts: JobAccounts, container: str) -> None:
    with asking_about(container):
        accounts.withdraw(container)
        remove_container(docker, container, _ANSWER_SECONDS)


def _clear(folder: str, area: str) -> None:
    """Remove the files of a sandbox, the record last, so that a later worker can find it until then."""
    with contextlib.suppress(OSError):
        ownership.empty(area)
    shutil.rmtree(area, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(area))
    shutil.rmtree(folder, ignore_errors=True)
