"""What is lacking and repeats what is lacking, too, is fetched only when that cannot be had."""

from __future__ import annotations

import cbor2

from dmqnode.batch import encode
from dmqnode.clock import Now
from dmqnode.counters import Counters
from dmqnode.dedup import Runs
from dmqnode.doubts import PATIENCE, Doubts
from dmqnode.following import Ranges
from dmqnode.ids import LogId, PartitionId
from dmqnode.log import Log
from dmqnode.messages import Blob
from dmqnode.partition import Partition
from dmqnode.peer_messages import BatchRecord
from dmqnode.queues import Settings
from dmqnode.ranges import RangeSet
from dmqnode.records import encode_batch

FIRST, OTHER = LogId(b"F" * 20), LogId(b"O" * 20)
PRODUCER = b"p" * 16
NOW, LATER = Now(1.0, 1000), Now(1.0 + PATIENCE, 1000)


def nowhere(ranges: Ranges) -> bool:
    return False


def everywhere(ranges: Ranges) -> bool:
    return True


def partition_of(known: Runs, *, lacking: bool = True) -> Partition:
    """Return one that lacks five messages of each of two logs, and knows where a send went."""
    partition = Partition(PartitionId(b"p" * 10), Settings(), lambda: FIRST, Counters())
    for log_id in (FIRST, OTHER):
        log = Log(log_id, 1, delayed=False, end=10)
        partition.add_log(log)
        if lacking:
            log.gaps.add(0, 5)
    partition.dedup.remember(1, PRODUCER, 7, 0, known)
    return partition


def rows(runs: Runs) -> dict[bytes, bytes]:
    key = b"u" + bytes(4) + b"p" + PRODUCER
    return {key: cbor2.dumps([0, {7: runs}, RangeSet().encode(), {}])}


def told(partition: Partition, runs: Runs) -> Doubts:
    doubts = Doubts()
    doubts.learn(NOW, partition, rows(runs))
    return doubts


def test_only_what_is_lacking_and_known_elsewhere_is_in_doubt() -> None:
    here, there = [(FIRST, 0, 5)], [(OTHER, 0, 5)]
    partition = partition_of(here)
    assert told(partition, there).of(partition.id) == {OTHER: RangeSet([(0, 5)])}
    for partition, runs in (
        (partition_of(here), here),
        (partition_of(here, lacking=False), there),
        (partition_of(here), [(OTHER, 5, 5)]),
    ):
        assert not told(partition, runs).of(partition.id)


def test_it_waits_until_what_it_repeats_is_on_enough_homes_and_dies() -> None:
    partition = partition_of([(FIRST, 0, 5)])
    doubts = told(partition, [(OTHER, 0, 5)])
    assert not doubts.settle(NOW, partition, lambda ranges: ranges != ((FIRST, 0, 5),))
    assert doubts.of(partition.id)
    assert not partition.logs[OTHER].dead.ranges
    assert doubts.settle(NOW, partition, everywhere)
    assert partition.logs[OTHER].dead.ranges == RangeSet([(0, 5)])
    assert partition.logs[FIRST].gaps == RangeSet([(0, 5)])
    assert not doubts.of(partition.id)


def test_what_is_in_both_places_lives() -> None:
    partition = partition_of([(OTHER, 0, 2), (FIRST, 2, 3)])
    doubts = told(partition, [(OTHER, 0, 5)])
    assert doubts.settle(NOW, partition, everywhere)
    assert partition.logs[OTHER].dead.ranges == RangeSet([(2, 5)])


def test_where_what_it_repeats_is_lost_it_stands_for_it() -> None:
    partition = partition_of([(FIRST, 0, 5)])
    doubts = told(partition, [(OTHER, 0, 5)])
    partition.dedup.forget_places({FIRST: RangeSet([(0, 5)])})
    assert not doubts.settle(NOW, partition, everywhere)
    assert not doubts.of(partition.id)
    assert not partition.logs[OTHER].dead.ranges


def test_after_a_while_it_is_fetched_and_then_what_it_repeats_dies() -> None:
    partition = partition_of([(FIRST, 0, 5)])
    doubts = told(partition, [(OTHER, 0, 5)])
    assert not doubts.settle(LATER, partition, nowhere)
    assert not doubts.of(partition.id)
    assert not doubts.settle(LATER, partition, nowhere), "it is not here so far"
    partition.logs[OTHER].gaps.remove(0, 5)
    assert not doubts.settle(LATER, partition, nowhere), "it is here only"
    assert doubts.settle(LATER, partition, lambda ranges: ranges == ((OTHER, 0, 5),))
    assert partition.logs[FIRST].dead.ranges == RangeSet([(0, 5)])
    assert not partition.logs[OTHER].dead.ranges


def test_what_comes_while_it_waits_is_in_doubt_no_more() -> None:
    partition = partition_of([(FIRST, 0, 5)])
    doubts = told(partition, [(OTHER, 0, 5)])
    partition.logs[OTHER].gaps.remove(0, 5)
    assert not doubts.settle(NOW, partition, everywhere)
    assert not partition.logs[FIRST].dead.ranges


def batch(first: int, count: int) -> BatchRecord:
    return BatchRecord(first, Blob(encode_batch(1000, 0, encode([b"x"] * count))))


def test_a_batch_with_something_in_doubt_waits_as_a_whole() -> None:
    for now, spread in ((NOW, everywhere), (LATER, nowhere)):
        partition = partition_of([(FIRST, 0, 3)])
        doubts = told(partition, [(OTHER, 0, 3)])
        whole, behind = batch(0, 5), batch(5, 2)
        assert doubts.without(partition.id, OTHER, [whole, behind]) == [behind]
        assert doubts.of(partition.id) == {OTHER: RangeSet([(0, 5)])}, "or it would be asked for for ever"
        assert doubts.without(partition.id, FIRST, [whole]) == [whole]
        doubts.settle(now, partition, spread)
        assert doubts.without(partition.id, OTHER, [whole]) == [whole]


def test_nothing_is_kept_of_what_is_led_no_more() -> None:
    partition = partition_of([(FIRST, 0, 3)])
    doubts = told(partition, [(OTHER, 0, 3)])
    doubts.without(partition.id, OTHER, [batch(0, 5)])
    doubts.leave(partition.id)
    assert not doubts.of(partition.id)
    assert not doubts._open
    assert not doubts._beside
