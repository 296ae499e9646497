"""Keys: read back as made, and in the order on which readers rely."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dmqnode.ids import LogId, PartitionId, QueueId
from dmqnode.keys import PartitionKeys, queue_key, queue_range

QUEUE = QueueId(b"queue-id")
KEYS = PartitionKeys.of(PartitionId(QUEUE + b"\0\1"))
LOGS = st.binary(min_size=20, max_size=20).map(LogId)
SEQS = st.integers(0, 2**63 - 1)


@given(log=LOGS, first=SEQS, due=SEQS, minute=st.integers(0, 2**32 - 1), name=st.binary(max_size=30))
def test_keys_come_back(log: LogId, first: int, due: int, minute: int, name: bytes) -> None:
    assert KEYS.first_seq(KEYS.batch(log, first)) == first
    assert KEYS.read_due(KEYS.due(due, log, first)) == (due, log, first)
    assert KEYS.is_due(KEYS.due(due, log, first))
    assert not KEYS.is_due(KEYS.batch(log, first))
    assert KEYS.read_sent(KEYS.sent(minute, name)) == (minute, name)
    assert KEYS.tail(KEYS.log(log)) == (b"l", log)


@given(log=LOGS, seqs=st.tuples(SEQS, SEQS))
def test_order_is_that_of_numbers(log: LogId, seqs: tuple[int, int]) -> None:
    low, high = sorted(seqs)
    assert KEYS.batch(log, low) <= KEYS.batch(log, high) < KEYS.fence(log)
    assert KEYS.due(low, log, high) <= KEYS.due(high, log, low) or low == high
    start, stop = KEYS.due_range(low)
    assert start <= KEYS.due(high, log, 0) < stop


@given(log=LOGS, seq=SEQS)
def test_every_key_lies_in_its_ranges(log: LogId, seq: int) -> None:
    start, stop = queue_range(QUEUE)
    described = KEYS.described()
    small = [KEYS.dead(log, 7), KEYS.log(log), KEYS.note(3), KEYS.state()]
    large = [KEYS.batch(log, seq), KEYS.fence(log), KEYS.due(seq, log, seq), KEYS.sent(5, b"x")]
    assert all(start <= key < stop for key in (*small, *large))
    assert all(described[0] <= key < described[1] for key in small)
    assert not any(described[0] <= key < described[1] for key in large)
    assert not start <= queue_key(QUEUE) < stop


def test_the_last_queue_has_a_range_too() -> None:
    start, stop = queue_range(QueueId(b"\xff" * 8))
    assert start < PartitionKeys.of(PartitionId(b"\xff" * 10)).state() < stop
