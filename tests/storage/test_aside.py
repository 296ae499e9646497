"""What is set aside can be looked at again, in keys of the store's own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from storage import aside
from storage.store import Damaged

DAMAGED = st.builds(
    Damaged,
    st.binary(max_size=50),
    st.binary(max_size=100),
    st.text(max_size=50),
    st.none() | st.binary(min_size=1, max_size=50),
)


@given(DAMAGED)
def test_what_is_placed_is_read(damaged: Damaged) -> None:
    row = aside.place(damaged)
    assert aside.FIRST <= row.key < aside.END
    assert aside.read(row) == damaged


@given(DAMAGED, DAMAGED)
def test_only_the_same_damage_has_the_same_place(one: Damaged, other: Damaged) -> None:
    same = (one.key, one.raw) == (other.key, other.raw)
    assert (aside.place(one).key == aside.place(other).key) == same


def test_a_long_reason_is_cut() -> None:
    damaged = aside.read(aside.place(Damaged(b"k", b"raw", "é" * 5000)))
    assert (damaged.key, damaged.raw) == (b"k", b"raw")
    assert damaged.why.startswith("é" * 400)
    assert len(damaged.why) < 1100
