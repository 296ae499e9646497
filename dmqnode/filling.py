"""The leader's pages for homes that lack messages: what somebody waits for first, the rest slowly."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from dmqnode.clock import Now
from dmqnode.copying import read_batches
from dmqnode.following import Follower, Stage, Stream
from dmqnode.ids import LogId, NodeId, PartitionId
from dmqnode.pacing import Pacing
from dmqnode.peer_messages import BatchRecord, Fill
from dmqnode.port import Port
from dmqnode.ranges import RangeSet
from dmqnode.whereabouts import dead, unread


class Gap(NamedTuple):
    """A range of messages that a home lacks and this node holds."""

    log: LogId
    low: int
    high: int
    urgent: bool = False
    """Whether somebody waits for it."""


class Filling:
    """Fills the gaps of the homes of what this node leads, one page for each of them at a time.

    Arguments:
        port: to the rest of the node.
        streams: of the partitions that are led here.
        least: how many disks a write needs.
    """

    def __init__(self, port: Port, streams: Mapping[PartitionId, Stream], least: Callable[[], int]) -> None:
        self.unreadable: Callable[[Now, PartitionId, LogId, int, int], None] = lambda *found: None
        """Called with messages that this node should hold and cannot read."""
        self._port = port
        self._streams = streams
        self._least = least
        self.pacing = Pacing()
        self._waiting: dict[tuple[PartitionId, NodeId], None] = {}
        """Homes that lack something and wait for their turn."""
        self._moving: dict[tuple[PartitionId, NodeId], None] = {}
        """The same for copies that only move."""

    def fill(self, now: Now, stream: Stream, follower: Follower) -> None:
        """Send a page of what a home lacks, if it is not the turn of others."""
        if follower.filling:
            return
        turn = (stream.partition, follower.node)
        self._waiting.pop(turn, None)
        self._moving.pop(turn, None)
        gap = next_gap(stream, follower)
        if gap is None:
            return
        moves = only_moves(stream, follower.node, self._least())
        if not (gap.urgent or self.pacing.may_begin(now.run, moves=moves)):
            (self._moving if moves else self._waiting)[turn] = None
            return
        follower.filling = True
        self.pacing.begins(now.run, turn)

        def read(now: Now, result: tuple[list[BatchRecord], int]) -> None:
            batches, reached = result
            high = min(gap.high, reached)
            follows = follower.stage is Stage.FOLLOWING and self._streams.get(stream.partition) is stream
            if follows and (damaged := unread(stream, gap.log, gap.low, high, batches)) is not None:
                # What cannot be read is lacking here, too; what was before it goes out.
                self.unreadable(now, stream.partition, gap.log, *damaged)
                high = damaged[0]
            if not follows or high <= gap.low:
                follower.filling = False
                self.ended(now, *turn)
                return
            live = [b for b in batches if b.first < high and not dead(stream, gap.log, b)]
            n = stream.number.n
            self._port.send(follower.node, Fill(stream.partition, n, gap.log, gap.low, high, live))

        self._port.read(now, read_batches(stream.keys, gap.log, gap.low, gap.high), read)

    def ended(self, now: Now, partition: PartitionId, node: NodeId) -> None:
        """A home has its page on disk, or none comes."""
        stream = self._streams.get(partition)
        moves = stream is not None and only_moves(stream, node, self._least())
        self.pacing.ends(now.run, (partition, node), moves=moves)

    def go_on(self, now: Now) -> None:
        """Send pages to those whose turn it is."""
        for moves, waiting in ((False, self._waiting), (True, self._moving)):
            for turn in list(waiting) if self.pacing.may_begin(now.run, moves=moves) else ():
                if not self.pacing.may_begin(now.run, moves=moves):
                    break
                partition, node = turn
                stream = self._streams.get(partition)
                follower = None if stream is None else stream.followers.get(node)
                if stream is None or follower is None or follower.stage is not Stage.FOLLOWING:
                    del waiting[turn]
                else:
                    self.fill(now, stream, follower)

    def next_deadline(self, now: Now) -> float:
        """Return when `go_on` must be called next (running time)."""
        first = self.pacing.next_begin(now.run, moves=False) if self._waiting else math.inf
        return min(first, self.pacing.next_begin(now.run, moves=True) if self._moving else math.inf)


def only_moves(stream: Stream, node: NodeId, least: int) -> bool:
    """Tell whether what is copied to `node` is for order, not for safety.

    It is no home, every home has all, and there are more of them than a write needs, `least`.
    """
    homes = stream.record().members
    if node in homes or len(homes) <= least or any(log.gaps.size for log in stream.logs.values()):
        return False
    followers = [f for f in stream.followers.values() if f.node in homes]
    return all(f.stage is Stage.FOLLOWING and not f.gaps for f in followers)


def next_gap(stream: Stream, follower: Follower) -> Gap | None:
    """Return a range that a home lacks and this node holds; forget those that are dead.

    What somebody waits for comes first.
    """
    for waiting in stream.waiting:
        for log_id, low, high in waiting.about if stream.has(waiting) else ():
            if log_id in follower.gaps and follower.gaps[log_id].overlap(low, high):
                return Gap(log_id, low, high, urgent=True)
    for log_id in list(follower.gaps):
        log, missing = stream.logs.get(log_id), follower.gaps[log_id]
        if log is None:
            del follower.gaps[log_id]
            continue
        for low, high in log.dead.ranges.within(0, missing.end):
            missing.remove(low, high)
        if not missing.size:
            del follower.gaps[log_id]
            continue
        held = RangeSet(missing)
        for low, high in log.gaps:
            held.remove(low, high)
        for low, high in held:
            if low < log.durable:
                return Gap(log_id, low, min(high, log.durable))
    return None
