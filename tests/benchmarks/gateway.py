"""Submissions through the gateway, 4 clients: by REST and by TES, beside the same submissions in one process without
HTTP. And what an idle gateway asks the catalog. The gateway is a process of its own, with the zone in a folder."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
from support.gateways import gateway_settings as settings_of_gateway
from support.gateways import give_passwords, running, served
from support.site import ALICE, COMPUTE, HOME, ZONE, TrialSite

from compute_to_data.client import tasks
from compute_to_data.client.site_access import ConfiguredSite
from compute_to_data.client.workbench import Workbench
from compute_to_data.coordination import wakeup
from compute_to_data.coordination.lock import ResourceLock
from compute_to_data.zones.embedded.database import Database

CLIENTS = 4
_IDLE_SECONDS = 40.0


def rate(submit: Callable[[int], None], count: int) -> float:
    """Submissions a second, by 4 threads that share ``count`` of them."""
    numbers = itertools.count()

    def client() -> None:
        while (number := next(numbers)) < count:
            submit(number)

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count / (time.perf_counter() - began)


def request(site: TrialSite) -> dict[str, Any]:
    return dict(site.request("/bin/true"))


def tes(site: TrialSite) -> dict[str, Any]:
    return {"executors": [{"image": site.image, "command": ["/bin/true"]}]}


def floor(site: TrialSite, document: dict[str, Any], count: int) -> float:
    bench = Workbench(site.zone.session(ALICE), ConfiguredSite(site.configuration))
    return rate(lambda number: tasks.submit(bench, document) and None, count)


def over_http(url: str, path: str, document: dict[str, Any], token: str, count: int) -> float:
    headers = {"Authorization": f"Bearer {token}"}
    local = threading.local()

    def submit(number: int) -> None:
        if not hasattr(local, "client"):
            local.client = httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False)
        answer = local.client.post(path, json=document)
        assert answer.status_code in (200, 201), answer.text

    return rate(submit, count)


def submissions(folder: Path, count: int) -> None:
    site = TrialSite(folder, {"name": "process", "images": {"none": str(folder)}}, "none")
    site.configure(engine={"name": "process", "images": {"none": str(folder)}}, worker={"on_demand": True})
    whole = {**request(site), "output_collection": f"{HOME}/out"}
    in_ours = {"resource": whole["resource"], "output_collection": f"{HOME}/out", "inputs": [], "tes": tes(site)}
    # A worker that is there as far as anybody can see, and that takes no processor.
    held = ResourceLock(site.configuration, ZONE, COMPUTE)
    held.acquire()
    with contextlib.closing(wakeup.Bell(site.configuration, ZONE, COMPUTE)), served(site, "--port", "0") as (line, _):
        url, _, given = line.partition("/?token=")
        sign = httpx.post(f"{url}/authenticate", headers={"Authorization": f"Bearer {given}"}, trust_env=False)
        for name, path, document, beside in (
            ("REST", "/api/v1/tasks", whole, whole), ("TES", "/ga4gh/tes/v1/tasks", tes(site), in_ours),
        ):  # fmt: skip
            found = [(floor(site, beside, count), over_http(url, path, document, sign.text, count)) for _ in range(3)]
            without, through = (statistics.median(each) for each in zip(*found))
            print(
                f"{name}: {through:.0f} submissions a second, {without:.0f} without HTTP: {through / without:.2f} "
                f"(0.7), load {os.getloadavg()[0]:.0f}"
            )


def idle(folder: Path) -> None:
    """Count the transactions of a gateway's catalog while nobody asks it anything."""
    site = TrialSite(folder, {"name": "process", "images": {"none": str(folder)}}, "none")
    give_passwords(site)
    asked: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        method = getattr(Database, name)

        def call(self: Database, *words: Any, **options: Any) -> Any:
            asked.append(name)
            return method(self, *words, **options)

        return call

    for name in ("reading", "writing"):
        setattr(Database, name, counted(name))
    with running(settings_of_gateway(site)) as gateway:
        with gateway.client("alice") as client:
            client.get("/api/v1/tasks").raise_for_status()
        assert asked, "the questions are not counted"
        asked.clear()
        time.sleep(_IDLE_SECONDS)
        print(f"an idle gateway: {len(asked)} transactions of the catalog in {_IDLE_SECONDS:g} s (0)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="submissions in each of three runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="c2d-bench-") as folder:
        submissions(Path(folder), options.count)
    with tempfile.TemporaryDirectory(prefix="c2d-bench-") as folder:
        idle(Path(folder))


if __name__ == "__main__":
    main()
