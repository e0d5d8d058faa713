"""The process engine beyond the contract: folders as images, the runner, the replacement of paths."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.jobs import held, written

from compute_to_data.configuration import EngineSettings
from compute_to_data.engines import open_engine
from compute_to_data.errors import ConfigurationError, EngineError, ImageMissing
from compute_to_data.job import Mount, OutputMount

if TYPE_CHECKING:
    from tests.engines.conftest import Bench

TIMEOUT = 60.0


def program(bench: Bench, name: str, text: str) -> Path:
    """Put a program into the folder that serves as the image."""
    file = bench.directory / "image" / name
    file.write_text(text)
    file.chmod(0o755)
    return file


def said(bench: Bench, *command: str, **more: Any) -> str:
    job = bench.started(*command, **more)
    end = held(bench.engine, job.key).wait(TIMEOUT)
    assert end is not None
    logs = written(bench.engine, job)
    assert end.status == 0, logs
    return logs.stdout.decode()


@pytest.mark.parametrize("output", [False, True])
def test_a_job_with_paths_of_its_own_is_refused(process_bench: Bench, output: bool) -> None:
    source = process_bench.directory / "input"
    source.touch()
    own = {"output_mounts": (OutputMount("a", "/data"),)} if output else {"inputs": (Mount(str(source), "/data"),)}
    with pytest.raises(EngineError, match="needs a mount at /data"):
        process_bench.engine.submit(process_bench.job("/bin/true", **own))
    assert process_bench.engine.jobs(process_bench.scope) == ()


def test_the_process_engine_is_not_sandboxed(process_bench: Bench) -> None:
    assert (process_bench.engine.name, process_bench.engine.sandboxed) == ("process", False)


def test_programs_of_the_image_come_first_on_the_path(process_bench: Bench) -> None:
    program(process_bench, "env", "#!/bin/sh\necho 'the image has its own'\n")
    program(process_bench, "run-notebook", "#!/usr/bin/env python3\nprint('never reached')\n")
    assert said(process_bench, "env") == "the image has its own\n"


def test_python_is_the_one_of_the_worker(process_bench: Bench) -> None:
    """Then a notebook's runner finds the packages of the worker's environment."""
    program(process_bench, "run-notebook", "#!/usr/bin/env python3\nimport sys; print(sys.prefix)\n")
    assert said(process_bench, "run-notebook").strip() == sys.prefix


def test_the_digest_of_an_image_covers_its_files(process_bench: Bench) -> None:
    seen = {process_bench.engine.identify(process_bench.image).digest}
    file = program(process_bench, "tool", "one")
    seen.add(process_bench.engine.identify(process_bench.image).digest)
    file.write_text("two")
    seen.add(process_bench.engine.identify(process_bench.image).digest)
    file.chmod(0o644)
    seen.add(process_bench.engine.identify(process_bench.image).digest)
    file.rename(file.with_name("tool2"))
    seen.add(process_bench.engine.identify(process_bench.image).digest)
    assert len(seen) == 5


def test_an_image_that_changed_is_not_run(process_bench: Bench) -> None:
    job = process_bench.job("true")
    program(process_bench, "true", "#!/bin/sh\necho changed\n")
    with pytest.raises(ImageMissing, match="changed"):
        process_bench.engine.submit(job)
    assert process_bench.engine.jobs(job.scope) == ()


def test_paths_of_the_sandbox_become_paths_in_the_folder(process_bench: Bench) -> None:
    words = ["/outputs", "/outputs/x y", "--out=/outputs/x", "/inputs/a,/inputs/b", "'/tmp'", "a:/tmp/b"]
    others = ["/var/tmp/x", "/outputs2", "/tmp.d", "x/outputs", "/tmp-x", "//tmp", "./inputs/x", "/usr/inputs"]
    code = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['WHERE'], os.environ['HOME']]))"
    text = said(process_bench, "python3", "-c", code, *words, *others, environment={"WHERE": "/inputs/x"})
    seen, where, home = json.loads(text)
    root = home[: -len("/tmp")]
    assert os.path.basename(root) == "root"
    assert where == f"{root}/inputs/x"
    assert seen[: len(words)] == [re.sub("/(?=inputs|outputs|tmp)", f"{root}/", word) for word in words]
    assert seen[len(words) :] == others


def test_each_job_has_its_own_tmp(process_bench: Bench) -> None:
    script = "ls -A /tmp; touch /tmp/mine"
    assert [said(process_bench, "sh", "-c", script) for _ in range(2)] == ["", ""]


def test_a_working_directory_that_is_not_there(process_bench: Bench) -> None:
    job = process_bench.job("true", working_directory="/no/such/directory")
    with pytest.raises(EngineError, match="/no/such/directory"):
        process_bench.engine.submit(job)
    assert process_bench.engine.jobs(job.scope) == ()


def test_a_job_is_killed_when_its_runner_is_lost(process_bench: Bench) -> None:
    job = process_bench.started("sh", "-c", "echo $PPID > /outputs/runner.new; "
                                "mv /outputs/runner.new /outputs/runner; exec sleep 300")  # fmt: skip
    noted = Path(job.outputs) / "runner"
    while not noted.exists():
        assert held(process_bench.engine, job.key).wait(0.02) is None
    os.kill(int(noted.read_text()), signal.SIGKILL)
    end = held(process_bench.engine, job.key).wait(TIMEOUT)
    assert end is not None
    assert (end.status, end.out_of_memory) == (137, False)
    process_bench.engine.remove(job.key)


def test_a_folder_without_a_runner_is_replaced(process_bench: Bench) -> None:
    """A worker that is killed while it starts a job leaves such a folder."""
    job = process_bench.job("sh", "-c", "exit 6")
    (process_bench.directory / "state" / "jobs" / job.key.text / "root").mkdir(parents=True)
    assert process_bench.engine.find(job.key) is None
    process_bench.engine.submit(job)
    end = held(process_bench.engine, job.key).wait(TIMEOUT)
    assert end is not None
    assert end.status == 6


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"folder": "/x"}, "/engine/settings/folder"),
        ({"images": []}, "/engine/settings/images"),
        ({"images": {"a": 1}}, "/engine/settings/images/a"),
        ({"images": {"a": "relative"}}, "/engine/settings/images/a"),
    ],
)
def test_a_wrong_setting_is_named(given: dict[str, Any], pointer: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(pointer)):
        open_engine(EngineSettings("process", given), str(tmp_path))


def test_an_unusable_state_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match=re.escape(str(tmp_path / "file" / "jobs"))):
        open_engine(EngineSettings("process"), str(tmp_path / "file")).check()
