"""What a neighbour notices while one user floods the zone: a ``true``, requests to cancel, a walltime; the memory.
The one who floods cancels, too: a task that is a part of the flood, and another.

python tests/benchmarks/neighbour.py                         each flood on an embedded zone, and on a real one
python tests/benchmarks/neighbour.py junk "huge records"     some of them
python tests/benchmarks/neighbour.py --only real --small     where, and with a tenth of everything

Tasks run in Docker. A real zone is the one of ``C2D_TEST_IRODS_ENVIRONMENT_FILE``; ``tests/support/irods_site.py``
says what it needs. There the flood comes from iCommands.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.floods import FLOODS, Sizes, running_task  # noqa: E402
from support.irods_site import ENVIRONMENT, open_zone  # noqa: E402
from support.neighbours import Neighbours, embedded_neighbours, real_neighbours  # noqa: E402
from support.real_docker import IMAGE  # noqa: E402

TIMES, LONGEST, MOST_MEMORY, HEARD = 3.0, 5.0, 150, 2.0
"""To reach: a neighbour's ``true`` beside the same alone; seconds; MB; seconds until a cancelled task has ended."""
ON_A_REAL_ZONE = Sizes(avus=10_000, collections=400, tasks=100, outputs=500, metadata=20)
ENGINE = {"name": "docker"}
Place = Callable[[], AbstractContextManager[Neighbours]]


@contextlib.contextmanager
def embedded() -> Iterator[Neighbours]:
    with tempfile.TemporaryDirectory(prefix="c2d-bench-") as folder:
        Path(folder).chmod(0o755)
        yield embedded_neighbours(Path(folder), ENGINE, IMAGE)


@contextlib.contextmanager
def real() -> Iterator[Neighbours]:
    zone = open_zone()
    try:
        yield real_neighbours(zone, ENGINE, IMAGE)
    finally:
        zone.close()


def measure(where: str, place: Place, name: str, sizes: Sizes) -> None:
    """One flood: a few tasks alone, as many while it lasts, and a few alone in a zone of their own after it.

    The worker's memory is that of the whole.
    """
    with place() as scene, scene.served():
        scene.seconds_of_true()
        alone = [scene.seconds_of_true() for _ in range(7)]
        with running_task(scene), FLOODS[name](scene, sizes):
            under = [scene.seconds_of_true() for _ in range(11)]
            heard = [scene.seconds_of_cancel() for _ in range(3)]
            over = [scene.seconds_over_walltime() for _ in range(2)]
            own = scene.seconds_of_own_cancels()
        memory = scene.worker.most_memory / (1 << 20)
    with place() as calm, calm.served():
        calm.seconds_of_true()
        alone += [calm.seconds_of_true() for _ in range(7)]
    median = statistics.median(under)
    times = median / statistics.median(alone)
    latest = max(*heard, *over, *own)
    holds = times <= TIMES and max(under) <= LONGEST and memory < MOST_MEMORY and latest <= HEARD
    print(
        f"{where:8} {name:22} true: alone {statistics.median(alone):5.2f} s, under it {median:5.2f} s "
        f"= x {times:4.2f}, longest {max(under):5.2f} s; cancelled in at most {max(heard):4.2f} s, "
        f"own {', '.join(f'{one:.2f}' for one in own)} s; walltime {max(over):.2f} s late; "
        f"worker {memory:3.0f} MB{'' if holds else '  <-- not reached'}  (load {os.getloadavg()[0]:.1f})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("floods", nargs="*", metavar="FLOOD", help=f"of {', '.join(FLOODS)}; all by default")
    parser.add_argument("--only", choices=("embedded", "real"), help="by default both, if a real zone is configured")
    parser.add_argument("--small", action="store_true", help="a tenth of everything")
    given = parser.parse_args()
    places = {"embedded": (embedded, Sizes()), "real": (real, ON_A_REAL_ZONE)}
    chosen = [given.only] if given.only else ["embedded", *(["real"] if os.environ.get(ENVIRONMENT) else [])]
    print(f"to reach: at most x {TIMES:g}, {LONGEST:g} s, {HEARD:g} s, {MOST_MEMORY} MB")
    for where in chosen:
        place, sizes = places[where]
        if given.small:
            sizes = Sizes(**{one.name: max(1, getattr(sizes, one.name) // 10) for one in fields(Sizes)})
        for name in given.floods or FLOODS:
            measure(where, place, name, sizes)


if __name__ == "__main__":
    main()
