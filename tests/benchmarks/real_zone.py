"""Figures on a real iRODS zone: the product beside its floor, in one run.

    C2D_TEST_IRODS_ENVIRONMENT_FILE=... python tests/benchmarks/real_zone.py [--files 5000] [--annotated 1000]

The environment is a rodsadmin's, and the icommands must be installed; the tests' own zone harness
makes a user, a resource and collections, and removes them. The floors: ``ireg -r`` of the same
files, and one atomic metadata call after the other on one connection.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract"))

from irods_zone import ENVIRONMENT_VARIABLE, IrodsZoneUnderTest

from compute_to_data.model import Avu, Entity, EntityKind, Registration, User
from compute_to_data.ports import Catalog

CONTENT = b"x" * 100
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--annotated", type=int, default=1000)
    parser.add_argument("--hashed", action="store_true", help="also ireg -K, which reads the files")
    given = parser.parse_args()
    zone = IrodsZoneUnderTest(os.environ[ENVIRONMENT_VARIABLE])
    try:
        bench = Bench(zone)
        data_objects = registering(bench, given.files, given.hashed)
        annotating(bench, data_objects, given.annotated)
        timed("unregister", given.files, lambda: bench.catalog.unregister(data_objects))
    finally:
        zone.close()


if __name__ == "__main__":
    main()
