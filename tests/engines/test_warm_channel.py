"""The worker's ends of a warm sandbox's FIFOs, when a task tampers with the runner's ends."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from compute_to_data.engines.docker.warm_channel import Channel, Closed


@pytest.fixture
def runner(tmp_path: Path) -> tuple[Channel, dict[str, int]]:
    channel = Channel(str(tmp_path), (os.getuid(), os.getgid()))
    return channel, {name: os.open(tmp_path / name, os.O_WRONLY) for name in ("answers", "stdout", "stderr")}


def test_a_stream_without_a_writer_is_the_end(runner: tuple[Channel, dict[str, int]]) -> None:
    """A task that traces the runner could close it. The worker must not wait for ever, nor poll busily, then."""
    channel, ends = runner
    os.close(ends["stdout"])
    heard: list[object] = []

    def ask() -> None:
        try:
            heard.append(channel.answer(0.5))
        except Closed as closed:
            heard.append(closed)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(5)
    ended = not asking.is_alive()
    os.close(ends["answers"])  # ends it anyway
    asking.join(5)
    channel.close()
    assert ended and isinstance(heard[0], Closed)


def test_the_last_answer_is_read_before_the_end(runner: tuple[Channel, dict[str, int]]) -> None:
    channel, ends = runner
    os.write(ends["answers"], b"done 1 0\n")
    for descriptor in ends.values():
        os.close(descriptor)
    assert channel.answer(2.0) == "done 1 0"
    with pytest.raises(Closed):
        channel.answer(2.0)
    channel.close()
