"""What is new in the last bytes of a stream, when one has seen its last bytes before."""

from __future__ import annotations

import random
import time

import pytest

from compute_to_data.client.log_overlap import new_output


@pytest.mark.parametrize(
    ("seen", "tail", "new"),
    [
        (b"", b"", b""),
        (b"", b"a\n", b"a\n"),
        (b"a\n", b"a\n", b""),
        (b"a\n", b"a\nb\n", b"b\n"),
        (b"abcd", b"cdef", b"ef"),
        (b"abcd", b"wxyz", b"wxyz"),
        (b"abcd", b"dxyz", b"xyz"),
        (b"aab", b"abab", b"ab"),
        (b"abcd", b"", b""),
        (b"b\nc\n", b"a\nb\nc\nd\n", b"d\n"),
        (b"b\nc\n", b"a\nb\nc\n", b""),
    ],
)
def test_what_was_not_there_before(seen: bytes, tail: bytes, new: bytes) -> None:
    assert new_output(seen, tail) == new


@pytest.mark.parametrize("bound", [3000, 70_000])
def test_a_stream_is_put_together_again_from_its_tails(bound: int) -> None:
    chance = random.Random(bound)
    stream = b"".join(b"line %d %d\n" % (number, chance.randrange(10**9)) for number in range(20_000))
    end, seen, got = 0, b"", b""
    while end < len(stream):
        end = min(len(stream), end + chance.randrange(1, bound))
        tail = stream[:end][-bound:]
        got += new_output(seen, tail)
        seen = tail
    assert got == stream


def test_the_final_file_reaches_further_back_than_what_was_shown() -> None:
    lines = [b"line %d\n" % number for number in range(20_000)]
    seen = b"".join(lines[15_000:17_000])
    assert new_output(seen, b"".join(lines)) == b"".join(lines[17_000:])
    assert new_output(seen, b"".join(lines[16_000:])) == b"".join(lines[17_000:])


def test_more_than_a_tail_at_once_shows_the_tail() -> None:
    assert new_output(b"1\n2\n", b"8\n9\n") == b"8\n9\n"


@pytest.mark.parametrize("end", [b"x", b"y"])
def test_words_that_repeat_themselves_take_no_time(end: bytes) -> None:
    began = time.monotonic()
    new_output(b"ab" * 500_000, b"ab" * 500_000 + end)
    new_output(b"z" + b"ab" * 500_000, b"y" + b"ab" * 500_000 + end)
    assert time.monotonic() - began < 2
