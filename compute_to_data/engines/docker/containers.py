"""Runs jobs as containers, and reads all that it knows about them from what runs the containers."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from docker.errors import APIError, DockerException, NotFound
from requests.exceptions import RequestException

from compute_to_data.disk_usage import Usage, is_directory
from compute_to_data.engines import guard_client, ownership
from compute_to_data.engines.docker import confidential, images, sandbox
from compute_to_data.engines.docker import settings as docker_settings
from compute_to_data.engines.docker.client import AnswerTooLarge, Client, Ends, LogStreams
from compute_to_data.engines.docker.connection import remove_container
from compute_to_data.engines.docker.container_job import ContainerJob, Log, log_of, status_of, was_started
from compute_to_data.engines.docker.first_process import FirstProcess
from compute_to_data.engines.docker.helper import Helper
from compute_to_data.engines.docker.image_paths import ImagePaths
from compute_to_data.engines.docker.job_accounts import AccountTaken, JobAccounts
from compute_to_data.engines.docker.log_copies import LogCopies
from compute_to_data.engines.docker.memory_groups import MemoryGroups
from compute_to_data.engines.docker.messages import asking_about
from compute_to_data.engines.docker.sandbox import container_name
from compute_to_data.engines.docker.settings import DockerSettings
from compute_to_data.engines.docker.warm import WarmSandboxes
from compute_to_data.engines.docker.warm_job import WarmJob
from compute_to_data.engines.job_ids import Account
from compute_to_data.errors import EngineError, ImageMissing
from compute_to_data.job import Image, Job, JobKey, JobState, JobStatus

_FEW = 8  # for up to this many jobs, single requests are as fast as a list
_MOST_ACCOUNTS = 5  # two workers that choose the same one try others at once


class ContainerEngine:
    """Containers on this host. Docker's engine and Podman's are made of it, each with its own client.

    If a job's program is missing in the image, the job ends with status 127 (with ``init``), as in a shell.
    The engine attaches to each container before it starts it. The log that the host keeps is needed only for what a
    job writes while no worker runs.
    """

    name = ""
    sandboxed = True
    capacity = None
    pulling = ""
    """The command that loads an image, for users."""

    def __init__(
        self,
        settings: DockerSettings,
        state_directory: str,
        connect: Callable[[], Client],
        logs: LogStreams,
        ends: Ends,
        groups_above: str = "",
        known_paths: dict[str, dict[str, str]] | None = None,
    ) -> None:
        """``connect`` makes the client; it is called once. ``logs``: where the output of containers comes from.
        ``ends``: reports ends of jobs. ``groups_above``: see :class:`MemoryGroups`. ``known_paths``: see
        :class:`ImagePaths`."""
        self._settings = settings
        self._seconds = math.ceil(settings.timeout_seconds)
        self._connect = connect
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._volumes: dict[str, tuple[str, ...]] = {}
        self._known: dict[JobKey, JobStatus] = {}
        """What the daemon last said of each job."""
        self._copies = LogCopies(logs, self._status)
        self._ends = ends
        self.container_options = docker_settings.of_containers(settings)
        owner = docker_settings.account(settings)
        quotas = settings.project_quotas
        self._accounts = JobAccounts(self._docker, settings.job_uids, owner, self._seen, have_quotas=quotas)
        self._groups = MemoryGroups(self._docker, state_directory, groups_above)
        self._paths = ImagePaths(self._docker, known_paths)
        self._helper = Helper(state_directory)
        self._first = FirstProcess(state_directory) if settings.init else None
        self._warm = WarmSandboxes(
            self._docker,
            state_directory,
            self._accounts,
            self._groups,
            self._paths,
            self._ends.changes.add,
            self._first,
            **self.container_options,
        )

    def check(self) -> None:
        """EngineError when the engine does not answer or cannot isolate jobs as the sandbox requires."""
        raise NotImplementedError

    def need_ready(self) -> None:
        """As the port says. Jobs need the engine, and with project quotas their helper."""
        with asking_about(f"the engine {self.name}"):
            self._docker().ping()
        quotas = self._accounts.quotas()
        if quotas is not None:
            quotas.need_helper()

    def _seen(self, account: Account) -> Account:
        """The numbers that a job sees as its own, for an account of the host."""
        return account

    def check_directory(self, directory: str) -> None:
        """EngineError when its file system does not hold the project quotas that the settings want. Otherwise do
        nothing: jobs run on this host."""
        quotas = self._accounts.quotas()
        if quotas is not None:
            quotas.check(directory)

    def identify(self, image: str) -> Image:
        """The image with this name, name and digest, or full image id."""
        asked = images.reference(image)
        with asking_about(f"image {image}"):
            try:
                found = self._docker().inspect_image(asked)
            except NotFound as error:
                remedy = f"Load or build it on this host: {self.pulling} {image}"
                raise ImageMissing(f"image {image}", "the engine does not hold it", remedy) from error
            images.need_small(image, found)
            if self._first is not None:
                self._first.learn(found["Id"], images.environment(found))
            self._volumes[found["Id"]] = images.volumes(found)
            return images.image(image, found)

    def images(self) -> tuple[str, ...] | None:
        """The names of all images, with tag or digest, without those that have none. None when the list is too long
        to read."""
        with asking_about(f"the images of the engine {self.name}"):
            try:
                return images.names(self._docker().images())
            except AnswerTooLarge:
                return None

    def prepare(self, outputs: str) -> None:
        """As the port says. It belongs to the later owner of the outputs, until the job's container exists."""
        ownership.make_outputs(outputs, self._accounts.owner)

    def submit(self, job: Job) -> ContainerJob | WarmJob:
        """Run the job in a warm sandbox, or create and start a container, which is removed again if that fails."""
        if job.image.digest not in self._volumes:
            self.identify(job.image.digest)
        volumes = self._volumes[job.image.digest]
        # Tasks that follow each other in one sandbox would share a project.
        warm = None if self._settings.project_quotas else self._warm.start(job, volumes)
        if warm is not None:
            return warm
        for _ in range(_MOST_ACCOUNTS - 1):
            with suppress(AccountTaken):
                return self._start(job, volumes)
        return self._start(job, volumes)

    def _start(self, job: Job, volumes: Iterable[str]) -> ContainerJob:
        """Start the job in a container of its own, under an account that no other container has. AccountTaken."""
        with asking_about(job.key.task):
            account = self._accounts.choose()
        job = job.run_by(*self._accounts.seen(account))
        body = sandbox.container(job, account, volumes=volumes, **self.container_options)
        self._accounts.mark(body)
        for output in job.output_mounts:
            place = os.path.join(job.outputs, output.name)
            if not is_directory(place):  # an earlier job of the task, or the worker, may have made it
                self.prepare(place)
        if job.helper:
            self._helper.wrap(body, job)
        if self._first is not None:
            self._first.wrap(body, job, job.limits.walltime_seconds + job.own_margin)
        body["HostConfig"]["Mounts"] += confidential.put(job, account)
        try:
            self._paths.check(body, job.image.name, volumes)
            self._create_and_start(body, job)
        finally:
            confidential.discard(job.key)
        return self._container(job.key, Log(job.log_file, job.limits.log_bytes))

    def _create_and_start(self, body: dict[str, Any], job: Job) -> None:
        name = container_name(job.key)
        with asking_about(job.key.task), self._groups.place(body, job.scope):
            self._create(body, name)
            try:
                self._accounts.hand_over(name, body, sandbox.inputs(job), job)
                self._copies.attach(job.key, job.log_file, job.limits.log_bytes)
                self._accounts.keep(body["User"], job)
                self._known.pop(job.key, None)  # a thread may have noted the end of an earlier job after its removal
                self._docker().start(name)
            except BaseException:
                self._copies.forget(job.key)
                # The caller needs this error, not one in removing the container.
                with suppress(DockerException, RequestException):
                    self._accounts.withdraw(name)
                    self._docker().remove_container(name, force=True, v=True)
                raise

    def _create(self, body: dict[str, Any], name: str) -> None:
        """Create a container. Replaces one with the same name that a killed worker left before it started it."""
        try:
            self._docker().create_container_from_config(body, name)
        except APIError as error:
            if error.status_code != 409:
                raise
            if not self._remove_unstarted(name):
                raise EngineError(name, "there is a job for this task already") from error
            self._docker().create_container_from_config(body, name)
        except RequestException:  # the daemon may have created it all the same
            with suppress(DockerException, RequestException):
                self._remove_unstarted(name)
            raise

    def _remove_unstarted(self, name: str) -> bool:
        if self._docker().inspect_container(name)["State"]["Status"] != "created":
            return False
        self._accounts.withdraw(name)
        self._docker().remove_container(name, v=True)
        return True

    def find(self, key: JobKey) -> ContainerJob | WarmJob | None:
        """As the port says."""
        warm = self._warm.find(key)
        if warm is not None:
            return warm
        with asking_about(key.task):
            try:
                found = self._docker().inspect_container(container_name(key))
            except NotFound:
                return None
            if not was_started(found):
                return None
            log = log_of(found)
            self._copies.resume(key, *log)
            return self._container(key, log)

    def _status(self, key: JobKey) -> JobStatus:
        known = self._known.get(key)
        if known is not None and known.state is JobState.ENDED:
            return known
        with asking_about(key.task):
            found = status_of(self._docker(), key)
        if found.state is not JobState.UNKNOWN:
            self._known[key] = found
        return found

    def statuses(self, keys: Sequence[JobKey]) -> dict[JobKey, JobStatus]:
        """As the port says. One list shows which jobs run; the daemon is asked about the others one by one."""
        found = {}
        with asking_about("the jobs of this worker"):
            run = self._running() if len(keys) > _FEW else {}
            for key in keys:
                warm = self._warm.find(key)
                if warm is not None:
                    found[key] = warm.status()
                else:
                    found[key] = run.get(key) or self._status(key)
        return found

    def _running(self) -> dict[JobKey, JobStatus]:
        """The running jobs whose start is known, which Docker's list does not show."""
        listed = self._docker().containers(filters={"label": [sandbox.TASK_LABEL], "status": ["running"]})
        keys = {JobKey(container["Labels"][sandbox.TASK_LABEL]) for container in listed}
        known = {key: self._known[key] for key in keys & self._known.keys()}
        return {key: one for key, one in known.items() if one.state is JobState.RUNNING}

    def wait_for_change(self, scope: str, timeout: float) -> frozenset[JobKey] | None:
        """As the port says. The containers and the warm sandboxes report each end."""
        with asking_about(f"the ends of jobs in the engine {self.name}"):
            return self._ends.wait(scope, timeout)

    def wake(self) -> None:
        """As the port says."""
        self._ends.changes.wake()

    def measure(self, outputs: str, most_bytes: int, most_entries: int, stop: Callable[[], bool]) -> Usage:
        """As the port says."""
        return ownership.measure(outputs, most_bytes=most_bytes, most_entries=most_entries, stop=stop)

    def take_back(self, outputs: str) -> None:
        """As the port says."""
        self._accounts.take_back(outputs)

    def remove(self, key: JobKey) -> None:
        """As the port says. Kills a running job, and removes its volumes, too."""
        guard_client.forget(key.text)
        if self._warm.remove(key):
            return
        name = container_name(key)
        self._known.pop(key, None)
        confidential.discard(key)
        self._copies.forget(key)
        with asking_about(key.task):
            self._accounts.withdraw(name)
            remove_container(self._docker(), name, self._seconds)

    def jobs(self, scope: str) -> tuple[JobKey, ...]:
        """As the port says, ordered by key. Includes containers that were created but never started, and jobs of
        which only secrets are left."""
        labels = [f"{sandbox.RESOURCE_LABEL}={scope}", sandbox.TASK_LABEL]
        with asking_about(f"the jobs of {scope}"):
            found = self._docker().containers(all=True, filters={"label": labels})
            own = {JobKey(container["Labels"][sandbox.TASK_LABEL]) for container in found}
        return tuple(sorted(own.union(self._warm.jobs(scope), confidential.left(scope))))

    def tidy(self, scope: str, workloads: frozenset[str], idle_seconds: float) -> None:
        """As the port says."""
        self._warm.tidy(scope, workloads, idle_seconds)
        self._paths.tidy(scope)

    def _container(self, key: JobKey, log: Log) -> ContainerJob:
        return ContainerJob(key, self._docker, self._status, self._copies, log, self.remove)

    def _docker(self) -> Client:
        """The client. The first call makes it, because it asks the engine for its version."""
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client
