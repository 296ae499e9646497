"""What a client was told of leaders: which node to ask about a queue or a partition, if any is better.

It is advice, never a condition: every node has every request done, so wrong advice costs a hop.
"""

from __future__ import annotations

from typing import NamedTuple

from dmqnode.ids import PartitionId, choose_partition
from dmqnode.messages import Leads

MOST_QUEUES = 1000
"""Queues of which the leaders are remembered; beyond, the one first heard of is forgotten."""
MOST_PARTITIONS = 4096
KEPT = 600.0
"""Seconds after which what was told is not gone by any more, unless its leader is connected."""
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0
"""Seconds for which an address that did not serve is left alone, at first and at most."""
LOST_PAUSE = 1.0
"""The same for one that served, and was lost."""
MOST_AVOIDED = 256


class Lead(NamedTuple):
    """A node that leads something, as it was told at `told` (running time)."""

    node: str
    address: str
    told: float


class _Queue:
    """The leaders of one queue's partitions, as far as is known."""

    __slots__ = ("count", "keyed", "sole", "where")

    def __init__(self, count: int) -> None:
        self.count = count
        self.where: dict[int, Lead] = {}
        self.keyed = False
        """Whether what this client sends to it is spread over the partitions."""
        self.sole: Lead | None = None
        """The one who leads them all."""

    def look(self) -> None:
        """The leaders have changed: see whether there is one for all."""
        found = [self.where.get(index) for index in range(self.count)]
        first = found[0]
        same = first is not None and all(lead is not None and lead.node == first.node for lead in found)
        self.sole = first if same else None


class Leaders:
    """Who leads what.

    Arguments:
        producer: names the client's sends, and with that their partition of each queue.
    """

    def __init__(self, producer: bytes) -> None:
        self._producer = producer
        self._queues: dict[str, _Queue] = {}
        self._partitions: dict[PartitionId, str] = {}
        """The queue that each partition is of."""
        self._avoided: dict[str, tuple[int, float]] = {}
        """Address -> (how often it has failed, until when it is left alone)."""

    def __bool__(self) -> bool:
        return bool(self._queues)

    def learn(self, now: float, news: Leads) -> None:
        """A node has said who leads a partition."""
        index = int.from_bytes(news.partition[8:], "big")
        if not index < news.partitions:
            return
        queue = self._queues.get(news.queue)
        if queue is None or queue.count != news.partitions:
            self._forget_queue(news.queue)
            if len(self._queues) >= MOST_QUEUES or len(self._partitions) >= MOST_PARTITIONS:
                self._forget_queue(next(iter(self._queues)))
            queue = self._queues[news.queue] = _Queue(news.partitions)
        self._partitions[news.partition] = news.queue
        queue.where[index] = Lead(news.node, news.address, now)
        queue.look()

    def _forget_queue(self, name: str) -> None:
        if self._queues.pop(name, None) is not None:
            self._partitions = {p: queue for p, queue in self._partitions.items() if queue != name}

    def forget(self, address: str) -> None:
        """Who is reached there is not gone to any more, until that is told again."""
        for name, queue in list(self._queues.items()):
            queue.where = {i: lead for i, lead in queue.where.items() if lead.address != address}
            queue.look()
            if not queue.where:
                self._forget_queue(name)

    # --- asking --------------------------------------------------------------------------------------

    def for_send(self, queue: str, *, keyed: bool) -> Lead | None:
        """Return who leads the partition that a send goes to, None where that is not known.

        Arguments:
            keyed: its messages have groups or dedup ids, by which they are spread.  From then on all sends
                to the queue go one way, for their order.
        """
        known = self._queues.get(queue)
        if known is None:
            return None
        known.keyed = known.keyed or keyed
        if known.sole is not None or known.keyed:
            return known.sole
        return known.where.get(choose_partition(known.count, self._producer))

    def for_all(self, queue: str) -> Lead | None:
        """Return who leads all partitions of a queue, None where that is not one."""
        known = self._queues.get(queue)
        return None if known is None else known.sole

    def for_partition(self, partition: PartitionId) -> Lead | None:
        """Return who leads a partition, None where that is not known."""
        name = self._partitions.get(partition)
        known = None if name is None else self._queues.get(name)
        return None if known is None else known.where.get(int.from_bytes(partition[8:], "big"))

    # --- addresses that do not serve -----------------------------------------------------------------

    def avoids(self, now: float, lead: Lead) -> bool:
        """Tell whether a leader is not to be dialled now."""
        return self._avoided.get(lead.address, (0, 0.0))[1] > now or lead.told + KEPT < now

    def failed(self, now: float, address: str, *, served: bool) -> None:
        """An address does not serve: leave it alone for a while, longer each time.

        Arguments:
            served: it did before.
        """
        self.forget(address)
        times = self._avoided.pop(address, (0, 0.0))[0] + 1
        pause = min(LONGEST_PAUSE, (LOST_PAUSE if served else FIRST_PAUSE) * 2 ** min(times - 1, 16))
        if len(self._avoided) >= MOST_AVOIDED:
            del self._avoided[next(iter(self._avoided))]
        self._avoided[address] = (times, now + pause)

    def served(self, address: str) -> None:
        """An address serves well: what it failed before does not count any more."""
        self._avoided.pop(address, None)
