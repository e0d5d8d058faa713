"""The digital filter's functions, against expectations computed the slow way."""

from __future__ import annotations

import importlib.util
import math
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

np = pytest.importorskip("numpy")

CONTAINER = Path(__file__).parents[2] / "containers" / "jupyter-digital-filter"
LENGTHS = (1, 2, 63, 64, 128, 129, 512, 10000)


def load_module() -> ModuleType:
    """The module beside the notebook; it is part of no package."""
    spec = importlib.util.spec_from_file_location("digital_filter", CONTAINER / "digital_filter.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


df: Any = load_module()


def plain_coefficients(cutoff: float) -> list[float]:
    def sinc(t: float) -> float:
        return math.sin(math.pi * t) / (math.pi * t) if t else 1.0

    taps = [sinc(cutoff * x) * (0.54 + 0.46 * math.cos(math.pi * x / 64)) for x in range(-64, 65)]
    total = math.fsum(taps)
    return [tap / total for tap in taps]


def plain_convolution(signal: list[float], taps: list[float]) -> list[float]:
    return [
        math.fsum(taps[k] * signal[n - k] for k in range(len(taps)) if 0 <= n - k < len(signal))
        for n in range(len(signal) + len(taps) - 1)
    ]


def noise(length: int) -> list[float]:
    source = random.Random(length)
    return [source.uniform(-100, 100) for _ in range(length)]


@pytest.mark.parametrize("cutoff", df.CUTOFF_FREQUENCIES)
def test_coefficients_are_a_windowed_sinc_of_sum_one(cutoff: float) -> None:
    taps = df.coefficients(cutoff)
    np.testing.assert_allclose(taps, plain_coefficients(cutoff), rtol=1e-12, atol=1e-16)
    assert taps.sum() == pytest.approx(1, abs=1e-15)
    np.testing.assert_allclose(taps, taps[::-1], rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("length", LENGTHS)
def test_low_pass_is_the_full_convolution(length: int) -> None:
    signal = noise(length)
    expected = plain_convolution(signal, plain_coefficients(0.2))
    output = df.low_pass(np.array(signal), df.coefficients(0.2))
    assert len(output) == length + 128
    np.testing.assert_allclose(output, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(df.first_block(output), output[128:256])
    assert 1 <= len(df.first_block(output)) <= 128
    np.testing.assert_array_equal(df.whole(output), output[64 : 64 + length])
    assert len(df.whole(output)) == length


def test_the_walk_through_gives_the_known_figures(tmp_path: Path) -> None:
    signal = np.array([i % 24 for i in range(1, 513)], dtype=float)
    block = df.first_block(df.low_pass(signal, df.coefficients(df.cutoff_frequency(0))))
    df.write_signal(tmp_path / "output", block)
    assert len(block) == 128
    assert (tmp_path / "output").stat().st_size == 3200
    # One unit in the last place is the processor's own: it chooses the order of the sums.
    assert block[0] == pytest.approx(1.911602525492879323e01, rel=1e-15)
    assert f"{block.min():.4f} {block.max():.4f}" == "3.8840 19.1160"


def test_a_constant_signal_passes_and_a_fast_one_does_not() -> None:
    taps = df.coefficients(0.125)
    constant = df.whole(df.low_pass(np.full(500, 3.0), taps))
    np.testing.assert_allclose(constant[64:-64], 3, rtol=1e-12)
    fastest = df.whole(df.low_pass(np.array([1.0, -1.0] * 250), taps))
    assert np.abs(fastest[64:-64]).max() < 0.01


@pytest.mark.parametrize(("index", "frequency"), [(0, 0.125), (1, 0.2), (2, 0.3625)])
def test_cutoff_frequency_by_index(index: int, frequency: float) -> None:
    assert df.cutoff_frequency(index) == frequency


@pytest.mark.parametrize("index", [-1, 3, 100])
def test_cutoff_frequency_out_of_range_names_what_is_allowed(index: int) -> None:
    with pytest.raises(ValueError, match=r"is -?\d+; it must be one of 0 \(0.125\), 1 \(0.2\)"):
        df.cutoff_frequency(index)


@pytest.mark.parametrize("length", LENGTHS)
def test_signals_survive_writing_and_reading(tmp_path: Path, length: int) -> None:
    signal = np.array(noise(length)) * 1e-7
    df.write_signal(tmp_path / "signal", signal)
    np.testing.assert_array_equal(df.read_signal(tmp_path / "signal"), signal)


def test_writing_in_blocks_gives_the_same_text(tmp_path: Path) -> None:
    signal = np.arange(250_001, dtype=float)
    df.write_signal(tmp_path / "signal", signal)
    lines = (tmp_path / "signal").read_text().splitlines()
    assert len(lines) == 250_001
    assert lines[100_000] == "1.000000000000000000e+05"
    assert lines[-1] == "2.500000000000000000e+05"


@pytest.mark.parametrize("text", ["1\n2", "1\n2\n", "1\n2\n\n \n", " 1 \r\n2e0\r\n"])
def test_line_ends_and_blank_ends_do_not_matter(tmp_path: Path, text: str) -> None:
    (tmp_path / "signal").write_bytes(text.encode())
    assert df.read_signal(tmp_path / "signal").tolist() == [1, 2]


@pytest.mark.parametrize(
    ("content", "line", "shown"),
    [
        (b"1\n" * 6 + b"abc\n3\n", 7, "'abc' is not a number"),
        (b"1\n\n2\n", 2, "'' is not a number"),
        (b"1 2\n", 1, "'1 2' is not a number"),
        (b"1_000\n", 1, "'1_000' is not a number"),
        (b"1\n2\nNaN\n", 3, "'NaN' is not a finite number"),
        (b"1\n-inf\n", 2, "'-inf' is not a finite number"),
        (b"1e999\n", 1, "'1e999' is not a finite number"),
        (b"3\n1e301\n", 2, "'1e301' is not a finite number up to 1e+300"),
        (b"\xff\xfe\n", 1, r"'\\xff\\xfe' is not a number"),
        (b"x" * 10_000, 1, f"'{'x' * 40}' is not a number"),
        (b"", 1, "'' is not a number: the file is empty"),
        (b"\n \n", 1, "'' is not a number: the file is empty"),
    ],
)
def test_bad_input_names_file_line_and_text(tmp_path: Path, content: bytes, line: int, shown: str) -> None:
    (tmp_path / "input.dat").write_bytes(content)
    message = re.escape(f"input.dat line {line}: {shown}")
    with pytest.raises(ValueError, match=f"^{message}.*; each line must hold one finite number$"):
        df.read_signal(tmp_path / "input.dat")


@pytest.mark.parametrize("length", LENGTHS)
def test_spectrum_has_its_peak_at_the_signals_frequency(length: int) -> None:
    # Half the Nyquist frequency: a period of four values.
    signal = np.array([(1.0, 0.0, -1.0, 0.0)[i % 4] for i in range(length)])
    frequencies, levels = df.spectrum(signal)
    assert len(frequencies) == len(levels) >= 257
    assert (frequencies[0], frequencies[-1]) == (0, 1)
    assert levels.max() == 0
    if length >= 63:
        assert frequencies[levels.argmax()] == pytest.approx(0.5, abs=0.02)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("length", LENGTHS)
def test_spectrum_of_silence_is_the_floor(length: int) -> None:
    _, levels = df.spectrum(np.zeros(length))
    assert set(levels) == {-120.0}


def test_envelope_keeps_short_curves_and_long_ones_peaks() -> None:
    x = np.arange(100_000)
    y = np.zeros(100_000)
    y[12_345], y[54_321] = 5, -7
    assert df.envelope(x[:4000], y[:4000])[1] is not None
    np.testing.assert_array_equal(df.envelope(x[:4000], y[:4000])[1], y[:4000])
    thin_x, thin_y = df.envelope(x, y)
    assert len(thin_x) == len(thin_y) <= 4000
    assert (thin_y.max(), thin_y.min()) == (5, -7)
    assert abs(thin_x[thin_y.argmax()] - 12_345) <= 50


@pytest.mark.parametrize(
    ("text", "default", "expected"),
    [
        ("2", 1, 2),
        ("", 1, 1),
        ("a b", "x", "a b"),
        ("True", False, True),
        ("no", True, False),
        ("1", False, True),
    ],
)
def test_settings_take_the_type_of_their_default(
    monkeypatch: pytest.MonkeyPatch, text: str, default: Any, expected: Any
) -> None:
    monkeypatch.setenv("A_SETTING", text)
    value = df.setting("A_SETTING", default)
    assert (value, type(value)) == (expected, type(expected))
    monkeypatch.delenv("A_SETTING")
    assert df.setting("A_SETTING", default) == default


@pytest.mark.parametrize(("text", "default"), [("one", 1), ("1.5", 1), ("perhaps", False)])
def test_a_setting_of_the_wrong_type_is_named(monkeypatch: pytest.MonkeyPatch, text: str, default: Any) -> None:
    monkeypatch.setenv("A_SETTING", text)
    with pytest.raises(ValueError, match=f"A_SETTING is '{text}'; it must be"):
        df.setting("A_SETTING", default)
