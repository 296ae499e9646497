"""The two times of leases, under clocks that step and stand still."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.leaseclock import LeaseClock, Reading

PASSED = st.floats(0.0, 100.0)
WRONG = st.floats(-1e5, 1e5)


@given(st.lists(st.tuples(PASSED, WRONG, WRONG, st.permutations(range(3))), max_size=20))
def test_while_one_clock_is_right_one_time_is_not_slow_and_the_other_not_fast(
    steps: list[tuple[float, float, float, list[int]]],
) -> None:
    """Between any two readings two of the three clocks may show anything."""
    clock, shown, real = LeaseClock(Reading(5.0, 6.0, 7.0)), [5.0, 6.0, 7.0], 0.0
    for passed, wrong, other, order in steps:
        before = clock.fast, clock.slow
        real += passed
        for at, elapsed in zip(order, (passed, wrong, other)):
            shown[at] += elapsed
        clock.advance(Reading(*shown))
        assert clock.fast >= before[0]
        assert clock.slow >= before[1]
        assert clock.fast >= real - 1e-6 * max(1.0, real)
        assert clock.slow <= real + 1e-6 * max(1.0, real)


def test_each_way_to_be_wrong() -> None:
    clock = LeaseClock(Reading(0.0, 0.0, 0.0))
    clock.advance(Reading(0.0, 10.0, 10.0))  # the machine slept
    assert (clock.fast, clock.slow) == (10.0, 0.0)
    clock.advance(Reading(0.0, 10.0, 15.0))  # the virtual machine was halted
    assert (clock.fast, clock.slow) == (15.0, 0.0)
    clock.advance(Reading(1.0, 11.0, -86400.0))  # the wall clock was set back
    assert (clock.fast, clock.slow) == (16.0, 0.0)
    clock.advance(Reading(2.0, 12.0, -86399.0))
    assert (clock.fast, clock.slow) == (17.0, 1.0)
    clock.advance(Reading(3.0, 13.0, 86400.0))  # the wall clock was set forward
    assert clock.fast > 86400
    assert clock.slow == pytest.approx(2.0)
