"""The Docker engine beyond the contract: the container's settings, errors of the daemon, the engine's settings."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

docker = pytest.importorskip("docker")

from docker import APIClient  # noqa: E402  needs docker
from requests.exceptions import ReadTimeout  # noqa: E402
from support.jobs import held, written  # noqa: E402
from support.real_docker import LIMITS, STATE, built_image  # noqa: E402
from support.site import PATIENCE  # noqa: E402

from compute_to_data.configuration import EngineSettings  # noqa: E402  needs docker
from compute_to_data.engines import job_ids, open_engine  # noqa: E402
from compute_to_data.engines.docker import (  # noqa: E402
    DockerEngine,
    host,
    images,
    memory_groups,
    sandbox,
    seccomp,
    settings,
    warm_job,
)
from compute_to_data.engines.docker.connection import DockerClient  # noqa: E402
from compute_to_data.engines.docker.container_job import status_of  # noqa: E402
from compute_to_data.engines.docker.seen_process import SeenProcess  # noqa: E402
from compute_to_data.engines.docker.vitals import Vitals  # noqa: E402
from compute_to_data.errors import ConfigurationError, EngineError, ImageMissing  # noqa: E402
from compute_to_data.job import Image, Job, JobKey, JobState, Limits, Mount, OutputMount  # noqa: E402
from compute_to_data.model import User  # noqa: E402

if TYPE_CHECKING:
    from tests.engines.conftest import Bench, WarmBench

TIMEOUT = PATIENCE
TRAPS = """
FROM compute-to-data/base:bookworm
LABEL compute_to_data.resource=stolen compute_to_data.task=stolen
RUN mkdir -m 1777 /scratch && echo kept > /scratch/file
VOLUME /scratch
VOLUME /outputs
VOLUME /tmp
ENV GREETING=hello HOME=/root
USER 0:0
WORKDIR /root
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=1s CMD touch /outputs/health
ENTRYPOINT ["echo", "wrapped"]
CMD ["more"]
"""


@pytest.fixture
def client(docker_answers: None) -> Iterator[Any]:
    with closing(docker.APIClient()) as client:
        yield client


@pytest.fixture(scope="module")
def traps(docker_answers: None) -> Iterator[str]:
    """An image that sets all that an image can set for its containers."""
    with built_image("traps", TRAPS) as name:
        yield name


def inspected(client: Any, job: Job) -> dict[str, Any]:
    found: dict[str, Any] = client.inspect_container(sandbox.container_name(job.key))
    return found


def own_group(client: Any, job: Job) -> str:
    """The control group of the first job of a resource; '' on cgroup v1, where none counts for those below it."""
    info = client.info()
    if info["CgroupVersion"] == "1":
        return ""
    name = {"systemd": memory_groups.slice_name, "cgroupfs": memory_groups.path_name}[info["CgroupDriver"]]
    return name(memory_groups.scope_of(STATE, job.scope), 1)


@pytest.mark.docker
class TestContainer:
    def test_inputs_and_outputs_at_paths_of_their_own(self, docker_bench: Bench, client: Any, traps: str) -> None:
        source = docker_bench.directory / "input"
        source.write_text("content")
        job = docker_bench.started(
            "sh", "-c", "cat /data/in/a > /scratch-of-mine/copy && ! touch /data/in/a && : > /outputs/beside",
            inputs=(Mount(str(source), "/data/in/a"),),
            output_mounts=(OutputMount("kept", "/scratch-of-mine"),),
            image=docker_bench.engine.identify(traps),
        )  # fmt: skip
        end = held(docker_bench.engine, job.key).wait(TIMEOUT)
        assert end is not None and end.status == 0, written(docker_bench.engine, job)
        outputs = Path(job.outputs)
        assert (outputs / "kept" / "copy").read_text() == "content"
        assert sorted(str(one.relative_to(outputs)) for one in outputs.rglob("*")) == ["beside", "kept", "kept/copy"]
        modes = {mount["Destination"]: mount["RW"] for mount in inspected(client, job)["Mounts"]}
        assert (modes["/data/in/a"], modes["/scratch-of-mine"]) == (False, True)

    def test_no_volume_of_an_image_is_made_in_an_output_directory(self, docker_bench: Bench) -> None:
        job = docker_bench.job("true", output_mounts=(OutputMount("kept", "/results"),))
        volumes = ["/results", "/results/deep", "/results-of-others"]
        body = sandbox.container(job, (1, 1), volumes=volumes)
        kinds = {mount["Target"]: mount["Type"] for mount in body["HostConfig"]["Mounts"]}
        assert kinds.pop("/results") == "bind"
        assert [target for target, kind in kinds.items() if kind == "tmpfs"] == ["/results-of-others", "/tmp"]

    @pytest.mark.parametrize("target", ["/proc/x", "/run/secrets/x", "/outputs/x", "/tmp/x", "/data/../etc/x"])
    def test_no_mount_replaces_a_path_of_the_sandbox(self, docker_bench: Bench, target: str) -> None:
        source = docker_bench.directory / "input"
        source.touch()
        for own in ({"inputs": (Mount(str(source), target),)}, {"output_mounts": (OutputMount("a", target),)}):
            with pytest.raises(EngineError, match="cannot mount anything"):
                docker_bench.engine.submit(docker_bench.job("true", **own))
        assert docker_bench.engine.jobs(docker_bench.scope) == ()

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a"])
    def test_an_output_directory_must_lie_in_the_outputs(self, docker_bench: Bench, name: str) -> None:
        with pytest.raises(EngineError, match="directory in its outputs"):
            docker_bench.engine.submit(docker_bench.job("true", output_mounts=(OutputMount(name, "/data"),)))

    def test_the_effective_sandbox(self, docker_bench: Bench, client: Any) -> None:
        source = docker_bench.directory / "input"
        source.touch()
        limits = Limits(60.0, 64 << 20, 0.5, 32, 4 << 20, 10, 2 << 20, 1000)
        mounts = (Mount(str(source), "/inputs/x"),)
        job = docker_bench.started("sleep", "60", limits=limits, inputs=mounts)
        found = inspected(client, job)
        seen = found["HostConfig"]
        group = own_group(client, job)
        expected = {
            "NetworkMode": "none", "IpcMode": "private", "PidMode": "", "UTSMode": "", "UsernsMode": "",
            "CgroupParent": group, "ReadonlyRootfs": True, "Privileged": False, "CapAdd": None, "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges", seccomp.option()], "Binds": None, "VolumesFrom": None, "Devices": [],
            "DeviceCgroupRules": None, "DeviceRequests": None, "GroupAdd": None, "PortBindings": {},
            "PublishAllPorts": False, "Links": None, "Dns": None, "ExtraHosts": None, "OomKillDisable": False,
            "Memory": 64 << 20, "MemorySwap": 64 << 20, "MemorySwappiness": 0, "CpuPeriod": 100_000,
            "CpuQuota": 50_000, "CpuShares": 256, "PidsLimit": 32 + 1, "ShmSize": 2 << 20, "Init": False,
            "AutoRemove": False,
        }  # fmt: skip
        # The daemon writes some empty values as null and some as an empty list.
        assert {key: seen[key] or None for key in expected} == {key: expected[key] or None for key in expected}
        assert "/proc/kcore" in seen["MaskedPaths"]
        assert "/proc/sys" in seen["ReadonlyPaths"]
        assert {limit["Name"]: limit["Hard"] for limit in seen["Ulimits"]} == {
            "core": 1, "fsize": (4 << 20) + 1, "nofile": 4096, "sigpending": 1024, "msgqueue": 0, "memlock": 64 << 10,
            "rtprio": 0, "nice": 0,
        }  # fmt: skip
        assert {mount["Destination"]: (mount["Type"], mount["RW"]) for mount in found["Mounts"]} == {
            "/inputs": ("tmpfs", False),
            "/inputs/x": ("bind", False),
            "/outputs": ("bind", True),
            "/etc/hosts": ("bind", False),
            "/dev/pts": ("volume", True),
            "/etc/ld.so.preload": ("bind", False),
            "/.compute-to-data-init": ("bind", False),
            "/tmp": ("tmpfs", True),
        }
        assert found["Image"] == job.image.digest == found["Config"]["Image"]
        assert found["Config"]["Entrypoint"][-4:] == ["-s", "--", "sleep", "60"]
        assert found["Config"]["NetworkDisabled"] is True
        assert found["NetworkSettings"]["Networks"] == {}
        assert not found["Config"]["Cmd"]
        uid, _, gid = found["Config"]["User"].partition(":")
        assert uid == gid and job_ids.of_this_account().has(int(uid))
        assert found["Config"]["Labels"] == {
            "compute_to_data.task": job.key.text,
            "compute_to_data.owner": "alice#tempZone",
            "compute_to_data.resource": job.scope,
            "compute_to_data.log_bytes": "1000",
            "compute_to_data.log_file": job.log_file,
            "compute_to_data.uid": uid,
            **({memory_groups.GROUP_LABEL: group, memory_groups.KILLS_LABEL: "0"} if group else {}),
        }

    def test_an_image_decides_nothing_but_its_environment(self, docker_bench: Bench, client: Any, traps: str) -> None:
        docker_bench.image = traps
        script = """
        id -u; pwd; echo $GREETING $HOME
        for place in /scratch /root /outputs /tmp; do touch $place/new 2>/dev/null && echo $place; done
        for file in 1 2; do dd if=/dev/zero of=/scratch/$file bs=1M count=5; done
        """
        job = docker_bench.started("sh", "-c", script)
        end = held(docker_bench.engine, job.key).wait(TIMEOUT)
        assert end is not None
        uid = os.stat(job.outputs).st_uid
        seen = written(docker_bench.engine, job).stdout.decode().splitlines()
        assert seen == [str(uid), "/tmp", "hello /tmp", "/scratch", "/outputs", "/tmp"]
        assert b"No space left" in written(docker_bench.engine, job).stderr
        assert os.listdir(job.outputs) == ["new"]
        found = inspected(client, job)
        assert found["Config"]["Healthcheck"]["Test"] == ["NONE"]
        assert found["Config"]["StopSignal"] == "SIGTERM"
        assert docker_bench.engine.jobs("stolen") == ()
        assert {mount["Type"] for mount in found["Mounts"]} == {"bind", "tmpfs", "volume"}
        (terminals,) = [mount for mount in found["Mounts"] if mount["Type"] == "volume"]
        assert terminals["Destination"] == "/dev/pts", "the image's volume is none on disk"
        docker_bench.engine.remove(job.key)
        assert not client.volumes(filters={"name": terminals["Name"]})["Volumes"]

    def test_the_image_is_the_one_that_was_identified(self, docker_bench: Bench, client: Any) -> None:
        """The tag moves to another image between the check of the image and the job."""
        name = f"compute-to-data/test-moving:{uuid.uuid4().hex[:12]}"
        built = {}
        try:
            for word in ("first", "second"):
                text = f"FROM compute-to-data/base:bookworm\nENV WORD={word}\n"
                list(client.build(fileobj=io.BytesIO(text.encode()), tag=f"{name}-{word}", rm=True))
                built[word] = client.inspect_image(f"{name}-{word}")["Id"]
            repository, _, tag = name.partition(":")
            client.tag(built["first"], repository, tag)
            docker_bench.image = name
            job = docker_bench.job("sh", "-c", "echo $WORD")
            client.tag(built["second"], repository, tag)
            docker_bench.engine.submit(job)
            assert held(docker_bench.engine, job.key).wait(TIMEOUT) is not None
            assert written(docker_bench.engine, job).stdout == b"first\n"
        finally:
            docker_bench.clear()
            for image in (name, *(f"{name}-{word}" for word in built)):
                client.remove_image(image, force=True)

    def test_loopback_is_there_for_a_programs_own_servers(self, docker_bench: Bench) -> None:
        code = """
