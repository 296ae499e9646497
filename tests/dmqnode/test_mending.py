"""What a leader learns from a home that did not show its copy before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cbor2

from dmqnode.batch import encode, parse
from dmqnode.clock import Now
from dmqnode.counters import Counters
from dmqnode.ids import LogId, PartitionId
from dmqnode.log import Log, StoredBatch
from dmqnode.mending import adopt, gaps_of
from dmqnode.partition import Partition
from dmqnode.queues import Settings
from dmqnode.ranges import RangeSet
from dmqnode.records import State
from dmqnode.smallrows import Described
from storage.ops import WriteBatch

LOG = LogId(b"L" * 20)


def test_what_died_elsewhere_before_it_was_due_is_not_delayed_any_more() -> None:
    log = Log(LOG, 1, delayed=True)
    log.end = log.durable = 5
    log.taken.add(1, 2)  # it is due
    log.gaps.add(2, 3)  # it is not here
    partition: Any = SimpleNamespace(
        closed={},
        logs={LOG: log},
        settings=SimpleNamespace(ordering="none"),
        dedup=None,
        undue=3,
        touch=lambda: None,
        ready=SimpleNamespace(clear=lambda *, again: {}),
    )
    shown = Described({}, {LOG: (1, True)}, {}, {LOG: RangeSet([(0, 4)])}, State(ends={LOG: 5}))
    assert list(adopt(partition, shown)[LOG]) == [(0, 4)]
    assert partition.undue == log.live == 1


def test_what_any_home_that_comes_late_knows_of_is_lacking_too() -> None:
    new = LogId(b"N" * 20)
    partition = Partition(PartitionId(b"p" * 10), Settings(), lambda: LOG, Counters())
    log = Log(LOG, 1, delayed=False, end=5)
    partition.add_log(log)
    for ends in ({LOG: 9}, {LOG: 7, new: 2}):
        logs = dict.fromkeys(ends, (1, False))
        adopt(partition, Described({}, logs, {}, {new: RangeSet([(0, 1)])}, State(ends=ends)))
    assert gaps_of(partition) == {LOG: RangeSet([(5, 9)]), new: RangeSet([(1, 2)])}


def test_what_a_home_knows_to_be_closed_is_dead_and_lacking_nowhere() -> None:
    log = Log(LOG, 1, delayed=False)
    log.end = log.durable = 2
    log.gaps.add(0, 1)  # known by its position only, from a copy that was told of it and not given it
    partition: Any = SimpleNamespace(
        closed={},
        logs={LOG: log},
        settings=SimpleNamespace(ordering="none"),
        dedup=None,
        touch=lambda: None,
        ready=SimpleNamespace(clear=lambda *, again: {}),
    )
    # It led for a moment, saw that all of the log was dead, closed it, and was cut off again.
    shown = Described({}, {}, {LOG: 2}, {}, State())
    assert list(adopt(partition, shown)[LOG]) == [(0, 2)]
    assert not log.gaps.size
    assert log.live == 0


def test_who_was_acked_unheard_does_not_hold_up_its_group() -> None:
    sent = parse(encode([b"first", b"second"], {"g": ("red", {})}).blob)
    for ordering in ("standard", "fifo"):
        partition = Partition(PartitionId(b"p" * 10), Settings(ordering=ordering), lambda: LOG, Counters())
        partition.append(Now(1.0, 1000), sent, delay=None, producer=b"", sequence=0, floor=0)
        partition.written(partition.collect(Now(1.0, 1000), WriteBatch()))
        partition.take(Now(1.0, 1000), 1, "", 4.0, 10, 1 << 20)
        # A leader died over writing the ack: others know of the delivery only, and hear of the ack now.
        shown = Described({}, {LOG: (1, False)}, {}, {LOG: RangeSet([(0, 1)])}, State(ends={LOG: 2}))
        adopt(partition, shown)
        partition.tick(Now(6.0, 6000))
        (log,) = partition.logs.values()
        partition.show(StoredBatch(log, 0, 2, size=1, sent_at=1000, due=0, batch=sent), log.open_pieces(0, 2))
        partition.ready.load(next(iter(partition.ready.groups)).stored, sent)
        parts = partition.take(Now(6.0, 6000), 2, "", 4.0, 10, 1 << 20)[0]
        assert [(p.first, p.count) for p in parts] == [(1, 1)]
        assert partition.holds.noted == 1


def test_what_a_home_of_a_fifo_queue_shows_late_dies_only_where_others_had_lost_nothing() -> None:
    for certain, dead, lacking in ((True, [(5, 9)], {}), (False, [], {LOG: RangeSet([(5, 9)])})):
        fifo = Settings(ordering="fifo")
        partition = Partition(PartitionId(b"p" * 10), fifo, lambda: LOG, Counters())
        partition.add_log(Log(LOG, 1, delayed=False, end=5))
        shown = Described({}, {LOG: (1, False)}, {}, {}, State(ends={LOG: 9}))
        adopt(partition, shown, certain=certain)
        assert list(partition.logs[LOG].dead.ranges) == dead
        assert gaps_of(partition) == lacking


def test_what_only_one_home_took_in_and_repeats_what_is_known_dies_though_it_was_known_to_be_owed() -> None:
    """A leader that nobody followed took a debt in; the send was repeated, and its second debt is here."""
    owed, other, producer = RangeSet([(0, 5)]), LogId(b"O" * 20), b"p" * 16

    def shows(
        known: list[tuple[LogId, int, int]], *, gaps: RangeSet, claimed: RangeSet | None = None
    ) -> RangeSet:
        partition = Partition(PartitionId(b"p" * 10), Settings(), lambda: LOG, Counters())
        log = Log(LOG, 1, delayed=False, end=10)
        partition.add_log(log)
        for low, high in gaps:
            log.gaps.add(low, high)
        partition.dedup.remember(1, producer, 7, 0, known, kept=True)
        key = b"u" + bytes(4) + b"p" + producer
        rows = {key: cbor2.dumps([0, {}, RangeSet().encode(), {7: [(LOG, 0, 5)]}])}
        shown = Described(rows, {LOG: (1, False)}, {}, {}, State(ends={LOG: 5}))
        adopt(partition, shown, owed={} if claimed is None else {LOG: claimed})
        return log.dead.ranges

    both = RangeSet([(0, 10)])
    assert shows([(LOG, 5, 5)], gaps=owed) == owed
    assert shows([(LOG, 5, 5)], gaps=both, claimed=both) == owed, "it is owed, and comes"
    assert shows([(other, 0, 5)], gaps=owed) == owed, "it died long ago"
    assert not shows([(LOG, 5, 5)], gaps=both), "nobody may have that any more"
    assert not shows([(LOG, 5, 5)], gaps=both, claimed=owed)
    assert not shows([(LOG, 0, 5)], gaps=owed), "it is what is lacking"
    assert shows([(LOG, 0, 2), (other, 0, 3)], gaps=owed, claimed=owed) == RangeSet([(2, 5)]), (
        "two of it are in both"
    )


def test_what_a_home_killed_for_what_it_knew_alone_lives_where_that_place_counts() -> None:
    """A leader that nobody followed took the one for a repetition, another one its answer from it."""
    other, producer = LogId(b"O" * 20), b"p" * 16
    partition = Partition(PartitionId(b"p" * 10), Settings(), lambda: LOG, Counters())
    log = Log(LOG, 1, delayed=False, end=5)
    partition.add_log(log)
    partition.dedup.remember(1, producer, 7, 0, [(LOG, 0, 2)])
    rows = {
        b"u" + bytes(4) + b"p" + producer: cbor2.dumps([0, {7: [(other, 0, 2)]}, RangeSet().encode(), {}])
    }
    dead = {LOG: RangeSet([(0, 3)])}
    shown = Described(rows, {other: (1, False), LOG: (1, False)}, {}, dead, State(ends={other: 2, LOG: 5}))
    adopt(partition, shown)
    assert log.dead.ranges == RangeSet([(2, 3)]), "what died otherwise is dead"
    assert partition.logs[other].dead.ranges == RangeSet([(0, 2)])
    closed = Described(rows, {other: (1, False)}, {LOG: 5}, {}, State(ends={other: 2}))
    adopt(partition, closed)
    assert log.dead.ranges == RangeSet([(2, 5)])


def test_a_log_that_a_home_had_closed_goes_on_where_that_ended_though_some_of_it_is_spared() -> None:
    """What died behind the end that is known here was counted, and made the living fewer than none."""
    other, producer = LogId(b"O" * 20), b"p" * 16
    partition = Partition(PartitionId(b"p" * 10), Settings(), lambda: LOG, Counters())
    log = Log(LOG, 1, delayed=False, end=8)
    partition.add_log(log)
    partition.dedup.remember(0, producer, 1, 0, [(LOG, 5, 1)])
    rows = {
        b"u" + bytes(4) + b"p" + producer: cbor2.dumps([0, {1: [(other, 0, 1)]}, RangeSet().encode(), {}])
    }
    adopt(partition, Described(rows, {other: (1, False)}, {LOG: 10}, {}, State(ends={other: 1})))
    assert log.dead.ranges == RangeSet([(0, 5), (6, 10)])
    assert (log.end, log.durable, log.live) == (10, 10, 1)
