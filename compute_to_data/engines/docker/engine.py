"""Jobs as Docker containers. Everything it knows of them, it reads from the daemon."""

from __future__ import annotations

import calendar
import math
import os
import struct
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

from docker import APIClient
from docker.errors import APIError, DockerException, NotFound
from requests.exceptions import RequestException

from compute_to_data.engines import checks
from compute_to_data.engines.docker import confidential, images, memory_groups, sandbox
from compute_to_data.engines.docker import settings as docker_settings
from compute_to_data.engines.docker.connection import connect, remove_container
from compute_to_data.engines.docker.host import check_host
from compute_to_data.engines.docker.memory_groups import MemoryGroups
from compute_to_data.engines.docker.messages import asking_about, timed_out
from compute_to_data.engines.docker.sandbox import container_name
from compute_to_data.engines.docker.warm import WarmSandboxes
from compute_to_data.errors import EngineError, EngineOutOfReach, ImageMissing
from compute_to_data.job import Exit, Image, Job, Logs

_SHORTEST_WAIT = 0.05  # seconds; an ended container's answer needs some time, too
_FRAME = struct.Struct(">BxxxL")
_UNKNOWN = 255  # what containerd says of a process that nobody saw end; a program may, too
_NEVER = "0001-01-01T00:00:00Z"