import socket
server = socket.create_server(("127.0.0.1", 0))
for name in ("127.0.0.1", "localhost", socket.gethostname()):
    client = socket.create_connection((name, server.getsockname()[1]))
    client.sendall(b"hello"); print(server.accept()[0].recv(5).decode())
"""
        job = docker_bench.started("python3", "-c", code)
        assert held(docker_bench.engine, job.key).wait(TIMEOUT) is not None
        assert written(docker_bench.engine, job).stdout == b"hello\n" * 3

    @pytest.mark.parametrize("directory", [
        "relative", "/outputs/new", "/tmp/new", "/inputs/x", "/tmp/../outputs/y", "//outputs/new",
        "/outputs/../outputs/new", "/./outputs/new", "/usr//share", "/proc/self/root/outputs/new", "/proc/self/fd/1",
        "/proc/1/cwd", "/dev/fd/1", "/..",
    ])  # fmt: skip
    def test_a_working_directory_below_a_mount_is_refused(self, docker_bench: Bench, directory: str) -> None:
        job = docker_bench.job("true", working_directory=directory)
        with pytest.raises(EngineError, match="working directory"):
            docker_bench.engine.submit(job)
        assert os.listdir(job.outputs) == []


@pytest.mark.docker
class TestFailures:
    def test_a_container_that_never_started_is_replaced(self, docker_bench: Bench, client: Any) -> None:
        """A worker that is killed between creating and starting leaves such a container."""
        job = docker_bench.job("sh", "-c", "exit 9")
        body = sandbox.container(job, (65534, 65534))
        client.create_container_from_config(body, sandbox.container_name(job.key))
        assert docker_bench.engine.jobs(job.scope) == (job.key,)
        assert docker_bench.engine.find(job.key) is None
        assert docker_bench.engine.statuses([job.key])[job.key].state is JobState.UNKNOWN
        docker_bench.engine.submit(job)
        end = held(docker_bench.engine, job.key).wait(TIMEOUT)
        assert end is not None
        assert end.status == 9

    def test_a_failed_start_leaves_nothing(self, docker_bench: Bench) -> None:
        engine = DockerEngine({"init": False}, "/nonexistent")
        job = docker_bench.job("no-such-program")
        with pytest.raises(EngineError, match=r"does not have the program .* Name a program"):
            engine.submit(job)
        assert engine.jobs(job.scope) == ()
        assert engine.find(job.key) is None

    def test_without_an_init_a_job_still_ends(self, docker_bench: Bench) -> None:
        engine = DockerEngine({"init": False}, "/nonexistent")
        job = docker_bench.job("sh", "-c", "exit 5")
        engine.submit(job)
        end = held(engine, job.key).wait(TIMEOUT)
        assert end is not None
        assert end.status == 5

    def test_an_unknown_runtime_is_named(self, docker_bench: Bench) -> None:
        engine = DockerEngine({"runtime": "no-such-runtime"}, STATE)
        with pytest.raises(EngineError, match="no-such-runtime"):
            engine.check()
        with pytest.raises(EngineError, match="runtime"):
            engine.submit(docker_bench.job("true"))
        assert docker_bench.engine.jobs(docker_bench.scope) == ()

    def test_outputs_that_vanished(self, docker_bench: Bench) -> None:
        job = docker_bench.job("true")
        Path(job.outputs).rmdir()
        with pytest.raises(EngineError, match="outputs directory is gone"):
            docker_bench.engine.submit(job)
        assert not Path(job.outputs).exists()
        assert docker_bench.engine.jobs(docker_bench.scope) == ()

    def test_an_id_is_never_taken_for_a_name(self, docker_bench: Bench) -> None:
        digits = docker_bench.engine.identify(docker_bench.image).digest.partition(":")[2]
        for name in (digits[:4], digits[:12], f"sha256:{digits[:12]}"):
            with pytest.raises(ImageMissing):
                docker_bench.engine.identify(name)
        assert docker_bench.engine.identify(f"sha256:{digits}").digest == f"sha256:{digits}"


class Relay:
    """A proxy in front of Docker's socket. A test can cut it, or make it never answer (mute)."""

    def __init__(self, path: Path, target: str = "") -> None:
        self.target = target
        self.open: list[socket.socket] = []
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.server.accept()
            except OSError:
                return
            self.open.append(near)
            if self.target:
                far = socket.socket(socket.AF_UNIX)
                far.connect(self.target)
                self.open.append(far)
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            return

    def cut(self) -> None:
        for each in (self.server, *self.open):
            with suppress(OSError):  # cut already, or the other end is closed
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        self.thread.join(10)
        for each in (self.server, *self.open):
            each.close()


