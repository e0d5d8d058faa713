"""Our program on a node whose clock is behind: what it writes about times is so many seconds earlier.

python late_node.py SECONDS WORDS...        WORDS as for the program
"""

from __future__ import annotations

import sys
from typing import Any

from compute_to_data.engines.slurm import node
from compute_to_data.engines.slurm.notes import Notes

TIMES = ("time", "told", "started", "finished")


def main(seconds: str, *words: str) -> int:
    """Be the program."""

    def write(self: Notes, name: str, document: dict[str, Any]) -> None:
        earlier = {key: document[key] - float(seconds) for key in TIMES if key in document}
        real(self, name, {**document, **earlier})

    real = Notes.write
    Notes.write = write  # type: ignore[method-assign]
    return node.main(list(words))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
