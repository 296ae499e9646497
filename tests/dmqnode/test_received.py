"""Messages as a consumer has them, and the ranges that name them again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.batch import encode_rows
from dmqnode.errors import PartlyFailed, StaleReceipt, UsageError
from dmqnode.ids import LogId, PartitionId, parse_receipt
from dmqnode.messages import Part
from dmqnode.received import HELD_AT_ONCE, Naming, Received, outcome_of, unpack

LOG = LogId(b"L" * 20)
PARTITION = PartitionId(b"P" * 10)


def part(first: int, count: int, delivery: int = 7, log: LogId = LOG) -> Part:
    rows: list[tuple[bytes, dict[str, object]]] = [(b"%d" % (first + n), {}) for n in range(count)]
    rows[0][1].update(a={"k": "v"}, g="group", t=1500, d="once")
    return Part(PARTITION, delivery, log, first, count, 3, 12_500, encode_rows(rows).blob)


def test_a_message_has_what_was_sent() -> None:
    first, second = unpack(Received, None, "q", [part(5, 2)])
    assert (first.body, first.attributes, first.group, first.ttl, first.dedup_id) == (
        b"5",
        {"k": "v"},
        "group",
        1.5,
        "once",
    )
    assert (second.attributes, second.group, second.ttl, second.dedup_id) == ({}, None, None, None)
    assert (first.attempt, first.sent_at, first.queue) == (3, 12.5, "q")
    assert second.id == "jrgeytcmjrgeytcmjrgeytcmjrgeytcm-6"
    assert second.receipt is not None
    assert parse_receipt(second.receipt) == (PARTITION, 7, LOG, 6)


def test_what_was_only_looked_at_has_no_receipt() -> None:
    (message,) = unpack(Received, None, "q", [part(0, 1, delivery=0)])
    assert message.receipt is None
    with pytest.raises(UsageError, match="only looked at"):
        Naming(message)


@given(
    seqs=st.lists(st.integers(0, 20), max_size=30),
    receipts=st.booleans(),
)
def test_ranges_name_each_item_once(seqs: list[int], receipts: bool) -> None:
    messages = unpack(Received, None, "q", [part(0, 21)])
    items = [str(messages[n].receipt) if receipts else messages[n] for n in seqs]
    naming = Naming(items)
    assert naming.count == len(seqs)
    assert [n for *_, low, count in naming.held for n in range(low, low + count)] == seqs
    held, places = naming.singly([(at, StaleReceipt("")) for at in range(len(naming.held))])
    assert [h[3] for h in held] == seqs
    assert places == list(range(len(seqs)))


def test_neighbours_are_one_range_only_within_a_delivery() -> None:
    messages = unpack(Received, None, "q", [part(0, 3), part(3, 2), part(5, 2, delivery=8)])
    assert [h[1:] for h in Naming(messages).held] == [(7, LOG, 0, 5), (8, LOG, 5, 2)]


def test_requests_are_bounded() -> None:
    messages = unpack(Received, None, "q", [part(0, 5000)])
    pieces = list(Naming(messages[::2]).pieces())
    assert [at for at, _ in pieces] == [0, 1000, 2000]
    assert all(len(held) <= HELD_AT_ONCE for _, held in pieces)


def test_what_is_neither_message_nor_receipt_is_said() -> None:
    with pytest.raises(UsageError, match="not a receipt"):
        Naming("nonsense")
    with pytest.raises(UsageError, match="not int"):
        Naming([1])  # type: ignore[list-item]


def test_one_failure_is_itself_and_some_of_many_are_partly_failed() -> None:
    stale = StaleReceipt("gone")
    assert outcome_of(3, []) is None
    assert outcome_of(1, [(0, stale)]) is stale
    partly = outcome_of(3, [(1, stale)])
    assert isinstance(partly, PartlyFailed)
    assert partly.failures == ((1, stale),)
