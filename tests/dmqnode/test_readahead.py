"""Damaged records are set aside and counted; they are never delivered, and never stop the others."""

from __future__ import annotations

import random

import pytest

from dmqnode.batch import encode, parse
from dmqnode.clock import Now
from dmqnode.counters import Counters
from dmqnode.ids import LogId, PartitionId
from dmqnode.log import Log, Segment, StoredBatch
from dmqnode.mending import adopt, fill, filled
from dmqnode.messages import Blob, SetQueue
from dmqnode.partition import Partition
from dmqnode.peer_messages import BatchRecord
from dmqnode.queues import Settings
from dmqnode.ranges import RangeSet
from dmqnode.readahead import ReadAhead
from dmqnode.reads import Get, Reads, Rows
from dmqnode.records import State, encode_batch
from dmqnode.smallrows import Described
from dmqnode.unmended import Unmended
from storage.ops import WriteBatch
from tests.dmqnode.world import World

LOG = LogId(b"L" * 20)
NOW = Now(100.0, 1_700_000_000_000)


def damaged(world: World, part: bytes, count: int = 1) -> None:
    """Damage the first records of partition `q` under a letter, then restart."""
    prefix = world.partition().keys.prefix + part
    keys = [r.key for r in world.store.scan(prefix, prefix + b"\xff", limit=1000).rows]
    for key in [k for k in keys if not k.endswith(b"\xff" * 8)][:count]:
        world.store.damage(key, random.Random(1))
    world.crash()


def everything(world: World) -> list[bytes]:
    seen = []
    while messages := world.receive() or world.receive():
        seen += [m.body for m in messages]
        world.ack(messages)
    return seen


def sent(world: World, **settings: object) -> World:
    world.create(**settings)
    for n in range(4):
        world.send(b"%d" % n, b"%d'" % n)
    return world


def test_a_damaged_batch_is_lost_and_counted() -> None:
    world = sent(World())
    damaged(world, b"b", 2)
    assert everything(world) == [b"2", b"2'", b"3", b"3'"]
    assert world.broker.counters.lost == 4
    assert world.figures() == (0, 0, 0)
    assert world.store.statistics().set_aside == 2


def test_a_damaged_batch_of_a_group_is_lost_and_counted() -> None:
    world = sent(World(), ordering="fifo")
    damaged(world, b"b")
    assert everything(world) == [b"1", b"1'", b"2", b"2'", b"3", b"3'"]
    assert world.broker.counters.lost == 2


def test_a_batch_damaged_between_two_deliveries_is_lost_and_counted() -> None:
    world = sent(World())
    world.nack(world.receive(2))
    damaged(world, b"b")
    assert len(everything(world)) == 6
    assert world.broker.counters.lost == 2


def test_a_damaged_log_record_is_made_up_for() -> None:
    world = sent(World())
    damaged(world, b"l")
    assert len(everything(world)) == 8
    world.crash()
    assert world.figures() == (0, 0, 0)


def test_a_damaged_state_is_made_up_for() -> None:
    world = sent(World())
    damaged(world, b"s")
    assert len(everything(world)) == 8


def test_looking_at_what_is_delayed_loses_nothing_of_a_damaged_index() -> None:
    world = World()
    world.create()
    for n in range(3):
        world.send(b"%d" % n, delay=10.0 + n)
    damaged(world, b"t", 3)
    assert len(world.living("q", "delayed")) < 3, "it says what it can"
    world.receive()
    world.pass_time(20.0)
    assert sorted(everything(world)) == [b"0", b"1", b"2"]


def test_the_last_that_is_due_is_known_though_its_index_entry_is_damaged() -> None:
    world = World()
    world.create(ordering="fifo", delay=10.0)
    world.send(b"0")
    damaged(world, b"t")
    world.ask(SetQueue("q", {"delay": 1.0}))
    world.send(b"1")
    world.pass_time(20.0)
    assert everything(world) == [b"0", b"1"]


def test_a_damaged_index_entry_is_made_up_for() -> None:
    world = World()
    world.create()
    for n in range(3):
        world.send(b"%d" % n, delay=10.0 + n)
    damaged(world, b"t")
    world.receive()
    world.pass_time(20.0)
    assert sorted(everything(world)) == [b"0", b"1", b"2"]


def test_a_delayed_batch_that_is_damaged_with_its_index_entry_is_lost_and_counted() -> None:
    world = World()
    world.create()
    for n in range(3):
        world.send(b"%d" % n, b"%d'" % n, delay=10.0 + n)
    keys = world.partition().keys
    entry = world.store.scan(*keys.due_range(0), limit=1).rows[0].key
    _, log, first = keys.read_due(entry)
    world.store.damage(entry, random.Random(1))
    world.store.damage(keys.batch(log, first), random.Random(1))
    world.crash()
    world.receive()
    world.pass_time(20.0)
    assert sorted(everything(world)) == [b"1", b"1'", b"2", b"2'"]
    assert world.broker.counters.lost == 2
    assert world.figures() == (0, 0, 0)


