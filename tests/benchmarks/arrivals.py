"""What an upload into a tagged collection costs, beside one without a tag.

    python tests/benchmarks/arrivals.py [--files 200] [--real]

On the embedded zone: ``put`` of small files one by one, and what the policy does after each. A worker serves the
compute resource in another process, and submits and runs the tasks meanwhile. The processor's time is that of the
uploading process. ``--real``: one ``iput -r`` of the files on a real zone with policies, while a worker serves a
resource, and with no worker alive, when the policy submits inside the upload. ``tests/support/terminal.py`` says what
that needs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import terminal
from support.site import ALICE, COMPUTE, HOME, ZONE, TrialSite, until, wait_until
from support.terminal import Bench, opened_bench, serving

from compute_to_data.agent import policy
from compute_to_data.coordination.lock import ResourceLock
from compute_to_data.model import Avu, Entity, EntityKind, Query
from compute_to_data.records.state import State
from compute_to_data.zones.embedded.agent import Callback, RuleExecutionInfo

TAG = "irods::compute_to_data::trigger"
CLAIM, STATE = "irods::compute_to_data_task", "irods::compute_to_data::state"
ROUNDS = 5


def embedded(files: int) -> None:
    with tempfile.TemporaryDirectory(prefix="c2d-bench-") as folder:
        site = _site(Path(folder))
        sources = _files(Path(folder), files)
        with _serving(site):
            plain: list[tuple[float, float]] = []
            tagged: list[tuple[float, float]] = []
            for number in range(ROUNDS):
                plain.append(_stored(site, sources, f"{HOME}/plain{number}", noted=False))
                tagged.append(_stored(site, sources, f"{HOME}/in{number}", noted=True))
                _settled(site, files * (number + 1))
        _print(files, plain, tagged)


def _site(folder: Path) -> TrialSite:
    tools = folder / "tools"
    tools.mkdir()
    return TrialSite(folder, {"name": "process", "images": {"tools": str(tools)}}, "tools", worker={"poll_seconds": 2})


def _files(folder: Path, files: int) -> list[str]:
    (folder / "files").mkdir()
    made = [folder / "files" / f"{number:04}" for number in range(files)]
    for one in made:
        one.write_bytes(os.urandom(100))
    return list(map(str, made))


@contextlib.contextmanager
def _serving(site: TrialSite) -> Iterator[None]:
    arguments = ["--configuration", str(site.configuration_file), "--resource", COMPUTE]
    command = [sys.executable, "-m", "compute_to_data.worker", *arguments]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as worker:
        wait_until(ResourceLock(site.configuration, ZONE, COMPUTE).is_held, "the worker")
        yield
        worker.terminate()


def _stored(site: TrialSite, sources: list[str], collection: str, noted: bool) -> tuple[float, float]:
    """Seconds, and seconds of the processor, to store the files in a new collection."""
    session = site.zone.session(ALICE)
    session.create_collection(collection)
    if noted:
        template = {**site.request("true"), "inputs": [{"arriving_in": collection}]}
        site.alice.write(f"{collection}.json", json.dumps(template).encode())
        site.alice.annotate(Entity(EntityKind.COLLECTION, collection), add=[Avu(TAG, f"{collection}.json")])
    rei = RuleExecutionInfo(site.zone, ALICE, site.configuration)
    callback = Callback(lambda where, text: print(where, text))
    began, used = time.perf_counter(), time.process_time()
    for source in sources:
        target = f"{collection}/{os.path.basename(source)}"
        session.put(source, target)
        if noted:
            policy.arrived(callback, rei, target, written=False)
    return time.perf_counter() - began, time.process_time() - used


def _settled(site: TrialSite, tasks: int) -> None:
    """Wait until the worker has submitted and run all tasks."""

    completed = Query(EntityKind.COLLECTION, site.configuration.attributes.state, "COMPLETED")
    wait_until(lambda: len(site.alice.find(completed)) == tasks, f"{tasks} tasks", 600)


def real(files: int) -> None:
    terminal.PATIENCE = 1800.0  # on a busy machine
    with tempfile.TemporaryDirectory(prefix="c2d-bench-") as folder, opened_bench(Path(folder)) as bench:
        sources = Path(folder) / "sources"
        sources.mkdir()
        for number in range(files):
            (sources / f"{number:04}").write_bytes(os.urandom(100))
        _iput(bench, sources, "warm", tagged=False)
        with serving(bench):
            rounds = [
                (_iput(bench, sources, f"p{n}", tagged=False), _noted(bench, sources, n, files)) for n in range(3)
            ]
        floor, ours = (statistics.median(found) for found in zip(*rounds))
        print(f"iput -r of {files} files: untagged {floor:.2f} s, tagged {ours:.2f} s: x {ours / floor:.2f} (x 1.5)")
        few = max(1, files // 10)
        for one in sorted(sources.iterdir())[few:]:
            one.unlink()
        plain, inside = (_iput(bench, sources, name, tagged=name == "alone") for name in ("few", "alone"))
        print(f"no worker, {few} files: untagged {plain:.2f} s, tagged {inside:.2f} s: x {inside / plain:.2f}")


def _iput(bench: Bench, sources: Path, name: str, tagged: bool) -> float:
    """Seconds of one ``iput -r``."""
    collection = f"{bench.home}/{name}"
    bench.user.get("imkdir", collection)
    if tagged:
        bench.user.put(f"{collection}.json", bench.request(inputs=[{"arriving_in": collection}]))
        bench.user.get("imeta", "add", "-C", collection, TAG, f"{collection}.json")
    renamed = sources.parent / name
    sources.rename(renamed)
    began = time.perf_counter()
    bench.user.get("iput", "-r", str(renamed), bench.home)
    took = time.perf_counter() - began
    renamed.rename(sources)
    return took


def _noted(bench: Bench, sources: Path, number: int, files: int) -> float:
    took = _iput(bench, sources, f"t{number}", tagged=True)
    began = time.perf_counter()
    query = f"select count(DATA_ID) where COLL_NAME = '{bench.home}/t{number}' and META_DATA_ATTR_NAME = '{CLAIM}'"
    until(lambda: bench.user.get("iquest", "%s", query).strip() == str(files), "all tasks to be submitted", 600)
    print(f"  {files} tasks were submitted {time.perf_counter() - began:.1f} s after the upload's end", flush=True)
    states = (
        f"select META_COLL_ATTR_VALUE where COLL_PARENT_NAME = '{bench.home}/out' and META_COLL_ATTR_NAME = '{STATE}'"
    )
    until(lambda: _are_final(bench.user.get("iquest", "%s", states)), "their end, for the next upload", 1800)
    return took


def _are_final(listed: str) -> bool:
    return all(State(one).is_final for one in listed.split())


def _print(files: int, plain: list[tuple[float, float]], tagged: list[tuple[float, float]]) -> None:
    for number, what in enumerate(("seconds", "seconds of the processor")):
        floor, ours = (statistics.median(one[number] for one in found) for found in (plain, tagged))
        print(f"put of {files} files, {what}: untagged {floor:.3f}, tagged {ours:.3f}: x {ours / floor:.2f} (x 1.5)")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--real", action="store_true")
    options = parser.parse_args()
    (real if options.real else embedded)(options.files)


if __name__ == "__main__":
    main()
