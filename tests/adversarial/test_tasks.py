"""Hostile tasks through the whole pipeline: real containers, a real worker, a real catalog.

Each ends FAILED with its own reason, a neighbour's task is unharmed, nothing foreign is
registered and nothing is left behind.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import container_image
import pytest
from support.real_docker import ENGINE, build, built_image, open_docker
from support.site import COMPUTE, HOME, PATIENCE, TrialSite

from compute_to_data.coordination import lock, wakeup
from compute_to_data.errors import ImageMissing, InvalidRequest, Refused
from compute_to_data.zones.embedded.audit import audit

pytestmark = pytest.mark.docker
IMAGE = "compute-to-data/base:bookworm"
SECRET = b"bob's secret\n"
CANARY = "/outputs/innocent"


@dataclass
class Attack:
    """A shell or Python program, and the reason that its task must have. ``limits`` as in a request."""

    reason: str
    words: str
    shell: str = ""
    python: str = ""
    limits: dict[str, Any] = field(default_factory=dict)

    @property
    def argv(self) -> tuple[str, ...]:
        if self.python:
            return ("python3", "-c", f"open({CANARY!r}, 'w').write('x')\n{self.python}")
        return ("/bin/sh", "-c", f"echo x > {CANARY}; {self.shell}")


SOCKET = "import socket; socket.socket(socket.AF_UNIX).bind('/outputs/s')"
DEEP = """
import os
os.chdir('/outputs')
for _ in range(2000):
    os.mkdir('d' * 200); os.chdir('d' * 200)
"""
LONG = """
import os
os.chdir('/outputs')
for _ in range(20):
    os.mkdir('d' * 200); os.chdir('d' * 200)
open('f', 'w').close()
"""
FORKS = """
import os, time
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
except OSError as error:
    raise SystemExit(f'no more processes: {error.strerror}')
"""
HIDDEN = """
import os, time
os.mkdir('/outputs/d')
files = [open(f'/outputs/d/{number}', 'wb') for number in range(8)]
os.chmod('/outputs/d', 0)
for file in files:
    file.write(b'x' * (2 << 20)); file.flush(); time.sleep(0.2)
time.sleep(60)
"""

ATTACKS = {
    "link to a file of the system": Attack("output_refused", "symbolic link", "ln -s /etc/passwd /outputs/a"),
    "link to a sibling in the vault": Attack("output_refused", "symbolic link", "ln -s ../../secret /outputs/a"),
    "dangling link": Attack("output_refused", "symbolic link", "ln -s nowhere /outputs/a"),
    "link to itself": Attack("output_refused", "symbolic link", "ln -s a /outputs/a"),
    "link as a directory": Attack("output_refused", "symbolic link", "ln -s / /outputs/a"),
    "FIFO": Attack("output_refused", "FIFO", "mkfifo /outputs/a"),
    "socket": Attack("output_refused", "socket", python=SOCKET),
    "newline in a name": Attack("output_refused", "control character", "touch '/outputs/a\nb'"),
    "escape in a name": Attack("output_refused", "control character", "touch \"/outputs/$(printf '\\033[2J')\""),
    "leading dash": Attack("output_refused", "begins with '-'", "touch -- /outputs/-rf"),
    "keyword separator in a name": Attack("output_refused", "++++", "touch '/outputs/a++++forceFlag='"),
    "not UTF-8": Attack("output_refused", "not UTF-8", python="open(b'/outputs/\\xff', 'w')"),
    "4,000 characters": Attack("output_refused", "too long", python=LONG),
    # Two guards apply: the name is too long, and the tree is too deep.
    "2,000 directories deep": Attack("output_refused", " too ", python=DEEP),
    "directories without permissions": Attack(
        "output_refused", "", "mkdir -p /outputs/a/b; touch /outputs/a/b/c; ln -s x /outputs/z; chmod 0 /outputs/a"
    ),
    "the name of our own record": Attack("output_refused", "task's own record", "touch /outputs/task.json"),
    "one huge file": Attack(
        "output_limit",
        "limits.output_bytes",
        "exec head -c 100000000 /dev/zero > /outputs/a",
        limits={"output_bytes": 1 << 20},
    ),
    "many files": Attack(
        "output_limit",
        "bytes",
        "for i in 1 2 3 4 5 6 7 8 9; do head -c 900000 /dev/zero > /outputs/$i; done; exec sleep 60",
        limits={"output_bytes": 1 << 20},
    ),
    "growth in a directory nobody may look into": Attack(
        "output_limit", "bytes", python=HIDDEN, limits={"output_bytes": 4 << 20}
    ),
    "memory bomb": Attack(
        "out_of_memory",
        "memory",
        python="x = bytearray(1 << 30); import time; time.sleep(60)",
        limits={"memory_bytes": 64 << 20},
    ),
    "fork bomb": Attack("nonzero_exit", "no more processes", python=FORKS, limits={"pids": 20}),
    "deaf to SIGTERM past the walltime": Attack(
        "walltime_exceeded",
        "2 seconds",
        "trap '' TERM; while :; do sleep 0.2; done",
        limits={"walltime_seconds": 2},
    ),
    "gigabytes of log": Attack("walltime_exceeded", "3 seconds", "exec cat /dev/zero", limits={"walltime_seconds": 3}),
    "network": Attack(
        "nonzero_exit",
        "unreachable",
        python="import socket; socket.create_connection(('172.17.0.1', 80), 2)",
    ),
    "names resolved": Attack("nonzero_exit", "gaierror", python="import socket; socket.getaddrinfo('example.org', 80)"),
    "a sibling input": Attack("nonzero_exit", "No such file", python="open('/inputs/../inputs/secret')"),
    "an input written": Attack("nonzero_exit", "/inputs/a.txt", python="open('/inputs/a.txt', 'a').write('x')"),
}


KEPT = {
    "the name of our own record": {"failed/innocent", "failed/task.json"},
    "directories without permissions": {"failed/innocent", "failed/a/b/c"},
    # One file that is whole, or some that the end of the job has cut.
    "many files": {"failed/innocent", *(f"failed/{number}" for number in range(1, 10))},
    "growth in a directory nobody may look into": {"failed/innocent", *(f"failed/d/{number}" for number in range(8))},
}
"""What is kept of an attack's outputs, other than the innocent file."""


