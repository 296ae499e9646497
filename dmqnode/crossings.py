"""Moves between queues whose partitions are led by different nodes (rule N3).

The messages are appended to the target under dedup ids made of the originals' ids; once they are stored
there the originals are marked dead.  What is interrupted between the two is repeated, and recognised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmqnode.batch import encode_rows
from dmqnode.clock import Now
from dmqnode.effects import Reply
from dmqnode.errors import DMQError, refusal
from dmqnode.exhausted import Step
from dmqnode.messages import Delivered, Done, Failed, GetQueue, Hello, Message, Part, Send, Stored
from dmqnode.moves import buried_rows, moved_row
from dmqnode.partition import Partition
from dmqnode.queue import Queue
from dmqnode.queues import Definition
from dmqnode.reads import Rows
from dmqnode.shards import shard_name

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

    def _send(self, now: Now, queue: str, rows: list[tuple[bytes, dict[str, Any]]], then: Any) -> None:
        """Append rows to a queue; `then` gets Stored or Failed."""
        self._number += 1
        request = Send(queue, b"", 0, 0, None, False, encode_rows(rows).blob)
        try:
            self._clustering.fanout.send(now, self._session, self._number, request, then, moved=True)
        except DMQError as error:
            then(now, Failed(error.code, str(error), error.retryable))

    def nudge(self, now: Now, definition: Definition, index: int) -> None:
        """Ask the leader of a partition something, so that there is one."""
        question = GetQueue(shard_name(definition.name, index))
        self._number += 1
        self._clustering.fanout.ask(
            now, self._session, self._number, definition, index, question, lambda now, answer: None
        )

    # --- into the dead-letter queue ------------------------------------------------------------------

    def bury(self, now: Now, source: Queue, partition: Partition, name: str, step: Step, rows: Rows) -> None:
        """Move what a partition gave up on to its dead-letter queue."""
        broker = self._broker
        if name not in broker.registry.queues:
            broker.registry.create_default(
                now,
                name,
                source.definition.owner,
                lambda now, safe: self.bury(now, source, partition, name, step, rows),
            )
            return
        out = buried_rows(source, partition, step, rows)
        broker.counters.lost += sum(len(s) for s, _ in step) - len(out)

        def stored(now: Now, answer: Message) -> None:
            if partition.gone or partition.exhausted.step is not step:
                return  # no longer led here: whoever leads finds the messages as they were
            if not isinstance(answer, Stored):
                self._clustering.later(
                    now, AGAIN, lambda now: self.bury(now, source, partition, name, step, rows)
                )
                return
            broker.counters.dead_lettered += len(out)
            partition.buried([s for s, _ in step])
            broker.touched(now, partition)
            broker.deliveries.serve(now, source)

        if out:
            self._send(now, name, out, stored)
        else:
            stored(now, Stored([], 0))

    # --- redrive -------------------------------------------------------------------------------------

    def redrive(
        self, now: Now, session: Session, number: int, delivered: Delivered, targets: dict[str, list[Part]]
    ) -> None:
        """Move what was taken of a dead-letter queue to its targets; answer with Done."""
        self._redrive(now, session, number, delivered, list(targets.items()), [])

    def _redrive(
        self,
        now: Now,
        session: Session,
        number: int,
        delivered: Delivered,
        left: list[tuple[str, list[Part]]],
        moved: list[Part],
    ) -> None:
        if not left:
            self._redriven(now, session, number, moved)
            return
        (name, pieces), rest = left[0], left[1:]

        def stored(now: Now, answer: Message) -> None:
            if isinstance(answer, Stored):
                self._redrive(now, session, number, delivered, rest, moved + pieces)
                return
            # What was not moved is ready again; what was is settled.
            back = [piece for _, others in left for piece in others]
            self._broker.deliveries.take_back(now, Delivered(delivered.queue, 0.0, back))
            if moved:
                self._redriven(now, session, number, moved)
            elif isinstance(answer, Failed):
                error = refusal(answer.code, answer.message, retryable=answer.retryable)
                self._broker.refuse(session.id, number, error)

        self._send(now, name, [moved_row(piece) for piece in pieces], stored)

    def _redriven(self, now: Now, session: Session, number: int, moved: list[Part]) -> None:
        broker = self._broker
        touched: dict[Partition, None] = {}
        for piece in moved:
            source = broker.registry.by_partition.get(piece.partition)
            partition = None if source is None else source.at(int.from_bytes(piece.partition[8:], "big"))
            if partition is not None:
                partition.kill(
                    partition.holds.settle(piece.delivery, piece.log, piece.first, piece.first + 1)
                )
                touched[partition] = None
        broker.counters.redriven += len(moved)
        if not touched:
            broker.reply(session.id, number, Done(len(moved), more=False))
            return
        next(iter(touched)).after_write(Reply(session.id, number, Done(len(moved), more=bool(moved))))
        for partition in touched:
            broker.touched(now, partition)
