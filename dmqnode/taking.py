"""The leader's side of debts: what others took in while nobody led comes home (C1, C4, C5).

Offer ──> new: taken in, as one entry ──> enough homes have it ──> Taken: its keeper forgets it
      ├─> repeats what is on enough homes for certain ──> dies ──> Taken
      ├─> repeats what is lost ──> stands for it; if it is dead itself it is sent anew, and offered again
      └─> repeats what few homes hold so far: not answered, and offered again
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dmqnode.clock import Now
from dmqnode.following import Ranges
from dmqnode.ids import LogId, NodeId, PartitionId, acceptor_of
from dmqnode.mending import await_more, filled, give_up, unclaimed
from dmqnode.owing import give_up_for, named, repeated, settled, take_debt
from dmqnode.partition import Partition
from dmqnode.peer_messages import BatchRecord, Debt, Offer, Taken
from dmqnode.queue import Queue
from dmqnode.ranges import RangeSet
from dmqnode.records import read_batch_head
from dmqnode.smallrows import Gaps
from storage.ops import WriteBatch

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering


class Taking:
    """Takes debts in."""

    def __init__(self, broker: Broker, clustering: Clustering) -> None:
        self._broker = broker
        self._clustering = clustering

    def take(self, now: Now, sender: NodeId, offer: Offer) -> None:
        """A node hands over what it took in while nobody led; it may forget it once the homes have it.

        What repeats a send that few homes hold so far is not taken before that has come about (C5).
        """
        partition = offer.partition
        shard = self._clustering.hosted.served(partition)
        if shard is None or not shard.partitions:
            return  # it is offered again, to whoever leads then
        (hosted,) = shard.partitions
        ops, debts, repeats, relied = WriteBatch(), list[Debt](), list[Debt](), list[tuple[LogId, int, int]]()
        brought, held = list[tuple[LogId, int, int]](), list[tuple[LogId, int, int]]()
        claims = {log: RangeSet.decode(owed) for log, _, owed in offer.owed}
        self._clustering.hosted.absent.claimed(now, partition, sender, claims)
        for debt in offer.debts:
            # One by one: what was taken in a moment ago is not safe yet.
            ranges = self._first_of(now, hosted, debt)
            if ranges is None:
                continue
            if not ranges and settled(hosted, debt) and not self._whole(now, partition):
                continue  # where its first went is not known any more: it may be lacking
            if not ranges:
                record = take_debt(now, hosted, debt)
                ops.extend(record)
                hosted.elsewhere.coming[debt.log, debt.first] = None
                debts.append(debt)
                # What this copy holds already, or is dead, the entry does not bring to the others.
                (brought if len(record) else held).append(_range(debt))
            elif self._safe(hosted, ranges):
                repeats.append(debt)
                relied += ranges
        left: Gaps = {}
        for log, end, owed in offer.owed:
            await_more(hosted, log, end)
            if acceptor_of(log) == sender:
                left[log] = unclaimed(hosted, log, end, RangeSet.decode(owed))
        # What it owed before, an earlier leader may have taken in, whose homes this one has not heard yet.
        if left:
            give_up(hosted, self._clustering.cluster.streams.unshown(partition, left))
        self._take(now, hosted, sender, shard, ops, debts, (brought, held))
        if repeats:
            # What they repeat must be safe for certain; then they die, and that is told.
            safe = partial(self._repeats, hosted=hosted, sender=sender, shard=shard, debts=repeats)
            self._clustering.replicate(now, partition, WriteBatch(), safe, relied=tuple(relied))

    def _whole(self, now: Now, partition: PartitionId) -> bool:
        """Tell whether enough homes have everything but what is owed."""
        owed = self._clustering.hosted.absent.owed(now, partition)
        return self._clustering.cluster.streams.whole(partition, owed)

    def _safe(self, hosted: Partition, ranges: Ranges) -> bool:
        coming = any((log, first) in hosted.elsewhere.coming for log, first, _ in ranges)
        return not coming and self._clustering.cluster.streams.spread(hosted.id, ranges)

    def _first_of(self, now: Now, hosted: Partition, debt: Debt) -> Ranges | None:
        """Return where that went which a debt repeats; where that is lost, the debt stands for it.

        None if it was sent anew: once that is safe it is what the debt repeats.
        """
        ranges = _first_ranges(hosted, debt)
        if not ranges or any((log, first) in hosted.elsewhere.coming for log, first, _ in ranges):
            return ranges  # it is neither lost nor safe so far
        lost = self._clustering.cluster.streams.nowhere(hosted.id, ranges)
        if not lost:
            return ranges
        return None if give_up_for(now, hosted, debt, lost) else _first_ranges(hosted, debt)

    def _repeats(self, now: Now, hosted: Partition, sender: NodeId, shard: Queue, debts: list[Debt]) -> None:
        """What some debts repeat is on enough homes: they die."""
        if hosted.gone:  # led no more, perhaps again: they are offered again
            return
        # But for what was found to be lacking meanwhile: nobody waits for that (Hosted.unblock).
        debts = [debt for debt in debts if self._safe(hosted, _first_ranges(hosted, debt))]
        ops = WriteBatch()
        for debt in debts:
            ops.extend(take_debt(now, hosted, debt))
        self._take(now, hosted, sender, shard, ops, debts, ([_range(debt) for debt in debts], []))

    def _take(
        self,
        now: Now,
        hosted: Partition,
        sender: NodeId,
        shard: Queue,
        ops: WriteBatch,
        debts: list[Debt],
        messages: tuple[list[tuple[LogId, int, int]], list[tuple[LogId, int, int]]],
    ) -> None:
        """Write what debts bring; `messages` are those that `ops` brings, and those that are here already."""
        self._clustering.hosted.keep_gaps(hosted)
        self._broker.touched(now, hosted)
        brought, held = map(tuple, messages)
        taken = partial(self._taken, hosted=hosted, sender=sender, shard=shard, debts=debts, held=held)
        self._clustering.replicate(now, hosted.id, ops, taken, brought, held)

    def _taken(
        self, now: Now, hosted: Partition, sender: NodeId, shard: Queue, debts: list[Debt], held: Ranges
    ) -> None:
        """Enough homes have what debts brought: their keeper may forget them.

        Not so what was `held` here, and was found to be damaged while this waited: it is offered again.
        """
        lacking = {r for r in held if (log := hosted.logs.get(r[0])) and log.gaps.overlap(r[1], r[2])}
        there = [debt for debt in debts if _range(debt) not in lacking]
        if not hosted.gone:
            for debt in debts:
                hosted.elsewhere.coming.pop((debt.log, debt.first), None)
            for debt in there:
                filled(now, hosted, debt.log, [BatchRecord(debt.first, debt.record)])
            self._clustering.hosted.keep_gaps(hosted)
            self._broker.touched(now, hosted)
            self._broker.registry.delete_purged(now, hosted)
            self._broker.deliveries.serve(now, shard)
            self._clustering.cluster.streams.look_again(now, hosted.id)
            self._clustering.crossings.merging.look_again(now, hosted.id)
        self._clustering.send(sender, Taken(hosted.id, [(d.log, d.first) for d in there]))


def _first_ranges(hosted: Partition, debt: Debt) -> Ranges:
    """Return where that went which a debt repeats, all of it or the messages with some of its dedup ids."""
    runs = [*repeated(hosted, debt), *named(hosted, debt)]
    return tuple((log, first, first + count) for log, first, count in runs)


def _range(debt: Debt) -> tuple[LogId, int, int]:
    return debt.log, debt.first, debt.first + read_batch_head(debt.record)[1]
