"""The program of ``make demo``, as the README shows it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
DEMO = CHECKOUT / "examples" / "demo.py"
pytestmark = pytest.mark.docker


def _demo(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(DEMO), "--directory", str(folder)],
        capture_output=True, text=True, check=False, cwd=CHECKOUT, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_runs_and_runs_again(docker_answers: None, tmp_path: Path) -> None:
    for number in ("first", "second"):
        output = _demo(tmp_path / "demo")
        assert "sandboxed" in output, number
        assert "COMPLETED" in output, number
        assert "lowpass_filter_processing.html" in output
        assert "image_digest" in output
        report = Path(output.split("The report: ")[1].splitlines()[0])
        html = report.read_text(encoding="utf-8")
        assert "data:image/png;base64" in html, "the plots are in it"
        filtered = next(report.parent.glob("lowpass_filtered_input*.dat"))
        lines = filtered.read_text().splitlines()
        assert (len(lines), filtered.stat().st_size) == (128, 3200)
        assert lines[0] == "1.911602525492879323e+01"


def test_ctrl_c_ends_it_without_a_traceback(docker_answers: None, tmp_path: Path) -> None:
    command = [sys.executable, "-u", str(DEMO), "--directory", str(tmp_path / "demo")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT) as demo:
        assert demo.stdout is not None
        assert "sandboxed" in demo.stdout.readline()
        demo.send_signal(signal.SIGINT)
        said = demo.communicate(timeout=60)[1]
    assert (demo.returncode, "Traceback" in said, "make demo goes on" in said) == (130, False, True), said


def test_make_does_not_touch_a_folder_that_is_no_environment(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "file").write_text("mine")
    command = ["make", f"VENV={own}", f"{own}/bin/python"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT, timeout=60)
    assert (done.returncode, "is no Python environment" in done.stderr) == (2, True), done.stderr
    assert [one.name for one in own.iterdir()] == ["file"]
