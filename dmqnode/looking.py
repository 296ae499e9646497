"""Homes look on their disks for messages that none of them is believed to have, before these are given up.

    leader ──Fetch──> one home, itself first ──Fill──> what it found is taken in, then the next page
                                                  └─ its disk was looked through: the next home

What is lost is lost for good, and what is known of a copy may be wrong.  One home after the other, and one
page at a time: what one has found the next need not read and send, too, and nothing waits in memory for the
leader's disk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from dmqnode.clock import Now
from dmqnode.following import Stream
from dmqnode.homesets import LeaseNumber
from dmqnode.ids import LogId, NodeId
from dmqnode.peer_messages import Fetch
from dmqnode.ranges import RangeSet
from dmqnode.smallrows import Gaps

ASK_AGAIN = 8.0
"""Seconds after which a home that has not said what it found is asked once more."""
TOGETHER = 512
"""Ranges that are asked for at once, where nothing lives between them."""


class Looking:
    """How far the homes of one partition have looked; under one lease, for what it takes in ends with that.

    Arguments:
        number: of the lease.
    """

    def __init__(self, number: LeaseNumber) -> None:
        self.number = number
        self._reached: dict[NodeId, dict[LogId, int]] = {}
        """Up to where each has looked, in each log."""
        self._asked: tuple[NodeId, LogId, int] | None = None
        self._until = -math.inf

    def next_page(
        self, now: Now, stream: Stream, homes: Iterable[NodeId], gaps: Gaps
    ) -> tuple[NodeId, Fetch] | None:
        """Return whom to ask for what; None while somebody is asked, or if all have looked for everything."""
        if now.run < self._until:
            return None
        for node in homes:
            reached = self._reached.setdefault(node, {})
            for log, wanted in gaps.items():
                page = _page(stream, LogId(log), wanted, reached.get(LogId(log), 0))
                if page is not None:
                    low, high = page
                    self._asked, self._until = (node, LogId(log), low), now.run + ASK_AGAIN
                    return node, Fetch(stream.partition, self.number.n, LogId(log), low, high)
                reached[LogId(log)] = max(reached.get(LogId(log), 0), wanted.end)
        return None

    def answered(self, node: NodeId, log: LogId, low: int, high: int) -> bool:
        """A home has said what it found, and that is taken in; tell whether it is what was asked for."""
        if self._asked != (node, log, low):
            return False
        self._reached[node][log] = high
        self._asked, self._until = None, -math.inf
        return True

    def looked_for(self, homes: Iterable[NodeId], gaps: Gaps) -> Gaps:
        """Return what of some gaps all of these homes have looked for."""
        reached = [self._reached.get(node, {}) for node in homes]
        found: Gaps = {}
        for log, wanted in gaps.items():
            upto = min((seqs.get(LogId(log), 0) for seqs in reached), default=0)
            if pieces := wanted.within(0, upto):
                found[log] = RangeSet(pieces)
        return found


def _page(stream: Stream, log: LogId, wanted: RangeSet, low: int) -> tuple[int, int] | None:
    """Return what to ask for in a log from `low` on; what lies behind it, too, if all between is dead."""
    known = stream.logs.get(log)
    piece = wanted.first_from(low)
    while piece is not None and known is not None and not known.gaps.overlap(*piece):
        piece = wanted.first_from(piece[1])  # it has come meanwhile
    if piece is None or known is None:
        return piece
    low, high = piece
    for _ in range(TOGETHER):
        behind = wanted.first_from(high)
        if behind is None or not known.dead.ranges.covers(high, behind[0]):
            break
        high = behind[1]
    return low, high
