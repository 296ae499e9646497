"""Batches survive their bytes, may be cut and joined; any bytes are a batch or a ProtocolError."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.batch import Batch, check_attributes, encode, encode_rows, merge, parse
from dmqnode.errors import InvalidRequest, ProtocolError

Row = tuple[bytes, dict[str, Any]]
COLUMNS = st.fixed_dictionaries(
    {},
    optional={
        "a": st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
        "g": st.sampled_from(["g", "h"]),
        "t": st.integers(1, 10**6),
        "d": st.text(min_size=1, max_size=4),
    },
)
ROWS = st.lists(st.tuples(st.binary(max_size=6), COLUMNS), min_size=1, max_size=8)


def rows_of(batch: Batch) -> list[Row]:
    out = []
    for i, body in enumerate(batch.bodies()):
        assert batch.body(i) == body
        columns = {c: batch.value(c, i) for c in "agtd" if batch.value(c, i) is not None}
        out.append((body, columns))
    return out


@given(ROWS)
def test_rows_survive(rows: list[Row]) -> None:
    batch = parse(encode_rows(rows).blob)
    assert rows_of(batch) == rows
    assert batch.count == len(batch) == len(rows)
    assert batch.longest() == max(len(b) for b, _ in rows)
    assert batch.bytes == sum(len(b) for b, _ in rows)


@given(ROWS, st.data())
def test_parts_and_choices_survive(rows: list[Row], data: Any) -> None:
    batch = encode_rows(rows)
    low = data.draw(st.integers(0, len(rows) - 1))
    high = data.draw(st.integers(low + 1, len(rows)))
    assert rows_of(parse(batch.part(low, high).blob)) == rows[low:high]
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=5))
    assert rows_of(parse(batch.select(chosen).blob)) == [rows[i] for i in chosen]
    size = data.draw(st.integers(1, 100))
    top = batch.fits(low, high, size)
    assert low < top <= high
    assert top == low + 1 or batch.span(low, top) <= size


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_joined_batches_have_all_rows(parts: list[list[Row]]) -> None:
    joined = merge([encode_rows(rows) for rows in parts])
    assert rows_of(parse(joined.blob)) == [row for rows in parts for row in rows]


@given(st.binary(max_size=60))
def test_any_bytes_are_a_batch_or_a_protocol_error(data: bytes) -> None:
    try:
        batch = parse(data)
    except ProtocolError:
        return
    assert len(batch.bodies()) == batch.count


@given(ROWS, st.data())
def test_a_damaged_batch_is_a_batch_or_a_protocol_error(rows: list[Row], data: Any) -> None:
    damaged = bytearray(encode_rows(rows).blob)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        batch = parse(bytes(damaged))
    except ProtocolError:
        return
    assert len(rows_of(batch)) == batch.count


def test_shared_values_do_not_unfold() -> None:
    shared = {"k": "v" * 1000}
    packed = cbor2.dumps({"a": [None, dict.fromkeys(range(100), shared)]}, value_sharing=True)
    plain = encode([b"x"] * 100, {"t": (5, {})}).blob
    size = len(cbor2.dumps({"t": (5, {})}))
    blob = plain[:8] + len(packed).to_bytes(4, "little") + plain[12:16] + packed + plain[16 + size :]
    with pytest.raises(ProtocolError, match="more than once"):
        parse(blob)


def test_the_limits_of_attributes_are_for_what_users_give() -> None:
    moved = {f"k{n}": "" for n in range(64)} | {"dmq.reason": "r" * 1000}
    check_attributes(parse(encode([b""], {"a": (moved, {})}).blob))
    with pytest.raises(InvalidRequest, match="65 attributes"):
        check_attributes(encode([b""], {"a": ({f"k{n}": "" for n in range(65)}, {})}))
    with pytest.raises(InvalidRequest, match="characters"):
        check_attributes(encode([b""], {"a": (None, {0: {"k": "v" * 65_536}})}))
