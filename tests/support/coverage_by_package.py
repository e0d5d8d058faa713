"""Print how many lines of each package the tests ran, from the ``.coverage`` they left.

Lines are lower bounds: they count what the processes of pytest ran, and not the workers and commands that these start.
With ``CI`` set, too few of them are a failure; elsewhere an engine or a zone may be missing.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from pathlib import Path

import coverage

import compute_to_data

TOP = Path(compute_to_data.__file__).parent
ALL = "all"
FLOORS = {"zones/irods": 85.0, ALL: 90.0}
"""Per cent of the lines that must have run."""


def package_of(file: Path) -> str:
    """The package's name below ours; an adapter has one for itself."""
    *folders, _ = file.relative_to(TOP).parts
    return "/".join(folders[:2]) or "(modules at the top)"


def main() -> int:
    measured = coverage.Coverage()
    measured.load()
    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for file in sorted(TOP.rglob("*.py")):
        _, statements, _, missing, _ = measured.analysis2(str(file))
        for name in (package_of(file), ALL):
            counts[name][0] += len(statements)
            counts[name][1] += len(missing)
    print(f"{'package':<24}{'lines':>8}{'not run':>9}{'%':>7}")
    too_few = []
    for name in sorted(counts, key=lambda each: (each == ALL, each)):
        lines, not_run = counts[name]
        share = 100.0 * (lines - not_run) / lines if lines else 100.0
        print(f"{name:<24}{lines:>8}{not_run:>9}{share:>7.1f}")
        if share < FLOORS.get(name, 0.0):
            too_few.append(f"{name}: {share:.1f} % of the lines were run, {FLOORS[name]:g} % are needed")
    print("".join(f"{each}\n" for each in too_few), end="")
    return 1 if too_few and os.environ.get("CI") else 0


if __name__ == "__main__":
    sys.exit(main())
