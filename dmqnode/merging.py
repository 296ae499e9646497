"""Two queues of one name: they were created on two sides of a split, and both live (rule T3).

    the definitions meet ──> the one created first keeps the name, the other gives way
      ──> each partition of it is asked for, so that somebody leads it ──> its leader sends what is ready to
          the queue of the name, marks it dead here, and goes on until nothing is left

What is with consumers can be acked meanwhile; what is delayed, or comes late from a stand-in, moves when it
is ready.  The queue that gave way stays, empty, for such latecomers; it goes when the name is deleted.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from dmqnode.batch import Batch, parse
from dmqnode.clock import Now
from dmqnode.dedup import WINDOW_MINUTES
from dmqnode.ids import PartitionId, QueueId, message_id, partition_id
from dmqnode.messages import Delivered, GetQueue, Message, Part, QueueInfo, Send, SetQueue, Stored
from dmqnode.partition import Partition
from dmqnode.queue import Queue
from dmqnode.queues import Definition
from dmqnode.shards import shard_name

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering
    from dmqnode.crossings import Crossings

EVERY = 2.0
"""Seconds between two questions whether a partition is empty by now."""
MOVE_AT_ONCE = 1024
MERGED = "merged"
"""The code of a refusal between nodes: this queue gave way to another one of its name."""
ASKED_FIRST = (WINDOW_MINUTES + 1) * 60.0
"""Seconds during which a queue that gave way is asked first whether it knows a send: as long as it may."""


class Merging:
    """The queues that give way to another of their name, and the moves of those led here."""

    def __init__(self, broker: Broker, clustering: Clustering, crossings: Crossings) -> None:
        self._broker = broker
        self._clustering = clustering
        self._crossings = crossings
        self._since: dict[QueueId, float] = {}
        self._pending: dict[PartitionId, None] = {}
        """Of queues that give way, what is not known to be empty."""
        self._moving: set[PartitionId] = set()
        self._due = False

    # --- which give way ------------------------------------------------------------------------------

    def noticed(self, now: Now, name: str) -> None:
        """There are several queues of this name."""
        for definition in self._broker.registry.giving_way(name):
            self._since.setdefault(definition.id, now.run)
            for index in range(definition.settings.partitions):
                self._pending[partition_id(definition.id, index)] = None
        self._clustering.fanout.polls.grown(now, name)
        self._wake(now, 0.0)

    def look_again(self, now: Now, partition: PartitionId) -> None:
        """Something came to a partition, or may have: if its queue gives way, it is to move."""
        if self._winner(partition) is not None:
            self._pending[partition] = None
            self._wake(now, EVERY)

    @property
    def under_way(self) -> bool:
        """Whether some queue gave way since the start."""
        return bool(self._since)

    def asked_first(self, now: Now, name: str) -> list[Definition]:
        """Return the queues that may know a send which is repeated, though they gave way."""
        if not self._since:
            return []
        found = self._broker.registry.giving_way(name)
        return [d for d in found if now.run < self._since.get(d.id, now.run) + ASKED_FIRST]

    def _winner(self, partition: PartitionId) -> Definition | None:
        return self._broker.registry.winner_over(QueueId(partition[:8]))

    def _wake(self, now: Now, seconds: float) -> None:
        if self._pending and not self._due:
            self._due = True
            self._clustering.later(now, seconds, self._step)

    def _step(self, now: Now) -> None:
        """Ask for each partition that is not known to be empty; its leader moves what it has."""
        for partition in list(self._pending):
            winner = self._winner(partition)
            definition = self._broker.registry.definition_of(QueueId(partition[:8]))
            if winner is None or definition is None:
                del self._pending[partition]
                continue
            self._widen(now, winner, definition)
            index = int.from_bytes(partition[8:], "big")
            question = GetQueue(shard_name(definition, index))
            self._crossings.ask(now, definition, index, question, partial(self._told, partition))
        self._due = False
        self._wake(now, EVERY)

    def _told(self, partition: PartitionId, now: Now, answer: Message) -> None:
        if isinstance(answer, QueueInfo):
            info = answer.info
            if not info["ready"] + info["delayed"] + info["in_flight"]:
                self._pending.pop(partition, None)

    def _widen(self, now: Now, winner: Definition, loser: Definition) -> None:
        """Of the two numbers of partitions the greater holds, where the number may change."""
        count = loser.settings.partitions
        if count <= winner.settings.partitions or winner.settings.ordering == "fifo":
            return
        request = SetQueue(shard_name(winner, 0), {"partitions": count})
        self._crossings.ask(now, winner, 0, request, lambda now, answer: None)

    # --- at the leader -------------------------------------------------------------------------------

    def knows(self, request: Send, shard: Queue) -> bool:
        """Tell whether a send came here before this queue gave way."""
        (partition,) = shard.partitions
        return bool(request.producer) and bool(partition.dedup.find(request.producer, request.sequence))

    def move(self, now: Now, partition: PartitionId) -> None:
        """Move what is ready of a partition that is led here, one step at a time."""
        shard = self._clustering.hosted.shards.get(partition)
        if partition in self._moving or shard is None:
            return
        if shard.definition.settings.paused:  # its settings do not count any more
            settings = replace(shard.definition.settings, paused=False)
            shard.redefine(replace(shard.definition, settings=settings))
        self._moving.add(partition)

        def taken(now: Now, delivered: Delivered) -> None:
            if delivered.parts:
                self._send(now, partition, delivered)
            else:
                self._moving.discard(partition)

        self._broker.deliveries.take_for(
            now, shard, MOVE_AT_ONCE, "merge", taken, lambda now, error: self._moving.discard(partition)
        )

    def _send(self, now: Now, partition: PartitionId, delivered: Delivered) -> None:
        winner = self._winner(partition)
        if winner is None:
            self._moving.discard(partition)
            self._broker.deliveries.take_back(now, delivered)
            return
        rows = [row for part in delivered.parts for row in _rows(part, now.wall)]
        delay = None if winner.settings.ordering == "fifo" else 0.0

        def stored(now: Now, answer: Message) -> None:
            self._moving.discard(partition)
            if isinstance(answer, Stored):
                self._settle(now, delivered)
                self.move(now, partition)
            else:
                self._broker.deliveries.take_back(now, delivered)

        self._crossings.send(now, winner.name, rows, stored, delay=delay)

    def _settle(self, now: Now, delivered: Delivered) -> None:
        """What was moved is dead here."""
        broker = self._broker
        touched: dict[Partition, None] = {}
        for part in delivered.parts:
            source = broker.registry.by_partition.get(part.partition)
            for partition in () if source is None else source.partitions:
                end = part.first + part.count
                partition.kill(partition.holds.settle(part.delivery, part.log, part.first, end))
                touched[partition] = None
        for partition in touched:
            broker.touched(now, partition)


def _rows(part: Part, wall: int) -> list[tuple[bytes, dict[str, Any]]]:
    """Return messages as they are to be in the queue of the name."""
    batch = parse(part.batch)
    return [_row(batch, part, i, wall) for i in range(part.count)]


def _row(batch: Batch, part: Part, index: int, wall: int) -> tuple[bytes, dict[str, Any]]:
    named = batch.value("d", index)
    if named is None or wall - part.sent_at >= WINDOW_MINUTES * 60_000:
        named = f"move:{message_id(part.log, part.first + index)}"
    row: dict[str, Any] = {"d": named}
    if attributes := batch.attributes(index):
        row["a"] = attributes
    if (group := batch.value("g", index)) is not None:
        row["g"] = group
    if (ttl := batch.value("t", index)) is not None:
        row["t"] = max(1, part.sent_at + ttl - wall)
    return batch.body(index), row
