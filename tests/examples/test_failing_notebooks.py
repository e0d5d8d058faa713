"""Notebooks whose cells fail: the reason is the cell's own error, and the report with its traceback is kept."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from examples.test_digital_filter_container import docker_engine, image  # noqa: F401 - fixtures
from support.real_docker import built_image
from support.site import TrialSite

pytestmark = pytest.mark.docker
NOTEBOOKS = {
    "fails": ["open('/outputs/half', 'w').write('1')", "raise ValueError('no such instrument')"],
    "killed": ["open('/outputs/half', 'w').write('1')", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"],
    "greedy": ["open('/outputs/half', 'w').write('1')", "x = bytearray(1 << 30)"],
    "endless": ["open('/outputs/half', 'w').write('1')", "open('/outputs/big', 'wb').write(bytes(9 << 20))"],
}


def _notebook(cells: list[str]) -> str:
    described: list[dict[str, Any]] = [
        {"cell_type": "code", "id": f"c{number}", "execution_count": None, "metadata": {}, "outputs": [], "source": one}
        for number, one in enumerate(cells)
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return json.dumps({"cells": described, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture(scope="module")
def site(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialSite]:  # noqa: F811
    lines = [f"FROM {image}", "USER root"]
    for name, cells in NOTEBOOKS.items():
        text = base64.b64encode(_notebook(cells).encode()).decode()
        lines.append(f"RUN echo {text} | base64 -d > /opt/notebooks/{name}.ipynb")
    roles = {"NOTEBOOKS": {"implementation": "compute_to_data.roles.notebook:NotebookRole"}}
    with built_image("failing-notebooks", "\n".join(lines)) as name:
        site = TrialSite(tmp_path_factory.mktemp("notebooks"), {"name": "docker"}, name, roles=roles)
        site.give_role("dsp_resc", "NOTEBOOKS")
        with site.working():
            yield site


def _ended(site: TrialSite, notebook: str, **more: Any) -> tuple[dict[str, str], dict[str, bytes]]:
    request = site.request(
        "true", role="NOTEBOOKS", notebook={"name": f"{notebook}.ipynb", "image": site.image}, **more
    )
    del request["process"]
    submitted = site.submit(request)
    facts = site.ended(submitted)
    contents = site.contents(submitted.collection)
    return facts, {name[len("failed/") :]: said for name, said in contents.items() if name.startswith("failed/")}


def test_a_failing_cell(site: TrialSite) -> None:
    facts, kept = _ended(site, "fails")
    assert facts["reason_code"] == "nonzero_exit"
    assert "ValueError: no such instrument" in facts["reason"]
    assert kept["half"] == b"1"
    assert b"no such instrument" in kept["fails.html"], "the report shows the traceback"


def test_a_killed_kernel(site: TrialSite) -> None:
    facts, kept = _ended(site, "killed")
    assert facts["reason_code"] == "nonzero_exit"
    assert "kernel" in facts["reason"].lower()
    assert kept["half"] == b"1"


def test_a_kernel_that_needs_too_much_memory(site: TrialSite) -> None:
    facts, kept = _ended(site, "greedy", limits={"memory_bytes": 256 << 20})
    assert facts["reason_code"] == "out_of_memory", facts["reason"]
    assert kept["half"] == b"1"


def test_a_cell_that_writes_too_much(site: TrialSite) -> None:
    facts, kept = _ended(site, "endless", limits={"output_bytes": 8 << 20})
    assert facts["reason_code"] == "output_limit", facts["reason"]
    assert kept["half"] == b"1"
