"""Giving back the room of deleted queues, in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmqnode.clock import Now
from dmqnode.effects import Compact
from dmqnode.ids import QueueId
from dmqnode.keys import queue_key, queue_range
from dmqnode.port import Then
from dmqnode.reads import Procedure, Rows, Scan
from storage.ops import WriteBatch

if TYPE_CHECKING:
    from dmqnode.broker import Broker

RECLAIM_ROWS = 1024
AGAIN = 5.0
"""Seconds after which it is looked again in a cluster: what a copy had begun to do was written after all."""


class Reclaiming:
    """The deleted queues of which something is still on disk."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._queues: set[QueueId] = set()

    def __contains__(self, queue: QueueId) -> bool:
        return queue in self._queues

    def expect(self, queue: QueueId) -> None:
        """A queue is being deleted: its id is taken until nothing of it is left."""
        self._queues.add(queue)

    def begin(self, now: Now, queue: QueueId) -> None:
        """Delete what a deleted queue left on disk, then, on a lone node, the record that says so.

        A page at a time, each on disk before the next is read.
        """
        self._queues.add(queue)
        clustering = self._broker.clustering

        def done(now: Now) -> None:
            self._queues.discard(queue)
            if clustering is not None:
                clustering.later(now, AGAIN, lambda now: self._go_on(now, queue, start, lambda now: None))

        start = queue_range(queue)[0]
        self._go_on(now, queue, start, done)

    def _go_on(self, now: Now, queue: QueueId, start: bytes, done: Then) -> None:
        broker = self._broker

        def reclaimed(now: Now, page: Rows) -> None:
            ops = WriteBatch()
            for key, _ in page.rows:
                ops.delete(key)
            onward = page.rows[-1][0] + b"\x00" if page.rows else start
            if not page.more and broker.clustering is None:
                ops.delete(queue_key(queue))
            broker.write_meta(ops, lambda now: on_disk(now, onward, more=page.more))

        def on_disk(now: Now, onward: bytes, *, more: bool) -> None:
            if more:
                self._go_on(now, queue, onward, done)
            else:
                done(now)
                broker.compactions.append(Compact(*queue_range(queue)))

        broker.reads.start(now, _page(Scan(start, queue_range(queue)[1], RECLAIM_ROWS)), reclaimed)


def _page(scan: Scan) -> Procedure[Rows]:
    return (yield scan)
