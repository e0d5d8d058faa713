"""The low-pass filter of the notebook beside this file: signals in, signals out.

A finite impulse response (FIR) filter designed by the window method: the ideal low-pass
filter's impulse response, a sinc, cut to 129 taps by a Hamming window. Formulas: A. V.
Oppenheim and R. W. Schafer, Discrete-Time Signal Processing, "Design of FIR filters by
windowing"; S. W. Smith, The Scientist and Engineer's Guide to Digital Signal Processing,
chapter 16.

Frequencies are fractions of the Nyquist frequency (half the sampling rate): 1 is the
highest frequency that a sampled signal can hold.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar, Union

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Signal = NDArray[np.float64]
    PathLike = Union[str, "os.PathLike[str]"]

__all__ = [
    "CUTOFF_FREQUENCIES",
    "DELAY",
    "TAPS",
    "coefficients",
    "cutoff_frequency",
    "envelope",
    "first_block",
    "low_pass",
    "read_signal",
    "setting",
    "spectrum",
    "whole",
    "write_signal",
]

CUTOFF_FREQUENCIES = (0.125, 0.2, 0.3625)
"""The cutoff frequencies on offer, chosen by their index."""

TAPS = 129
DELAY = TAPS // 2
"""The filter is symmetric, so each of its outputs lags its input by half its length."""

LARGEST = 1e300
"""Sums over any signal that fits in memory stay finite below this magnitude."""

FLOOR_DB = -120.0
"""A spectrum's values below this carry rounding errors only."""

Value = TypeVar("Value", bool, int, str)


def setting(name: str, default: Value) -> Value:
    """Environment variable ``name`` as the type of ``default``; unset or empty: ``default``."""
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if isinstance(default, bool):
        return _switch(name, text)
    try:
        return type(default)(text)
    except ValueError:
        raise ValueError(f"{name} is {text!r}; it must be a whole number, such as 1") from None


def _switch(name: str, text: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    try:
        return words[text.lower()]
    except KeyError:
        raise ValueError(f"{name} is {text!r}; it must be true or false") from None


def cutoff_frequency(index: int) -> float:
    """The cutoff frequency with this index, as a fraction of the Nyquist frequency."""
    # A negative index would silently count from the end.
    if index not in range(len(CUTOFF_FREQUENCIES)):
        allowed = ", ".join(f"{i} ({f})" for i, f in enumerate(CUTOFF_FREQUENCIES))
        raise ValueError(f"cutoff_frequency_index is {index!r}; it must be one of {allowed}")
    return CUTOFF_FREQUENCIES[index]


def coefficients(cutoff: float) -> Signal:
    """The filter's 129 coefficients h[x], x = -64..64, for a cutoff frequency.

    h[x] = sinc(cutoff x) w[x], scaled to the sum 1 so that a constant signal passes
    unchanged; sinc(t) = sin(pi t) / (pi t), and w is the Hamming window,
    w[x] = 0.54 + 0.46 cos(pi x / 64).
    """
    x = np.linspace(-DELAY, DELAY, TAPS)
    taps: Signal = np.sinc(x * cutoff) * np.hamming(TAPS)
    taps /= taps.sum()
    return taps


def low_pass(signal: Signal, taps: Signal) -> Signal:
    """The full convolution y[n] = sum over k of taps[k] signal[n - k], zero outside.

    It is ``len(taps) - 1`` values longer than the signal: the filter's fading in and out.
    """
    return np.convolve(signal, taps)


def first_block(output: Signal) -> Signal:
    """At most 128 values of a full convolution: the first that rest on 129 inputs each.

    This is the block that the notebook of 2019 wrote, and the default still.
    """
    return output[TAPS - 1 : 2 * (TAPS - 1)]


def whole(output: Signal) -> Signal:
    """A full convolution cut to its input's length and time: value i belongs to input i."""
    return output[DELAY : len(output) - DELAY]


def spectrum(signal: Signal) -> tuple[Signal, Signal]:
    """A signal's frequencies (0 to 1, the Nyquist frequency) and their levels in decibel.

    20 log10(|X(f)| / max |X|), X being the discrete Fourier transform of the signal, padded
    with zeros to a power of two of at least 512 values; no level is below -120 dB.
    """
    size = max(512, 1 << (len(signal) - 1).bit_length())
    magnitude = np.abs(np.fft.rfft(signal, size))
    # All-zero signals have no peak to compare with; 1 puts them on the floor.
    relative = magnitude / (magnitude.max() or 1.0)
    levels: Signal = 20 * np.log10(np.maximum(relative, 10 ** (FLOOR_DB / 20)))
    return np.linspace(0, 1, len(levels)), levels


def envelope(x: Signal, y: Signal, points: int = 4000) -> tuple[Signal, Signal]:
    """The curve (x, y) thinned to about ``points`` points that look the same when drawn.

    Each stretch of the curve is replaced by its lowest and its highest value, so that no
    peak is lost; a curve of up to ``points`` points is returned as it is.
    """
    if len(y) <= points:
        return x, y
    stretch = -(-len(y) // (points // 2))
    starts = np.arange(0, len(y), stretch)
    low, high = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
    return np.repeat(x[starts], 2), np.column_stack((low, high)).ravel()


def read_signal(path: PathLike) -> Signal:
    """The numbers of a text file, one a line; blank lines may follow the last.

    Raises ValueError with the file, the line and its text if a line holds anything else.
    """
    name = Path(path).name
    with open(path, "rb") as file:
        values = np.fromiter(_numbers(file, name), dtype=np.float64)
    if not len(values):
        raise ValueError(_complaint(name, 1, b"", "a number: the file is empty"))
    # Written so that NaN, for which every comparison is false, is caught too.
    wrong = np.flatnonzero(~(np.abs(values) <= LARGEST))
    if len(wrong):
        line = int(wrong[0])
        with open(path, "rb") as file:
            text = next(islice(file, line, None))
        raise ValueError(_complaint(name, line + 1, text, f"a finite number up to {LARGEST:g}"))
    return values


def _numbers(file: BinaryIO, name: str) -> Iterator[float]:
    for number, line in enumerate(file, 1):
        try:
            value = float(line)
        except ValueError:
            if not line.strip() and not file.read().strip():
                return
            raise ValueError(_complaint(name, number, line, "a number")) from None
        # float() also takes Python's own spelling of long numbers, 1_000.
        if b"_" in line:
            raise ValueError(_complaint(name, number, line, "a number"))
        yield value


def _complaint(name: str, line: int, text: bytes, expected: str) -> str:
    # A file that is no text at all may be one endless line.
    shown = text.strip()[:40].decode("utf-8", "backslashreplace")
    return f"{name} line {line}: {shown!r} is not {expected}; each line must hold one finite number"


def write_signal(path: PathLike, values: Signal) -> None:
    """Write numbers one a line, as ``%.18e``: enough digits to read back the same numbers."""
    block = 100_000  # bounds the memory that the text takes
    with open(path, "w", encoding="ascii", newline="\n") as file:
        for start in range(0, len(values), block):
            part = values[start : start + block].tolist()
            file.write("%.18e\n" * len(part) % tuple(part))
