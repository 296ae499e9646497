"""A RangeSet is a set of integers, however it is built, and comes back from its bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.ranges import RangeSet

BOUNDS = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda p: (min(p), max(p)))
EDITS = st.lists(st.tuples(st.booleans(), BOUNDS), max_size=25)


def build(edits: list[tuple[bool, tuple[int, int]]]) -> tuple[RangeSet, set[int]]:
    made, plain = RangeSet(), set[int]()
    for add, (low, high) in edits:
        numbers = set(range(low, high))
        if add:
            assert made.add(low, high) == len(numbers - plain)
            plain |= numbers
        else:
            assert made.remove(low, high) == len(numbers & plain)
            plain -= numbers
    return made, plain


@given(EDITS, BOUNDS)
def test_it_is_a_set(edits: list[tuple[bool, tuple[int, int]]], bounds: tuple[int, int]) -> None:
    made, plain = build(edits)
    low, high = bounds
    asked = set(range(low, high))
    assert made.size == len(plain)
    assert {n for a, b in made for n in range(a, b)} == plain
    assert all(a < b for a, b in made)
    assert all(b < c for (_, b), (c, _) in zip(list(made), list(made)[1:]))
    assert [n in made for n in range(41)] == [n in plain for n in range(41)]
    assert made.covers(low, high) == (asked <= plain)
    assert made.overlap(low, high) == len(asked & plain)
    assert {n for a, b in made.within(low, high) for n in range(a, b)} == asked & plain
    assert {n for a, b in made.gaps(low, high) for n in range(a, b)} == asked - plain
    assert made.first_gap(low) == next(n for n in range(low, 100) if n not in plain)
    assert made.watermark == made.first_gap(0)
    assert made.end == max(plain, default=-1) + 1
    longer = [(a, b) for a, b in made if a >= low and b - a > 3]
    assert made.next_range(low, longer_than=3) == (longer[0] if longer else None)
    assert RangeSet.decode(made.encode()) == made


@given(st.binary(max_size=12))
def test_any_bytes_give_a_set_or_value_error(data: bytes) -> None:
    try:
        made = RangeSet.decode(data)
    except ValueError:
        return
    assert RangeSet.decode(made.encode()) == made


@pytest.mark.parametrize(
    "data", [b"\x01", b"\x81\x01", b"\x82\x01\x00", b"\x84\x00\x01\x00\x01", b"\x82\x00\x20"]
)
def test_what_is_not_a_set_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="range"):
        RangeSet.decode(data)
