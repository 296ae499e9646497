"""Stamps never go back, and do not follow a clock that is far ahead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.errors import ProtocolError
from dmqnode.hybridclock import MAX_AHEAD, NEVER, HybridClock, Stamp, read_stamp
from dmqnode.ids import NodeId

ME, OTHER = NodeId(b"me------"), NodeId(b"other---")
walls = st.integers(0, 2**45)


@given(st.lists(st.tuples(walls, st.one_of(st.none(), walls)), min_size=1))
def test_stamps_rise_whatever_the_wall_clock_does(events: list[tuple[int, int | None]]) -> None:
    clock, last = HybridClock(ME), NEVER
    for wall, seen in events:
        if seen is not None and clock.observe(Stamp(seen, 3, OTHER), wall):
            assert seen <= wall + MAX_AHEAD
            last = max(last, Stamp(seen, 3, NodeId(bytes(8))))
        stamp = clock.stamp(wall)
        assert stamp > last
        last = stamp


def test_a_clock_too_far_ahead_is_not_believed() -> None:
    clock = HybridClock(ME)
    assert clock.observe(Stamp(1_000 + MAX_AHEAD, 0, OTHER), 1_000)
    assert not clock.observe(Stamp(1_001 + MAX_AHEAD, 0, OTHER), 1_000)


@pytest.mark.parametrize("value", [None, 3, [1, 2], [1, 2, b"short"], ["1", 2, bytes(8)], [-1, 0, bytes(8)]])
def test_other_things_are_no_stamps(value: object) -> None:
    with pytest.raises(ProtocolError):
        read_stamp(value)


def test_a_stamp_is_read_as_it_was_written() -> None:
    assert read_stamp([5, 6, bytes(ME)]) == Stamp(5, 6, ME)


def test_a_clock_that_was_set_back_begins_anew_and_a_small_step_does_not_matter() -> None:
    clock = HybridClock(ME)
    clock.stamp(90_000_000)
    assert not clock.set_back(90_000_000 - MAX_AHEAD)
    assert clock.stamp(90_000_000 - MAX_AHEAD).wall == 90_000_000
    assert clock.set_back(1_000_000)
    assert clock.stamp(1_000_000).wall == 1_000_000
