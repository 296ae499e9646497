"""A seal is broken by any change to key or value, and pages of records are cut where they should be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records import BAD_CHECKSUM, CHECK_SIZE, collect, seal, unseal
from storage.store import Damaged, Row


@given(st.binary(max_size=20), st.binary(max_size=200))
def test_what_is_sealed_is_unsealed(key: bytes, value: bytes) -> None:
    raw = seal(key, value)
    assert len(raw) == len(value) + CHECK_SIZE
    assert unseal(key, raw) == value


@given(st.binary(max_size=20), st.binary(max_size=50), st.data())
def test_any_flipped_bit_is_noticed(key: bytes, value: bytes, data: st.DataObject) -> None:
    raw = bytearray(seal(key, value))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    assert unseal(key, bytes(raw)) is None


def test_a_value_under_another_key_is_noticed() -> None:
    assert unseal(b"b", seal(b"a", b"value")) is None


@pytest.mark.parametrize("raw", [b"", b"abc"])
def test_too_short_is_damaged(raw: bytes) -> None:
    assert unseal(b"a", raw) is None


def test_the_checksum_is_what_it_always_was() -> None:
    assert seal(b"", b"123456789")[:4].hex() == "e3069283"
    assert seal(b"key", b"value").hex() == "e800894476616c7565"


def test_collecting_ends_with_the_range_whatever_lies_behind() -> None:
    pairs = [(b"a", seal(b"a", b"1")), (b"b", b"bad"), (b"c", seal(b"c", b"3")), (b"d", b"bad too")]
    found = collect(pairs, b"a", b"d", 10, 100)
    assert found.rows == [Row(b"a", b"1"), Row(b"c", b"3")]
    assert found.damaged == [Damaged(b"b", b"bad", BAD_CHECKSUM)]
    assert not found.more


def test_collecting_takes_no_more_than_it_returns() -> None:
    taken: list[bytes] = []

    def pairs():  # type: ignore[no-untyped-def]
        for key in (b"a", b"b", b"c", b"d"):
            taken.append(key)
            yield key, seal(key, b"x" * 10)

    assert collect(pairs(), b"a", b"z", 2, 1000).more
    assert taken == [b"a", b"b"]