def test_what_is_delayed_does_not_come_out_before_it_is_known_to_be_stored() -> None:
    world = World()
    world.create()
    world.send(b"0", delay=1.0)
    world.restart()  # so that what is due is read from the disk
    assert world.figures() == (0, 1, 0)
    world.hold_writes = True
    world.request(world.send_request([b"1"], delay=1.5))
    world.pending = world.broker.collect(world.now())
    assert world.pending is not None
    world.store.write(world.pending.batch, sync=True)
    assert world.bodies() == []  # but now it is known what is due
    world.pass_time(2.0)
    assert world.bodies() == [b"0"], "the other is on this disk, and nobody was told"
    world.write()
    world.hold_writes = False
    world.run()
    assert world.bodies() == [b"1"]
    assert world.figures() == (0, 0, 2)


def test_an_earlier_log_of_which_nothing_lives_does_not_stand_before_the_next() -> None:
    world = World()
    world.create()
    world.send(b"0")
    taken = world.receive()
    world.restart()
    world.ack(taken)
    world.send(b"1")
    assert [m.body for m in world.receive()] == [b"1"]


@pytest.mark.parametrize("letter", [b"s", b"l", b"n", b"u", b"d"])
def test_what_a_node_alone_has_made_up_for_is_not_missed(letter: bytes) -> None:
    world = sent(World())
    world.ack(world.receive(1))
    world.nack(world.receive(1))
    world.crash()
    world.receive(1)
    damaged(world, letter)
    everything(world)
    kept = world.store.statistics().set_aside
    assert kept
    assert Unmended(world.store).count(kept) == 0


def test_what_died_elsewhere_while_it_waited_to_be_read_again_is_lacking_nowhere() -> None:
    world = sent(World(), ordering="fifo")
    world.nack(world.receive(2))
    partition = world.partition()
    partition.replicated = True
    (log,) = partition.logs.values()
    (stored,) = {segment.stored for segment in partition.ready.waiting_again()}
    # Another home shows that it is dead; its batch is deleted before it is read again.
    shown = Described(
        {}, {log.id: (1, False)}, {}, {log.id: RangeSet([(0, 2)])}, State(ends={log.id: log.end})
    )
    adopt(partition, shown)
    ops = WriteBatch()
    ops.delete(partition.keys.batch(log.id, 0))
    world.store.write(ops, sync=True)
    reader = world.broker.registry.queues["q"].readers[0]
    reader._loaded(world.now(), ([(stored, log.arrivals)], Rows([])))
    assert not log.gaps.size
    assert everything(world) == [b"1", b"1'", b"2", b"2'", b"3", b"3'"]


def lacking(*, due: int = 0) -> tuple[Partition, Log, StoredBatch, BatchRecord]:
    """Return a partition whose copy lacks its one batch, of which a delivery is known, and the batch."""
    log = Log(LOG, 1, delayed=due > 0, end=1)
    log.cursor = 1
    partition = Partition(PartitionId(b"P" * 10), Settings(), lambda: LOG, Counters())
    partition.replicated = True
    partition.logs[LOG] = log
    log.gaps.add(0, 1)
    log.taken.add(0, 1)
    record = encode_batch(5, due, parse(encode([b"x"], {}).blob))
    stored = StoredBatch(log, 0, 1, size=len(record), sent_at=5, due=due, batch=None)
    return partition, log, stored, BatchRecord(0, Blob(record))


@pytest.mark.parametrize("comes", [True, False])
def test_what_comes_while_it_is_read_once_more_is_not_lacking(comes: bool) -> None:
    partition, log, stored, batch = lacking()
    partition.ready.add_again(Segment(stored, 0, 1, attempt=3))
    reads = Reads()
    ReadAhead(partition, reads, lambda: None).fill(NOW)
    ((number, _),) = reads.take_wanted()
    if comes:
        fill(partition, LOG, [batch])
        filled(NOW, partition, LOG, [batch])
    reads.done(NOW, number, Rows([]))
    assert bool(log.gaps.size) is not comes
    assert bool(partition.ready.wanted(10)) is comes, "it is read again, with its attempts"


@pytest.mark.parametrize("comes", [True, False])
def test_what_comes_while_it_is_looked_up_when_it_is_due_is_not_lacking(comes: bool) -> None:
    due = NOW.wall + 1000
    partition, log, _, batch = lacking(due=due)
    log.gaps.remove(0, 1)
    log.taken.remove(0, 1)
    ahead = ReadAhead(partition, Reads(), lambda: None)
    mend = ahead._mend_due(partition.keys.due(due, LOG, 0))
    next(mend)
    if comes:
        log.gaps.add(0, 1)
        fill(partition, LOG, [batch])
        filled(NOW, partition, LOG, [batch])
    mend.send(Rows([]))
    if comes:
        assert isinstance(mend.send(Rows([])), Get), "it is read once more"
        with pytest.raises(StopIteration) as found:
            mend.send(Rows([(partition.keys.batch(LOG, 0), batch.record)]))
        assert [read.due for read in found.value.value] == [due]
    else:
        with pytest.raises(StopIteration):
            mend.send(Rows([]))
    assert bool(log.gaps.size) is not comes
