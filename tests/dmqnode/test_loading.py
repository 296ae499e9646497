"""A partition brought back from disk: its logs, deliveries and what was sent, also if records are missing."""

from __future__ import annotations

import random

from dmqnode.batch import encode
from dmqnode.clock import Now
from dmqnode.counters import Counters
from dmqnode.disk import perform_read
from dmqnode.ids import LogId, PartitionId
from dmqnode.keys import PartitionKeys
from dmqnode.loading import load, purge_page
from dmqnode.partition import Partition
from dmqnode.queues import Settings
from dmqnode.ranges import RangeSet
from dmqnode.reads import Procedure, Scan
from dmqnode.records import Note, NotedSegment, State, encode_batch, encode_log, encode_note, encode_state
from storage.memory import MemoryStore
from storage.ops import WriteBatch

WALL = 1_700_000_000_000
NOW = Now(1000.0, WALL)
ID = PartitionId(b"P" * 10)
KEYS = PartitionKeys.of(ID)
A, B = LogId(b"A" * 20), LogId(b"B" * 20)


class World:
    """A disk with one partition."""

    def __init__(self) -> None:
        self.store = MemoryStore()

    def put(self, key: bytes, record: bytes) -> None:
        ops = WriteBatch()
        ops.put(key, record)
        self.store.write(ops, sync=True)

    def log(self, id_: LogId, *batches: int, opened_at: int = WALL, delayed: bool = False) -> None:
        """Write a log with batches of so many messages each."""
        self.put(KEYS.log(id_), encode_log(opened_at, delayed=delayed))
        self.put(KEYS.fence(id_), b"")
        first = 0
        for count in batches:
            self.put(KEYS.batch(id_, first), encode_batch(WALL, 0, encode([b"x"] * count)))
            first += count

    def perform(self, procedure: Procedure[WriteBatch] | Procedure[None]) -> WriteBatch | None:
        rows = None
        while True:
            try:
                rows = perform_read(self.store, procedure.send(rows))  # type: ignore[arg-type]
            except StopIteration as stop:
                found: WriteBatch | None = stop.value
                return found

    def load(self) -> tuple[Partition, WriteBatch]:
        partition = Partition(ID, Settings(), lambda: LogId(b"N" * 20), Counters())
        closing = self.perform(load(partition, NOW, []))
        assert closing is not None
        return partition, closing


def note(delivery: int, low: int, high: int, counter: int = 1, until: int = WALL + 20_000) -> bytes:
    segment = NotedSegment(A, 0, 10, 100, WALL, 0, low, high, 1, None)
    return encode_note(Note(counter, delivery, until, "me", [segment]))


def test_an_empty_disk_is_an_empty_partition() -> None:
    partition, closing = World().load()
    assert partition.logs == {}
    assert not len(closing)


def test_logs_end_where_the_state_says_and_come_in_the_order_in_which_they_were_opened() -> None:
    world = World()
    world.log(A, 10, opened_at=WALL + 5)
    world.log(B, 3)
    world.put(KEYS.state(), encode_state(State(bytes=7, ends={A: 12, B: 3})))
    partition, _ = world.load()
    assert [(log.id, log.end, log.durable) for log in partition.logs.values()] == [(B, 3, 3), (A, 12, 12)]
    assert partition.state.bytes == 7


def test_without_a_state_logs_end_behind_their_last_batch_or_dead_message() -> None:
    world = World()
    world.log(A, 10, 5)
    world.log(B, 2)
    world.put(KEYS.dead(B, 0), RangeSet([(0, 1), (5, 9)]).encode())
    partition, _ = world.load()
    assert (partition.logs[A].end, partition.logs[B].end) == (15, 9)


def test_a_log_whose_record_is_gone_is_made_up_for_by_its_batches() -> None:
    world = World()
    world.log(A, 10)
    ops = WriteBatch()
    ops.delete(KEYS.log(A))
    world.store.write(ops, sync=True)
    world.put(KEYS.state(), encode_state(State(ends={A: 10, B: 4})))
    partition, closing = world.load()
    assert (list(partition.logs), partition.mended) == ([A], [A])
    assert len(closing) == 1  # its record again


