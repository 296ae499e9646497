"""What a partition was sent since its last write: where it goes, and as how many batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count
from typing import Any

from dmqnode.appends import MERGE_BYTES, MERGE_MESSAGES, MERGE_TIME, Appends
from dmqnode.batch import Batch, encode, encode_rows
from dmqnode.clock import Now
from dmqnode.counters import Counters
from dmqnode.dedup import Dedup
from dmqnode.ids import LogId, PartitionId
from dmqnode.keys import PartitionKeys
from dmqnode.log import Log, StoredBatch
from dmqnode.queues import Settings
from dmqnode.records import State
from storage.ops import WriteBatch

WALL = 1_700_000_000_000


class World:
    """The appends of one partition, and what they wrote."""

    def __init__(self) -> None:
        self.wall = WALL
        self.logs: dict[LogId, Log] = {}
        names = count()
        new_log: Callable[[], LogId] = lambda: LogId(next(names).to_bytes(20, "big"))
        keys = PartitionKeys.of(PartitionId(b"P" * 10))
        self.appends = Appends(keys, self.logs, Dedup(Counters()), new_log)
        self.state = State()

    def send(self, batch: Batch | bytes, *, producer: bytes = b"", sequence: int = 0, **options: Any) -> Any:
        options = {"delay": None, "behind": False, "floor": 0, **options}
        batch = batch if isinstance(batch, Batch) else encode([batch])
        return self.appends.append(
            Now(0.0, self.wall), batch, Settings(), producer=producer, sequence=sequence, **options
        )

    def collect(self) -> list[StoredBatch]:
        self.ops = WriteBatch()
        return self.appends.collect(self.state, self.ops)


def test_sends_that_meet_are_one_batch() -> None:
    world = World()
    (first, _), (second, _) = world.send(b"a"), world.send(encode([b"b", b"c"]))
    assert (first[0][1:], second[0][1:]) == ((0, 1), (1, 2))
    assert world.appends
    (stored,) = world.collect()
    assert (stored.first, stored.count) == (0, 3)
    assert stored.batch is not None
    assert stored.batch.bodies() == [b"a", b"b", b"c"]
    assert world.state.bytes == stored.size
    assert not world.appends
    assert world.collect() == []


def test_batches_are_merged_up_to_a_size_a_number_and_a_time() -> None:
    for apart in (b"x" * MERGE_BYTES, encode([b"x"] * MERGE_MESSAGES)):
        world = World()
        world.send(b"a")
        world.send(apart)
        assert len(world.collect()) == 2
    for late, batches in ((MERGE_TIME, 1), (MERGE_TIME + 1, 2), (-1, 2)):
        world = World()
        world.send(b"a")
        world.wall += late
        world.send(b"b")
        assert len(world.collect()) == batches


def test_what_is_delayed_has_a_log_of_its_own_and_an_entry_in_the_index() -> None:
    world = World()
    world.send(b"now")
    world.send(b"later", delay=5.0)
    world.send(b"even later", delay=9.0)
    assert world.appends.soonest() == WALL + 5000
    now, later, last = world.collect()
    assert now.log is not later.log is last.log
    assert (now.due, later.due, last.due) == (0, WALL + 5000, WALL + 9000)
    assert [log.delayed for log in world.logs.values()] == [False, True]
    assert world.appends.soonest() == math.inf


def test_what_comes_behind_delayed_messages_is_due_after_them() -> None:
    world = World()
    world.send(b"a", delay=9.0)
    world.wall += 1000
    world.send(b"b", behind=True)
    first, second = world.collect()
    assert second.due == first.due == WALL + 9000


def test_a_send_that_was_made_before_is_answered_as_then() -> None:
    world = World()
    runs, known = world.send(b"a", producer=b"p", sequence=1)
    assert known == 0
    assert world.send(b"a", producer=b"p", sequence=1) == (runs, 1)
    assert world.send(b"a", producer=b"p", sequence=2)[0] != runs
    assert sum(stored.count for stored in world.collect()) == 2


def test_messages_with_a_name_are_stored_once_also_within_one_batch() -> None:
    world = World()
    named = [(b"a", {"d": "1"}), (b"b", {}), (b"c", {"d": "1"}), (b"d", {"d": "2"})]
    runs, known = world.send(encode_rows(named))
    assert known == 1
    places = [(log, first + n) for log, first, many in runs for n in range(many)]
    assert places[0] == places[2]
    assert len(set(places)) == 3
    again, known = world.send(encode_rows([(b"x", {"d": "2"})]))
    assert known == 1
    assert (again[0][0], again[0][1]) == places[3]


def test_logs_are_ordered_as_they_were_opened_whatever_the_clock_does() -> None:
    world = World()
    world.send(b"a")
    world.wall -= 60_000
    world.send(b"b", delay=1.0)
    first, second = world.logs.values()
    assert second.opened_at > first.opened_at


def test_a_partition_that_is_opened_again_goes_on_with_its_log_if_it_ends_where_it_did() -> None:
    for missing, goes_on in ((0, True), (1, False)):
        world = World()
        world.send(b"a")
        world.collect()
        (log,) = world.logs.values()
        other = World()
        other.logs[log.id] = Log(log.id, log.opened_at, delayed=False, end=log.end - missing)
        other.appends.resting = world.appends.rest()
        other.appends.go_on()
        assert other.appends.goes_on(other.logs[log.id]) is goes_on


def test_what_is_abandoned_is_not_written() -> None:
    world = World()
    world.send(b"a")
    world.appends.abandon()
    assert world.collect() == []
    assert not len(world.ops)


def test_what_is_sent_behind_a_purge_counts_as_sent_behind_it_whatever_the_clock_says() -> None:
    world = World()
    world.send(b"before")
    world.appends.purged_at = WALL + 40
    for wall in (WALL, WALL + 20, WALL + 45):
        world.wall = wall
        world.send(b"behind")
    assert [(s.sent_at, s.count) for s in world.collect()] == [(WALL, 1), (WALL + 41, 3)]
