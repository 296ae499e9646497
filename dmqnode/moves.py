"""Moves between queues: into the dead-letter queue, and back out of it (redrive).

A move appends to the target under a dedup id made of the original's id and marks the original dead;
here both are in one write group, so that after a crash a message is in one of the two.  The dedup id
makes a move that is repeated harmless where the two are not on one disk (rule N3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmqnode.batch import Batch, encode_rows, parse
from dmqnode.clock import Now
from dmqnode.effects import Reply
from dmqnode.errors import InvalidRequest, Refused
from dmqnode.ids import LogId, message_id
from dmqnode.log import Segment
from dmqnode.messages import Delivered, Done, Redrive, Send
from dmqnode.partition import Partition
from dmqnode.queue import Queue
from dmqnode.reads import Get, Procedure, Rows
from dmqnode.records import Unreadable, decode_batch

if TYPE_CHECKING:
    from dmqnode.broker import Broker, Session

REASON = "dmq.reason"
SOURCE = "dmq.source"
SOURCE_ID = "dmq.source-id"
ATTEMPTS = "dmq.attempts"
MOVE_AT_ONCE = 512
"""Segments moved in one step: each may be read from disk."""
Rows_ = list[tuple[bytes, dict[str, Any]]]


class Moves:
    """The moves under way."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._busy: dict[Partition, None] = {}

    # --- into the dead-letter queue ------------------------------------------------------------------

    def bury(self, now: Now, partition: Partition) -> None:
        """Move what a partition gave up on to its dead-letter queue; one step at a time per partition."""
        if partition in self._busy or not partition.exhausted:
            return
        step, partition.exhausted = partition.exhausted[:MOVE_AT_ONCE], partition.exhausted[MOVE_AT_ONCE:]
        self._busy[partition] = None
        self._broker.reads.start(
            now,
            _bodies(partition, [s for s, _ in step]),
            lambda now, rows: self._bury_read(now, partition, step, rows),
        )

    def _bury_read(self, now: Now, partition: Partition, step: list[tuple[Segment, str]], rows: Rows) -> None:
        broker = self._broker
        source = broker.registry.by_partition.get(partition.id)
        name = partition.settings.dead_letter
        if source is None or name is None:
            # The queue is gone, or its dead-letter queue was taken away meanwhile: deliver again.
            self._busy.pop(partition, None)
            if source is not None:
                partition.unbury([s for s, _ in step])
                broker.deadlines.set(partition, now.run)
            return
        target = broker.registry.queues.get(name) or broker.registry.create_default(
            now, name, source.definition.owner
        )
        broker.when_open(now, target, lambda now: self._bury_open(now, source, partition, target, step, rows))

    def _bury_open(
        self,
        now: Now,
        source: Queue,
        partition: Partition,
        target: Queue,
        step: list[tuple[Segment, str]],
        rows: Rows,
    ) -> None:
        broker = self._broker
        self._busy.pop(partition, None)
        if broker.registry.by_partition.get(partition.id) is not source:
            return
        out: Rows_ = []
        batches = _decoded(partition, rows)
        for segment, reason in step:
            batch = batches.get((segment.stored.log.id, segment.stored.first))
            if batch is None:
                broker.counters.lost += len(segment)
                continue
            for seq in range(segment.low, segment.high):
                extra = {REASON: reason, SOURCE: source.name, ATTEMPTS: str(segment.attempt)}
                out.append(_row(batch, seq - segment.stored.first, segment.stored.log.id, seq, extra))
        partitions = self._append(now, target, out) if out else []
        moved = partition.kill([s for s, _ in step])
        partition.moving -= sum(len(s) for s, _ in step)
        broker.counters.dead_lettered += moved
        for touched in (*partitions, partition):
            broker.touched(now, touched)
        broker.deliveries.serve(now, source)

    def _append(self, now: Now, target: Queue, rows: Rows_) -> list[Partition]:
        batch = encode_rows(rows)
        _, _, partitions = target.send(
            now, Send(target.name, b"", 0, 0, None, False, batch.blob), batch, moved=True
        )
        return partitions

    # --- redrive -------------------------------------------------------------------------------------

    def redrive(self, now: Now, session: Session, number: int, request: Redrive) -> None:
        """Move ready messages of a dead-letter queue to where they came from, or to `to`; answer with Done.

        Errors: Refused and its kinds.
        """
        broker = self._broker
        source = broker.registry.find(request.queue)
        if not 1 <= request.limit <= MOVE_AT_ONCE * 8:
            raise InvalidRequest(f"a redrive of {request.limit} messages is outside 1 and {MOVE_AT_ONCE * 8}")
        if request.to is not None:
            broker.registry.find(request.to)
            if request.to == request.queue:
                raise InvalidRequest("a queue cannot be redriven to itself; name another with --to")

        def taken(now: Now, delivered: Delivered) -> None:
            self._redrive(now, session, number, request, source, delivered)

        broker.deliveries.take_for(now, source, request.limit, f"redrive by {session.client}", taken)

    def _redrive(
        self, now: Now, session: Session, number: int, request: Redrive, source: Queue, delivered: Delivered
    ) -> None:
        broker = self._broker
        rows: dict[str, Rows_] = {}
        try:
            for part in delivered.parts:
                batch = parse(part.batch)
                for i in range(part.count):
                    to = request.to or batch.attributes(i).get(SOURCE)
                    if to is None:
                        raise Refused(
                            f"message {message_id(part.log, part.first + i)} does not say where it came from; "
                            "name a queue with --to"
                        )
                    broker.registry.find(to)
                    rows.setdefault(to, []).append(_row(batch, i, part.log, part.first + i, None))
        except Refused as error:
            broker.deliveries.take_back(now, delivered)
            broker.refuse(session.id, number, error)
            return
        targets = [broker.registry.find(name) for name in rows]
        self._when_all_open(
            now, targets, lambda now: self._redriven(now, session, number, request, source, delivered, rows)
        )

    def _when_all_open(self, now: Now, queues: list[Queue], then: Any) -> None:
        closed = next((q for q in queues if not q.open), None)
        if closed is None:
            then(now)
            return
        rest = [q for q in queues if q is not closed]
        self._broker.when_open(now, closed, lambda now: self._when_all_open(now, rest, then))

    def _redriven(
        self,
        now: Now,
        session: Session,
        number: int,
        request: Redrive,
        source: Queue,
        delivered: Delivered,
        rows: dict[str, Rows_],
    ) -> None:
        broker = self._broker
        touched: dict[Partition, None] = {}
        for name, chosen in rows.items():
            touched.update(dict.fromkeys(self._append(now, broker.registry.find(name), chosen)))
        moved = 0
        for part in delivered.parts:
            partition = source.partitions[int.from_bytes(part.partition[8:], "big")]
            moved += partition.kill(partition.holds.settle(part.delivery, part.log, part.first, part.count))
            touched[partition] = None
        broker.counters.redriven += moved
        if not touched:
            broker.reply(session.id, number, Done(0, more=False))
            return
        done = Done(moved, more=moved >= request.limit)
        next(iter(touched)).after_write(Reply(session.id, number, done))
        for partition in touched:
            broker.touched(now, partition)