@pytest.fixture(scope="module")
def site(docker_answers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialSite]:
    """One site with one running worker for all attacks, which must not affect each other either."""
    site = TrialSite(tmp_path_factory.mktemp("hostile"), {"name": ENGINE}, IMAGE)
    site.alice.write(f"{HOME}/a.txt", b"input\n", resource=COMPUTE)
    site.bob.write("/tempZone/home/bob/secret", SECRET, resource=COMPUTE)
    site.alice.write(f"{HOME}/secret", b"alice's own secret\n", resource=COMPUTE)
    with site.working():
        yield site


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_fails_and_harms_no_other_task(site: TrialSite, name: str) -> None:
    attack = ATTACKS[name]
    before = {path: about for path, about in site.snapshot().items() if "/out/" not in path}
    hostile = site.submit(site.request(*attack.argv, inputs=[f"{HOME}/a.txt"], limits=attack.limits))
    good = site.submit(site.request("/bin/sh", "-c", "cat /inputs/a.txt > /outputs/b.txt", inputs=[f"{HOME}/a.txt"]))
    wakeup.call_worker(site.configuration, "tempZone", COMPUTE)
    facts, neighbour = site.ended(hostile), site.ended(good)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", attack.reason), facts
    assert attack.words in facts["reason"], facts
    assert facts["reason"].isprintable()
    contents = site.contents(hostile.collection)
    kept = {file: said for file, said in contents.items() if file.startswith("failed/")}
    records = {"task.json", "STDOUT.txt", "STDERR.txt", "LOG.times"}
    assert set(contents) - set(kept) <= records, "none of its outputs is a result"
    assert set(kept) <= KEPT.get(name, {"failed/innocent"}), "nothing is kept that could not be an output"
    assert set(kept.values()) <= {b"x", b"x\n", b""} or name in (
        "many files",
        "growth in a directory nobody may look into",
    )
    assert sum(map(len, kept.values())) <= attack.limits.get("output_bytes", 1 << 20)
    assert sum(map(len, contents.values())) < 2 * site.configuration.default_limits.log_bytes, "its logs are bounded"
    assert SECRET not in contents.get("STDOUT.txt", b"")
    assert site.leftovers(hostile) == []
    assert site.engine.jobs(lock.scope(site.configuration, "tempZone", COMPUTE)) == ()
    assert neighbour["state"] == "COMPLETED", "the other task is not affected"
    assert site.contents(good.collection)["b.txt"] == b"input\n"
    after = {path: about for path, about in site.snapshot().items() if "/out/" not in path}
    assert after == before
    assert audit(str(site.folder / "zone")) == []


def test_the_walltime_ends_a_task_that_ignores_sigterm(site: TrialSite) -> None:
    attack = ATTACKS["deaf to SIGTERM past the walltime"]
    hostile = site.submit(site.request(*attack.argv, limits=attack.limits))
    wakeup.call_worker(site.configuration, "tempZone", COMPUTE)
    began = time.monotonic()
    facts = site.ended(hostile)
    grace = site.configuration.worker.stop_grace_seconds
    assert facts["reason_code"] == "walltime_exceeded"
    assert time.monotonic() - began < 2 + grace + 30 < PATIENCE


