"""Why a task failed, for each limit of the real sandbox, and what is kept then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.real_docker import ENGINE, built_image
from support.site import TrialSite

from compute_to_data.cli.exits import ExitCode, of_reason

pytestmark = pytest.mark.docker
IMAGE = "compute-to-data/base:bookworm"
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def site(docker_answers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialSite]:
    limits = {"default": {"tmp_bytes": MEBIBYTE}}
    site = TrialSite(tmp_path_factory.mktemp("reasons"), {"name": ENGINE}, IMAGE, limits=limits)
    with site.working():
        yield site


def _ended(site: TrialSite, *argv: str, **more: Any) -> tuple[dict[str, str], dict[str, bytes]]:
    submitted = site.submit(site.request(*argv, **more))
    facts = site.ended(submitted)
    assert site.leftovers(submitted) == []
    contents = site.contents(submitted.collection)
    return facts, {name[len("failed/") :]: said for name, said in contents.items() if name.startswith("failed/")}


PYTHON = "f = open('/outputs/big', 'wb')\nwhile True: f.write(bytes(1 << 16)); f.flush()"
TOO_LARGE = {
    "the program itself is ended": ("sh", "-c", "echo 1 > small; exec head -c 3000000 /dev/zero > big"),
    "a child of its shell is ended": ("sh", "-c", "echo 1 > small; head -c 3000000 /dev/zero > big; exit $?"),
    "a shell says so and ends otherwise": ("sh", "-c", "echo 1 > small; head -c 3000000 /dev/zero > big || exit 4"),
    "its shell takes no notice": ("sh", "-c", "echo 1 > small; head -c 3000000 /dev/zero > big; exit 0"),
    "Python gets an error": ("python3", "-c", f"open('/outputs/small', 'w').write('1\\n')\n{PYTHON}"),
    "a program ignores the signal": (
        "sh", "-c", "echo 1 > small; trap '' XFSZ; head -c 3000000 /dev/zero > big || exit 5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOO_LARGE)
def test_one_file_over_the_limit(site: TrialSite, name: str) -> None:
    facts, kept = _ended(site, *TOO_LARGE[name], limits={"output_bytes": 2 * MEBIBYTE})
    assert facts["reason_code"] == "output_limit", facts["reason"]
    assert "the task wrote more than its 2097152 bytes" in facts["reason"]
    assert "limits.output_bytes" in facts["reason"]
    assert of_reason(facts["reason_code"]) == ExitCode.TASK_FAILED == 8
    assert kept == {"small": b"1\n"}
    assert "'big' does not fit" in facts["not_kept"]


def test_a_file_of_exactly_the_limit_is_within_it(site: TrialSite) -> None:
    facts, _ = _ended(site, "sh", "-c", "head -c 2097152 /dev/zero > big", limits={"output_bytes": 2 * MEBIBYTE})
    assert (facts["state"], facts["output_bytes"]) == ("COMPLETED", "2097152"), facts


def test_several_smaller_files_over_the_limit(site: TrialSite) -> None:
    script = "for i in 1 2 3; do head -c 900000 /dev/zero > $i; done; exit 0"
    facts, kept = _ended(site, "sh", "-c", script, limits={"output_bytes": 2 * MEBIBYTE})
    assert facts["reason_code"] == "output_limit"
    assert sorted(kept) == ["1", "2"], "as many as fit"


def test_a_file_outside_outputs_that_reaches_the_limit(site: TrialSite) -> None:
    script = "head -c 600000 /dev/zero > /tmp/x"
    facts, _ = _ended(site, "sh", "-c", f"exec {script}", limits={"output_bytes": 500000})
    assert facts["reason_code"] == "output_limit", facts["reason"]


def test_memory(site: TrialSite) -> None:
    program = "open('/outputs/checkpoint', 'w').write('7')\nx = bytearray(1 << 29)"
    facts, kept = _ended(site, "python3", "-c", program, limits={"memory_bytes": 64 * MEBIBYTE})
    assert facts["reason_code"] == "out_of_memory"
    assert "limits.memory_bytes" in facts["reason"]
    assert kept == {"checkpoint": b"7"}


def test_a_full_tmp(site: TrialSite) -> None:
    facts, _ = _ended(site, "sh", "-c", "head -c 3000000 /dev/zero > /tmp/x")
    assert facts["reason_code"] == "nonzero_exit"
    assert "No space left on device" in facts["reason"]
    assert "/tmp holds 1048576 bytes (limits.tmp_bytes); write larger files to /outputs" in facts["reason"]


def test_too_many_processes(site: TrialSite) -> None:
    program = """
import threading, time
for _ in range(100):
    threading.Thread(target=time.sleep, args=(9,), daemon=True).start()
"""
    facts, _ = _ended(site, "python3", "-c", program, limits={"pids": 20})
    assert "can't start new thread" in facts["reason"]
    assert "20 processes and threads at one time; ask for more in limits.pids" in facts["reason"]


def test_a_write_elsewhere(site: TrialSite) -> None:
    facts, _ = _ended(site, "sh", "-c", "echo x > /opt/result")
    assert "Read-only file system" in facts["reason"]
    assert "A task can write to /outputs and /tmp only" in facts["reason"]


def test_the_network(site: TrialSite) -> None:
    program = "import urllib.request; urllib.request.urlopen('http://example.org/')"
    facts, _ = _ended(site, "python3", "-c", program)
    assert "A task has no network: make what it needs an input" in facts["reason"]


def test_a_killed_program(site: TrialSite) -> None:
    facts, _ = _ended(site, "sh", "-c", "echo last words >&2; kill -9 $$")
    assert "exited with status 137 (as SIGKILL ends a program): last words" in facts["reason"]


def test_the_walltime(site: TrialSite) -> None:
    facts, kept = _ended(site, "sh", "-c", "echo 7 > checkpoint; exec sleep 60", limits={"walltime_seconds": 1})
    assert facts["reason_code"] == "walltime_exceeded"
    assert kept == {"checkpoint": b"7\n"}


def test_ids_are_those_of_the_job(site: TrialSite) -> None:
    environment = {"environment": {"WHO": "%(IRODS_UID)s:%(IRODS_GID)s"}}
    facts, _ = _ended(
        site, "sh", "-c", "[ $WHO = $(id -u):$(id -g) ] && [ $IRODS_UID = $(id -u) ]", process=environment
    )
    assert facts["state"] == "COMPLETED", facts


def test_an_image_with_an_entrypoint_and_a_working_directory(docker_answers: None, tmp_path: Path) -> None:
    recipe = f'FROM {IMAGE}\nWORKDIR /app\nRUN echo x > program\nENTRYPOINT ["/bin/echo", "started"]\nCMD ["it"]\n'
    with built_image("entrypoint", recipe) as name:
        site = TrialSite(tmp_path, {"name": ENGINE}, name)
        facts = site.run(site.request("cat", "program"))
        assert facts["state"] == "FAILED"
        assert facts["image_unused"] == "ENTRYPOINT /bin/echo started and WORKDIR /app"
        assert "The image's ENTRYPOINT /bin/echo started and WORKDIR /app are not used" in facts["reason"]
        facts = site.run(site.request("cat", "program", process={"cwd": "/app"}))
        assert facts["state"] == "COMPLETED", facts


def test_no_image_without_them_is_mentioned(site: TrialSite) -> None:
    facts, _ = _ended(site, "true")
    assert "image_unused" not in facts
