"""The Podman engine as far as any host can show it: what it asks Podman for, what it reads, and which hosts it refuses.

tests/lab/test_podman.py runs its jobs, on a host with systemd and cgroup v2.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any, ClassVar

import pytest

pytest.importorskip("docker")

from docker.errors import APIError, NotFound
from support.real_docker import LIMITS

from compute_to_data.configuration import EngineSettings
from compute_to_data.engines import open_engine
from compute_to_data.engines.docker import sandbox, stream
from compute_to_data.engines.docker.connection import MOST_BYTES, AnswerTooLarge
from compute_to_data.engines.docker.container_job import was_started
from compute_to_data.engines.docker.memory_groups import directory
from compute_to_data.engines.docker.messages import asking_about
from compute_to_data.engines.job_ids import JobIds
from compute_to_data.engines.podman import engine as podman_engine
from compute_to_data.engines.podman import host, inspection, logs
from compute_to_data.engines.podman import sandbox as podman_sandbox
from compute_to_data.engines.podman.client import PodmanClient, forget
from compute_to_data.engines.podman.connection import Connection
from compute_to_data.engines.podman.ids import Ids
from compute_to_data.engines.process_runner import birth
from compute_to_data.errors import ConfigurationError, EngineError, EngineOutOfReach, ImageMissing
from compute_to_data.job import Image, Job, JobKey, Mount
from compute_to_data.model import User

OWN = os.geteuid()
IDS = Ids(((0, OWN, 1), (1, 300_000, 65_536)), ((0, OWN, 1), (1, 400_000, 65_536)))
IO = frozenset({"cpu", "io", "memory", "pids"})


def a_job(**more: Any) -> Job:
    given = {"command": ("true",), "limits": LIMITS, "outputs": "/o", "log_file": "/l", **more}
    return Job(JobKey("one"), User("alice", "z"), "r", Image("i", "sha256:0"), **given)


def spec_of(body: dict[str, Any], controllers: frozenset[str] = IO) -> dict[str, Any]:
    return podman_sandbox.written(body, "name", IDS, "/profile", "/logs", controllers)


class TestWriter:
    def test_every_limit_is_asked_for(self) -> None:
        spec = spec_of(sandbox.container(a_job(), (300_041, 400_041), init=False))
        limits = spec["resource_limits"]
        assert limits["memory"] == {"limit": LIMITS.memory_bytes, "swap": LIMITS.memory_bytes}
        assert limits["pids"] == {"limit": LIMITS.pids}
        assert limits["cpu"] == {"period": 100_000, "quota": int(100_000 * LIMITS.cpus), "shares": 256}
        assert limits["blockIO"] == {"weight": 100}
        assert {one["type"]: one["hard"] for one in spec["r_limits"]} == {
            "fsize": LIMITS.output_bytes + 1, "core": 1, "nofile": 4096, "sigpending": 1024, "msgqueue": 0,
            "memlock": 64 << 10, "rtprio": 0, "nice": 0,
        }  # fmt: skip
        assert "blockIO" not in spec_of(sandbox.container(a_job(), (300_041, 400_041)), IO - {"io"})["resource_limits"]

    def test_the_isolation_is_asked_for(self) -> None:
        spec = spec_of(sandbox.container(a_job(), (300_041, 400_041), init=False))
        wanted = {
            "image": "sha256:0", "entrypoint": ["true"], "command": [], "user": "42:42", "userns": {"nsmode": "host"},
            "netns": {"nsmode": "none"}, "ipcns": {"nsmode": "private"}, "pidns": {"nsmode": "private"},
            "utsns": {"nsmode": "private"}, "cgroupns": {"nsmode": "private"}, "cap_drop": ["all"],
            "privileged": False, "no_new_privileges": True, "read_only_filesystem": True, "read_write_tmpfs": False,
            "seccomp_policy": "default", "seccomp_profile_path": "/profile", "systemd": "false", "httpproxy": False,
            "env_host": False, "image_volume_mode": "ignore", "restart_policy": "no", "oom_score_adj": 500,
            "sysctl": {"net.ipv4.tcp_max_tw_buckets": "0"}, "healthconfig": {"Test": ["NONE"]},
            "manage_password": False, "remove": False,
        }  # fmt: skip
        assert {key: spec.get(key) for key in wanted} == wanted

    def test_the_account_itself_keeps_its_id(self) -> None:
        """Without ids of jobs. In Podman's own namespace, the account would be root."""
        spec = spec_of(sandbox.container(a_job(), (OWN, OWN)))
        assert (spec["user"], spec["userns"]) == (f"{OWN}:{OWN}", {"nsmode": "keep-id"})

    def test_an_id_that_podman_does_not_map_is_refused(self) -> None:
        with pytest.raises(EngineError, match=r"uid 299999, gid 400041 are not among .* podman system migrate"):
            spec_of(sandbox.container(a_job(), (299_999, 400_041)))

    @pytest.mark.parametrize("name", ["a,U=true", 'a"b', "a\nb", "a:b", "a,rw"])
    def test_the_name_of_an_input_is_no_option(self, tmp_path: Path, name: str) -> None:
        source = tmp_path / name
        source.touch()
        job = a_job(inputs=(Mount(str(source), f"/inputs/{name}"),))
        mounts = spec_of(sandbox.container(job, (300_041, 400_041)))["mounts"]
        assert [one for one in mounts if one["source"] == str(source)] == [
            {
                "type": "bind", "source": str(source), "destination": f"/inputs/{name}",
                "options": ["bind", "ro", "rprivate", "nosuid", "nodev"],
            }
        ]  # fmt: skip

    def test_scratch_space_is_bounded_and_runs_no_programs(self) -> None:
        mounts = spec_of(sandbox.container(a_job(), (300_041, 400_041), volumes=["/data"]))["mounts"]
        options = ["rw", "noexec", "nosuid", "nodev", f"size={LIMITS.tmp_bytes}", "mode=1777"]
        scratch = {one["destination"]: one["options"] for one in mounts if one["type"] == "tmpfs"}
        assert scratch == {"/data": options, "/tmp": options}

    def test_terminals_are_bounded(self) -> None:
        mounts = spec_of(sandbox.container(a_job(), (300_041, 400_041)))["mounts"]
        (terminals,) = [one for one in mounts if one["destination"] == "/dev/pts"]
        assert terminals["type"] == "devpts"
        assert {"max=32", "newinstance", "nosuid", "noexec"} <= set(terminals["options"])

    @pytest.mark.parametrize(
        "change",
        [
            {"Binds": ["/:/host"]},
            {"Devices": []},
            {"CapAdd": ["SYS_ADMIN"]},
            {"NetworkMode": "bridge"},
            {"SecurityOpt": ["apparmor=unconfined"]},
        ],
    )
    def test_a_setting_that_it_does_not_know_is_not_dropped(self, change: dict[str, Any]) -> None:
        body = sandbox.container(a_job(), (300_041, 400_041))
        body["HostConfig"].update(change)
        with pytest.raises(ValueError, match="writer"):
            spec_of(body)

    def test_a_variable_without_a_value_takes_the_images_away(self) -> None:
        body = {**sandbox.container(a_job(), (300_041, 400_041)), "Env": ["LD_PRELOAD", "A=b=c", "E="]}
        spec = spec_of(body)
        assert (spec["env"], spec["unsetenv"]) == ({"A": "b=c", "E": ""}, ["LD_PRELOAD"])

    def test_the_group_of_a_container_keeps_its_whole_path(self) -> None:
        body = sandbox.container(a_job(), (300_041, 400_041))
        body["HostConfig"]["CgroupParent"] = path = f"{host.own_group()}/c2d-ab-1.slice"
        spec = spec_of(body)
        assert spec["cgroup_parent"] == "c2d-ab-1.slice"
        assert spec["labels"][podman_sandbox.PARENT_LABEL] == path
        assert str(directory(path)) == f"/sys/fs/cgroup/{host.own_group()}/c2d.slice/c2d-ab.slice/c2d-ab-1.slice"