class TestConnection:
    def test_no_daemon(self, tmp_path: Path) -> None:
        engine = DockerEngine({"socket": str(tmp_path / "docker.sock")}, "/nonexistent")
        calls: tuple[Callable[[], object], ...] = (
            engine.check,
            lambda: engine.identify("a:b"),
            lambda: engine.statuses([JobKey("a")]),
            lambda: engine.jobs("r"),
            lambda: engine.remove(JobKey("a")),
        )
        for call in calls:
            with pytest.raises(EngineError, match=r"daemon does not answer .* Start it"):
                call()

    def test_a_socket_without_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(self: socket.socket, address: object) -> None:
            raise PermissionError(13, "Permission denied")  # root, as whom tests may run, is never refused

        monkeypatch.setattr(socket.socket, "connect", refuse)
        with pytest.raises(EngineError, match="group 'docker'"):
            DockerEngine({"socket": str(tmp_path / "s")}, "/nonexistent").check()

    def test_a_daemon_that_never_answers(self, tmp_path: Path) -> None:
        relay = Relay(tmp_path / "s")
        try:
            before = time.monotonic()
            with pytest.raises(EngineError, match="in time"):
                DockerEngine({"socket": str(tmp_path / "s"), "timeout_seconds": 1}, "/nonexistent").check()
            assert time.monotonic() - before < TIMEOUT / 2
        finally:
            relay.close()

    @pytest.mark.docker
    def test_a_daemon_lost_while_waiting_is_an_error(self, docker_bench: Bench, tmp_path: Path) -> None:
        job = docker_bench.started("sleep", "300")
        relay = Relay(tmp_path / "s", "/var/run/docker.sock")
        try:
            engine = DockerEngine({"socket": str(tmp_path / "s")}, "/nonexistent")
            assert held(engine, job.key).wait(0.2) is None
            timer = threading.Timer(0.5, relay.cut)
            timer.start()
            before = time.monotonic()
            with pytest.raises(EngineError, match="daemon does not answer"):
                held(engine, job.key).wait(TIMEOUT)
            assert time.monotonic() - before < TIMEOUT / 2
            timer.join()
        finally:
            relay.close()
        assert held(docker_bench.engine, job.key).wait(0) is None, "the job itself runs on"