class DockerEngine:
    """Docker on this host; the settings are those of :class:`settings.DockerSettings`.

    Beside the calls of :class:`~compute_to_data.ports.Engine` it promises nothing. A job's
    program that is missing in the image ends with status 127 (with ``init``), as in a shell.
    Of a stream, the last ``log_bytes`` are kept unless its own short lines, or a flood in the
    other stream, push them out. Errors: ConfigurationError for a wrong setting.
    """

    name = "docker"
    sandboxed = True

    def __init__(self, settings: Mapping[str, Any], state_directory: str) -> None:
        self._settings = docker_settings.read(settings)
        self._account = docker_settings.account(self._settings)
        self._seconds = math.ceil(self._settings.timeout_seconds)
        self._lock = threading.Lock()
        self._client: APIClient | None = None
        self._volumes: dict[str, tuple[str, ...]] = {}
        self._log_bytes: dict[str, int] = {}
        options = {"init": self._settings.init, "runtime": self._settings.runtime}
        self._groups = MemoryGroups(self._docker, state_directory)
        self._warm = WarmSandboxes(self._docker, state_directory, self._account, self._groups, **options)

    def check(self) -> None:
        """EngineError when the daemon does not answer or cannot keep the sandbox's promises."""
        with asking_about("the Docker engine"):
            info = self._docker().info()
            check_host(info, self._settings.runtime)
            self._groups.learn(info)

    def identify(self, image: str) -> Image:
        """The image under a name, a name with digest, or a full image id."""
        asked = images.reference(image)
        with asking_about(f"image {image}"):
            try:
                found = self._docker().inspect_image(asked)  # type: ignore[no-untyped-call]
            except NotFound as error:
                remedy = f"Load or build it on this host: docker pull {image}"
                raise ImageMissing(f"image {image}", "the engine does not hold it", remedy) from error
            self._volumes[found["Id"]] = images.volumes(found)
            return images.image(image, found)

    def prepare(self, outputs: str) -> None:
        """As the port says; where the worker is root, the directory is the jobs' account's."""
        checks.make_outputs(outputs, self._account)

    def start(self, job: Job) -> None:
        """Create and start the job's container; on failure it is removed again."""
        if job.image.digest not in self._volumes:
            self.identify(job.image.digest)
        if self._warm.start(job, self._volumes[job.image.digest]):
            return
        body = sandbox.container(
            job,
            self._account,
            init=self._settings.init,
            runtime=self._settings.runtime,
            volumes=self._volumes[job.image.digest],
        )
        for output in job.output_mounts:
            self.prepare(os.path.join(job.outputs, output.name))
        body["HostConfig"]["Mounts"] += confidential.put(job, self._account)
        try:
            self._create_and_start(body, job)
        finally:
            confidential.discard(job.task_id)
        self._log_bytes[job.task_id] = job.limits.log_bytes

    def _create_and_start(self, body: dict[str, Any], job: Job) -> None:
        name = container_name(job.task_id)
        with asking_about(f"task {job.task_id}"), self._groups.place(body, job.resource):
            self._create(body, name)
            try:
                self._docker().start(name)
            except BaseException:
                # The reason must reach the caller, whatever the clearing away meets.
                with suppress(DockerException, RequestException):
                    self._docker().remove_container(name, force=True, v=True)
                raise

    def _create(self, body: dict[str, Any], name: str) -> None:
        """A container of that name that never started is what a lost worker left: replaced."""
        try:
            self._docker().create_container_from_config(body, name)  # type: ignore[no-untyped-call]
        except APIError as error:
            if error.status_code != 409:
                raise
            if not self._remove_unstarted(name):
                raise EngineError(name, "there is a job for this task already") from error
            self._docker().create_container_from_config(body, name)  # type: ignore[no-untyped-call]
        except RequestException:  # did it take place? Then nobody would ever start it.
            with suppress(DockerException, RequestException):
                self._remove_unstarted(name)
            raise

    def _remove_unstarted(self, name: str) -> bool:
        if self._docker().inspect_container(name)["State"]["Status"] != "created":
            return False
        self._docker().remove_container(name, v=True)
        return True

    def wait(self, task_id: str, timeout: float) -> Exit | None:
        """As the port says: the daemon answers at the end, nothing is polled.

        A container that was created and never started has no end: EngineError.
        """
        if self._warm.holds(task_id):
            return self._warm.wait(task_id, timeout)
        name = container_name(task_id)
        seconds = None if math.isinf(timeout) else max(timeout, _SHORTEST_WAIT)
        with asking_about(f"task {task_id}"):
            try:
                self._docker().wait(name, timeout=seconds)  # type: ignore[arg-type]  # floats are taken
            except NotFound as error:
                _no_such_job(task_id, error)
            except RequestException as error:
                if not timed_out(error):
                    raise
            found = self._inspect(task_id)
            state = found["State"]
            if state["StartedAt"] == _NEVER:
                raise EngineOutOfReach(f"task {task_id}", "its container was never started", "Start the job again")
            if state["Running"]:
                return None
            return Exit(
                status=state["ExitCode"],
                out_of_memory=memory_groups.killed_for_memory(found),
                started=_seconds(state["StartedAt"]),
                finished=_seconds(state["FinishedAt"]),
                certain=state["ExitCode"] != _UNKNOWN,
            )

    def started(self, task_id: str) -> float | None:
        """As the port says; None, too, for a container that was created and never started."""
        if self._warm.holds(task_id):
            return self._warm.started(task_id)
        with asking_about(f"task {task_id}"):
            try:
                state = self._docker().inspect_container(container_name(task_id))["State"]
            except NotFound:
                return None
            return None if state["StartedAt"] == _NEVER else _seconds(state["StartedAt"])

    def stop(self, task_id: str, grace: float) -> None:
        """As the port says; Docker counts ``grace`` in whole seconds, so it is rounded up."""
        seconds = math.ceil(max(grace, 0))
        if self._warm.holds(task_id):
            self._warm.stop(task_id, seconds)
            return
        with asking_about(f"task {task_id}"):
            try:
                self._docker().stop(container_name(task_id), timeout=seconds)
            except NotFound as error:
                _no_such_job(task_id, error)

    def logs(self, task_id: str, lines: int | None = None) -> Logs:
        """The last ``log_bytes`` of each stream. EngineError when there is no such job."""
        if self._warm.holds(task_id):
            return self._warm.logs(task_id)
        name = container_name(task_id)
        with asking_about(f"task {task_id}"):
            bound = self._log_bytes.get(task_id)
            if bound is None:  # another worker started it
                bound = int(self._inspect(task_id)["Config"]["Labels"][sandbox.LOG_BYTES_LABEL])
            # The client's own call would read one stream at a time and inspect before each.
            url = self._docker()._url("/containers/{0}/logs", name)  # type: ignore[attr-defined]
            which = {"stdout": 1, "stderr": 1, "tail": "all" if lines is None else lines}
            answer = self._docker().get(url, params=which, timeout=self._seconds)
            answer.raise_for_status()
        stdout, stderr = _streams(answer.content)
        return Logs(stdout[-bound:] if bound else b"", stderr[-bound:] if bound else b"")

    def remove(self, task_id: str) -> None:
        """As the port says: a running job is killed, its volumes go too."""
        if self._warm.holds(task_id):
            self._warm.remove(task_id)
            return
        name = container_name(task_id)
        self._log_bytes.pop(task_id, None)
        confidential.discard(task_id)
        with asking_about(f"task {task_id}"):
            remove_container(self._docker(), name, self._seconds)

    def jobs(self, resource: str) -> tuple[str, ...]:
        """As the port says, ordered by id; those created and never started are among them, and those of
        which nothing but secrets is left."""
        labels = [f"{sandbox.RESOURCE_LABEL}={resource}", sandbox.TASK_LABEL]
        with asking_about(f"the jobs of {resource}"):
            found = self._docker().containers(all=True, filters={"label": labels})
            own = {container["Labels"][sandbox.TASK_LABEL] for container in found}
        return tuple(sorted(own.union(self._warm.jobs(resource), confidential.left(resource))))

    def tidy(self, resource: str, workloads: frozenset[str], idle_seconds: float) -> None:
        """As the port says."""
        self._warm.tidy(resource, workloads, idle_seconds)

    def _inspect(self, task_id: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._docker().inspect_container(container_name(task_id))
        except NotFound as error:
            _no_such_job(task_id, error)
        return found

    def _docker(self) -> APIClient:
        """The client, made at the first call: it asks the daemon for its version once."""
        with self._lock:
            if self._client is None:
                self._client = connect(self._settings.socket, self._seconds)
            return self._client


def _streams(content: bytes) -> tuple[bytes, bytes]:
    """Standard output and error out of Docker's frames: which stream, three zeros, a length, bytes.

    https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach
    """
    pieces: dict[int, list[bytes]] = {1: [], 2: []}
    place = 0
    while place + _FRAME.size <= len(content):
        stream, length = _FRAME.unpack_from(content, place)
        place += _FRAME.size
        pieces.setdefault(stream, []).append(content[place : place + length])
        place += length
    return b"".join(pieces[1]), b"".join(pieces[2])


def _no_such_job(task_id: str, cause: Exception) -> NoReturn:
    raise EngineOutOfReach(f"task {task_id}", "the engine holds no job for it") from cause


def _seconds(timestamp: str) -> float:
    """Unix seconds of ``2026-11-21T20:48:26.123456789Z``, which Docker always gives in UTC."""
    whole, _, fraction = timestamp.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{fraction or 0}")
