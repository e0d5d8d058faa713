"""``run-notebook`` with notebooks as people have them: of other computers, of other formats, damaged or failing.

The runner is a plain process here, with the notebook packages of the tests. ``tests/examples`` has it in
its image, too.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.site import PATIENCE

pytest.importorskip("papermill")
pytest.importorskip("ipykernel")

RUNNER = Path(__file__).parents[2] / "containers" / "jupyter-digital-filter" / "run-notebook"
PYTHON = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def code(source: str, *tags: str) -> dict[str, Any]:
    metadata = {"tags": list(tags)} if tags else {}
    return {"cell_type": "code", "metadata": metadata, "source": source, "outputs": [], "execution_count": None}


def text(source: str, **more: Any) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source, **more}


def notebook(*cells: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"cells": list(cells), "metadata": {**PYTHON, **metadata}, "nbformat": 4, "nbformat_minor": 4}


@dataclass(frozen=True)
class Ran:
    """A run: its exit status, its two streams, and the results that it left."""

    status: int
    out: str
    err: str
    report: str
    executed: dict[str, Any]

    @property
    def reason(self) -> str:
        return self.err.splitlines()[-1]


class Folder:
    """Runs notebooks in a folder of their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.report, self.executed = path / "report.html", path / "executed.ipynb"

    def command(self, document: Any, given: dict[str, Any] | None = None, *options: str) -> list[str]:
        file = self.path / "n.ipynb"
        if isinstance(document, bytes):
            file.write_bytes(document)
        else:
            file.write_text(json.dumps(document), encoding="utf-8")
        parameters = ["--parameters", json.dumps(given)] if given is not None else []
        results = ["--report", str(self.report), "--executed", str(self.executed)]
        return [sys.executable, str(RUNNER), str(file), *parameters, *results, *options]

    def run(self, document: Any, given: dict[str, Any] | None = None, *options: str) -> Ran:
        command = self.command(document, given, *options)
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.path, timeout=4 * PATIENCE, check=False)
        return self.ran(done.returncode, done.stdout, done.stderr)

    def ran(self, status: int, out: str, err: str) -> Ran:
        report = self.report.read_text("utf-8") if self.report.exists() else ""
        executed = json.loads(self.executed.read_text("utf-8")) if self.executed.exists() else {}
        return Ran(status, out, err, report, executed)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


# Kernels


def test_the_only_kernel_runs_a_notebook_that_names_none(folder: Folder) -> None:
    document = {**notebook(code("print('ran')")), "metadata": {}}
    done = folder.run(document)
    assert (done.status, done.out) == (0, "ran\n"), done.err
    assert "names no kernel; python3 runs it" in done.err


def test_a_kernel_of_the_same_language_runs_a_notebook_of_another_computer(folder: Folder) -> None:
    theirs = {"display_name": "Python (science)", "language": "python", "name": "conda-env-science-py"}
    done = folder.run(notebook(code("print('ran')"), kernelspec=theirs))
    assert (done.status, done.out) == (0, "ran\n"), done.err
    assert "'conda-env-science-py' is not installed; python3 runs it" in done.err


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({"kernelspec": {"name": "ir", "language": "R", "display_name": "R"}}, "'ir' is not installed"),
        ({"kernelspec": {"name": "mine", "display_name": "Mine"}}, "'mine' is not installed"),
        ({"kernelspec": {}, "language_info": {"name": "julia"}}, "language 'julia' is not installed"),
        ({"kernelspec": {"name": "python2", "language": "python", "display_name": "2"}}, "is for Python 2"),
        ({"language_info": {"name": "python", "version": "2.7.18"}, "kernelspec": {"name": "x"}}, "is for Python 2"),
    ],
)
def test_a_notebook_for_a_kernel_that_is_not_there_is_refused(
    folder: Folder, metadata: dict[str, Any], named: str
) -> None:
    done = folder.run(notebook(code("print('ran')"), **metadata))
    assert (done.status, done.out) == (2, "")
    assert named in done.reason
    assert "installed kernels: python3" in done.reason


# Formats


