"""Upload and download beside what people use otherwise, in turn, in one run.

    python tests/benchmarks/transfers.py [--rounds 3] [--files 1000] [--megabytes 1000] [--only embedded|real]

On an embedded zone, beside ``cp -r``, and beside ``cp -r`` followed by ``sha256sum`` of the copies, which
is what a person must type to know as much. With ``C2D_TEST_IRODS_USER_ENVIRONMENT_FILE`` (what a
rodsuser's ``iinit`` wrote; the icommands must be installed) also on a real zone, beside ``iput -r`` and
``iget -r``, and beside both with ``-K``, which checks what arrived, as the product always does.
``--megabytes 0`` and ``--files 0`` leave one kind out. Everything made is removed at once, and what was
written is on the disk before the next step begins. The fastest of the rounds counts: others use the
machine as well.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Union

from compute_to_data.client import datasets
from compute_to_data.client.session import Session
from compute_to_data.client.this_computer.settings import Settings
from compute_to_data.configuration import Attributes, ZoneSettings
from compute_to_data.model import User
from compute_to_data.zones import open_session
from compute_to_data.zones.embedded import EmbeddedZone

ENVIRONMENT_VARIABLE = "C2D_TEST_IRODS_USER_ENVIRONMENT_FILE"
SMALL = 100_000

Step = Callable[[], object]


def timed(do: Step, size: int) -> float:
    """Seconds that a step takes that moves ``size`` bytes.

    The disk has nothing left to do for others, and there is memory that was used just now: a virtual
    machine waits longer for fresh memory than for the copying, whoever comes first.
    """
    with tempfile.TemporaryFile() as used:
        for _ in range(0, 3 * size, 1_000_000):
            used.write(bytes(1_000_000))
    os.sync()
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


class Product:
    """The same folder, up and down, with the product."""

    def __init__(self, session: Session, source: Path, place: Path) -> None:
        self._session, self._source, self._place = session, source, place / "product"
        self._dataset = ""

    def up(self) -> None:
        self._dataset = datasets.upload(self._session, str(self._source)).dataset

    def down(self) -> None:
        datasets.download(self._session, self._dataset, str(self._place))

    def clean(self) -> None:
        shutil.rmtree(self._place, ignore_errors=True)
        datasets.remove(self._session, self._dataset)


class Copying:
    """``cp -r`` there and back."""

    def __init__(self, source: Path, place: Path) -> None:
        self._source, self._there, self._back = source, place / "there", place / "back"

    def up(self) -> None:
        subprocess.run(["cp", "-r", self._source, self._there], check=True)

    def down(self) -> None:
        subprocess.run(["cp", "-r", self._there, self._back], check=True)

    def clean(self) -> None:
        shutil.rmtree(self._there)
        shutil.rmtree(self._back)


class CopyingChecked(Copying):
    """The same, each time with the checksums of the copies."""

    def up(self) -> None:
        super().up()
        self._hash(self._there)

    def down(self) -> None:
        super().down()
        self._hash(self._back)

    @staticmethod
    def _hash(folder: Path) -> None:
        command = ["find", folder, "-type", "f", "-exec", "sha256sum", "{}", "+"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


class Icommands:
    """``iput -r`` there, ``iget -r`` back, as one user."""

    def __init__(self, environment: str, collection: str, source: Path, place: Path, *options: str) -> None:
        self._variables = {**os.environ, "IRODS_ENVIRONMENT_FILE": environment}
        self._collection, self._source, self._back = f"{collection}/floor", source, place / "back"
        self._options = options

    def _run(self, *words: str | Path) -> None:
        subprocess.run([str(word) for word in words], check=True, env=self._variables, stdout=subprocess.DEVNULL)

    def up(self) -> None:
        self._run("iput", *self._options, "-r", self._source, self._collection)

    def down(self) -> None:
        self._run("iget", *self._options, "-r", self._collection, self._back)

    def clean(self) -> None:
        self._run("irm", "-rf", self._collection)
        shutil.rmtree(self._back)


Way = Union[Product, Copying, Icommands]


def compare(what: str, source: Path, ways: dict[str, Way], rounds: int) -> None:
    """Print the fastest round of each way, and how the product stands to the others."""
    ups: dict[str, list[float]] = {name: [] for name in ways}
    downs: dict[str, list[float]] = {name: [] for name in ways}
    size = sum(file.stat().st_size for file in source.iterdir())
    for _ in range(rounds):
        for name, way in ways.items():
            ups[name].append(timed(way.up, size))
            downs[name].append(timed(way.down, size))
            way.clean()
    for direction, took in (("up", ups), ("down", downs)):
        product = min(took["product"])
        for name, seconds in took.items():
            beside = "" if name == "product" else f"   {min(seconds) / product:.2f} times as long as the product"
            print(f"{what:24} {direction:5} {name:14} {min(seconds):7.2f} s{beside}", flush=True)


def sources(folder: Path, files: int, megabytes: int) -> dict[str, Path]:
    """A folder of many files, and a folder of one."""
    many, one = folder / "many", folder / "one"
    many.mkdir()
    one.mkdir()
    for number in range(files):
        (many / f"{number:05}").write_bytes(os.urandom(SMALL))
    with open(one / "large", "wb") as large:
        for _ in range(megabytes):
            large.write(os.urandom(1_000_000))
    made = {f"{files} files of 100 kB": many if files else None, f"one of {megabytes} MB": one if megabytes else None}
    return {what: source for what, source in made.items() if source is not None}


def embedded(folder: Path, rounds: int, wanted: dict[str, Path]) -> None:
    """An embedded zone, beside cp."""
    with EmbeddedZone.create(folder / "zone") as zone:
        user: User = zone.add_user("alice")
        settings = Settings(ZoneSettings("embedded"), attributes=Attributes())
        session = Session(zone.session(user), settings)
        for what, source in wanted.items():
            ways: dict[str, Way] = {
                "cp -r": Copying(source, folder),
                "product": Product(session, source, folder),
                "cp, sha256sum": CopyingChecked(source, folder),
            }
            compare(what, source, ways, rounds)


def real(environment: str, folder: Path, rounds: int, wanted: dict[str, Path]) -> None:
    """A real zone, beside the icommands."""
    zone = ZoneSettings("irods", {"environment_file": environment})
    catalog = open_session(zone)
    project = f"{catalog.home}/c2d-bench-{os.getpid()}"
    catalog.create_collection(project)
    session = Session(catalog, Settings(zone, attributes=Attributes()), project=project)
    try:
        for what, source in wanted.items():
            ways: dict[str, Way] = {
                "iput, iget": Icommands(environment, project, source, folder),
                "product": Product(session, source, folder),
                "with -K": Icommands(environment, project, source, folder, "-K"),
            }
            compare(what, source, ways, rounds)
    finally:
        catalog.remove(project, recursive=True)
        session.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--only", choices=("embedded", "real"), help="only on this zone")
    options = parser.parse_args()
    environment = os.environ.get(ENVIRONMENT_VARIABLE, "")
    with tempfile.TemporaryDirectory(prefix="c2d-bench-") as folder:
        wanted = sources(Path(folder), options.files, options.megabytes)
        if options.only != "real":
            print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; embedded zone")
            embedded(Path(folder), options.rounds, wanted)
        if environment and options.only != "embedded":
            print(f"load {os.getloadavg()[0]:.1f}; real zone")
            real(environment, Path(folder), options.rounds, wanted)


if __name__ == "__main__":
    main()
