"""With --slurm, workers may write into the directory that they share with the nodes, and use no engine of the host."""

from __future__ import annotations

import pytest

from .conftest import ScratchServer

WORKER = "/etc/systemd/system/compute-to-data-worker@.service.d/slurm.conf"


def test_what_it_sets_up_and_takes_back(server: ScratchServer) -> None:
    before = server.contents()
    options = ("install", "--no-venv", "--slurm", "/shared/jobs")
    said = server.must(*options, "--dry-run")
    assert f"would write {WORKER}\n" in said
    assert "missing: /shared/jobs, which --slurm names, is not a directory here" in said, "no unit starts without it"
    server.path("/shared/jobs").mkdir(parents=True)
    assert "/shared/jobs, which" not in server.must(*options, "--dry-run")
    server.path("/shared/jobs").rmdir()
    server.path("/shared").rmdir()
    assert server.contents() == before
    server.must(*options)
    lines = server.path(WORKER).read_text().splitlines()
    assert {"ReadWritePaths=/shared/jobs", "SupplementaryGroups="} <= {*lines}
    assert "nothing to do" in server.must("install", "--no-venv"), "an upgrade keeps what an installation has set up"
    assert server.path(WORKER).exists()
    server.must("uninstall")
    assert server.contents() == before


@pytest.mark.parametrize("directory", ["shared", "/a b", "/a%b", "/a'b", '/a"', "/a\\b"])
def test_a_directory_that_a_unit_cannot_name_is_refused(server: ScratchServer, directory: str) -> None:
    before = server.contents()
    done = server.run("install", "--no-venv", "--slurm", directory)
    assert done.returncode == 1
    assert f"--slurm {directory}: expected an absolute path" in done.stderr
    assert server.contents() == before
