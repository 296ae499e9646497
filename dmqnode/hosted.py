"""The partitions that this node leads in a cluster of several: opened, fed, served and closed again.

Each is served as a queue of its own, a shard (`fanout.shard_name`).  What a write group brought to one is
made known once enough homes have it; when the lease ends before that, its outcome is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from dmqnode.clock import Now
from dmqnode.effects import Reply
from dmqnode.errors import Refused, Unavailable, Unknown
from dmqnode.following import Ranges, Stream
from dmqnode.frontend import NOT_LEADER
from dmqnode.grants import NOBODY
from dmqnode.homesets import LeaseNumber
from dmqnode.ids import LogId, NodeId, PartitionId, QueueId, partition_id
from dmqnode.keys import PartitionKeys
from dmqnode.log import Log
from dmqnode.mending import adopt, fill, filled, gaps_of, lack, void
from dmqnode.messages import Message, Stored
from dmqnode.missing import Missing
from dmqnode.partition import Partition
from dmqnode.peer_messages import Fill
from dmqnode.pending import Shipment
from dmqnode.port import Then
from dmqnode.queue import Queue
from dmqnode.queues import Definition
from dmqnode.reads import Get, Procedure, Rows
from dmqnode.records import read_batch_head
from dmqnode.roster import RECORD, ROSTER
from dmqnode.shards import renamed, shard_name
from dmqnode.smallrows import Described, Gaps, encode_gaps, gaps_key
from dmqnode.taking import Taking
from dmqnode.upkeep import CLOSE_AFTER, LINGER
from storage.ops import WriteBatch

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering


class Hosted:
    """What this node leads."""

    def __init__(self, broker: Broker, clustering: Clustering) -> None:
        self._broker = broker
        self._clustering = clustering
        self.shards: dict[PartitionId, Queue] = {}
        self._serving: dict[PartitionId, None] = {}
        self._unanswered: dict[PartitionId, dict[int, Shipment]] = {}
        self._draining: dict[PartitionId, Then] = {}
        self.absent = Missing(broker, clustering)
        self.taking = Taking(broker, clustering)

    # --- opening -------------------------------------------------------------------------------------

    def open_partition(
        self,
        now: Now,
        partition: PartitionId,
        gaps: Gaps,
        then: Callable[[Now, dict[LogId, Log]], None],
        damaged: Callable[[list[bytes]], bool],
    ) -> None:
        """Load a partition from disk; call `then` with its logs."""
        broker = self._broker
        if partition == ROSTER:
            key = PartitionKeys.of(ROSTER).prefix + RECORD

            def read(now: Now, rows: Rows) -> None:
                self._clustering.rosters.loaded(now, rows.rows[0][1] if rows.rows else None)
                then(now, {})

            broker.reads.start(now, _get(key), read)
            return
        index = int.from_bytes(partition[8:], "big")
        definition = broker.registry.definition_of(QueueId(partition[:8]))
        if definition is None or index >= definition.settings.partitions:
            self._clustering.cluster.leases.release(partition)  # the queue is deleted
            return
        shard = Queue(
            renamed(definition),
            broker.new_log,
            broker.counters,
            broker.reads,
            broker.wake,
            base=index,
            key=shard_name(definition, index),
        )
        self.shards[partition] = shard

        def opened(now: Now, ops: WriteBatch) -> None:
            if self.shards.get(partition) is not shard:
                return
            if shard.damaged and damaged(shard.damaged):
                del self.shards[partition]
                shard.close()
                return
            broker.write_meta(ops, lambda now: None)
            (hosted,) = shard.partitions
            hosted.replicated = True
            hosted.frozen = self._clustering.walls.silent
            lack(hosted, gaps)
            broker.registry.by_partition[partition] = shard
            then(now, hosted.logs)

        shard.start_opening(now, opened)

    def sealed(self, partition: PartitionId) -> bool:
        """Tell whether only its leader takes sends to a partition: what it does not know dies (F2)."""
        definition = self._broker.registry.definition_of(QueueId(partition[:8]))
        return definition is not None and definition.settings.ordering == "fifo"

    def serve(self, now: Now, partition: PartitionId) -> None:
        """Deliver from now on, unless it is being handed over already: of what left now nobody would hear."""
        if partition in self._clustering.cluster.draining:
            return
        self._serving[partition] = None
        shard = self.shards.get(partition)
        if shard is not None:
            self._broker.registry.queues[shard.key] = shard
            shard.used_at = max(shard.used_at, now.run - CLOSE_AFTER + LINGER)
            for hosted in shard.partitions:
                self._broker.touched(now, hosted)
                self._broker.registry.delete_purged(now, hosted)
        self._clustering.front.leads_now(now, partition)

    def judged(self, now: Now) -> None:
        """This node's clock is, or is not any more, to be trusted with what is due and what expires (T1)."""
        walls, broker = self._clustering.walls, self._broker
        self.look(now)
        for hosted in (p for shard in self.shards.values() for p in shard.partitions):
            hosted.frozen = walls.silent
            broker.touched(now, hosted)
        if not walls.silent:
            broker.deliveries.serve_waiting(now)

    def look(self, now: Now) -> None:
        """Look at the clocks of the others, and lead nothing while this one is wrong."""
        self._clustering.walls.look(now)
        self.absent.step(now)
        cluster = self._clustering.cluster
        for partition in cluster.leads_all() if self._clustering.walls.off else ():
            cluster.hand_over(now, partition, cluster.successor(partition) or NOBODY)

    def served(self, partition: PartitionId) -> Queue | None:
        """Return the shard of a partition, if it is served here."""
        return self.shards.get(partition) if partition in self._serving else None

    def serves(self, partition: PartitionId) -> bool:
        """Tell whether a partition is served here; its lease is looked at besides."""
        return partition in self._serving

    def shard(self, partition: PartitionId) -> Queue:
        """Return what serves a partition.  Errors: Refused, if it is not served here."""
        shard = self.shards.get(partition)
        if shard is None or partition not in self._serving:
            raise not_leader(None)
        return shard

    # --- closing -------------------------------------------------------------------------------------

    def drain(self, now: Now, partition: PartitionId, then: Then) -> None:
        """Take nothing new, have what is known of deliveries written everywhere, then call `then`."""
        self._serving.pop(partition, None)
        shard = self.shards.get(partition)
        if shard is None:
            then(now)
            return
        self._send_away(now, shard)
        self._draining[partition] = then
        for hosted in shard.partitions:
            hosted.touch()
            self._broker.touched(now, hosted)

    def _send_away(self, now: Now, shard: Queue) -> None:
        self._broker.deliveries.refuse_all(now, shard, not_leader(None))

    def close_partition(self, now: Now, partition: PartitionId, unanswered: list[Then]) -> None:
        """The lease is over: forget the partition; what waited for copies is unknown."""
        broker = self._broker
        self._serving.pop(partition, None)
        shard = self.shards.pop(partition, None)
        self._draining.pop(partition, None)
        for shipment in self._unanswered.pop(partition, {}).values():
            if shipment.collected is not None:
                self._fail(shipment.collected.then)
        if shard is not None:
            broker.registry.queues.pop(shard.key, None)
            broker.registry.by_partition.pop(partition, None)
            self._send_away(now, shard)
            for hosted in shard.partitions:
                broker.forget(hosted)
                self._fail(hosted.abandon())
            shard.close()
        if partition == ROSTER:
            self._clustering.rosters.lost(now)
        self._clustering.front.lost(now, partition)

    def _fail(self, replies: Iterable[Reply]) -> None:
        error = Unknown("the node that took this request leads no more; whether it was done is unknown")
        for reply in replies:
            self._broker.refuse(reply.session, reply.number, error, reply.size)

    # --- copies --------------------------------------------------------------------------------------

    def shipped(self, shipment: Shipment) -> None:
        """What a write group changes was shipped; it is unanswered until `written`."""
        drained = self._draining.pop(shipment.partition, None)
        if drained is not None:
            shipment = shipment._replace(then=(*shipment.then, drained))
        self._unanswered.setdefault(shipment.partition, {})[shipment.seq] = shipment

    def written(self, now: Now, partition: PartitionId, number: LeaseNumber, seq: int) -> None:
        """A write group is on this disk: make known what it brought, once enough homes have it."""

        def known(now: Now) -> None:
            shipment = self._unanswered.get(partition, {}).pop(seq, None)
            if shipment is None:
                return
            if shipment.collected is not None:
                self._broker.make_known(now, shipment.collected)
            for then in shipment.then:
                then(now)

        shipment = self._unanswered.get(partition, {}).get(seq)
        brought, relied = ((), ()) if shipment is None else _messages_of(shipment)
        self._clustering.cluster.streams.written(now, partition, number, seq, known, brought, relied)

    def adopt(self, now: Now, partition: PartitionId, described: Described, *, certain: bool) -> None:
        """A home shows what this node may not know."""
        shard = self.shards.get(partition)
        if shard is None:
            return
        owed = self.absent.owed(now, partition)
        for hosted in shard.partitions:
            for log, died in adopt(hosted, described, certain=certain, owed=owed).items():
                for low, high in died:
                    void(hosted, log, low, high)
            self.keep_gaps(hosted)
            self._broker.touched(now, hosted)
            self._broker.registry.delete_purged(now, hosted)

    def keep_gaps(self, hosted: Partition) -> None:
        """Write what a partition led here lacks."""
        ops = WriteBatch()
        ops.put(gaps_key(hosted.keys), encode_gaps(gaps_of(hosted)))
        self._broker.write_meta(ops, lambda now: None)

    def looked(self, now: Now, sender: NodeId, fill: Fill) -> None:
        """What a home, or this node itself, has found on its disk is taken in."""
        self.absent.looked(now, sender, fill)

    def take_in(self, now: Now, fill_: Fill, then: Then) -> None:
        """A home sent batches that were lacking; call `then` once they are in, unless there is none."""
        partition, log, batches = fill_.partition, fill_.log, fill_.batches
        shard = self.shards.get(partition)
        if shard is None:
            return
        for hosted in shard.partitions:
            ops = fill(hosted, log, batches)

            def brought(now: Now, hosted: Partition = hosted) -> None:
                if hosted.gone:
                    return
                filled(now, hosted, log, batches)
                self.keep_gaps(hosted)
                self._broker.touched(now, hosted)
                self._broker.registry.delete_purged(now, hosted)
                self._broker.deliveries.serve(now, shard)
                self._clustering.cluster.streams.look_again(now, partition)
                then(now)

            if not len(ops):
                then(now)  # it came meanwhile: ask on
            else:
                # What came meanwhile is not in this entry: a home that begins to follow may lack it still.
                written = {key for key, _ in ops}
                new = [b for b in batches if hosted.keys.batch(log, b.first) in written]
                ranges = tuple((log, b.first, b.first + read_batch_head(b.record)[1]) for b in new)
                self._clustering.replicate(now, partition, ops, brought, ranges)

    def changed(self, now: Now, shard: Queue, hosted: Partition) -> None:
        """Something of what is lacking died: others may go on."""
        self.keep_gaps(hosted)
        self._broker.touched(now, hosted)
        self._broker.registry.delete_purged(now, hosted)
        self._broker.deliveries.serve(now, shard)

    def unblock(self, now: Now, stream: Stream, lost: Gaps) -> None:
        """Answers that rely on what no home has would wait for ever: their outcome is unknown.

        What is not an answer goes on without what is lost, and has to look whether it is there (Taking).
        """
        for at, waiting in enumerate(stream.waiting):
            there = [r for r in waiting.relied if r[0] not in lost or not lost[r[0]].overlap(r[1], r[2])]
            if len(there) == len(waiting.relied):
                continue
            shipment = self._unanswered.get(stream.partition, {}).get(waiting.seq)
            if shipment is not None and shipment.collected is not None:
                then = shipment.collected.then
                repeated = [r for r in then if isinstance(r.message, Stored) and r.message.duplicates]
                then[:] = [r for r in then if r not in repeated]
                self._fail(repeated)
                there = [r for r in there if r in shipment.relied]  # not what only these answers relied on
            stream.waiting[at] = waiting._replace(relied=tuple(there))
        self._clustering.cluster.streams.look_again(now, stream.partition)

    def unreadable(self, now: Now, partition: PartitionId, log: LogId, low: int, high: int) -> None:
        """Messages that should be here cannot be read, as a home found that wanted them: they are lacking."""
        shard = self.shards.get(partition)
        for hosted in shard.partitions if shard is not None else ():
            found = hosted.logs[log]
            for a, b in found.open_pieces(low, high):
                found.gaps.add(a, b)
                if found.delayed:  # counted again once it is here
                    hosted.undue = max(0, hosted.undue - max(0, min(b, found.durable) - a))
            self.keep_gaps(hosted)

    def unlike(self, partition: PartitionId, node: NodeId) -> None:
        """The small records of a home are not those of this node: take the lease anew, so that they merge."""
        self._clustering.cluster.outnumbered[partition] = None
        name = self._clustering.overview.name_of(node)
        found: dict[str, object] = {"partition": partition.hex(), "home": name}
        self._broker.surroundings.report("two copies of a partition differ; they are merged", found)

    def missing(self, partition: PartitionId) -> Gaps:
        """Return what the copy led here lacks."""
        shard = self.shards.get(partition)
        found: Gaps = {}
        for hosted in shard.partitions if shard is not None else ():
            found.update(gaps_of(hosted))
        return found

    def redefine(self, definition: Definition) -> None:
        """The settings of a queue have changed."""
        for index in range(definition.settings.partitions):
            shard = self.shards.get(partition_id(definition.id, index))
            if shard is not None:
                shard.redefine(renamed(definition))

    def drop(self, now: Now, definition: Definition, error: Refused) -> None:
        """A queue is deleted: give up what is led of it."""
        for index in range(definition.settings.partitions):
            partition = partition_id(definition.id, index)
            shard = self.shards.get(partition)
            if shard is not None:
                self._broker.deliveries.refuse_all(now, shard, error)
            self._clustering.cluster.abandon(now, partition)

    def forwarded(self, now: Now, sender: NodeId, message: Message) -> bool:
        """Take in what belongs to requests that travel between nodes."""
        return self._clustering.front.receive(now, sender, message)


def _messages_of(shipment: Shipment) -> tuple[Ranges, Ranges]:
    """Return which messages a write group brought, and which others its answers speak of."""
    if shipment.collected is None:
        return shipment.brought, shipment.relied
    appended = tuple((s.log.id, s.first, s.end) for s in shipment.collected.appended)
    answers = (reply.message for reply in shipment.collected.then)
    relied = [
        (log, first, first + count)
        for answer in answers
        if isinstance(answer, Stored) and answer.duplicates
        for log, first, count in answer.runs
    ]
    return shipment.brought + appended, (*shipment.relied, *relied)


def not_leader(leader: NodeId | None) -> Refused:
    """Return the refusal that sends a request on: to `leader`, or to look for one."""
    return Unavailable("" if leader is None else leader.hex(), code=NOT_LEADER)


def _get(key: bytes) -> Procedure[Rows]:
    return (yield Get((key,)))
