"""What a partition delivers next: order, room, and what is in memory."""

from __future__ import annotations

from dmqnode.batch import encode
from dmqnode.ids import LogId
from dmqnode.log import Log, Segment, StoredBatch
from dmqnode.ready import BATCH_COST, WINDOW_BYTES, Ready


def log(name: bytes = b"L", opened_at: int = 0) -> Log:
    return Log(LogId(name * 20), opened_at, delayed=False)


LOG = log()


def stored(first: int, *bodies: bytes, of: Log = LOG, sent_at: int = 1000, due: int = 0) -> StoredBatch:
    batch = encode(list(bodies or (b"x",)))
    return StoredBatch(of, first, batch.count, size=100, sent_at=sent_at, due=due, batch=batch)


def whole(of: StoredBatch, *, group: str | None = None) -> Segment:
    return Segment(of, of.first, of.end, group=group)


def popped(ready: Ready, count: int = 100) -> list[tuple[int, int]]:
    """Take everything that is ready, `count` messages at a time."""
    out = []
    while (head := ready.head()) is not None:
        piece = ready.pop(head, min(head.high, head.low + count))
        out.append((piece.low, piece.high))
    return out


def test_the_window_comes_in_the_order_of_its_log_and_in_pieces() -> None:
    ready = Ready()
    ready.add(whole(stored(0, b"a", b"b", b"c")))
    ready.add(whole(stored(3, b"d")))
    assert popped(ready, 2) == [(0, 2), (2, 3), (3, 4)]
    assert not ready


def test_what_comes_again_goes_first_the_oldest_log_before_the_others() -> None:
    ready = Ready()
    ready.add(whole(stored(9)))
    ready.add_again(whole(stored(5, of=log(b"N", 20))))
    ready.add_again(whole(stored(7, of=log(b"M", 10))))
    ready.add_again(whole(stored(2, of=log(b"M", 10))))
    assert [low for low, _ in popped(ready)] == [2, 7, 5, 9]


def test_what_comes_again_waits_for_its_bodies_while_there_is_other_work() -> None:
    ready = Ready()
    ready.add(whole(stored(9)))
    late = stored(2)
    batch, late.batch = late.batch, None
    ready.add_again(whole(late))
    head = ready.head()
    assert head is not None
    assert head.low == 9
    assert ready.wanted(10) == [late]
    assert batch is not None
    ready.load(late, batch)
    assert [low for low, _ in popped(ready)] == [2, 9]


def test_bodies_are_in_memory_as_long_as_something_of_their_batch_waits() -> None:
    ready = Ready()
    batch = stored(0, b"a" * 100, b"b" * 100)
    assert batch.batch is not None
    size = len(batch.batch.blob) + BATCH_COST
    ready.add(Segment(batch, 0, 1))
    ready.add(Segment(batch, 1, 2))
    assert ready.cached == size
    head = ready.head()
    assert head is not None
    ready.pop(head, 1)
    assert (ready.cached, batch.batch is None) == (size, False)
    popped(ready)
    assert (ready.cached, batch.batch) == (0, None)


def test_reading_ahead_stops_at_the_windows_size() -> None:
    ready = Ready()
    assert ready.low
    ready.add(whole(stored(0, b"x" * (WINDOW_BYTES // 2))))
    assert (ready.low, ready.roomy) == (False, True)
    ready.add(whole(stored(1, b"x" * (WINDOW_BYTES // 2))))
    assert not ready.roomy


def test_a_group_has_one_message_out_at_a_time() -> None:
    ready = Ready()
    for seq in range(2):
        ready.add(whole(stored(seq, sent_at=seq), group="g"))
    ready.add(whole(stored(2, sent_at=2), group="h"))
    assert [low for low, _ in popped(ready)] == [0, 2]


def test_what_is_older_goes_first_with_a_group_or_without() -> None:
    ready = Ready()
    ready.add(whole(stored(5, sent_at=5)))
    ready.add(whole(stored(4, sent_at=4), group="g"))
    assert [low for low, _ in popped(ready)] == [4, 5]


def test_what_expired_is_taken_out_wherever_it_waits() -> None:
    ready = Ready()
    ready.add(whole(stored(0, sent_at=10)))
    ready.add(whole(stored(1, sent_at=30)))
    ready.add(whole(stored(2, sent_at=10), group="g"))
    ready.add_again(whole(stored(3, sent_at=10)))
    ready.add_again(whole(stored(4, sent_at=10, due=40)))
    assert sorted(s.low for s in ready.take_expired(20)) == [0, 2, 3]
    assert sorted(low for low, _ in popped(ready)) == [1, 4]
    assert ready.cached == 0


def test_a_batch_that_is_lost_is_taken_out() -> None:
    ready = Ready()
    lost, other = stored(0, b"a", b"b"), stored(2)
    for segment in (Segment(lost, 0, 1), Segment(lost, 1, 2), whole(other)):
        ready.add_again(segment)
    assert [s.low for s in ready.take_lost(lost)] == [0, 1]
    assert [low for low, _ in popped(ready)] == [2]


def test_clearing_says_where_to_read_from_and_keeps_what_reading_would_not_find() -> None:
    ready = Ready()
    other = log(b"M")
    for segment in (whole(stored(4)), whole(stored(7)), whole(stored(2, of=other))):
        ready.add(segment)
    ready.add_again(whole(stored(1)))
    assert ready.clear(again=False) == {LOG: 4, other: 2}
    assert (ready.again, ready.cached) == (1, 0)
    assert ready.clear(again=True) == {}
    assert ready.again == 0
