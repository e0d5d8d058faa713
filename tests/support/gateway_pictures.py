"""The pictures of the gateway's pages, made by using them in a browser; a part of ``make screenshots``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from compute_to_data.client import datasets, processes
from support.browsers import PHONE, chromium, looking, sign_in
from support.gateways import PASSWORDS, RunningGateway, gateway_settings, give_passwords, running
from support.notebook_sites import notebook_site
from support.site import ALICE, TrialSite

NAMES = ("gateway-tasks.png", "gateway-task.png", "gateway-new-task.png", "gateway-phone.png")
_SIZE = {"width": 1120, "height": 760}
_CELLS = (
    ("markdown", "# Peaks of a signal"),
    ("code", "threshold = 0.8  # what counts as a peak\nsamples = 400"),
    (
        "code",
        "import numpy as np\nimport matplotlib.pyplot as plt\n\n"
        "signal = np.sin(np.linspace(0, 30, samples)) * np.linspace(0.6, 1.2, samples)\n"
        "print(int((signal > threshold).sum()), 'of', samples, 'values are above', threshold)",
    ),
    (
        "code",
        "plt.figure(figsize=(7, 2.6))\nplt.plot(signal)\nplt.axhline(threshold, color='tab:red')\n"
        "plt.savefig('signal.png')\nplt.show()\nnp.savetxt('peaks.csv', signal[signal > threshold])",
    ),
)
_DEFINITION = {
    "exec": "/bin/echo",
    "image": "tools",
    "argv": ["${mode}", "${lines}", "${title}", "${careful}"],
    "parameters": {
        "properties": {
            "lines": {"type": "integer", "minimum": 1, "default": 10, "description": "How many lines to keep"},
            "mode": {"enum": ["fast", "thorough"], "default": "fast"},
            "title": {"type": "string", "default": "measurements of today"},
            "careful": {"type": "boolean", "default": True, "description": "Look at each value twice"},
        }
    },
}


def make(directory: Path) -> None:
    """Make all of :data:`NAMES`."""
    with tempfile.TemporaryDirectory() as folder:
        site = notebook_site(Path(folder))
        give_passwords(site)
        with running(gateway_settings(site)) as gateway, site.working():
            task, process = _prepare(site, gateway, Path(folder))
            with chromium() as browser:
                with looking(browser, gateway.url, viewport=_SIZE, expected="Blocked script execution") as page:
                    sign_in(page, "alice", PASSWORDS["alice"])
                    _show(page, "/tasks", directory / "gateway-tasks.png")
                    _show(page, f"/tasks/{task}", directory / "gateway-task.png", is_report=True)
                    _show(page, f"/new/process/{process}", directory / "gateway-new-task.png")
                phone: dict[str, Any] = {
                    "viewport": PHONE,
                    "color_scheme": "dark",
                    "expected": "Blocked script execution",
                }
                with looking(browser, gateway.url, **phone) as page:
                    sign_in(page, "alice", PASSWORDS["alice"])
                    _show(page, "/tasks", directory / "gateway-phone.png")


def _prepare(site: TrialSite, gateway: RunningGateway, folder: Path) -> tuple[str, int]:
    """Tasks, a dataset and a definition; returns the notebook's task and the definition's id."""
    bench = gateway.gateway.people.on_behalf_of(ALICE).workbench()
    bench.catalog.create_collection(bench.results, parents=True)
    (folder / "measurements").mkdir()
    (folder / "measurements" / "input.dat").write_text("".join(f"{number}\n" for number in range(512)))
    dataset = datasets.upload(bench, str(folder / "measurements"))
    path = f"{bench.home}/peaks.ipynb"
    bench.catalog.write(path, _notebook())
    where = {"output_collection": bench.results}
    image = {"image": "tools"}
    notebook = {"data_object": path, "parameters": {"threshold": 0.9}, **image}
    first = site.submit(
        {"notebook": notebook, "role": "SIGNAL_PROCESSING", "inputs": [], "name": "peaks, 0.9", **where}
    )
    assert site.ended(first)["state"] == "COMPLETED"
    inputs = [dataset.dataset]
    failing = {"exec": "/bin/sh", "argv": ["-c", "echo 'calibration.csv: no such file' >&2; exit 2"], **image}
    counting = {"exec": "/usr/bin/wc", "argv": ["-l", "/inputs/input.dat"], **image}
    for name, process in (("calibrate", failing), ("count the lines", counting)):
        site.ended(site.submit({"process": process, "role": "CONTAINER", "inputs": inputs, "name": name, **where}))
    long = {"exec": "/bin/sh", "argv": ["-c", "echo > /outputs/started; sleep 600"], **image}
    site.outputs(site.submit({"process": long, "role": "CONTAINER", "inputs": inputs, "name": "simulate", **where}))
    return first.task_id, processes.create(bench, _DEFINITION, "summary").id


def _notebook() -> bytes:
    cells: list[dict[str, Any]] = []
    for kind, source in _CELLS:
        more: dict[str, Any] = {"outputs": [], "execution_count": None} if kind == "code" else {}
        cells.append({"cell_type": kind, "metadata": {}, "source": source, **more})
    cells[1]["metadata"] = {"tags": ["parameters"]}
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}).encode()


def _show(page: Page, path: str, picture: Path, is_report: bool = False) -> None:
    page.goto(path)
    if is_report:
        page.frame_locator("iframe.report").locator("img").first.wait_for()
        page.set_viewport_size({"width": _SIZE["width"], "height": 1000})
    page.screenshot(path=picture)
    if is_report:
        page.set_viewport_size({"width": _SIZE["width"], "height": _SIZE["height"]})
