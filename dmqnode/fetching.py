"""What a leader's own copy lacks it asks the homes for, page by page: one page at a time of a partition.

    gaps ──Fetch──> a home that holds some of it ──Fill──> taken in, and asked on
                                                └─ nothing there, or no answer ──> another, or once more

A Fill that answers something else, a look for what no home is believed to have (`missing`), is taken in like
any other, but nothing is asked for because of it: each would begin a chain of its own.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from dmqnode.clock import Now
from dmqnode.following import Stream
from dmqnode.hosting import Hosting
from dmqnode.ids import LogId, NodeId, PartitionId
from dmqnode.peer_messages import Fetch, Fill
from dmqnode.port import Port
from dmqnode.whereabouts import first_held

PATIENCE = 5.0
"""Seconds after which a page that has not come is asked for once more."""


class _Asked(NamedTuple):
    until: float
    node: NodeId
    log: LogId
    low: int


class Fetching:
    """Asks for what is lacking, for all partitions that a node leads.

    Arguments:
        port: to the homes.
        hosting: what runs the partitions led here.
    """

    def __init__(self, port: Port, hosting: Hosting) -> None:
        self._port = port
        self._hosting = hosting
        self._asked: dict[PartitionId, _Asked] = {}

    def fetch(self, now: Now, stream: Stream) -> None:
        """Ask a home for what this copy lacks, unless somebody has been asked a moment ago."""
        gaps = self._hosting.missing(stream.partition)
        asked = self._asked.get(stream.partition)
        if not gaps or now.run < (-math.inf if asked is None else asked.until):
            return
        if (found := first_held(stream, gaps)) is not None:
            node, (log, low, high) = found
            self._asked[stream.partition] = _Asked(now.run + PATIENCE, node, log, low)
            self._port.send(node, Fetch(stream.partition, stream.number.n, log, low, high))

    def go_on(self, now: Now, sender: NodeId, stream: Stream, fill: Fill) -> None:
        """What a home sent is taken in: ask on if it answers what was asked for."""
        asked = self._asked.get(fill.partition)
        if asked is not None and (asked.node, asked.log, asked.low) == (sender, fill.log, fill.low):
            del self._asked[fill.partition]
            self.fetch(now, stream)

    def leave(self, partition: PartitionId) -> None:
        """This node does not lead a partition any more."""
        self._asked.pop(partition, None)
