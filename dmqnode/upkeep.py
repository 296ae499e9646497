"""What is done now and then, in small steps: forgetting, expiring, closing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmqnode.clock import Now
from dmqnode.queue import Queue
from storage.ops import WriteBatch

if TYPE_CHECKING:
    from dmqnode.broker import Broker

PERIOD = 1.0
SWEEP_EVERY = 30
"""Periods between two looks at one open partition for what is over in time."""
CLOSE_AFTER = 300.0
"""Seconds after its last use that a queue's partitions are closed."""
LINGER = 10.0
"""The same for one that was only opened to be visited."""
MAX_OPEN = 2000
"""Queues beyond which idle ones are closed at once, least recently used first."""
AWAITED = 8
"""Which part of the memory limit the sends may take that are remembered for who is away."""


class Upkeep:
    """Runs once a second."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._round = 0
        self._visit: list[str] = []
        self._share = 1.0
        """How much may stay of what is remembered for who is away."""
        self._expiring: dict[Queue, None] = {}
        """Queues that are read to find what is too old."""

    def run(self, now: Now) -> None:
        """Do what is due and ask for the next second."""
        broker = self._broker
        broker.deadlines.set(("upkeep", 0, 0), now.run + PERIOD)
        if not broker.registry.loaded:
            return
        self._round += 1
        opened = [q for q in broker.registry.queues.values() if q.open]
        remembered = sum(p.dedup.size for q in opened for p in q.partitions)
        self._share = min(1.0, broker.config.memory_limit / AWAITED / max(1, remembered))
        for n, queue in enumerate(opened):
            if (n + self._round) % SWEEP_EVERY == 0:
                self._sweep(now, queue)
        self._shrink(opened)
        self._close(now, opened)
        self._visit_closed(now)

    def _sweep(self, now: Now, queue: Queue) -> None:
        broker = self._broker
        if any(partition.frozen for partition in queue.partitions):
            return
        self._expire(now, queue)
        for partition in queue.partitions:
            clustering = broker.clustering
            awaited = clustering is not None and clustering.hosted.absent.expects_more(now, partition.id)
            partition.dedup.sweep(now.wall // 60_000, awaited=awaited, share=self._share)
            broker.touched(now, partition)

    def _expire(self, now: Now, queue: Queue) -> None:
        """Drop what is too old, for nobody may ever ask for it: a page at a time, on disk before the next."""
        if not queue.open or any(partition.frozen for partition in queue.partitions):
            return
        broker = self._broker
        limit = now.wall - round(queue.definition.settings.retention * 1000)
        killed = 0
        for partition, reader in zip(queue.partitions, queue.readers, strict=True):
            killed += partition.kill(partition.ready.take_expired(limit))
            if not partition.ready:
                reader.fill(now)
            if reader.busy:
                self._expiring[queue] = None
            broker.touched(now, partition)
        broker.counters.expired += killed
        if killed:
            broker.write_meta(WriteBatch(), lambda now: self._expire(now, queue))

    def looked(self, now: Now, queue: Queue) -> None:
        """A read brought something for `queue`: go on if that was to look for what is too old."""
        if queue in self._expiring:
            del self._expiring[queue]
            self._expire(now, queue)

    def _shrink(self, opened: list[Queue]) -> None:
        """Keep what was read ahead within a quarter of the memory limit."""
        limit = self._broker.config.memory_limit // 4
        total = sum(q.cached for q in opened)
        for queue in sorted(opened, key=lambda q: q.used_at) if total > limit else ():
            if total <= limit:
                return
            total -= queue.cached
            queue.drop_cache()

    def _close(self, now: Now, opened: list[Queue]) -> None:
        excess = len(opened) - MAX_OPEN
        for queue in sorted(opened, key=lambda q: q.used_at):
            if excess <= 0 and now.run - queue.used_at < CLOSE_AFTER:
                return
            if not queue.idle:
                continue
            if self._broker.clustering is not None:
                excess -= self._broker.clustering.cluster.rest(now, [p.id for p in queue.partitions])
            else:
                excess -= 1
                for partition in queue.partitions:
                    self._broker.forget(partition)
                queue.rest()

    def _visit_closed(self, now: Now) -> None:
        """Open one queue that nobody uses, so that time passes for it, too."""
        queues = self._broker.registry.queues
        if self._broker.clustering is not None:  # then the mender visits them
            self._visit.clear()
        if self._round % 5 or self._broker.clustering is not None:
            return
        if not self._visit:
            self._visit = list(queues)
        while self._visit:
            queue = queues.get(self._visit.pop())
            if queue is not None and not queue.open and not queue.opening:
                self._broker.when_open(now, queue, lambda now, q=queue: self._visited(now, q))  # type: ignore[misc]
                return

    def _visited(self, now: Now, queue: Queue) -> None:
        self._sweep(now, queue)
        queue.used_at = now.run - CLOSE_AFTER + LINGER
