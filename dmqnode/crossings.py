"""Moves between queues whose partitions are led by different nodes (rule N3).

The messages are appended to the target under dedup ids made of the originals' ids; once they are stored
there the originals are marked dead.  What is interrupted between the two is repeated, and recognised.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from dmqnode.batch import encode_rows
from dmqnode.clock import Now
from dmqnode.effects import Reply
from dmqnode.errors import DMQError
from dmqnode.exhausted import Step
from dmqnode.merging import Merging
from dmqnode.messages import Delivered, Done, Failed, GetQueue, Hello, Message, Part, Send, Stored
from dmqnode.moves import buried_rows, redriven_rows, unreadable
from dmqnode.partition import Partition
from dmqnode.queue import Queue
from dmqnode.queues import Definition
from dmqnode.reads import Rows
from dmqnode.shards import shard_name
from storage.ops import WriteBatch

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering
    from dmqnode.surroundings import Session

AGAIN = 1.0
"""Seconds after which a move that did not succeed is tried again."""


class Crossings:
    """The moves of partitions led here, to wherever their targets are led."""

    def __init__(self, broker: Broker, clustering: Clustering) -> None:
        self._broker = broker
        self._clustering = clustering
        self._session = broker.open_session(Hello(1, 1, "this node", "", [], 1 << 24))
        self._number = 0
        self.merging = Merging(broker, clustering, self)

    def send(
        self,
        now: Now,
        queue: str,
        rows: list[tuple[bytes, dict[str, Any]]],
        then: Callable[[Now, Message], None],
        *,
        delay: float | None = None,
    ) -> None:
        """Append rows to a queue; `then` gets Stored or Failed."""
        self._number += 1
        request = Send(queue, b"", 0, 0, delay, False, encode_rows(rows).blob)
        try:
            self._clustering.fanout.send(now, self._session, self._number, request, then, moved=True)
        except DMQError as error:
            then(now, Failed(error.code, str(error), error.retryable))

    def ask(
        self,
        now: Now,
        definition: Definition,
        index: int,
        message: Message,
        then: Callable[[Now, Message], None],
    ) -> None:
        """Have something done by the leader of a partition, for this node itself."""
        self._number += 1
        self._clustering.fanout.ask(now, self._session, self._number, definition, index, message, then)

    def nudge(self, now: Now, definition: Definition, index: int) -> None:
        """Ask the leader of a partition something, so that there is one."""
        self.ask(now, definition, index, GetQueue(shard_name(definition, index)), lambda now, answer: None)

    # --- from queue to queue -------------------------------------------------------------------------

    def bury(self, now: Now, source: Queue, partition: Partition, name: str, step: Step, rows: Rows) -> None:
        """Move what a partition gave up on to its dead-letter queue, or what is redriven to its target."""
        broker, to = self._broker, partition.exhausted.to
        if name not in broker.registry.queues:
            if to:
                self._give_back(now, source, partition, step)
                return
            broker.registry.create_default(
                now,
                name,
                source.definition.owner,
                lambda now, safe: self.bury(now, source, partition, name, step, rows),
            )
            return

        if missing := unreadable(partition, step, rows):
            set_aside = partition.exhausted.put_off(missing)

            def look_again(now: Now) -> None:
                set_aside()
                broker.touched(now, partition)

            self._clustering.later(now, AGAIN, look_again)

        def intended(now: Now) -> None:
            if not partition.gone and partition.exhausted.step is step:
                self._move(now, source, partition, name, step, rows)

        # First everybody is to know of it: whoever leads next goes on, and delivers none of them (N3).
        for reason, given_up in groupby(step, key=lambda pair: pair[1]):
            partition.holds.give_up(reason, to, [segment for segment, _ in given_up])
        broker.touched(now, partition)
        self._clustering.replicate(now, partition.id, WriteBatch(), intended)

    def _give_back(self, now: Now, source: Queue, partition: Partition, step: Step) -> None:
        """The queue to which messages were to move is gone: they stay."""
        partition.unbury([segment for segment, _ in step])
        partition.tick(now)
        self._broker.touched(now, partition)
        self._broker.deliveries.serve(now, source)

    def _move(self, now: Now, source: Queue, partition: Partition, name: str, step: Step, rows: Rows) -> None:
        broker, to = self._broker, partition.exhausted.to
        if name not in broker.registry.queues:
            self._give_back(now, source, partition, step)
            return
        out = redriven_rows(partition, step, rows) if to else buried_rows(source, partition, step, rows)

        def stored(now: Now, answer: Message) -> None:
            if partition.gone or partition.exhausted.step is not step:
                return  # no longer led here: whoever leads goes on with it
            if not isinstance(answer, Stored):
                self._clustering.later(now, AGAIN, again)
                return
            broker.counters.lost += sum(len(s) for s, _ in step) - len(out)
            if to:
                broker.counters.redriven += len(out)
            else:
                broker.counters.dead_lettered += len(out)
            partition.buried([s for s, _ in step])
            broker.touched(now, partition)
            broker.deliveries.serve(now, source)

        def again(now: Now) -> None:
            if not partition.gone and partition.exhausted.step is step:
                self._move(now, source, partition, name, step, rows)

        if out:
            self.send(now, name, out, stored)
        else:
            stored(now, Stored([], 0))

    # --- redrive -------------------------------------------------------------------------------------

    def redrive(
        self, now: Now, session: Session, number: int, delivered: Delivered, targets: dict[str, list[Part]]
    ) -> None:
        """Move what was taken of a dead-letter queue to its targets; answer with Done once all has moved."""
        broker, moved = self._broker, 0
        touched: dict[Partition, None] = {}
        for to, piece in ((to, piece) for to, pieces in targets.items() for piece in pieces):
            source = broker.registry.by_partition.get(piece.partition)
            partition = None if source is None else source.at(int.from_bytes(piece.partition[8:], "big"))
            if partition is None:
                continue
            held = partition.holds.settle(piece.delivery, piece.log, piece.first, piece.first + 1)
            partition.exhaust(held, "redriven", to)
            moved += sum(map(len, held))
            touched[partition] = None
        if not touched:
            broker.reply(session.id, number, Done(moved, more=False))
            return
        # What was taken is of one partition, for each is a queue of its own here.
        for partition in touched:
            reply = Reply(session.id, number, Done(moved, more=bool(moved)))
            partition.exhausted.after(partial(partition.after_write, reply))
            broker.touched(now, partition)
