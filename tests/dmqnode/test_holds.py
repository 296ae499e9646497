"""Holds: what is out, until when, and that nothing stays behind of what is over."""

from __future__ import annotations

from dmqnode.clock import Now
from dmqnode.holds import Holds
from dmqnode.ids import LogId, PartitionId
from dmqnode.keys import PartitionKeys
from dmqnode.log import Log, Segment, StoredBatch
from dmqnode.records import decode_note
from storage.ops import WriteBatch

LOG = Log(LogId(b"l" * 20), 0, delayed=False)
KEYS = PartitionKeys.of(PartitionId(b"p" * 10))


def segment(low: int, high: int) -> Segment:
    return Segment(StoredBatch(LOG, low, high - low, size=1, sent_at=0, due=0, batch=None), low, high)


def test_extending_for_ever_takes_no_memory() -> None:
    holds = Holds()
    holds.deliver(1, "me", 10.0, [segment(0, 3)])
    for n in range(5000):
        assert holds.extend(1, LOG.id, 0, 3, 20.0 + n) == 3
    assert len(holds._due._heap) < 200
    assert holds.pop_due(5000.0) == []
    assert sum(map(len, holds.pop_due(5019.0))) == 3


def test_settling_at_once_takes_no_memory_and_writes_no_note() -> None:
    holds = Holds()
    for n in range(5000):
        holds.deliver(n + 1, "me", 1e9, [segment(n, n + 1)])
        for settled in holds.settle(n + 1, LOG.id, n, n + 1):
            holds.release(settled)
    assert len(holds._due._heap) < 200
    assert not holds.unsaved
    assert (holds.in_flight, holds.noted, holds._slots) == (0, 0, 1)


def test_a_part_that_is_extended_ends_by_itself() -> None:
    holds = Holds()
    holds.deliver(1, "me", 10.0, [segment(0, 4)])
    assert holds.extend(1, LOG.id, 1, 2, 20.0) == 1
    assert sorted((s.low, s.high) for s in holds.pop_due(10.0)) == [(0, 1), (2, 4)]
    assert holds.has(1)
    assert [(s.low, s.high) for s in holds.pop_due(20.0)] == [(1, 2)]
    assert not holds.has(1)


def test_notes_are_written_once_and_deleted_with_the_last_message() -> None:
    holds, ops = Holds(), WriteBatch()
    holds.deliver(1, "me", 10.0, [segment(0, 2)])
    holds.save(Now(0.0, 0), KEYS, ops)
    assert [key for key, value in ops if value is not None] == [KEYS.note(0)]
    for settled in holds.settle(1, LOG.id, 0, 2):
        holds.release(settled)
    ops = WriteBatch()
    holds.save(Now(0.0, 0), KEYS, ops)
    assert list(ops) == [(KEYS.note(0), None)]


def test_a_clock_that_is_set_back_hides_nothing_longer_than_was_asked() -> None:
    holds, ops = Holds(), WriteBatch()
    holds.deliver(1, "me", 40.0, [segment(0, 3)])
    holds.save(Now(10.0, 7_200_000), KEYS, ops)
    ((_, record),) = ops
    assert record is not None
    for wall, remaining in ((7_200_000, 30.0), (7_210_000, 20.0), (3_600_000, 30.0), (7_300_000, -70.0)):
        restored = Holds()
        restored.restore(Now(500.0, wall), decode_note(record), 0, [segment(0, 3)])
        assert restored.next_due() == 500.0 + remaining
