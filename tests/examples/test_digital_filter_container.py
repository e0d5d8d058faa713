"""The digital filter's image: build it as its README says, and run its own verification."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CONTAINER = Path(__file__).parents[2] / "containers" / "jupyter-digital-filter"
IMAGE = "compute-to-data/jupyter-digital-filter:1"
BASE_IMAGE = "compute-to-data/base:bookworm"

pytestmark = pytest.mark.docker


def docker(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope="module")
def docker_engine() -> None:
    """A running engine. Without one the tests are skipped, unless CI is set."""
    if shutil.which("docker") and docker("version").returncode == 0:
        return
    reason = "no Docker engine answers; tests/support/docker-engine.sh starts one"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def image(docker_engine: None) -> str:
    """The image, built from this tree. Docker reuses layers that it already has."""
    base = docker("image", "inspect", BASE_IMAGE).returncode == 0
    arguments = [f"--build-arg=BASE_IMAGE={BASE_IMAGE}"] if base else []
    built = docker("build", "--tag", IMAGE, *arguments, str(CONTAINER), timeout=900)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    return IMAGE


def test_the_image_verifies(image: str) -> None:
    done = subprocess.run([str(CONTAINER / "verify"), image], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all checks pass\n")


def run_notebook(image: str, signal: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    signal.chmod(0o644)  # the container has another user
    options = ["--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--tmpfs=/tmp"]
    options += [f"--volume={signal}:/inputs/{signal.name}:ro"]
    options += [f"--env=INPUT_FILE_PATH=/inputs/{signal.name}", "--env=OUTPUT_FILE_PATH=/tmp/out"]
    return docker("run", *options, image, "run-notebook", "lpfilter.ipynb", *arguments)


def test_a_misspelt_parameter_is_named_with_the_nearest_name(image: str, tmp_path: Path) -> None:
    signal = tmp_path / "signal.txt"
    signal.write_text("1\n")
    done = run_notebook(image, signal, "--parameters", '{"whole_signl": true}')
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "run-notebook: error: unknown parameter 'whole_signl'; did you mean 'whole_signal'? "
        "allowed: input_file, output_file, cutoff_frequency_index, whole_signal"
    )


def test_bad_input_is_named_with_its_line(image: str, tmp_path: Path) -> None:
    signal = tmp_path / "signal.txt"
    signal.write_text("1\n2\nthree\n")
    done = run_notebook(image, signal)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "cell 3: ValueError: signal.txt line 3: 'three' is not a number; each line must hold one finite number"
    )
