"""Faults happen as often as they are told to, and the same seed has the same ones."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from storage.faults import Faults


def test_never_and_always() -> None:
    faults = Faults(rng=random.Random(1))
    before = faults.rng.getstate()
    assert not any(faults.happens(0.0) for _ in range(100))
    assert faults.rng.getstate() == before
    assert all(faults.happens(1.0) for _ in range(100))


def test_the_same_seed_has_the_same_faults() -> None:
    one, other = Faults(rng=random.Random(7)), Faults(rng=random.Random(7))
    drawn = [one.happens(0.5) for _ in range(50)]
    assert drawn == [other.happens(0.5) for _ in range(50)]
    assert {True, False} == set(drawn)


@given(st.binary(min_size=1, max_size=30), st.integers(0, 1000))
def test_one_bit_is_flipped(raw: bytes, seed: int) -> None:
    flipped = Faults(rng=random.Random(seed)).flip_bit(raw)
    assert len(flipped) == len(raw)
    assert sum((a ^ b).bit_count() for a, b in zip(raw, flipped)) == 1
