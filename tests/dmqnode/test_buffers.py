"""Sums by owner."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dmqnode.buffers import Buffers


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 100))))
def test_the_sum_is_that_of_what_each_owner_holds_now(changes: list[tuple[int, int]]) -> None:
    buffers: Buffers[int] = Buffers(150)
    held: dict[int, int] = {}
    for owner, size in changes:
        buffers.set(owner, size)
        held[owner] = size
        assert buffers.total == sum(held.values())
        assert buffers.overflows == (sum(held.values()) > 150)
        assert set(buffers.owners) == {o for o, s in held.items() if s}
        if buffers.owners:
            assert held[buffers.largest()] == max(held.values())