def test_notebooks_of_format_3_are_converted(folder: Folder) -> None:
    cell = {"cell_type": "code", "input": ["print(1)"], "language": "python", "metadata": {}, "outputs": []}
    heading = {"cell_type": "heading", "level": 1, "metadata": {}, "source": ["A title"]}
    sheet = {"cells": [heading, cell], "metadata": {}}
    document = {"metadata": {"name": ""}, "nbformat": 3, "nbformat_minor": 0, "worksheets": [sheet]}
    done = folder.run(document)
    assert (done.status, done.out) == (0, "1\n"), done.err
    assert "A title" in done.report


def test_a_file_with_a_byte_order_mark_runs(folder: Folder) -> None:
    done = folder.run(b"\xef\xbb\xbf" + json.dumps(notebook(code("print(1)"))).encode())
    assert (done.status, done.out) == (0, "1\n"), done.err


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"print(1)\n",
        b"[]",
        b"{}",
        b'{"nbformat": 99}',
        b"\xff\xfe",
        b'{"nbformat": 4}',
        b'{"nbformat": 4, "cells": {}}',
    ],
)
def test_a_file_that_is_no_notebook_is_refused_in_one_line(folder: Folder, content: bytes) -> None:
    done = folder.run(content)
    assert done.status == 2
    assert "n.ipynb is not a notebook" in done.reason
    assert "Traceback" not in done.err


INCOMPLETE: list[dict[str, Any]] = [
    {"cells": [{"cell_type": "code", "source": "print(1)"}], "nbformat": 4, "nbformat_minor": 5},
    {**notebook({**code("print(1)"), "outputs": None, "metadata": None}, text(None)), "metadata": None},  # type: ignore[arg-type]
    notebook(code("print(1)"), kernelspec=None, language_info=None),
    notebook(code("print(1)"), kernelspec="python3"),
]


@pytest.mark.parametrize("number", range(len(INCOMPLETE)))
def test_parts_that_programs_leave_out_are_not_missed(folder: Folder, number: int) -> None:
    done = folder.run(INCOMPLETE[number])
    assert (done.status, done.out) == (0, "1\n"), done.err
    assert done.executed["cells"][0]["outputs"]


# Parameters


def test_the_value_given_wins_over_every_cell_tagged_parameters(folder: Folder) -> None:
    cells = [code("a = 1", "parameters"), code("a += 1\nprint('a', a)"), code("b = 2", "parameters")]
    done = folder.run(notebook(*cells, code("print('a', a, 'b', b)")), {"a": 7, "b": 5})
    assert (done.status, done.out) == (0, "a 8\na 8 b 5\n"), done.err


@pytest.mark.parametrize(
    "source",
    [
        "files = !ls /\nn = 3",
        "%matplotlib inline\nn = 3",
        "%%time\nn = 3",
        "!true\nfor i in range(2):\n    !true\nn = 3",
        "?print\nn = 3",
        "n, m = 3, 4",
    ],
)
def test_a_cell_with_ipythons_own_syntax_has_parameters(folder: Folder, source: str) -> None:
    done = folder.run(notebook(code(source, "parameters"), code("print('n', n)")), {"n": 5})
    assert done.status == 0, done.err
    assert done.out.splitlines()[-1] == "n 5"


def test_a_cell_that_cannot_be_read_still_takes_a_parameter_that_the_notebook_names(folder: Folder) -> None:
    cells = (code("%%bash\nexit 0\n(", "parameters"), code("print('n', n)"))
    done = folder.run(notebook(*cells), {"n": 5})
    assert "types of its parameters are not checked" in done.err
    assert done.out.splitlines()[-1:] == ["n 5"], done.err
    refused = folder.run(notebook(*cells), {"nn": 5})
    assert (refused.status, "unknown parameter 'nn'" in refused.reason) == (2, True)


@pytest.mark.parametrize(
    ("cells", "given", "reason"),
    [
        ([code("print(1)")], {"n": 1}, 'unknown parameter \'n\': the notebook has no cell tagged "parameters"'),
        ([code("n = 1", "parameters")], {"m": 1}, "unknown parameter 'm'; allowed: n"),
        ([code("limit = 1", "parameters")], {"limits": 1}, "did you mean 'limit'?"),
        ([code("n = 1", "parameters")], {"n": "x"}, "parameter 'n' must be of type int; it is \"x\""),
        ([{**text("# n = 1"), "metadata": {"tags": ["parameters"]}}], {"n": 1}, "has no cell tagged"),
    ],
)  # fmt: skip
def test_a_parameter_without_effect_is_refused(
    folder: Folder, cells: list[dict[str, Any]], given: dict[str, Any], reason: str
) -> None:
    done = folder.run(notebook(*cells), given)
    assert (done.status, done.out) == (2, "")
    assert reason in done.reason