@pytest.mark.docker
class TestWarmSandboxes:
    @pytest.mark.parametrize("end", ["stop", "remove"])
    def test_stopping_an_ended_job_does_not_stop_the_next_one(
        self, warm_bench: WarmBench, monkeypatch: pytest.MonkeyPatch, end: str
    ) -> None:
        """The next job may have the sandbox before the end of this one is reported."""
        sandboxes = warm_bench.engine._warm  # type: ignore[attr-defined]
        put_back, following = sandboxes._put_back, []

        def then_ended(job: Job, made: Any) -> None:
            put_back(job, made)
            if not following:
                following.append(warm_bench.started("sh", "-c", "sleep 0.3; echo unharmed"))
                with suppress(EngineError):  # "does not end": it has, and we do not wait to be told
                    getattr(sandboxes.find(job.key), end)(*([0] if end == "stop" else []))

        monkeypatch.setattr(warm_job, "_END_SECONDS", 0.01)
        monkeypatch.setattr(sandboxes, "_put_back", then_ended)
        first = warm_bench.started("true")
        assert (ended := held(warm_bench.engine, first.key).wait(TIMEOUT)) is not None and ended.status == 0
        monkeypatch.undo()
        (other,) = following
        assert (ended := held(warm_bench.engine, other.key).wait(TIMEOUT)) is not None
        assert (ended.status, written(warm_bench.engine, other).stdout) == (0, b"unharmed\n")

    @pytest.mark.parametrize("how", [FileNotFoundError, ProcessLookupError])
    def test_a_runner_that_ends_during_the_check_runs_no_task(
        self, monkeypatch: pytest.MonkeyPatch, how: type[OSError]
    ) -> None:
        def gone(self: SeenProcess) -> list[int]:
            raise how(f"{self.number} is gone")

        monkeypatch.setattr(SeenProcess, "children", gone)
        looking = Vitals.__new__(Vitals)
        looking._line = [SeenProcess(os.getpid(), (os.getuid(), os.getgid()))]
        assert not looking.runs_a_task()


