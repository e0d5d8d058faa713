"""How far a job gets past ``limits.output_bytes`` with many files, until the worker ends it.

    python tests/benchmarks/overshoot.py [FOLDER]

FOLDER is on the disk to measure. The job writes files of 1 MiB as fast as it can, and says how many bytes it has
written and when. Needs Docker and the image of the tests.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.real_docker import IMAGE
from support.site import TrialSite

LIMIT = 256 << 20
ROUNDS = 5
PROGRAM = """
import os, time
block, total, began = os.urandom(1 << 20), 0, time.monotonic()
while True:
    with open(f"/outputs/{total}", "wb") as file:
        file.write(block)
    total += len(block)
    os.write(1, f"{total} {time.monotonic() - began:.3f}\\n".encode())
"""


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as folder:
        limits = {"default": {"output_bytes": LIMIT, "log_bytes": 1 << 20}}
        site = TrialSite(Path(folder), {"name": "docker"}, IMAGE, limits=limits, failed_tasks={"keep": False})
        for _ in range(ROUNDS):
            facts = site.run(site.request("python3", "-c", PROGRAM))
            assert facts["reason_code"] == "output_limit", facts
            said = site.contents(facts["collection"])["STDOUT.txt"].decode().splitlines(keepends=True)
            total, seconds = (float(word) for word in [line for line in said if line.endswith("\n")][-1].split())
            past, speed = total - LIMIT, total / seconds
            print(f"{past / 2**20:.0f} MiB past, at {speed / 2**20:.0f} MiB/s: {past / speed:.3f} s of it", flush=True)


if __name__ == "__main__":
    main()
