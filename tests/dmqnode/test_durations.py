"""Durations and sizes are read as people write them, and written so that they can be read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.durations import format_duration, format_size, parse_duration, parse_size
from dmqnode.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("500ms", 0.5), ("10s", 10), ("5m", 300), ("2h", 7200), ("1d", 86400), ("1h30m", 5400)),
        *(("0", 0), ("0s", 0), ("1.5s", 1.5), (" 2s ", 2), ("30", 30), ("0.25", 0.25), ("1m0.5s", 60.5)),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "s", "5 m", "-5s", "5x", "1e3s", "nan", "inf", "5mm", "١s", "10S", "99999999d", "9" * 400]
)
def test_what_is_not_a_duration(text: str) -> None:
    with pytest.raises(UsageError, match=r"10s|end with ms"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *(("0", 0), ("512", 512), ("512B", 512), ("64KiB", 65536), ("1MiB", 2**20), ("1.5 MiB", 3 * 2**19)),
        *(("2GB", 2 * 10**9), ("2gb", 2 * 10**9), ("1TiB", 2**40), ("9007199254740993", 2**53 + 1)),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "KiB", "64K", "-1", "1.5", "1e3", "8388608TiB", "0.3KiB", "9" * 5000])
def test_what_is_not_a_size(text: str) -> None:
    with pytest.raises(UsageError, match=r"size|bytes"):
        parse_size(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0s"), (0.0005, "0.5ms"), (0.5, "500ms"), (0.9999, "1s"), (1.25, "1.2s"), (30, "30s")),
        *((59.99, "1m"), (60, "1m"), (65, "1m5s"), (5400, "1h30m"), (86400, "1d"), (345600, "4d")),
        *((90061, "1d1h"), (-2, "-2s"), (math.inf, "forever")),
    ],
)
def test_durations_are_written_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        *((0, "0B"), (1023, "1023B"), (1024, "1KiB"), (1536, "1.5KiB"), (2**20 - 1, "1MiB")),
        *((2**20, "1MiB"), (2**31, "2GiB"), (2**40, "1TiB"), (2**50, "1024TiB")),
    ],
)
def test_sizes_are_written_short(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.floats(0, 1e9))
def test_a_written_duration_reads_nearly_the_same(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.06, abs=0.0001)


@given(st.integers(0, 2**60))
def test_a_written_size_reads_nearly_the_same(size: int) -> None:
    number = format_size(size)
    try:
        read = parse_size(number)
    except UsageError:
        assert "." in number
        return
    assert read == pytest.approx(size, rel=0.06, abs=1)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_duration, parse_size):
        try:
            assert parse(text) >= 0
        except UsageError:
            continue