class TestNames:
    @pytest.mark.parametrize(
        ("name", "asked"),
        [
            ("python", "python:latest"),
            ("cafe", "cafe:latest"),
            ("a/b:1.0", "a/b:1.0"),
            ("registry.example.org:5000/a/b:x", "registry.example.org:5000/a/b:x"),
            ("a@sha256:" + "0" * 64, "a@sha256:" + "0" * 64),
            ("sha256:" + "f" * 64, "sha256:" + "f" * 64),
        ],
    )
    def test_the_name_in_requests_to_docker(self, name: str, asked: str) -> None:
        assert images.reference(name) == asked

    @pytest.mark.parametrize(
        "name", ["", " ", "A", "a:", "a/", "/a", "a//b", "../a", "a/../b", "a:b c", "a\n", "-a", "a?x=1", "a#b",
                 "a%2fb", "sha256:cafe", "a@sha256:cafe", "a:" + "x" * 129, "http://a/b"],
    )  # fmt: skip
    def test_an_invalid_name_is_refused(self, name: str) -> None:
        with pytest.raises(ImageMissing):
            images.reference(name)

    def test_the_digests_of_a_registry_are_aliases(self) -> None:
        digest = "sha256:" + "1" * 64
        found = {"Id": "sha256:" + "2" * 64, "RepoDigests": [f"host:5000/a/b@{digest}"]}
        assert images.image("a/b", found) == Image("a/b", found["Id"], frozenset({digest}))  # type: ignore[arg-type]


