"""What ``c2d`` calls: a Ctrl-C while Python loads the command line, or after the command, ends it quietly."""

from __future__ import annotations

import os
import signal
from types import FrameType

_INTERRUPTED = 130


def main() -> int:
    """Load the command line and run one command; returns its exit code."""
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default:
        signal.signal(signal.SIGINT, _leave)
    from compute_to_data.cli.main import main as run

    if is_default:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = run()
    if is_default:
        signal.signal(signal.SIGINT, lambda *_: os._exit(code))  # all is done, and all is written
    return code


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once: nothing has begun."""
    os.write(2, b"c2d: interrupted\n")
    os._exit(_INTERRUPTED)