class TestHosts:
    def grouped(self, tmp_path: Path, controllers: str) -> Path:
        (tmp_path / "cgroup.controllers").write_text("cpu io memory pids\n")
        own = tmp_path / host.own_group(tmp_path)
        own.mkdir(parents=True)
        (own / "cgroup.controllers").write_text(f"{controllers}\n")
        return tmp_path

    def test_a_kernel_with_all_that_is_needed(self, tmp_path: Path) -> None:
        host.check_kernel(self.grouped(tmp_path, "memory pids cpu"))

    def test_the_group_of_the_account_is_among_jobs_where_the_installer_put_it(self, tmp_path: Path) -> None:
        usual = host.own_group(tmp_path)
        assert usual == f"user.slice/user-{OWN}.slice/user@{OWN}.service"
        self.grouped(tmp_path, "memory")
        assert host.own_group(tmp_path) == usual
        jobs = tmp_path / "c2d.slice" / f"user@{OWN}.service"
        jobs.mkdir(parents=True)
        (jobs / "cgroup.controllers").write_text("memory pids cpu\n")
        assert host.own_group(tmp_path) == f"c2d.slice/user@{OWN}.service"
        host.check_kernel(tmp_path)

    def test_cgroup_v1_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(EngineError, match=r"cgroup v1, with which .* systemd\.unified_cgroup_hierarchy=1"):
            host.check_kernel(tmp_path)

    def test_an_account_without_services_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
        with pytest.raises(EngineError, match=r"runs no services of this account .* systemctl start user@.* --podman"):
            host.check_kernel(tmp_path)

    @pytest.mark.parametrize(("given", "lacking"), [("memory pids", "cpu"), ("", "memory, pids, cpu")])
    def test_a_controller_that_is_not_delegated_is_named(self, tmp_path: Path, given: str, lacking: str) -> None:
        with pytest.raises(EngineError, match=f"not delegated {lacking} to this account.*Delegate="):
            host.check_kernel(self.grouped(tmp_path, given))

    def info(self, **changes: Any) -> dict[str, Any]:
        given: dict[str, Any] = {
            "cgroupManager": "systemd",
            "security": {"rootless": True, "seccompEnabled": True},
            "idMappings": {
                kind: [
                    {"container_id": 0, "host_id": OWN, "size": 1},
                    {"container_id": 1, "host_id": 300_000, "size": 65_536},
                ]
                for kind in ("uidmap", "gidmap")
            },
        }
        return {"host": {**given, **changes}, "store": {"graphDriverName": changes.get("driver", "overlay")}}

    def test_a_podman_with_all_that_is_needed(self) -> None:
        host.check_info(self.info(), JobIds(300_000, 300_000, 65_536))
        host.check_info(self.info(), None)

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"security": {"rootless": False, "seccompEnabled": True}}, "not rootless"),
            ({"security": {"rootless": True, "seccompEnabled": False}}, "filters no system calls"),
            ({"cgroupManager": "cgroupfs"}, "not managed by systemd"),
            ({"driver": "vfs"}, "storage driver is vfs"),
            ({"idMappings": {}}, "no subordinate ids.*usermod --add-subuids"),
        ],
    )
    def test_what_a_podman_lacks_is_named(self, changes: dict[str, Any], says: str) -> None:
        with pytest.raises(EngineError, match=says):
            host.check_info(self.info(**changes), None)

    def test_ids_of_jobs_that_podman_does_not_have_are_named(self) -> None:
        with pytest.raises(EngineError, match=r"uid 365536, .* podman system migrate"):
            host.check_info(self.info(), JobIds(300_000, 300_000, 65_537))

    def test_the_kernel_must_show_the_limits(self, tmp_path: Path) -> None:
        """The container's group is the one above that of its processes."""
        group = tmp_path / "libpod-x.scope" / "container"
        group.mkdir(parents=True)
        for name, text in {
            "memory.max": 48 << 20,
            "memory.swap.max": 0,
            "pids.max": 7,
            "cpu.max": "50000 100000",
        }.items():
            (group / name).write_text("max\n")
            (group.parent / name).write_text(f"{text}\n")
        host._compare(group)
        (group.parent / "memory.max").write_text("max\n")
        with pytest.raises(
            EngineError, match=r"does not hold its limits: memory\.max of a container is max or max, not"
        ):
            host._compare(group)

    def test_a_worker_of_root_is_refused(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        engine = open_engine(EngineSettings("podman", {"socket": str(tmp_path / "s")}), str(tmp_path))
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        with pytest.raises(EngineError, match=r"runs as root, .* Run the worker as the iRODS service account"):
            engine.check()


class TestSettings:
    @pytest.mark.parametrize("given", [{"uid": 5}, {"gid": 5}, {"init": True}, {"privileged": True}, {"cpu_shares": 1}])
    def test_a_wrong_setting_is_named(self, given: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError, match=f"/engine/settings/{next(iter(given))}"):
            open_engine(EngineSettings("podman", given), "/nonexistent")


class TestInspection:
    @pytest.mark.parametrize(
        ("name", "full"),
        [
            ("a:1", ["localhost/a:1", "docker.io/library/a:1"]),
            ("a/b:1", ["localhost/a/b:1", "docker.io/a/b:1"]),
            ("quay.io/a/b:1", ["quay.io/a/b:1"]),
            ("host:5000/a:1", ["host:5000/a:1"]),
            ("localhost/a:1", ["localhost/a:1"]),
            ("sha256:" + "0" * 64, ["sha256:" + "0" * 64]),
        ],
    )
    def test_a_name_means_no_image_of_another_registry(self, name: str, full: list[str]) -> None:
        assert list(inspection.full_names(name)) == full

    def test_another_image_than_the_asked_one_is_not_taken(self) -> None:
        """Podman takes an image of any registry whose name ends like the asked one."""
        found = {"Id": "1" * 64, "RepoTags": ["evil.example/a:1"], "RepoDigests": []}
        with pytest.raises(NotFound):
            inspection.image(found, "localhost/a:1")
        with pytest.raises(NotFound):
            inspection.image(found, "sha256:" + "2" * 64)
        assert inspection.image(found, "evil.example/a:1")["Id"] == "sha256:" + "1" * 64

    def test_times_have_the_zone_of_the_host(self) -> None:
        assert inspection._utc("2026-11-29T14:06:59.123456789+01:00") == "2026-11-29T13:06:59.123456789Z"
        assert inspection._utc("2026-11-29T13:06:59Z") == "2026-11-29T13:06:59.0Z"
        assert inspection._utc("0001-01-01T00:00:00Z") == "0001-01-01T00:00:00Z"


class TestStoredOutput:
    def read(self, path: Path, **options: Any) -> tuple[bytes, bytes]:
        ours, theirs = socket.socketpair()
        reader = logs._Reader(open(path, "rb"), theirs, options.get("runs"))  # noqa: SIM115 - the reader closes it
        thread = threading.Thread(target=reader.run)
        thread.start()
        frames, found = stream.Frames(), [b"", b""]
        with ours:
            while data := ours.recv(1 << 16):
                for number, piece in frames.feed(data):
                    found[number] += bytes(piece)
        thread.join(30)
        return found[0], found[1]

    def test_lines_parts_of_lines_and_bytes(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        at = b"2026-11-29T13:06:59.046046679+00:00"
        lines = (b"stdout F a b", b"stderr P \0\xff\r", b"stdout F ", b"stderr P end")
        path.write_bytes(b"".join(at + b" " + line + b"\n" for line in lines))
        assert self.read(path) == (b"a b\n\n", b"\0\xff\rend")

    def test_a_line_that_is_not_whole_waits_for_its_end(self, tmp_path: Path) -> None:
        """And the file that replaces a full one is read, too."""
        path = tmp_path / "log"
        at = "2026-11-29T13:06:59.046046679+00:00"
        path.write_text(f"{at} stdout F one\n{at} stdout F tw")

        def grow() -> None:
            with path.open("a") as file:
                file.write(f"o\n{at} stdout F three\n")

        def replace() -> None:
            (tmp_path / "new").write_text(f"{at} stdout F four\n")
            os.replace(tmp_path / "new", path)

        steps = iter([grow, replace])

        def runs() -> bool:
            step = next(steps, None)
            if step is not None:
                step()
            return step is not None

        assert self.read(path, runs=runs)[0] == b"one\ntwo\nthree\nfour\n"


class _Podman(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


class _Answering(BaseHTTPRequestHandler):
    """Answers in Podman's place."""

    def _answer(self, status: int, document: object) -> None:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def address_string(self) -> str:
        return "podman"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def listening(folder: Path, handler: type[_Answering]) -> Iterator[Connection]:
    """A socket at which ``handler`` answers."""
    with _Podman(str(folder / "s"), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield Connection(f"unix://{folder / 's'}", 10.0)
        finally:
            server.shutdown()


@contextmanager
def answering(folder: Path, status: int, document: object) -> Iterator[Connection]:
    """A socket at which something gives each request the same answer."""

    class Handler(_Answering):
        def do_GET(self) -> None:
            self._answer(status, document)

    with listening(folder, Handler) as connection:
        yield connection


class TestConnection:
    @pytest.mark.parametrize(
        ("status", "message", "kind", "code"),
        [
            (404, "no such container", NotFound, 404),
            (500, 'the container name "x" is already in use by 1', APIError, 409),
            (500, "container 1 does not exist in database: no such container", NotFound, 404),
            (500, "something else", APIError, 500),
        ],
    )
    def test_refusals(self, tmp_path: Path, status: int, message: str, kind: type[APIError], code: int) -> None:
        with answering(tmp_path, status, {"message": message, "cause": "c", "response": status}) as connection:
            with pytest.raises(kind) as caught:
                connection.ask("GET", "/containers/x/json")
            assert caught.value.status_code == code

    @pytest.mark.parametrize(
        ("message", "kind", "says"),
        [
            ("sha256:0: image not known", ImageMissing, "no longer holds its image"),
            ("statfs /o: no such file or directory", EngineError, "outputs directory is gone"),
            ("anything", EngineError, "Podman refused: anything"),
        ],
    )
    def test_refusals_are_explained(self, tmp_path: Path, message: str, kind: type[EngineError], says: str) -> None:
        with (
            answering(tmp_path, 500, {"message": message}) as connection,
            pytest.raises(kind, match=says),
            asking_about("task x"),
        ):
            connection.ask("GET", "/x")

    @pytest.mark.parametrize("document", [b"<html>", b'["a"]', b'"a"'])
    def test_an_answer_that_makes_no_sense(self, tmp_path: Path, document: bytes) -> None:
        with (
            answering(tmp_path, 500, document) as connection,
            pytest.raises(EngineOutOfReach, match="makes no sense"),
            asking_about("task x"),
        ):
            connection.ask("GET", "/x")

    def test_a_huge_answer(self, tmp_path: Path) -> None:
        with answering(tmp_path, 200, b'"' + b"x" * MOST_BYTES + b'"') as connection, pytest.raises(AnswerTooLarge):
            connection.ask("GET", "/x")

    def test_nobody_listens(self, tmp_path: Path) -> None:
        engine = open_engine(EngineSettings("podman", {"socket": str(tmp_path / "s")}), str(tmp_path))
        for call in (lambda: engine.identify("a:b"), lambda: engine.jobs("r"), lambda: engine.remove(JobKey("a"))):
            with pytest.raises(EngineOutOfReach, match=re.escape(f"unix://{tmp_path}/s does not answer")):
                call()


class _Ending(_Answering):
    """Podman 4.3 while a container ends: it cannot inspect the container until it has noticed the end."""

    noticed = False
    asked_about_its_host = 0

    def do_GET(self) -> None:
        if self.path.endswith("/info"):
            type(self).asked_about_its_host += 1
            self._answer(200, {"host": {}, "store": {}})
        elif type(self).noticed:
            self._answer(200, {"State": {"Pid": 0, "Running": False}})
        else:
            self._answer(500, {"message": "read /proc/1682/cgroup: no such process", "cause": "no such process"})

    def do_POST(self) -> None:
        assert "/wait?" in self.path
        type(self).noticed = True
        self._answer(200, 0)


@pytest.fixture
def ending(tmp_path: Path) -> Iterator[Connection]:
    _Ending.noticed, _Ending.asked_about_its_host = False, 0
    with listening(tmp_path, _Ending) as connection:
        yield connection


def test_a_container_that_ends_while_it_is_inspected(tmp_path: Path, ending: Connection) -> None:
    PodmanClient(ending, str(tmp_path / "state")).wait("x")
    assert _Ending.noticed


class _Keeping(_Answering):
    """A Podman with one container, whose first process is a real one. It notes what it is asked."""

    process = 0
    noticed = False
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        type(self).asked.append(self.path.rpartition("/")[2])
        running = not type(self).noticed
        state = {"Status": "running" if running else "exited", "Running": running, "Pid": self.process * running}
        state.update(ExitCode=0, StartedAt="2026-11-30T04:55:22.4Z", FinishedAt="2026-11-30T04:55:23.5Z")
        rest = {"Id": "1", "Image": "2", "Config": {"User": "0:0"}, "HostConfig": {"LogConfig": {"Path": "/log"}}}
        self._answer(200, {"host": {}, "store": {}, "State": state, **rest})

    def do_POST(self) -> None:
        type(self).asked.append("wait")
        type(self).noticed = True
        self._answer(200, 0)

    def do_DELETE(self) -> None:
        type(self).asked.append("remove")
        self._answer(200, [])


def test_few_questions_are_asked_about_a_container_that_has_ended(tmp_path: Path) -> None:
    """Each takes as long as several steps of a small job."""
    _Keeping.noticed, _Keeping.asked = False, []
    with listening(tmp_path, _Keeping) as connection, subprocess.Popen(["sleep", "600"]) as process:
        _Keeping.process = process.pid
        client = PodmanClient(connection, str(tmp_path / "state"))
        client.made("x")
        assert client.inspect_container("x")["State"]["Running"]
        process.kill()
        process.wait()
        _Keeping.asked = []
        assert not client.inspect_container("x")["State"]["Running"]
        assert _Keeping.asked == ["wait", "json"]
        logs = tmp_path / "state/logs"
        for name in ("x", "x.first", "y"):
            (logs / name).touch()
        client.remove_container("x", force=True)
    assert _Keeping.asked == ["wait", "json", "remove"]
    assert [one.name for one in logs.iterdir()] == ["y"]


def test_podman_is_asked_about_its_host_once_and_again_for_a_check(tmp_path: Path, ending: Connection) -> None:
    """The answer takes longer than a small job."""
    for _ in range(3):
        PodmanClient(ending, str(tmp_path / "state"))
    assert _Ending.asked_about_its_host == 1
    forget(ending.address)
    PodmanClient(ending, str(tmp_path / "state"))
    assert _Ending.asked_about_its_host == 2


class _Probed(_Answering):
    """Podman of a host that holds limits. It counts what makes sure of that, and pings."""

    counted: Counter[str] = Counter()

    def do_GET(self) -> None:
        self.counted["info"] += 1
        self._answer(200, TestHosts().info(cgroupVersion="v2"))

    def do_HEAD(self) -> None:
        self.counted["ping"] += 1
        self._answer(200, b"")


def test_a_worker_asks_at_each_heartbeat_for_what_costs_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fills its slots only afterwards. All is checked again when the account's systemd has started again, after some
    minutes, and when a check has failed."""
    _Probed.counted.clear()
    groups = iter((1, 1, 1, 2, 2, 3, 3, 3, 3, 3, 3))

    def check_limits(*_: object) -> None:
        _Probed.counted["probe"] += 1

    monkeypatch.setattr(host, "check_account", lambda: None)
    monkeypatch.setattr(host, "check_kernel", lambda: next(groups))
    monkeypatch.setattr(host, "check_limits", check_limits)
    monkeypatch.setattr(podman_engine, "install", lambda _: None)
    engine = podman_engine.PodmanEngine({"socket": str(tmp_path / "s"), "job_uids": None}, str(tmp_path))

    def checked(times: int) -> dict[str, int]:
        before = Counter(_Probed.counted)
        for _ in range(times):
            engine.check()
        return dict(_Probed.counted - before)

    with listening(tmp_path, _Probed):
        assert checked(3) == {"info": 1, "probe": 1, "ping": 2}
        assert checked(2) == {"info": 1, "probe": 1, "ping": 1}, "another control group"
        with monkeypatch.context() as soon:
            soon.setattr(podman_engine, "_SURE_SECONDS", 0.0)
            assert checked(2) == {"info": 2, "probe": 2}, "its time is over"
        assert checked(2) == {"info": 1, "probe": 1, "ping": 1}
    with pytest.raises(EngineError):
        engine.check()
    (tmp_path / "s").unlink()
    with listening(tmp_path, _Probed):
        assert checked(1) == {"info": 1, "probe": 1}


class _Listing(_Answering):
    """Podman with containers of these ``names``, which it lists and cannot inspect."""

    names: tuple[str, ...] = ()

    def do_GET(self) -> None:
        if self.path.endswith("/info"):
            self._answer(200, {"host": {}, "store": {}})
        elif "/containers/json?" in self.path:
            assert "all=true" in self.path
            self._answer(200, [{"Names": [name], "Labels": None} for name in self.names])
        else:
            self._answer(404, {"message": "no such container"})


@pytest.mark.parametrize(
    "said",
    [
        "crun: setrlimit `RLIMIT_CORE`: Operation not permitted: OCI permission denied",
        "runc: runc create failed: unable to start container process: error during container init: error setting "
        "rlimits for ready process: error setting rlimit type 4: operation not permitted: OCI permission denied",
    ],
)
def test_an_account_that_can_give_no_limit_of_core_dumps_is_named(tmp_path: Path, said: str) -> None:
    """What Podman 4.3.1 said that was started with a hard limit of 0."""
    asked: list[Any] = []

    class Handler(_Listing):
        def do_DELETE(self) -> None:
            self._answer(200, [])

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path.endswith("/init"):
                self._answer(500, {"message": said, "cause": "OCI permission denied", "response": 500})
            else:
                asked.append(json.loads(content)["r_limits"])
                self._answer(201, {"Id": "x", "Warnings": []})

    with listening(tmp_path, Handler) as connection:
        client = PodmanClient(connection, str(tmp_path / "state"))
        with pytest.raises(EngineError, match="limit of core dumps is 0") as caught:
            host.check_limits(client, str(tmp_path / "probes"))
    assert "LimitCORE" in caught.value.remedy
    assert asked == [[{"type": "core", "soft": 1, "hard": 1}]]


def test_what_a_worker_left_that_was_killed_while_it_checked_is_removed(tmp_path: Path) -> None:
    """And nothing of a worker that checks at the same time, or that is not a probe."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as one:
        gone = f"{host._PROBE}{one.pid}-{birth(one.pid)}-1"
    later = f"{host._PROBE}{os.getpid()}-0-1"  # its process id belongs to another process now
    now = f"{host._PROBE}{os.getpid()}-{birth(os.getpid())}-1"
    removed: list[str] = []

    class Handler(_Listing):
        names = (gone, later, now, "other")

        def do_DELETE(self) -> None:
            removed.append(self.path.partition("?")[0].rpartition("/")[2])
            self._answer(200, [])

    folder = tmp_path / "probes"
    for name in (gone, later, now, "other"):
        (folder / name / "etc").mkdir(parents=True)
    with listening(tmp_path, Handler) as connection:
        host._remove_left(PodmanClient(connection, str(tmp_path / "state")), str(folder))
    assert removed == [gone, later]
    assert {one.name for one in folder.iterdir()} == {now, "other"}


@pytest.mark.parametrize("status", ["created", "configured", "initialized", "exited"])
def test_a_container_whose_end_podman_does_not_know_never_started(status: str) -> None:
    """As Podman 4.3.1 shows one after all processes of its account, and the container's, were killed. Its program did
    not end with status 0."""
    state = {
        "Status": status,
        "Running": False,
        "Pid": 0,
        "ExitCode": 0,
        "StartedAt": "2026-11-30T04:55:22.403150913Z",
        "FinishedAt": "0001-01-01T00:00:00Z",
    }
    found = {"Id": "1", "Image": "2", "State": state, "Config": {"User": "0:0"}, "HostConfig": {}}
    ids = Ids(((0, 1000, 1),), ((0, 1000, 1),))
    assert not was_started(inspection.container(found, ids))
    ended = {**state, "Status": "exited", "FinishedAt": "2026-11-30T04:55:23.5Z"}
    assert was_started(inspection.container({**found, "State": ended}, ids))
    running = {**state, "Status": "running", "Running": True, "Pid": 7}
    assert was_started(inspection.container({**found, "State": running}, ids))