def test_a_log_of_which_all_is_dead_is_folded_to_its_end() -> None:
    world = World()
    world.log(A, 10)
    world.log(B, 4)
    world.put(KEYS.dead(A, 0), RangeSet([(0, 10)]).encode())
    partition, closing = world.load()
    assert (partition.closed, list(partition.logs)) == ({A: 10}, [B])
    world.store.write(closing, sync=True)
    partition, closing = world.load()
    assert (partition.closed, len(closing)) == ({A: 10}, 0)


def test_deliveries_go_on_and_the_later_note_holds() -> None:
    world = World()
    world.log(A, 10)
    world.put(KEYS.note(0), note(7, 0, 6))
    world.put(KEYS.note(1), note(8, 4, 9, counter=2))
    partition, _ = world.load()
    assert partition.holds.count(8, A, 0, 10) == 5
    assert partition.holds.count(7, A, 0, 10) == 4
    assert partition.logs[A].taken.size == 9
    assert partition.holds.next_due() == NOW.run + 20


def test_what_a_note_says_of_dead_messages_or_logs_does_not_matter() -> None:
    world = World()
    world.log(A, 10)
    world.put(KEYS.dead(A, 0), RangeSet([(0, 3)]).encode())
    world.put(KEYS.note(0), note(7, 0, 5))
    partition, _ = world.load()
    assert partition.holds.count(7, A, 0, 10) == 2
    other = World()
    other.put(KEYS.note(0), note(7, 0, 5))
    partition, _ = other.load()
    assert partition.holds.in_flight == 0


def test_a_purge_goes_on_page_by_page_until_its_batches_are_deleted() -> None:
    world = World()
    world.log(A, 4, 4, 4)
    world.put(KEYS.dead(A, 0), RangeSet([(0, 8)]).encode())
    world.put(KEYS.state(), encode_state(State(ends={A: 12}, purges=[(A, 0, 8)])))
    partition, _ = world.load()
    assert partition.state.purges == [(A, 0, 8)]
    world.perform(purge_page(partition))
    assert partition.state.purges == []
    ops = WriteBatch()
    partition.collect(NOW, ops)
    world.store.write(ops, sync=True)
    left = perform_read(world.store, Scan(KEYS.batch(A, 0), KEYS.fence(A), 10)).rows
    assert [KEYS.first_seq(key) for key, _ in left] == [8]


def test_what_was_purged_and_is_damaged_here_is_deleted_elsewhere() -> None:
    world = World()
    world.log(A, 4, 4, 4)
    world.put(KEYS.dead(A, 0), RangeSet([(0, 8)]).encode())
    world.put(KEYS.state(), encode_state(State(ends={A: 12}, purges=[(A, 0, 8)])))
    partition, _ = world.load()
    partition.replicated = True
    world.store.damage(KEYS.batch(A, 4), random.Random(1))
    world.perform(purge_page(partition))
    assert partition.elsewhere.take() == ({}, {A: RangeSet([(0, 8)])})


def test_a_purge_where_there_are_no_other_homes_is_told_to_nobody() -> None:
    world = World()
    world.log(A, 4)
    world.put(KEYS.dead(A, 0), RangeSet([(0, 4)]).encode())
    world.put(KEYS.state(), encode_state(State(ends={A: 4}, purges=[(A, 0, 4)])))
    partition, _ = world.load()
    world.perform(purge_page(partition))
    assert partition.elsewhere.take() == ({}, {})


def test_what_a_leader_purged_whom_nobody_followed_is_not_deleted_elsewhere() -> None:
    world = World()
    world.log(A, 4, 4, 4)
    world.put(KEYS.dead(A, 0), RangeSet([(0, 4)]).encode())
    world.put(KEYS.state(), encode_state(State(ends={A: 12}, purges=[(A, 0, 12)])))
    partition, _ = world.load()
    partition.replicated = True
    world.perform(purge_page(partition))
    assert partition.state.purges == []
    assert partition.elsewhere.take() == ({}, {A: RangeSet([(0, 4)])})
