"""Project quotas on outputs where the file system has none; ``tests/lab/test_project_quotas.py`` has the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compute_to_data.engines import project_quotas, quota_guard
from compute_to_data.engines.job_ids import JobIds
from compute_to_data.errors import EngineError
from tests.engines.conftest import Bench, open_docker

IDS = JobIds(300_000, 300_000, 65_536)
SENTENCE = "its file system holds no project quotas"


def _answer(directory: Path, *request: object, owner: int = os.geteuid()) -> str:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        return quota_guard.answer(request, descriptor, IDS, owner)
    finally:
        os.close(descriptor)


@pytest.mark.docker
def test_no_job_begins_without_the_quotas_that_the_site_wants(docker_bench: Bench) -> None:
    bench = Bench(open_docker(project_quotas=True), open_docker, docker_bench.directory)
    with pytest.raises(EngineError, match=SENTENCE) as caught:
        bench.started("true")
    assert "prjquota" in caught.value.remedy
    assert bench.engine.jobs(bench.scope) == ()


@pytest.mark.docker
def test_the_check_of_a_vault_says_it(docker_answers: None, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=SENTENCE):
        open_docker(project_quotas=True).check_directory(str(tmp_path))
    open_docker().check_directory(str(tmp_path))


def test_a_directory_of_another_account_is_refused(tmp_path: Path) -> None:
    for request in ((quota_guard.HOLD, IDS.first_uid, 1, 1), (quota_guard.RELEASE,)):
        assert _answer(tmp_path, *request, owner=os.geteuid() + 1).startswith("it is not a directory of uid")


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert _answer(tmp_path / "file", quota_guard.CHECK).startswith("it is not a directory")


def test_the_limits_leave_room_for_what_is_not_the_jobs(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        block, own = os.fstatvfs(descriptor).f_frsize, os.fstat(descriptor).st_blocks * 512
        assert project_quotas.room(descriptor, 10 * block, 100) == (11 * block + own, 102)
        assert project_quotas.room(descriptor, 10 * block + 1, 100) == (12 * block + own, 102)
    finally:
        os.close(descriptor)
