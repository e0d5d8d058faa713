"""Figures of the rules and the idle worker on a real iRODS zone, beside their floors, in one run.

    C2D_TEST_IRODS_ENVIRONMENT_FILE=... C2D_TEST_IRODS_CORE=/etc/irods/core.py \
        python tests/benchmarks/real_rules.py [ils] [trivial] [idle]

``tests/support/irods_site.py`` and ``irods_server.py`` say what is needed, and that the server's
``core.py`` is changed meanwhile. The floors: ``ils`` with an empty ``core.py``, and the plain Docker
API running the same sandboxed container.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))

from irods.connection import Connection  # noqa: E402
from run import BASE_IMAGE, Floor, spread  # noqa: E402
from support.irods_server import Installed, rules  # noqa: E402
from support.irods_site import RealSite, open_zone  # noqa: E402

from compute_to_data import site_file  # noqa: E402
from compute_to_data.coordination import wakeup  # noqa: E402
from compute_to_data.engines import open_engine  # noqa: E402
from compute_to_data.records.task import TaskRecord  # noqa: E402
from compute_to_data.worker.service import Worker  # noqa: E402
from compute_to_data.zones import open_storage  # noqa: E402

EMPTY = "__all__ = []\n"
AGENTS_PYTHON = "/usr/bin/python3"
TRIVIAL = ("/bin/true",)


def timed(do: Callable[[], Any]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def ils(installed: Installed) -> None:
    """A B A B in blocks of five. Another ``core.py`` makes the next agent compile it: that one is not counted."""
    subprocess.run([AGENTS_PYTHON, "-m", "compileall", "-q", str(installed.package)], check=True)
    found: dict[str, list[float]] = {"empty": [], "ours": []}
    for _ in range(10):
        for name, text in (("empty", EMPTY), ("ours", installed.block())):
            installed.write_core(text)
            installed.type("ils")
            found[name] += [timed(lambda: installed.type("ils")) for _ in range(5)]
    for name, values in found.items():
        print(f"  ils, core.py {name}: {spread(values)}")
    by_median, by_least = (measure(found["ours"]) / measure(found["empty"]) for measure in (statistics.median, min))
    print(f"ils x {by_median:.3f} (medians of 50), x {by_least:.3f} (least)  (to reach: 1.05)", flush=True)


def trivial(installed: Installed) -> None:
    site = installed.site
    installed.write_core(installed.block())
    site.alice.write(
        f"{site.home}/task.json", json.dumps(site.request(*TRIVIAL, resource=installed.compute)).encode(), force=True
    )
    floor = Floor(_EngineOf(site))  # type: ignore[arg-type]
    place = site.zone.make_place("floor")
    os.chown(place, 65534, 65534)
    floors, products, empties = [], [], []
    stages: dict[str, list[float]] = {}
    with site.working(installed.compute):
        for _ in range(10):
            floors.append(floor.run(floor.body(TRIVIAL, place)))
            empties.append(timed(lambda: installed.type("ils")))
            began = time.time()
            told = installed.dispatch(f"{site.home}/task.json").stdout
            ended = time.time()
            products.append(ended - began)
            for name, seconds in _stages(installed, told, began, ended).items():
                stages.setdefault(name, []).append(seconds)
    print(f"  floor   {spread(floors)}\n  product {spread(products)}\n  (an ils {spread(empties)})")
    for name, values in stages.items():
        print(f"    {name:<46} {1000 * statistics.median(values):6.0f} ms")
    more = statistics.median(products) - statistics.median(floors)
    print(f"trivial task by irule: {more:.2f} s more than the container (medians of 10; to reach: 1.5)", flush=True)


class _EngineOf:
    """What the floor asks of a site."""

    def __init__(self, site: RealSite) -> None:
        self.configuration = site.configuration
        self.engine = open_engine(site.configuration.engine, str(site.place))


def _stages(installed: Installed, told: str, began: float, ended: float) -> dict[str, float]:
    site = installed.site
    collection = told.split("results in ")[1].split(": ")[0]
    facts = TaskRecord(site.alice, site.configuration.attributes, collection, installed.compute).facts()
    names = ("queued_at", "staging_in_at", "running_at", "staging_out_at", "completed_at")
    at = [_seconds(facts[name]) for name in names]
    labels = (
        "irule to QUEUED (connecting, reading, checking, recording)",
        "QUEUED to STAGING_IN (the bell)",
        "staging in, identifying the image",
        "RUNNING (the container)",
        "checking, registering, annotating",
        "COMPLETED to the last line",
    )
    moments = [began, *at, ended]
    return {label: later - earlier for label, earlier, later in zip(labels, moments, moments[1:])}


def _seconds(stamp: str) -> float:
    return datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc).timestamp()


def idle(site: RealSite) -> None:
    """What a worker with nothing to do asks of the server, with the settings it has by default."""
    document = json.loads(Path(site.configuration.source).read_text())
    document["worker"] = {"state_directory": str(site.zone.make_place("state"))}
    file = site.place / "idle.json"
    file.write_text(json.dumps(document))
    settings = site_file.load(str(file))
    compute = site.compute_resource(site.role)
    storage = open_storage(settings.zone)
    worker = Worker(settings, compute, storage, open_engine(settings.engine, settings.worker.state_directory))
    sent: list[float] = []
    send = Connection.send

    def counted(self: Any, message: Any) -> Any:
        sent.append(time.monotonic())
        return send(self, message)

    Connection.send = counted
    thread = threading.Thread(target=worker.serve)
    thread.start()
    try:
        time.sleep(5)
        began = time.monotonic()
        time.sleep(60)
        asked = [moment for moment in sent if moment > began]
        print(f"idle worker: {len(asked)} requests in 60 s = {len(asked) / 60:.2f} a second (to reach: 1)")
        bell = wakeup.Bell(settings, storage.zone, compute)
        rung = time.monotonic()
        bell.ring()
        while sent[-1] < rung:
            time.sleep(0.0005)
        print(f"woken: its next question came {1000 * (sent[-1] - rung):.1f} ms after the bell", flush=True)
    finally:
        worker.stop()
        thread.join()
        Connection.send = send


def main(names: list[str]) -> None:
    by_rule = {"ils": ils, "trivial": trivial}
    wanted = names or ["idle", *by_rule]
    zone = open_zone()
    try:
        role = {"C2D_BENCH": {"implementation": "compute_to_data.roles.container:Container"}}
        worker = {"state_directory": str(zone.make_place("state"))}
        site = RealSite(zone, BASE_IMAGE, {"name": "docker"}, roles=role, worker=worker)
        print(f"load {os.getloadavg()[0]:.1f}", flush=True)
        if "idle" in wanted:
            idle(site)
        if by_rule.keys() & set(wanted):
            with rules(zone, site) as installed:
                for name in by_rule.keys() & set(wanted):
                    by_rule[name](installed)
        print(f"load {os.getloadavg()[0]:.1f}")
    finally:
        zone.close()


if __name__ == "__main__":
    main(sys.argv[1:])