class TestSettings:
    @pytest.mark.parametrize(
        ("given", "pointer"),
        [
            ({"privileged": True}, "/engine/settings/privileged"),
            ({"uid": 0}, "/engine/settings/uid"),
            ({"gid": 0}, "/engine/settings/gid"),
            ({"uid": -1}, "/engine/settings/uid"),
            ({"uid": "1000"}, "/engine/settings/uid"),
            ({"uid": True}, "/engine/settings/uid"),
            ({"init": 1}, "/engine/settings/init"),
            ({"runtime": None}, "/engine/settings/runtime"),
            ({"project_quotas": 1}, "/engine/settings/project_quotas"),
            ({"project_quotas": True, "job_uids": None}, "/engine/settings/project_quotas"),
            ({"timeout_seconds": 0}, "/engine/settings/timeout_seconds"),
            ({"cpu_shares": 1}, "/engine/settings/cpu_shares"),
            ({"cpu_shares": "less"}, "/engine/settings/cpu_shares"),
            ({"block_io_weight": 1001}, "/engine/settings/block_io_weight"),
        ],
    )
    def test_a_wrong_setting_is_named(self, given: dict[str, Any], pointer: str) -> None:
        with pytest.raises(ConfigurationError, match=re.escape(pointer)):
            open_engine(EngineSettings("docker", given), "/nonexistent")

    def test_a_site_changes_the_weights(self, tmp_path: Path) -> None:
        engine = DockerEngine({"cpu_shares": 2, "block_io_weight": 1000}, str(tmp_path))
        job = Job(JobKey("one"), User("alice", "z"), "r", Image("i", "sha256:0"), ("true",), LIMITS, "/o", "/l")
        for body in (
            sandbox.container(job, (1, 1), **engine.container_options),
            sandbox.warm(job, (1, 1), "/f", "/a", volumes=(), **engine.container_options),
        ):
            assert (body["HostConfig"]["CpuShares"], body["HostConfig"]["BlkioWeight"]) == (2, 1000)

    def test_an_unknown_engine_is_named_with_the_known_ones(self) -> None:
        with pytest.raises(ConfigurationError, match=r"'kubernetes'.*docker, podman, slurm, process"):
            open_engine(EngineSettings("kubernetes", {}), "/nonexistent")

    @pytest.mark.parametrize(
        ("ids", "given", "expected"),
        [
            ((0, 0), {}, (65534, 65534)),
            ((0, 0), {"uid": 990, "gid": 991}, (990, 991)),
            ((990, 991), {}, (990, 991)),
            ((990, 0), {}, (990, 65534)),
        ],
    )
    def test_the_account_of_jobs_is_never_root(
        self, monkeypatch: pytest.MonkeyPatch, ids: tuple[int, int], given: dict[str, int], expected: tuple[int, int]
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: ids[0])
        monkeypatch.setattr(os, "getegid", lambda: ids[1])
        assert settings.account(settings.read(given)) == expected

    def test_only_root_can_run_jobs_as_another_account(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 990)
        with pytest.raises(ConfigurationError, match="leave it out"):
            settings.read({"uid": 1000})

    def test_a_job_cannot_change_its_privileges(self) -> None:
        """Containers of jobs that differ in all that a user decides have the same privileges."""
        limits = Limits(1.0, 1 << 26, 1.0, 9, 9, 9, 1 << 20, 9)
        one = Job(JobKey("1"), User("a", "z"), "r", Image("i", "sha256:1"), ("x",), limits, "/o", "/l")
        other = replace(one, command=("--privileged", "-v", "/:/host"), working_directory="/usr",
                        environment={"TINI_SUBREAPER": "1", "DOCKER_HOST": "x", "HOME": "/"})  # fmt: skip
        first, second = (sandbox.container(job, (1, 1)) for job in (one, other))
        assert first["HostConfig"] == second["HostConfig"]
        assert {key for key in first if first[key] != second[key]} == {"Entrypoint", "Env", "WorkingDir"}
        assert json.loads(json.dumps(first)) == first