def test_a_parameter_that_a_later_cell_sets_again_is_said(folder: Folder) -> None:
    cells = (code("n = 1", "parameters"), text("Then"), code("n = 2\nprint(n)"))
    done = folder.run(notebook(*cells), {"n": 5})
    assert (done.status, done.out) == (0, "2\n")
    assert "note: cell 3 sets the parameter 'n' again" in done.err


def test_an_executed_notebook_can_run_again_with_other_values(folder: Folder) -> None:
    first = folder.run(notebook(code("n = 1", "parameters"), code("print(n)")), {"n": 5})
    again = folder.run(first.executed, {"n": 6})
    assert (again.status, again.out) == (0, "6\n"), again.err
    assert len(again.executed["cells"]) == 3


# Cells that fail


def test_the_reason_has_the_cells_number_and_error_and_the_report_its_traceback(folder: Folder) -> None:
    cells = (text("# Title"), code("n = 1", "parameters"), code("def f():\n    raise ValueError(f'bad {n}')\nf()"))
    done = folder.run(notebook(*cells, code("print('never')")), {"n": 2})
    assert (done.status, done.out) == (1, "")
    assert done.reason == "cell 3: ValueError: bad 2"
    assert "Traceback" in done.report
    assert "bad 2" in done.report
    outputs = [one for cell in done.executed["cells"] for one in cell.get("outputs", [])]
    assert [one["ename"] for one in outputs] == ["ValueError"]


def test_cells_tagged_raises_exception_stop_nothing(folder: Folder) -> None:
    shown = code("raise ValueError('on purpose')", "raises-exception")
    done = folder.run(notebook(shown, code("print('after')")))
    assert (done.status, done.out) == (0, "after\n"), done.err
    assert "on purpose" in done.report
    done = folder.run(notebook(shown, code("raise KeyError('really')")))
    assert (done.status, done.reason) == (1, "cell 2: KeyError: 'really'")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("%nosuchmagic", "cell 1: UsageError: Line magic function `%nosuchmagic` not found."),
        ("%%nosuchmagic\n1", "cell 1: UsageError: Cell magic `%%nosuchmagic` not found."),
        ("1 +", "cell 1: SyntaxError: invalid syntax"),
        ("import sys\nsys.exit(3)", "cell 1: SystemExit: 3"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "cell 1: DeadKernelError: the kernel died"),
    ],
)
def test_every_kind_of_failure_has_a_reason(folder: Folder, source: str, reason: str) -> None:
    done = folder.run(notebook(code(source), code("print('never')")))
    assert (done.status, done.out) == (1, "")
    assert reason in done.reason
    assert reason.split(": ")[1] in done.report


@pytest.mark.parametrize("leave", ["import sys; sys.exit()", "exit()", "quit()"])
def test_exit_ends_a_notebook_early_and_that_is_said(folder: Folder, leave: str) -> None:
    done = folder.run(notebook(code(f"print('first')\n{leave}"), code("print('never')")))
    assert (done.status, done.out) == (0, "first\n"), done.err
    assert "note: cell 1 ended the notebook with exit()" in done.err


def test_a_cell_that_takes_too_long_is_named(folder: Folder) -> None:
    done = folder.run(notebook(code("print(1)"), code("while True: pass")), None, "--timeout-per-cell", "2")
    assert (done.status, done.reason) == (1, "cell 2: TimeoutError: a cell may take 2 s")


def test_a_stopped_notebook_leaves_its_report(folder: Folder) -> None:
    cell = code("import time\nprint('begun', flush=True)\ntime.sleep(600)")
    command = folder.command(notebook(code("print('done')"), cell))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "begun" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
    done = folder.ran(process.returncode, out, err)
    assert done.status == 128 + signal.SIGTERM
    assert done.reason == "cell 2: Stopped: the notebook was stopped while this cell ran"
    assert "begun" in done.report


# The report


def test_progress_bars_collapse_to_their_last_line(folder: Folder) -> None:
    source = "for i in range(3000):\n    print(f'\\r{i:5} of 3000', end='', flush=i % 100 == 0)\nprint('\\nend')"
    done = folder.run(notebook(code(source)))
    assert done.out.count(" of 3000") == 3000
    (output,) = done.executed["cells"][0]["outputs"]
    assert "".join(output["text"]) == " 2999 of 3000\nend\n"
    assert done.report.count("2999 of 3000") == 1
    assert "2998 of 3000" not in done.report


