"""What a leader knows of the messages that its homes lack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dmqnode.clock import Now
from dmqnode.following import Stage, Stream, Waiting
from dmqnode.homesets import HomeSet, LeaseNumber
from dmqnode.ids import LogId, NodeId, PartitionId
from dmqnode.log import Log
from dmqnode.messages import Message
from dmqnode.peer_messages import Aligned, Fill, Shipped
from dmqnode.ranges import RangeSet
from dmqnode.roster import ROSTER
from dmqnode.smallrows import encode_gaps
from dmqnode.streams import Streams
from storage.ops import WriteBatch

NOW = Now(10.0, 1_700_000_000_000)
ME, B, C, D, E = (NodeId(b"node000%d" % n) for n in range(5))
PARTITION = PartitionId(b"p" * 10)
LOG = LogId(b"l" * 20)
ALL = ((LOG, 0, 9),)


class Quiet:
    """A port that only remembers what looks wait for."""

    def __init__(self) -> None:
        self.sent: list[tuple[NodeId, Message]] = []
        self.looks: list[tuple[Callable[..., None], Callable[[], None]]] = []

    def send(self, node: NodeId, message: Message) -> None:
        self.sent.append((node, message))

    def boundary(self, ranges: Any, then: Callable[..., None], mark: Callable[[], None]) -> None:
        self.looks.append((then, mark))

    def write(self, ops: WriteBatch, then: Any, *, sync: bool = True) -> None:
        raise AssertionError

    def read(self, now: Now, procedure: Any, then: Any) -> None:
        """What would be sent to fill a gap is not looked at here."""


@pytest.fixture
def port() -> Quiet:
    return Quiet()


@pytest.fixture
def streams(port: Quiet) -> Streams:
    streams = Streams(ME, port, lambda: 2)
    log = Log(LOG, 0, delayed=False, end=9)
    homes = HomeSet.first((ME, B, C))
    streams.open(Stream(PARTITION, LeaseNumber(1, ME), lambda: homes, {LOG: log}))
    return streams


def align(
    streams: Streams, port: Quiet, node: NodeId, *, meanwhile: Callable[[], None] = lambda: None
) -> None:
    (stream,) = streams
    streams.align(stream, node)
    then, mark = port.looks.pop()
    mark()
    at = stream.seq
    meanwhile()
    then(NOW, {})
    streams.on_aligned(NOW, node, Aligned(PARTITION, 1, at, encode_gaps({})))


def ship(streams: Streams, *, lacks: RangeSet | None = None, brought: bool = False) -> None:
    gaps = {} if lacks is None else {LOG: lacks}
    streams.collected(PARTITION, WriteBatch(), sync=True, lacks=gaps, brought=ALL if brought else ())


@pytest.mark.parametrize("synced", [True, False])
def test_what_an_entry_brings_a_home_that_lacked_it_is_no_gap_once_that_is_on_its_disk(
    streams: Streams, port: Quiet, synced: bool
) -> None:
    """Else the leader, lacking it later, would take it to be nowhere, and give it up."""
    (stream,) = streams
    for node in (B, C):
        align(streams, port, node)
        stream.followers[node].gaps = {LOG: RangeSet([(0, 9)])}
    stream.logs[LOG].gaps.add(0, 9)
    assert streams.nowhere(PARTITION, ALL) == ALL
    ship(streams, brought=True)
    streams.on_shipped(NOW, B, Shipped([(PARTITION, 1, stream.seq)], synced))
    assert streams.nowhere(PARTITION, ALL) == (() if synced else ALL)
    assert stream.followers[B].holds(ALL) is synced
    assert not stream.followers[C].holds(ALL)


def test_what_an_entry_brought_a_home_that_begins_again_may_be_a_gap(streams: Streams, port: Quiet) -> None:
    (stream,) = streams
    align(streams, port, B)
    ship(streams, brought=True)
    streams.on_unaligned(B, PARTITION, 1)
    follower = stream.followers[B]
    assert not follower.brought
    align(streams, port, B)
    follower.gaps = {LOG: RangeSet([(0, 9)])}
    streams.on_shipped(NOW, B, Shipped([(PARTITION, 1, stream.seq)], True))
    assert not follower.holds(ALL)


def test_what_an_entry_says_to_be_lacking_is_lacking_at_every_home(streams: Streams, port: Quiet) -> None:
    (stream,) = streams
    align(streams, port, B)
    align(streams, port, C, meanwhile=lambda: ship(streams, lacks=RangeSet([(0, 9)])))
    for follower in stream.followers.values():
        follower.confirmed = 5
        assert follower.gaps == {LOG: RangeSet([(0, 9)])}
        assert not follower.has(Waiting(5, lambda now: None, (), ALL))


def test_what_an_entry_brings_is_lacking_nowhere(streams: Streams, port: Quiet) -> None:
    (stream,) = streams
    align(streams, port, B)
    ship(streams, lacks=RangeSet([(0, 9)]), brought=True)
    assert stream.followers[B].holds(ALL)


def test_a_home_that_has_not_what_it_is_asked_for_lacks_it(streams: Streams, port: Quiet) -> None:
    (stream,) = streams
    align(streams, port, B)
    assert streams.on_fill(stream, B, Fill(PARTITION, 1, LOG, 4, 9, []))
    assert stream.followers[B].gaps == {LOG: RangeSet([(4, 9)])}
    assert not streams.on_fill(stream, C, Fill(PARTITION, 1, LOG, 4, 9, [])), "it does not follow"


def test_messages_are_spread_once_enough_homes_hold_them(streams: Streams, port: Quiet) -> None:
    (stream,) = streams
    assert not streams.spread(PARTITION, ALL)
    align(streams, port, B)
    assert streams.spread(PARTITION, ALL)
    stream.logs[LOG].gaps.add(8, 9)
    assert not streams.spread(PARTITION, ALL)
    align(streams, port, C)
    assert streams.spread(PARTITION, ALL), "two homes hold them, if not this node"
    ship(streams, lacks=RangeSet([(3, 4)]))
    assert not streams.spread(PARTITION, ALL)


def test_the_answer_to_an_alignment_that_was_given_up_does_not_count(streams: Streams, port: Quiet) -> None:
    (stream,) = streams
    ship(streams)
    streams.align(stream, B)
    then, mark = port.looks.pop()
    mark()
    then(NOW, {})
    streams.on_aligned(NOW, B, Aligned(PARTITION, 1, 0, encode_gaps({})))
    assert stream.followers[B].stage is Stage.ALIGNING


def test_what_a_home_confirms_before_its_alignment_counts_is_not_counted(
    streams: Streams, port: Quiet
) -> None:
    """It may follow from an alignment that was given up, without what came between (swarm 8551)."""
    (stream,) = streams
    ship(streams)
    streams.align(stream, B)
    then, mark = port.looks.pop()
    mark()
    then(NOW, {})
    ship(streams)
    streams.on_shipped(NOW, B, Shipped([(PARTITION, 1, 2)], True))
    assert stream.followers[B].confirmed == -1
    streams.on_aligned(NOW, B, Aligned(PARTITION, 1, 1, encode_gaps({})))
    streams.on_shipped(NOW, B, Shipped([(PARTITION, 1, 2)], True))
    assert stream.followers[B].confirmed == 2


def test_what_all_homes_are_told_is_one_message_which_is_encoded_once(streams: Streams, port: Quiet) -> None:
    align(streams, port, B)
    align(streams, port, C)
    port.sent.clear()
    ship(streams)
    streams.flush()
    (first, to_b), (second, to_c) = port.sent
    assert {first, second} == {B, C}
    assert to_b is to_c
    (stream,) = streams
    stream.followers[C].begin_again()
    ship(streams)
    streams.flush()
    assert [node for node, _ in port.sent[2:]] == [B]


def test_a_write_group_is_one_frame_for_each_home_however_many_entries_it_has(
    streams: Streams, port: Quiet
) -> None:
    align(streams, port, B)
    align(streams, port, C)
    port.sent.clear()
    for _ in range(3):
        ship(streams)
    assert port.sent == []
    streams.flush()
    assert sorted((node, [e.seq for e in sent.entries]) for node, sent in port.sent) == [
        (B, [1, 2, 3]),
        (C, [1, 2, 3]),
    ]


def test_a_fifo_queue_is_sealed_once_a_majority_follows(streams: Streams, port: Quiet) -> None:
    (stream,) = streams
    done: list[Now] = []
    streams.seal(NOW, stream, done.append)
    assert streams.unsealed(PARTITION)
    assert done == []
    align(streams, port, B)
    assert not streams.unsealed(PARTITION)
    align(streams, port, C)
    assert done == [NOW]


def test_while_homes_change_it_is_sealed_by_majorities_of_both_sets(port: Quiet) -> None:
    streams, done = Streams(ME, port, lambda: 2), list[Now]()
    homes = HomeSet(2, LeaseNumber(1, ME), (ME, B, C), (ME, D, E), False)
    stream = Stream(PARTITION, LeaseNumber(1, ME), lambda: homes, {})
    streams.open(stream)
    streams.seal(NOW, stream, done.append)
    align(streams, port, B)
    align(streams, port, C)
    assert done == []
    align(streams, port, E)
    assert done == [NOW]


def test_who_is_the_only_home_seals_at_once(port: Quiet) -> None:
    streams, done = Streams(ME, port, lambda: 1), list[Now]()
    stream = Stream(PARTITION, LeaseNumber(1, ME), lambda: HomeSet.first((ME,)), {})
    streams.open(stream)
    streams.seal(NOW, stream, done.append)
    assert done == [NOW]


@pytest.mark.parametrize(("partition", "enough"), [(PARTITION, False), (ROSTER, True)], ids=["queue", "list"])
def test_the_list_of_members_needs_most_of_its_homes_whatever_w_is(
    port: Quiet, partition: PartitionId, *, enough: bool
) -> None:
    """One of three homes is gone for good: only a change of the list lets another take its place."""
    streams = Streams(ME, port, lambda: 3)
    homes = HomeSet.first((ME, B, C))
    stream = Stream(partition, LeaseNumber(1, ME), lambda: homes, {})
    streams.open(stream)
    streams.align(stream, B)
    then, mark = port.looks.pop()
    mark()
    then(NOW, {})
    streams.on_aligned(NOW, B, Aligned(partition, 1, 0, encode_gaps({})))
    streams.collected(partition, WriteBatch(), sync=True, lacks={})
    done: list[Now] = []
    streams.written(NOW, partition, stream.number, 1, done.append)
    streams.on_shipped(NOW, B, Shipped([(partition, 1, 1)], sync=True))
    assert bool(done) == enough


def test_what_an_entry_has_brought_to_this_disk_is_not_lacked_here_though_too_few_have_it() -> None:
    stream = Stream(PARTITION, LeaseNumber(1, ME), lambda: HomeSet.first((ME, B, C)), {})
    stream.waiting += [
        Waiting(1, lambda now: None, brought=((LOG, 0, 4),), relied=()),
        Waiting(2, lambda now: None, brought=((LOG, 6, 8),), relied=()),
    ]
    stream.durable = 1
    gaps = {LOG: RangeSet([(2, 9)])}
    assert stream.lacking(gaps) == {LOG: RangeSet([(4, 9)])}, "the second is not on the disk"
    assert gaps == {LOG: RangeSet([(2, 9)])}
    stream.durable = 2
    assert stream.lacking({LOG: RangeSet([(0, 4), (6, 7)])}) == {}