class TestHost:
    GOOD = {
        "MemoryLimit": True,
        "CpuCfsQuota": True,
        "PidsLimit": True,
        "SecurityOptions": ["name=apparmor", "name=seccomp,profile=default"],
        "Runtimes": {"runc": {}, "runsc": {}},
    }

    def test_a_suitable_host_is_accepted(self) -> None:
        host.check_host(self.GOOD)
        host.check_host(self.GOOD, "runsc")

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"MemoryLimit": False}, "memory"),
            ({"CpuCfsQuota": False}, "cpu"),
            ({"PidsLimit": False}, "pids"),
            ({"SecurityOptions": []}, "seccomp"),
            ({"SecurityOptions": None}, "seccomp"),
            ({"SecurityOptions": ["name=seccomp,profile=unconfined"]}, "seccomp"),
            ({"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}, "rootless"),
            ({"SecurityOptions": ["name=seccomp,profile=default", "name=userns"]}, "userns"),
            ({"Rootless": True}, "Podman"),
            ({"BuildahVersion": "1.28.2"}, "Podman"),
        ],
    )
    def test_an_unsuitable_host_is_refused(self, change: dict[str, Any], says: str) -> None:
        with pytest.raises(EngineError, match=says):
            host.check_host({**self.GOOD, **change})


def test_a_quick_program_does_not_end_before_it_begins(
    docker_bench: Bench, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker may note the start of a container after its end."""
    job = docker_bench.started("true")
    wait = held(docker_bench.engine, job.key).wait(TIMEOUT)
    assert wait is not None
    said = inspected(client, job)
    end = said["State"]["FinishedAt"]
    late = {**said, "State": {**said["State"], "StartedAt": end.replace(end[:4], str(int(end[:4]) + 1), 1)}}
    monkeypatch.setattr(client, "inspect_container", lambda _: late)
    status = status_of(client, job.key)
    assert status.exit is not None
    assert status.started == status.exit.started == status.exit.finished == wait.finished


def test_a_job_whose_end_is_known_is_not_asked_about_again(
    docker_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But a later job of the same task is."""
    engine, job = docker_bench.engine, docker_bench.started("true")
    running = held(engine, job.key)
    assert running.wait(TIMEOUT) is not None
    with monkeypatch.context() as patched:
        patched.setattr(DockerClient, "inspect_container", lambda *_: pytest.fail("asked again"))
        assert engine.statuses([job.key])[job.key].state is running.status().state is JobState.ENDED
        running.finish_log()
    engine.remove(job.key)
    assert engine.statuses([job.key])[job.key].state is JobState.UNKNOWN
    again = replace(docker_bench.job("sleep", "600"), key=job.key)
    assert engine.submit(again).status().state is JobState.RUNNING


@pytest.mark.parametrize(
    ("ends_by", "signals", "stops"),
    [
        ("SIGTERM", ["SIGTERM"], []),
        ("SIGKILL", ["SIGTERM", "SIGKILL"], []),
        ("nothing", ["SIGTERM", "SIGKILL"], [0]),
    ],
)
def test_docker_takes_whole_seconds_and_a_grace_of_less_is_not_rounded_up(
    monkeypatch: pytest.MonkeyPatch, ends_by: str, signals: list[str], stops: list[int]
) -> None:
    """A user who cancels a task waits for it. With no grace, the job must end before it writes more."""
    stopped: list[Any] = []
    sent: list[str] = []
    seconds = {"SIGTERM": 0.5, "SIGKILL": 20}

    def wait(_: object, container: str, timeout: float) -> None:
        assert timeout == seconds[sent[-1]]
        if sent[-1] != ends_by:
            raise ReadTimeout

    monkeypatch.setattr(DockerClient, "kill", lambda _, container, signal: sent.append(signal))
    monkeypatch.setattr(DockerClient, "wait", wait)
    monkeypatch.setattr(APIClient, "stop", lambda _, container, timeout: stopped.append(timeout))
    client = DockerClient.__new__(DockerClient)
    client.timeout = 20
    client.stop("c", timeout=0.5)
    assert (sent, stopped) == (signals, stops)
    client.stop("c", timeout=1.2)
    assert stopped == [*stops, 2]
    sent.clear()
    client.stop("c", timeout=0)
    assert sent == ["SIGKILL"]
