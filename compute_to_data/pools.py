"""Threads for one block, which do not go on when the block fails or a person interrupts it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def pool(threads: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Up to so many threads. The block ends when all that it has submitted has ended. When it fails, or is interrupted
    meanwhile, it drops what has not begun, and waits only for what has."""
    with ThreadPoolExecutor(threads, name) as made:
        try:
            yield made
            made.shutdown()
        except BaseException:
            made.shutdown(wait=False, cancel_futures=True)
            raise
