"""Slopes: what grows is told, and by how much."""

from __future__ import annotations

import pytest

from tests.chaos.soak import COUNTED, FLAT, growing, slope, summary


def test_a_slope_is_what_values_grow_by_per_second() -> None:
    assert slope([(t, 3 * t + 1) for t in range(10)]) == pytest.approx(3)
    assert slope([(t, 5.0 + (-1) ** t) for t in range(100)]) == pytest.approx(0, abs=0.01)
    assert slope([(1.0, 7.0)]) == 0


def test_the_first_half_of_the_time_does_not_count() -> None:
    samples = [(float(t), dict.fromkeys(COUNTED, 100.0 - t if t < 40 else 70.0)) for t in range(0, 90, 5)]
    found = summary(samples)["memory_mib"]
    assert found == {"first": 70.0, "last": 70.0, "highest": 70.0, "per_hour": 0.0}


def test_what_is_not_flat_is_named() -> None:
    samples = [(float(t), {**dict.fromkeys(COUNTED, 10.0), "files": 10 + t / 60}) for t in range(0, 3600, 5)]
    assert growing(summary(samples)) == [f"files grows by 60.0 per hour, more than {FLAT['files']}"]
    assert growing(summary([(at, dict.fromkeys(COUNTED, 10.0)) for at, _ in samples])) == []