class TestImages:
    """The site decides which images may run, by content if it gives a digest."""

    def test_outside_the_list(self, site: TrialSite) -> None:
        with pytest.raises(Refused, match="allowed images"):
            site.submit(site.request("/bin/true", process={"image": "debian:bookworm"}))

    @pytest.mark.parametrize(
        "image", ["lab/tool:1.0-evil", "lab/tool:1.0\n", "evil/lab/tool:1.0", "lab/tool:1.0@sha256:" + "0" * 64]
    )
    def test_matching_only_a_part_of_a_pattern(self, site: TrialSite, image: str) -> None:
        configuration = site.configure(images=[{"pattern": r"lab/[a-z]+:[0-9.]+"}])
        assert configuration.allows("lab/tool:1.0") is not None
        assert configuration.allows(image) is None

    def test_a_name_given_to_other_content(self, docker_answers: None, tmp_path: Path) -> None:
        with built_image("retagged", f"FROM {IMAGE}\n") as name:
            allowed = open_docker().identify(name).digest
            site = TrialSite(tmp_path / "site", {"name": ENGINE}, name, images=[{"name": name, "digest": allowed}])
            assert site.run(site.request("/bin/true"))["state"] == "COMPLETED"
            build(name, f"FROM {IMAGE}\nRUN echo evil > /evil\n")
            facts = site.run(site.request("/bin/sh", "-c", "cat /evil > /outputs/got"))
        assert (facts["state"], facts["reason_code"]) == ("FAILED", "refused")
        assert "other content" in facts["reason"]
        assert set(site.contents(facts["collection"])) == {"task.json"}

    def test_a_missing_image_is_never_pulled(self, docker_answers: None, tmp_path: Path) -> None:
        site = TrialSite(tmp_path, {"name": ENGINE}, "compute-to-data/never-built:1")
        with pytest.raises(ImageMissing):
            site.engine.identify("compute-to-data/never-built:1")
        facts = site.run(site.request("/bin/true"))
        assert facts["reason_code"] == "refused"
        assert "does not hold it" in facts["reason"]

    @pytest.mark.skipif(ENGINE != "docker", reason="we build images with Docker only")
    def test_a_tag_moved_while_being_built_is_noticed(self, docker_answers: None, tmp_path: Path) -> None:
        folder = tmp_path / "container"
        folder.mkdir()
        (folder / "Dockerfile").write_text(f"ARG BASE_IMAGE={IMAGE}\nFROM ${{BASE_IMAGE}}\nRUN echo 1 > /one\n")
        told: list[str] = []
        first = container_image.build(folder, "compute-to-data/test-built:1", told.append)
        again = container_image.build(folder, "compute-to-data/test-built:1", told.append)
        assert again == first
        (folder / "Dockerfile").write_text(f"ARG BASE_IMAGE={IMAGE}\nFROM ${{BASE_IMAGE}}\nRUN echo 2 > /one\n")
        assert container_image.build(folder, "compute-to-data/test-built:1", told.append) != first


TRICKS = {
    "shell": "$(touch /outputs/owned); `touch /outputs/owned` && touch /outputs/owned",
    "template": "%(TASK_ID)d ${input_file} {{ 7*7 }} %s %%",
    "newline": "one\nLD_PRELOAD=/outputs/evil.so",
    "quotes": "'\"\\",
    "not ASCII": "ä\u202e",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_values_arrive_as_they_were_written(site: TrialSite, trick: str) -> None:
    value = TRICKS[trick]
    program = "import os; open('/outputs/got', 'w', encoding='utf-8', newline='').write(os.environ['VALUE'])"
    submitted = site.submit(site.request("python3", "-c", program, process={"environment": {"VALUE": value}}))
    wakeup.call_worker(site.configuration, "tempZone", COMPUTE)
    facts = site.ended(submitted)
    assert facts["state"] == "COMPLETED", facts
    contents = site.contents(submitted.collection)
    assert contents["got"].decode() == value
    assert "owned" not in contents


@pytest.mark.parametrize("value", ["a\0b", "x" * 2_000_000], ids=["NUL", "two million characters"])
def test_values_that_no_program_can_receive_are_refused(site: TrialSite, value: str) -> None:
    with pytest.raises((InvalidRequest, Refused), match="environment"):
        site.submit(site.request("/bin/true", process={"environment": {"VALUE": value}}))


def test_a_replica_that_is_a_link_is_not_mounted(docker_answers: None, tmp_path: Path) -> None:
    """If a vault held a link, the mount would follow it."""
    site = TrialSite(tmp_path, {"name": ENGINE}, IMAGE)
    site.alice.write(f"{HOME}/a.txt", b"input\n", resource=COMPUTE)
    site.make_a_link(f"{HOME}/a.txt", "/etc/shadow")
    facts = site.run(site.request("/bin/cp", "/inputs/a.txt", "/outputs/got", inputs=[f"{HOME}/a.txt"]))
    assert facts["state"] == "FAILED"
    assert "not a regular file" in facts["reason"]
