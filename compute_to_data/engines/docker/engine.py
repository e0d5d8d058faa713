"""Runs jobs as Docker containers, and reads all that it knows about them from the daemon."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from docker import APIClient
from docker.errors import APIError, DockerException, NotFound
from requests.exceptions import RequestException

from compute_to_data.engines import checks
from compute_to_data.engines.docker import confidential, images, sandbox
from compute_to_data.engines.docker import settings as docker_settings
from compute_to_data.engines.docker.connection import connect, remove_container
from compute_to_data.engines.docker.container_job import ContainerJob, Log, log_of, status_of, was_started
from compute_to_data.engines.docker.ends import Ends
from compute_to_data.engines.docker.host import check_host
from compute_to_data.engines.docker.log_copies import LogCopies
from compute_to_data.engines.docker.memory_groups import MemoryGroups
from compute_to_data.engines.docker.messages import asking_about
from compute_to_data.engines.docker.sandbox import container_name
from compute_to_data.engines.docker.warm import WarmSandboxes
from compute_to_data.engines.docker.warm_job import WarmJob
from compute_to_data.errors import EngineError, ImageMissing
from compute_to_data.job import Image, Job, JobKey, JobState, JobStatus

_FEW = 8  # for up to this many jobs, single requests are as fast as a list


class DockerEngine:
    """Docker on this host, with the settings of :class:`settings.DockerSettings`.

    If a job's program is missing in the image, the job ends with status 127 (with ``init``), as in a shell.
    The engine attaches to each container before it starts it. Docker's own log is needed only for what a job writes
    while no worker runs. ConfigurationError for a wrong setting.
    """

    name = "docker"
    sandboxed = True
    capacity = None

    def __init__(self, settings: Mapping[str, Any], state_directory: str) -> None:
        self._settings = docker_settings.read(settings)
        self.account = docker_settings.account(self._settings)
        self._seconds = math.ceil(self._settings.timeout_seconds)
        self._lock = threading.Lock()
        self._client: APIClient | None = None
        self._volumes: dict[str, tuple[str, ...]] = {}
        self._started: dict[JobKey, float | None] = {}
        self._copies = LogCopies(self._settings.socket, self._seconds, self._status)
        self._ends = Ends(self._settings.socket, self._seconds)
        options = {"init": self._settings.init, "runtime": self._settings.runtime}
        self._groups = MemoryGroups(self._docker, state_directory)
        self._warm = WarmSandboxes(
            self._docker, state_directory, self.account, self._groups, self._ends.changes.add, **options
        )

    def check(self) -> None:
        """EngineError when the daemon does not answer or cannot isolate jobs as the sandbox requires."""
        with asking_about("the Docker engine"):
            info = self._docker().info()
            check_host(info, self._settings.runtime)
            self._groups.learn(info)

    def identify(self, image: str) -> Image:
        """The image with this name, name and digest, or full image id."""
        asked = images.reference(image)
        with asking_about(f"image {image}"):
            try:
                found = self._docker().inspect_image(asked)  # type: ignore[no-untyped-call]
            except NotFound as error:
                remedy = f"Load or build it on this host: docker pull {image}"
                raise ImageMissing(f"image {image}", "the engine does not hold it", remedy) from error
            self._volumes[found["Id"]] = images.volumes(found)
            return images.image(image, found)

    def images(self) -> tuple[str, ...]:
        """The names of all images, with tag or digest, without those that have none."""
        with asking_about("the images of the Docker engine"):
            return images.names(self._docker().images())

    def prepare(self, outputs: str) -> None:
        """As the port says. If the worker is root, the directory belongs to the jobs' account."""
        checks.make_outputs(outputs, self.account)

    def submit(self, job: Job) -> ContainerJob | WarmJob:
        """Run the job in a warm sandbox, or create and start a container, which is removed again if that fails."""
        if job.image.digest not in self._volumes:
            self.identify(job.image.digest)
        warm = self._warm.start(job, self._volumes[job.image.digest])
        if warm is not None:
            return warm
        body = sandbox.container(
            job,
            self.account,
            init=self._settings.init,
            runtime=self._settings.runtime,
            volumes=self._volumes[job.image.digest],
        )
        for output in job.output_mounts:
            self.prepare(os.path.join(job.outputs, output.name))
        body["HostConfig"]["Mounts"] += confidential.put(job, self.account)
        try:
            self._create_and_start(body, job)
        finally:
            confidential.discard(job.key)
        return self._container(job.key, Log(job.log_file, job.limits.log_bytes))

    def _create_and_start(self, body: dict[str, Any], job: Job) -> None:
        name = container_name(job.key)
        with asking_about(job.key.task), self._groups.place(body, job.scope):
            self._create(body, name)
            try:
                self._copies.attach(job.key, job.log_file, job.limits.log_bytes)
                self._docker().start(name)
            except BaseException:
                self._copies.forget(job.key)
                # The caller needs this error, not one in removing the container.
                with suppress(DockerException, RequestException):
                    self._docker().remove_container(name, force=True, v=True)
                raise

    def _create(self, body: dict[str, Any], name: str) -> None:
        """Create a container. Replaces one with the same name that a killed worker left before it started it."""
        try:
            self._docker().create_container_from_config(body, name)  # type: ignore[no-untyped-call]
        except APIError as error:
            if error.status_code != 409:
                raise
            if not self._remove_unstarted(name):
                raise EngineError(name, "there is a job for this task already") from error
            self._docker().create_container_from_config(body, name)  # type: ignore[no-untyped-call]
        except RequestException:  # the daemon may have created it all the same
            with suppress(DockerException, RequestException):
                self._remove_unstarted(name)
            raise

    def _remove_unstarted(self, name: str) -> bool:
        if self._docker().inspect_container(name)["State"]["Status"] != "created":
            return False
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
        with asking_about(key.task):
            return status_of(self._docker(), key)

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
                    found[key] = run.get(key) or status_of(self._docker(), key)
        self._started.update({key: one.started for key, one in found.items() if one.state is JobState.RUNNING})
        return found

    def _running(self) -> dict[JobKey, JobStatus]:
        """The running jobs whose start is known, which Docker's list does not show."""
        listed = self._docker().containers(filters={"label": [sandbox.TASK_LABEL], "status": ["running"]})
        keys = {JobKey(container["Labels"][sandbox.TASK_LABEL]) for container in listed}
        return {key: JobStatus(JobState.RUNNING, self._started[key]) for key in keys & self._started.keys()}

    def wait_for_change(self, scope: str, timeout: float) -> frozenset[JobKey] | None:
        """As the port says. The daemon and the warm sandboxes report each end."""
        with asking_about("the Docker daemon's events"):
            return self._ends.wait(scope, timeout)

    def wake(self) -> None:
        """As the port says."""
        self._ends.changes.wake()

    def remove(self, key: JobKey) -> None:
        """As the port says. Kills a running job, and removes its volumes, too."""
        if self._warm.remove(key):
            return
        name = container_name(key)
        self._started.pop(key, None)
        confidential.discard(key)
        self._copies.forget(key)
        with asking_about(key.task):
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

    def _container(self, key: JobKey, log: Log) -> ContainerJob:
        return ContainerJob(key, self._docker, self._copies, log, self.remove)

    def _docker(self) -> APIClient:
        """The client. The first call makes it, because it asks the daemon for its version."""
        with self._lock:
            if self._client is None:
                self._client = connect(self._settings.socket, self._seconds)
            return self._client
