"""Figures on a real iRODS zone: the product beside its floor, in one run.

    C2D_TEST_IRODS_ENVIRONMENT_FILE=... python tests/benchmarks/real_zone.py [--files 5000] [--annotated 1000]
    C2D_TEST_IRODS_ENVIRONMENT_FILE=... python tests/benchmarks/real_zone.py --tasks 10000
    C2D_TEST_IRODS_ENVIRONMENT_FILE=... python tests/benchmarks/real_zone.py --policies /etc/irods/core.py

The environment is a rodsadmin's, and the icommands must be installed; the tests' own zone harness
makes a user, a resource and collections, and removes them. The floors: ``ireg -r`` of the same
files, and one atomic metadata call after the other on one connection.

``--tasks`` measures ``c2d list`` with so many tasks of one user, whose collections and AVUs it makes
(some minutes) and removes.

``--policies`` measures what the policies cost an ``iput`` into a collection without a tag: it adds
their lines to the server's core.py and takes them away again, in turns, and puts the file back at the
end. The package must be where that core.py finds it. Nobody else should be using the zone.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract"))

from irods_zone import ENVIRONMENT_VARIABLE, IrodsZoneUnderTest

from compute_to_data.model import Avu, Entity, EntityKind, Registration, User
from compute_to_data.ports.zone import Catalog

CONTENT = b"x" * 100
POLICIES = b"""
try:
    from compute_to_data.policies import *
except BaseException:
    pass
"""
PREFIX = "irods::compute_to_data"
STATES = ("COMPLETED", "FAILED", "QUEUED")
LISTINGS = {
    "the first page": [],
    "one state": ["--state", "FAILED"],
    "one role and two states, the last page": ["--role", "CONTAINER", "--state", "FAILED", "--state", "QUEUED",
                                               "--offset", "6600"],
    "all": ["--limit", "0"],
}  # fmt: skip
CHECKSUM = f"sha2:{base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()}"


def timed(name: str, count: int, do: Callable[[], object]) -> float:
    """Run it once; print and return how many a second."""
    started = time.monotonic()
    do()
    seconds = time.monotonic() - started
    print(f"{name:60} {count:6} in {seconds:7.2f} s = {count / seconds:7.1f} a second", flush=True)
    return count / seconds


class Bench:
    """One user's collections, and files in the vault of a resource of their own."""

    def __init__(self, zone: IrodsZoneUnderTest) -> None:
        self.zone = zone
        self.user: User = zone.make_user()
        self.resource = zone.make_resource()
        self.catalog: Catalog = zone.storage().on_behalf_of(self.user)

    def place(self, count: int) -> tuple[str, list[Registration]]:
        """A new collection, and as many files where the vault would keep its members."""
        collection = self.zone.scratch(self.user)
        files = []
        for number in range(count):
            logical_path = f"{collection}/f{number:05}"
            physical_path = self.zone.place_file(self.resource, logical_path, CONTENT)
            files.append(Registration(logical_path, physical_path, len(CONTENT), CHECKSUM))
        return collection, files

    def ireg(self, collection: str, files: list[Registration], *options: str) -> None:
        """The icommand on the same files, as the administrator, into a collection of its own."""
        directory = os.path.dirname(files[0].physical_path)
        target = f"{self.zone.administrators_scratch()}/{os.path.basename(collection)}"
        environment = {**os.environ, "IRODS_ENVIRONMENT_FILE": os.environ[ENVIRONMENT_VARIABLE]}
        command = ["ireg", *options, "-R", self.resource, directory, target]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def registering(bench: Bench, count: int, hashed: bool) -> list[str]:
    """The floor, then the product; returns the data objects that the product registered."""
    collection, files = bench.place(count)
    floor = timed("ireg -r (no checksums)", count, lambda: bench.ireg(collection, files, "-r"))
    product = timed("register with checksums, verified", count, lambda: bench.catalog.register(bench.resource, files))
    print(f"  {product / floor:.2f} times ireg -r")
    if hashed:
        hashing = timed("ireg -r -K", count, lambda: bench.ireg(f"{collection}k", files, "-r", "-K"))
        print(f"  {product / hashing:.2f} times ireg -r -K")
    return [file.logical_path for file in files]


def annotating(bench: Bench, data_objects: list[str], count: int) -> None:
    """15 AVUs on each, one atomic call after the other, and at once."""
    avus = [Avu(f"c2d::bench{number}", f"value {number}", "unit") for number in range(15)]
    one_by_one, at_once = data_objects[:count], data_objects[count : 2 * count]

    def each() -> None:
        for path in one_by_one:
            bench.catalog.annotate(Entity(EntityKind.DATA_OBJECT, path), add=avus)

    floor = timed("one atomic call each, one connection", len(one_by_one), each)
    product = timed("annotate_all", len(at_once), lambda: bench.catalog.annotate_all(at_once, avus))
    print(f"  {product / floor:.2f} times")


