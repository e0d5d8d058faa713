"""Workers in processes of their own, killed (-9) at random instants while tasks run."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import Sequence

from compute_to_data.coordination import lock
from compute_to_data.records.state import State
from compute_to_data.submission.submit import Submitted
from support import outside
from support.site import COMPUTE, PATIENCE, SLOWNESS, TrialSite, wait_until

_MOST_KILLS = max(3, round(12 / SLOWNESS))


def start_worker(site: TrialSite, *more: str) -> outside.Process:
    """A worker of the site's compute resource."""
    command = [sys.executable, "-m", "compute_to_data.worker"]
    arguments = ["--configuration", str(site.configuration_file), "--resource", COMPUTE, *more]
    with open(site.folder / "worker.log", "ab") as log:
        return outside.start([*command, *arguments], log)


def random_instants() -> random.Random:
    """Chance, whose seed a failing test shows."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


def kill_until_few(
    site: TrialSite, submitted: Sequence[Submitted], chance: random.Random, few: int, lives: tuple[float, float]
) -> int:
    """Kill one worker after the other until no more than a ``few`` of the tasks are unfinished; let the
    last worker finish them, and stop it. Returns how many were killed.

    ``lives``: the least and the most seconds before a worker is killed, on a machine that is not emulated.
    """

    def unfinished() -> int:
        return sum(not (site.record(one).state() or State.QUEUED).is_final for one in submitted)

    serves = lock.ResourceLock(site.configuration, "tempZone", COMPUTE).is_held
    kills = 0
    while unfinished() > few and kills < _MOST_KILLS:
        one = start_worker(site)
        if kills % 2:  # however long starting takes here, and dying in it; some do get to work
            wait_until(serves, "a worker to serve")
        time.sleep(SLOWNESS * chance.uniform(*lives))  # the random instant is what is tested, not waited for
        one.kill()
        one.wait()
        kills += 1
    last = start_worker(site)
    wait_until(serves, "the last worker to serve")
    wait_until(lambda: unfinished() == 0, f"{len(submitted)} tasks after {kills} kills", 4 * PATIENCE)
    last.send_signal(signal.SIGTERM)
    assert last.wait(PATIENCE) == 0
    return kills