def test_a_flood_of_output_leaves_a_report_that_says_what_is_missing(folder: Folder) -> None:
    source = "print('first')\nfor i in range(40):\n    print('x' * 200_000, flush=True)\nprint('last')"
    done = folder.run(notebook(code(source)))
    assert done.status == 0, done.err
    assert len(done.out) == 40 * 200_001 + len("first\nlast\n")
    (output,) = done.executed["cells"][0]["outputs"]
    kept = "".join(output["text"])
    assert kept.startswith("first\n")
    assert kept.endswith("x\nlast\n")
    missing = len(done.out) - 1024 * 1024
    assert f"[{missing} characters are missing here; the log of the run has them]" in kept
    assert len(done.report) < 4_000_000


@pytest.mark.parametrize(
    "widgets",
    [
        {"application/vnd.jupyter.widget-state+json": {"version_major": 2, "version_minor": 0}},
        {"application/vnd.jupyter.widget-state+json": None},
        {},
        [],
    ],
)
def test_widgets_without_their_state_do_not_hinder_a_report(folder: Folder, widgets: Any) -> None:
    done = folder.run(notebook(code("print('work')"), widgets=widgets))
    assert (done.status, "work" in done.report) == (0, True), done.err


def test_attachments_that_are_missing_do_not_hinder_a_report(folder: Folder) -> None:
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    there = {"there.png": {"image/png": pixel}}
    cells = (text("![gone](attachment:gone.png)"), text("![there](attachment:there.png)", attachments=there))
    done = folder.run(notebook(*cells, code("print('work')")))
    assert (done.status, "work" in done.report) == (0, True), done.err
    assert f"data:image/png;base64,{pixel}" in done.report


def test_where_the_exporter_fails_the_report_is_a_plain_copy_and_says_so(folder: Folder) -> None:
    done = folder.run(notebook(code("print('work')"), authors=5))
    assert done.status == 0, done.err
    assert "work" in done.report
    assert "the report shows a plain copy of the notebook, since the exporter failed" in done.err


def test_an_output_that_is_not_valid_is_left_out_with_a_word(folder: Folder) -> None:
    strange = "from IPython.display import publish_display_data as p\np({'text/plain': 'work', 'text/latex': 5})"
    done = folder.run(notebook(code(strange), code("print('after')")))
    assert (done.status, done.out) == (0, "after\n"), done.err
    assert "note: an output is missing in the report" in done.err


def test_files_of_the_notebook_with_the_names_of_its_results_stay(folder: Folder) -> None:
    source = f"for path in ({str(folder.report)!r}, {str(folder.executed)!r}):\n    open(path, 'w').write('work')"
    done = subprocess.run(folder.command(notebook(code(source))), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert folder.report.read_text() == folder.executed.read_text() == "work"
    assert "<html" in (folder.path / "report-report.html").read_text()
    assert json.loads((folder.path / "executed-executed.ipynb").read_text())["nbformat"] == 4
    assert "has written report.html itself, so its report is report-report.html" in done.stderr


def test_results_of_an_earlier_run_are_overwritten(folder: Folder) -> None:
    folder.report.write_text("old")
    folder.executed.write_text("old")
    assert "new" in folder.run(notebook(code("print('new')"))).report
    assert sorted(path.name for path in folder.path.iterdir()) == ["executed.ipynb", "n.ipynb", "report.html"]


def test_a_report_that_cannot_be_made_is_named_and_the_results_stay(folder: Folder) -> None:
    source = f"import os\nopen({str(folder.path / 'o')!r}, 'w').write('work')\nos.mkdir({str(folder.report)!r})"
    done = subprocess.run(folder.command(notebook(code(source))), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"--report {folder.report}: Is a directory"
    assert (folder.path / "o").read_text() == "work"
    assert folder.executed.exists()


@pytest.mark.skipif(not os.access("/proc/self/limits", os.R_OK), reason="needs Linux")
def test_the_runner_works_without_a_home(folder: Folder) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    command = folder.command(notebook(code("import os\nprint(os.path.isdir(os.environ['HOME']))")))
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    shutil.rmtree(folder.path)