def facts(number: int, owner: User) -> list[Avu]:
    """What the collection of a task that has ended bears."""

    def fact(name: str, value: object, units: str = "") -> Avu:
        return Avu(f"{PREFIX}::{name}", str(value), units)

    digest = hashlib.sha256(str(number).encode()).hexdigest()
    moment = f"2026-01-{1 + number % 28:02}T09:30:{number % 60:02}.{number % 1000:03}Z"
    return [
        fact("state", STATES[number % len(STATES)], "demoResc"),
        fact("task_id", f"task-{number:05}"),
        fact("name", f"run {number}"),
        fact("role", "CONTAINER"),
        fact("resource", "demoResc"),
        fact("owner", owner),
        fact("engine", "docker"),
        fact("image", "tools"),
        fact("image_digest", f"sha256:{'0' * 64}"),
        fact("command", f"tools --number {number}", "0"),
        fact("attempt", 1),
        fact("exit_status", 0),
        fact("reason", "the program ended with status 0"),
        *(fact(f"{state}_at", moment) for state in ("queued", "staging_in", "running", "staging_out", "completed")),
        fact("started_at", moment),
        fact("processing_seconds", f"{number / 1000:.3f}", "s"),
        fact("stage_in_seconds", "0.010", "s"),
        fact("version", "1.0"),
        fact("fingerprint", digest),
        fact("outputs_digest", digest[::-1]),
        fact("input", f"/tempZone/home/{owner.name}/measurements/m{number:05}.dat", f"sha2:{digest[:43]}="),
    ]


def listing(zone: IrodsZoneUnderTest, tasks: int) -> None:
    """``c2d list``, each in a process of its own, of one user's tasks."""
    user = zone.make_user()
    catalog, top = zone.session(user), zone.scratch(user)

    def one(number: int) -> None:
        collection = f"{top}/task-{number:05}"
        catalog.create_collection(collection)
        catalog.annotate(Entity(EntityKind.COLLECTION, collection), add=facts(number, user))

    def all_of_them() -> None:
        with ThreadPoolExecutor(4) as pool:
            for each in [pool.submit(one, number) for number in range(tasks)]:
                each.result()

    timed("tasks' collections made, with their AVUs", tasks, all_of_them)
    configuration = zone.make_place("client") / "config.json"
    configuration.write_text(
        json.dumps({"zone": {"kind": "irods", "environment_file": zone.environment_of(user)}, "attributes": {}})
    )
    environment = {**os.environ, "C2D_CONFIG_FILE": str(configuration)}
    for title, options in LISTINGS.items():
        command = [sys.executable, "-m", "compute_to_data.cli.main", "list", "--output", "json", *options]
        seconds = []
        for _ in range(5):
            started = time.monotonic()
            answer = subprocess.run(command, check=True, env=environment, capture_output=True).stdout
            seconds.append(time.monotonic() - started)
        print(f"c2d list of {tasks}: {title:40} {len(json.loads(answer)):6} shown, "
              f"median {statistics.median(seconds):5.2f} s, least {min(seconds):5.2f} s, load {os.getloadavg()[0]:.1f}",
              flush=True)  # fmt: skip
    timed("tasks' collections removed", tasks, lambda: catalog.remove(top, recursive=True))
    print(f"most memory of any of them: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MB")


def upload(collection: str, file: str, environment: dict[str, str]) -> float:
    """Milliseconds of one ``iput``, with all that a process and a connection cost."""
    subprocess.run(["ils", collection], check=True, env=environment, stdout=subprocess.DEVNULL)  # core.py is compiled
    started = time.monotonic()
    subprocess.run(["iput", file, f"{collection}/{uuid.uuid4().hex}"], check=True, env=environment)
    return 1000 * (time.monotonic() - started)


def policies(core: Path, rounds: int) -> None:
    """``iput`` with and without the policies, in turns whose order changes."""
    environment = {**os.environ, "IRODS_ENVIRONMENT_FILE": os.environ[ENVIRONMENT_VARIABLE]}
    collection = f"c2d-policies-{uuid.uuid4().hex[:8]}"
    subprocess.run(["imkdir", collection], check=True, env=environment)
    without = core.read_bytes()
    texts = {"without": without, "with": without + POLICIES}
    seen: dict[str, list[float]] = {name: [] for name in texts}
    try:
        for number in range(rounds):
            for name in sorted(texts, reverse=number % 2 == 0):
                core.write_bytes(texts[name])
                seen[name].append(upload(collection, __file__, environment))
    finally:
        core.write_bytes(without)
        subprocess.run(["irm", "-rf", collection], check=True, env=environment)
    medians = {name: statistics.median(times) for name, times in seen.items()}
    for name, times in seen.items():
        print(f"iput {name:8} policies: median {medians[name]:6.1f} ms of {len(times)}, least {min(times):6.1f} ms")
    print(f"  x {medians['with'] / medians['without']:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--annotated", type=int, default=1000)
    parser.add_argument("--hashed", action="store_true", help="also ireg -K, which reads the files")
    parser.add_argument("--tasks", type=int, default=0, help="only this: c2d list with so many tasks")
    parser.add_argument("--policies", type=Path, metavar="CORE.PY", help="only this: what the policies cost an iput")
    parser.add_argument("--rounds", type=int, default=50, help="of --policies")
    given = parser.parse_args()
    if given.policies:
        policies(given.policies, given.rounds)
        return
    zone = IrodsZoneUnderTest(os.environ[ENVIRONMENT_VARIABLE])
    try:
        if given.tasks:
            listing(zone, given.tasks)
            return
        bench = Bench(zone)
        data_objects = registering(bench, given.files, given.hashed)
        annotating(bench, data_objects, given.annotated)
        timed("unregister", given.files, lambda: bench.catalog.unregister(data_objects))
    finally:
        zone.close()


if __name__ == "__main__":
    main()