def _bodies(partition: Partition, segments: list[Segment]) -> Procedure[Rows]:
    keys = {partition.keys.batch(s.stored.log.id, s.stored.first): None for s in segments}
    rows = yield Get(tuple(keys))
    return rows


def _decoded(partition: Partition, rows: Rows) -> dict[tuple[LogId, int], Batch]:
    found: dict[tuple[LogId, int], Batch] = {}
    for key, record in rows.rows:
        try:
            batch = decode_batch(record)[2]
        except Unreadable:
            continue
        found[LogId(key[-28:-8]), partition.keys.first_seq(key)] = batch
    return found


def _row(
    batch: Batch, index: int, log: LogId, seq: int, extra: dict[str, str] | None
) -> tuple[bytes, dict[str, Any]]:
    """Return a message as a row for its new queue: with what `extra` says of the move, or (None) without it."""
    attributes = batch.attributes(index)
    id_ = message_id(log, seq)
    if extra is None:
        attributes = {k: v for k, v in attributes.items() if not k.startswith("dmq.")}
    else:
        attributes = {**attributes, **extra, SOURCE_ID: id_}
    row: dict[str, Any] = {"d": f"move:{id_}"}
    if attributes:
        row["a"] = attributes
    if (group := batch.value("g", index)) is not None:
        row["g"] = group
    return batch.body(index), row
