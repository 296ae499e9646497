"""Messages that are to move: in steps, by target, and when those who wait are told."""

from __future__ import annotations

from dmqnode.exhausted import Exhausted
from dmqnode.ids import LogId
from dmqnode.log import Log, Segment, StoredBatch

LOG = Log(LogId(b"L" * 20), 0, delayed=False)


def segment(low: int, high: int, size: int = 100) -> Segment:
    return Segment(StoredBatch(LOG, low, high - low, size=size, sent_at=0, due=0, batch=None), low, high)


def test_a_step_ends_with_its_messages_its_bytes_or_its_target() -> None:
    moving = Exhausted()
    moving.extend([segment(0, 10)], "why")
    assert [len(s) for s, _ in moving.take(4, 1000)] == [4]
    moving.done()
    moving.extend([segment(10, 12, 600)], "why")
    assert [len(s) for s, _ in moving.take(100, 650)] == [6]
    moving.done()
    moving.extend([segment(12, 13)], "redriven", "other")
    assert [s.low for s, _ in moving.take(100, 10_000)] == [10]
    assert moving.to == ""
    moving.done()
    moving.take(100, 10_000)
    assert moving.to == "other"


def test_who_waits_is_told_when_what_was_before_has_moved() -> None:
    moving = Exhausted()
    told: list[str] = []
    moving.extend([segment(0, 3)], "a")
    moving.after(lambda: told.append("a"))
    moving.extend([segment(3, 5)], "b")
    moving.after(lambda: told.append("b"))
    moving.take(3, 1000)
    moving.done()
    assert told == ["a"]
    moving.take(3, 1000)
    moving.done()
    assert told == ["a", "b"]


def test_what_waits_or_moves_is_counted() -> None:
    moving = Exhausted()
    moving.extend([segment(0, 10), segment(10, 20)], "why")
    moving.take(5, 10_000)
    assert moving.messages == 20
    assert moving.count(LOG.id, 0, 20) == 20
    assert moving.count(LOG.id, 3, 12) == 9
    assert moving.count(LogId(b"M" * 20), 0, 20) == 0
