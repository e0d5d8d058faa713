"""The control groups through which the engine reports every job that runs out of memory."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

docker = pytest.importorskip("docker")

from support.jobs import held  # noqa: E402  needs docker
from support.site import PATIENCE  # noqa: E402

from compute_to_data.engines.docker import memory_groups, sandbox  # noqa: E402  needs docker
from compute_to_data.engines.docker.memory_groups import MemoryGroup, MemoryGroups  # noqa: E402
from tests.engines.conftest import LIMITS  # noqa: E402

if TYPE_CHECKING:
    from compute_to_data.job import Exit, JobKey
    from compute_to_data.ports.engine import Engine
    from tests.engines.conftest import Bench

TIMEOUT = max(120.0, PATIENCE)
ENDS = int(os.environ.get("C2D_TEST_ENDS", "6"))
"""How many jobs each of the repeated tests ends. Docker missed about one end in ten on cgroup v2."""
GREEDY = replace(LIMITS, memory_bytes=32 << 20, tmp_bytes=64 << 20)
TAKES_IT = ("python3", "-c", "x = bytearray(200 << 20)")
FILLS_TMP = ("python3", "-c", "for n in range(60): open(f'/tmp/{n}', 'wb').write(bytes(1 << 20))")
"""The kernel may kill every process of the container before there is enough memory again."""
EVENTS = "low 0\nhigh 0\nmax 44\noom 3\noom_kill {}\noom_group_kill 0\n"


def ended(engine: Engine, key: JobKey) -> Exit:
    end = held(engine, key).wait(TIMEOUT)
    assert end is not None, "the job did not end in time"
    return end


class TestNames:
    def test_a_slice_is_nested_by_its_name(self) -> None:
        name = memory_groups.slice_name("0a1b", 7)
        assert name == "c2d-0a1b-7.slice"
        seen = memory_groups.directory(name)
        assert seen == Path("/sys/fs/cgroup/c2d.slice/c2d-0a1b.slice/c2d-0a1b-7.slice")

    def test_a_path_is_below_the_root(self) -> None:
        name = memory_groups.path_name("0a1b", 7)
        assert name == "/c2d/0a1b/7"
        assert memory_groups.directory(name) == Path("/sys/fs/cgroup/c2d/0a1b/7")

    def test_workers_of_one_host_share_no_group(self) -> None:
        scopes = {memory_groups.scope_of(state, resource) for state in ("/a", "/b") for resource in ("r", "s")}
        assert len(scopes) == 4
        assert all(scope.isalnum() for scope in scopes), "a dash would mean a slice below another"

    @pytest.mark.parametrize(
        ("info", "name"),
        [
            ({"CgroupVersion": "2", "CgroupDriver": "systemd"}, "c2d-x-1.slice"),
            ({"CgroupVersion": "2", "CgroupDriver": "cgroupfs"}, "/c2d/x/1"),
            ({"CgroupVersion": "2", "CgroupDriver": "none"}, None),
            ({"CgroupVersion": "1", "CgroupDriver": "systemd"}, None),
            ({"CgroupDriver": "cgroupfs"}, None),  # a daemon that knows of no other version
        ],
    )
    def test_the_daemon_says_how_groups_are_named(self, info: dict[str, str], name: str | None) -> None:
        groups = MemoryGroups(docker.APIClient, "/state")
        groups.learn(info)
        assert (groups._name and groups._name("x", 1)) == name


class TestCounts:
    """Tests on files like the kernel's."""

    @pytest.fixture
    def events(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The path of ``memory.events`` of the group ``/g``, which does not exist yet."""
        monkeypatch.setattr(memory_groups, "CGROUPS", tmp_path)
        return tmp_path / "g" / "memory.events"

    def test_both_versions_are_read(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        for text, count in (
            (EVENTS.format(5), 5),
            ("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", 2),
            ("low 0\nhigh 0\nmax 0\noom 1\n", 0),
        ):
            file.write_text(text)
            assert memory_groups.count_of_kills(file) == count

    @pytest.mark.parametrize(
        ("before", "now", "killed"), [(0, 0, False), (0, 1, True), (3, 3, False), (3, 4, True), (3, 0, False)]
    )
    def test_only_a_larger_count_means_a_kill(self, events: Path, before: int, now: int, killed: bool) -> None:
        """A smaller count began again, because the host restarted or the group was made again."""
        events.parent.mkdir()
        events.write_text(EVENTS.format(now))
        assert MemoryGroup("/g", before).has_killed() is killed

    def test_a_missing_group_means_no_kill(self, events: Path) -> None:
        assert MemoryGroup("/g", 0).has_killed() is False

    def test_a_new_group_has_counted_no_kills(self, events: Path) -> None:
        assert memory_groups._kills_before("/g") == 0

    def test_an_unreadable_count_is_not_zero(self, events: Path) -> None:
        """Without the memory controller there is no count, but an administrator may enable it later."""
        events.parent.mkdir()
        assert memory_groups._kills_before("/g") is None

    @pytest.mark.parametrize("docker_says", [True, False])
    @pytest.mark.parametrize("grown", [True, False])
    def test_docker_or_the_kernel_reports_the_kill(self, events: Path, docker_says: bool, grown: bool) -> None:
        events.parent.mkdir()
        events.write_text(EVENTS.format(2 + grown))
        container = {
            "HostConfig": {"CgroupParent": "/g"},
            "Config": {"Labels": {memory_groups.GROUP_LABEL: "/g", memory_groups.KILLS_LABEL: "2"}},
            "State": {"OOMKilled": docker_says},
        }
        assert memory_groups.killed_for_memory(container) is (docker_says or grown)

    def test_an_image_cannot_name_a_group(self, events: Path) -> None:
        events.parent.mkdir()
        events.write_text(EVENTS.format(1))
        labels = {memory_groups.GROUP_LABEL: "/g", memory_groups.KILLS_LABEL: "0"}
        container = {
            "HostConfig": {"CgroupParent": ""},
            "Config": {"Labels": labels},
            "State": {"OOMKilled": False},
        }
        assert memory_groups.killed_for_memory(container) is False


@pytest.fixture
def client(docker_answers: None) -> Iterator[Any]:
    with closing(docker.APIClient()) as client:
        yield client


def counts(client: Any) -> bool:
    """Whether this host has usable counters: cgroup v2."""
    return bool(client.info().get("CgroupVersion") == "2")


@pytest.mark.docker
class TestChoosing:
    """Tests with containers that are never started, for which every daemon accepts any group."""

    @pytest.fixture
    def make(self, docker_bench: Bench, client: Any) -> Callable[[MemoryGroups], str]:
        """Makes a container in a group. Returns the group."""

        def made(groups: MemoryGroups) -> str:
            job = docker_bench.job("true")
            name = sandbox.container_name(job.key)
            body = sandbox.container(job, (65534, 65534))
            with groups.place(body, docker_bench.scope):
                client.create_container_from_config(body, name)
            return str(client.inspect_container(name)["HostConfig"]["CgroupParent"])

        return made

    @pytest.fixture
    def groups(self, client: Any) -> Callable[[], MemoryGroups]:
        """A new worker's groups at each call, as on a host with cgroup v2."""
        state = f"/state-{uuid.uuid4().hex}"

        def started() -> MemoryGroups:
            groups = MemoryGroups(lambda: client, state)
            groups.learn({**client.info(), "CgroupVersion": "2"})
            return groups

        return started

    def test_an_existing_container_keeps_its_group(
        self, make: Any, groups: Any, docker_bench: Bench, client: Any
    ) -> None:
        """Also for the next worker, until the container is removed."""
        first, second = make(groups()), make(groups())
        assert first and second and first != second
        docker_bench.engine.remove(docker_bench.keys[0])
        assert make(groups()) == first

    def test_threads_get_a_group_each(self, make: Any, groups: Any) -> None:
        own, barrier = groups(), threading.Barrier(6)

        def one(_: int) -> str:
            barrier.wait(TIMEOUT)
            return str(make(own))

        with ThreadPoolExecutor(6) as threads:
            assert len(set(threads.map(one, range(6)))) == 6

    def test_a_container_gets_no_group_when_all_are_in_use(
        self, make: Any, groups: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(memory_groups, "MOST", 2)
        own = groups()
        assert [bool(make(own)) for _ in range(3)] == [True, True, False]

    def test_a_container_that_failed_releases_its_group(self, groups: Any, docker_bench: Bench) -> None:
        own = groups()
        seen = []
        for _ in range(2):
            with ExitStack() as stack:
                stack.enter_context(pytest.raises(ZeroDivisionError))
                group = stack.enter_context(own.place({"HostConfig": {}, "Labels": {}}, docker_bench.scope))
                seen.append(group.name)
                raise ZeroDivisionError
        assert seen[0] == seen[1]


@pytest.mark.docker
class TestEnds:
    """Tests with the host's version of control groups. Both versions must give the same results."""

    @pytest.mark.parametrize("command", [TAKES_IT, FILLS_TMP], ids=["takes it", "fills /tmp"])
    def test_every_job_that_runs_out_of_memory_is_reported(self, docker_bench: Bench, command: tuple[str, ...]) -> None:
        told = []
        for _ in range(ENDS):
            job = docker_bench.started(*command, limits=GREEDY)
            told.append(ended(docker_bench.engine, job.key).out_of_memory)
            docker_bench.engine.remove(job.key)
        assert told == [True] * ENDS

    @pytest.mark.parametrize("command", [TAKES_IT, FILLS_TMP], ids=["takes it", "fills /tmp"])
    def test_every_warm_job_that_runs_out_of_memory_is_reported(
        self, warm_bench: Bench, command: tuple[str, ...]
    ) -> None:
        told = []
        for _ in range(ENDS):
            job = warm_bench.started(*command, limits=GREEDY)
            assert warm_bench.engine._warm.find(job.key)  # type: ignore[attr-defined]
            told.append(ended(warm_bench.engine, job.key).out_of_memory)
            warm_bench.engine.remove(job.key)
        assert told == [True] * ENDS

    def test_the_kernel_reports_kills_that_docker_misses(self, docker_bench: Bench, client: Any) -> None:
        job = docker_bench.started(*TAKES_IT, limits=GREEDY)
        ended(docker_bench.engine, job.key)
        found = client.inspect_container(sandbox.container_name(job.key))
        found["State"]["OOMKilled"] = False
        assert memory_groups.killed_for_memory(found) is counts(client)

    def test_earlier_kills_in_a_group_do_not_count_for_the_next_job(self, docker_bench: Bench, client: Any) -> None:
        """Neither for a job that runs at the same time, nor for the next worker."""
        beside = docker_bench.started("sleep", "300")
        greedy = docker_bench.started(*TAKES_IT, limits=GREEDY)
        assert ended(docker_bench.engine, greedy.key).out_of_memory
        docker_bench.engine.remove(greedy.key)
        following = docker_bench.reopen()
        after = docker_bench.job("sh", "-c", "kill -KILL $$")
        following.submit(after)
        held(docker_bench.engine, beside.key).stop(0)
        for job in (beside, after):
            for engine in (docker_bench.engine, following):
                end = ended(engine, job.key)
                assert (end.status == 0, end.out_of_memory) == (False, False)
        label = client.inspect_container(sandbox.container_name(after.key))["Config"]["Labels"]
        assert (memory_groups.KILLS_LABEL in label) is counts(client)
        assert label.get(memory_groups.KILLS_LABEL) != "0", "the group of the first job is used again"
