"""The order of pieces as bytes is the order of what they stand for."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.keys import prefix_end, u8, u16, u32, u64

PIECES = [(u8, 8), (u16, 16), (u32, 32), (u64, 64)]


@pytest.mark.parametrize(("piece", "bits"), PIECES)
@given(data=st.data())
def test_numbers_keep_their_order(piece, bits: int, data: st.DataObject) -> None:  # type: ignore[no-untyped-def]
    numbers = st.integers(0, 2**bits - 1)
    one, other = data.draw(numbers), data.draw(numbers)
    assert len(piece(one)) == bits // 8
    assert (piece(one) < piece(other)) == (one < other)


@pytest.mark.parametrize(("piece", "bits"), PIECES)
def test_numbers_outside_are_refused(piece, bits: int) -> None:  # type: ignore[no-untyped-def]
    for number in (-1, 2**bits):
        with pytest.raises(struct.error):
            piece(number)


@given(st.binary(min_size=1, max_size=5).filter(lambda prefix: prefix.strip(b"\xff")), st.binary(max_size=5))
def test_the_end_of_a_prefix_is_behind_all_that_begin_with_it(prefix: bytes, rest: bytes) -> None:
    end = prefix_end(prefix)
    assert prefix <= prefix + rest < end
    assert not end.startswith(prefix)


@given(st.binary(min_size=1, max_size=5).filter(lambda prefix: prefix.strip(b"\xff")), st.binary(max_size=6))
def test_nothing_else_is_before_the_end(prefix: bytes, key: bytes) -> None:
    assert (prefix <= key < prefix_end(prefix)) == key.startswith(prefix)


@pytest.mark.parametrize("prefix", [b"", b"\xff", b"\xff\xff"])
def test_some_prefixes_have_no_end(prefix: bytes) -> None:
    with pytest.raises(ValueError, match="no key is greater"):
        prefix_end(prefix)
